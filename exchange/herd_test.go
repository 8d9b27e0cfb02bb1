package exchange

import (
	"context"
	"encoding/csv"
	"flag"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/broker/cache"
)

var (
	herdPods = flag.Int("herd.pods", 1000, "how many pods TestHerd simulates; 10000 take a minute")
	herdCSV  = flag.String("herd.csv", "", "where TestHerd writes requests by minute")
)

// The day of a fleet: every pod asks for one token through a cache and a patience
// of its own, the real ones, and only Entra's answer is made up. All pods start
// within startSpread, some restart at random, all are replaced in a rollout, and
// Entra is away for a while.
const (
	herdDay       = 24 * time.Hour
	startSpread   = 100 * time.Second // a scheduler places some 100 of 10,000 pods a second
	thinkTime     = 10 * time.Minute  // of an agent between two requests, on average
	retryTime     = 10 * time.Second  // of an agent after a failure
	meanLife      = 100 * time.Hour   // of a pod that is not rolled out: 1 % restarts an hour
	rolloutAt     = 6 * time.Hour
	rolloutTime   = 30 * time.Minute
	outageAt      = 12 * time.Hour
	outageTime    = 40 * time.Minute
	answerTime    = 150 * time.Millisecond
	recoveryAfter = outageAt + outageTime
)

// herd is what Entra sees.
type herd struct {
	mu       sync.Mutex
	start    time.Time
	seconds  []int // requests by second
	failed   int   // requests of agents that got no token while Entra was there
	served   int
	lifetime func() time.Duration
	hinted   bool          // Entra says refresh_in
	spread   time.Duration // of the starts
}

func (h *herd) ask() (Token, *Error) {
	at := time.Since(h.start)
	h.mu.Lock()
	if i := int(at / time.Second); i < len(h.seconds) {
		h.seconds[i]++
	}
	h.mu.Unlock()
	time.Sleep(answerTime)
	if at >= outageAt && at < recoveryAfter {
		return Token{}, &Error{Reason: EntraUnavailable, Message: "away"}
	}
	token := Token{Lifetime: h.lifetime()}
	if h.hinted {
		token.RefreshIn = token.Lifetime / 2
	}
	return token, nil
}

// exchange is Client.exchange without a workload token and without a network.
func (h *herd) exchange(ctx context.Context, p *patience) (Token, *Error) {
	a := &ask{tenant: "t", client: "c"}
	var done repeats
	if held := p.held(a); held != nil {
		return Token{}, held.why
	}
	for {
		leave, held := p.admit(a, question{})
		if held != nil {
			return Token{}, held.why
		}
		token, failure := h.ask()
		if failure == nil {
			p.answered(leave, true)
			return token, nil
		}
		pause, again := done.after(a, failure, leave, p.jitter)
		p.failed(leave, failure, !again)
		if !again || sleep(ctx, pause) != nil {
			return Token{}, failure
		}
		done.count(a, failure)
	}
}

// pod lives from one start to the next, and asks as its agent needs a token.
func (h *herd) pod(ctx context.Context, end time.Time) {
	store, err := cache.New[Token](cache.Config{})
	if err != nil {
		panic(err)
	}
	p, err := newPatience()
	if err != nil {
		panic(err)
	}
	fetch := func(ctx context.Context) (cache.Entry[Token], error) {
		token, failure := h.exchange(ctx, p)
		if failure != nil {
			return cache.Entry[Token]{}, failure
		}
		return cache.Entry[Token]{Value: token, Lifetime: token.Lifetime, RefreshIn: token.RefreshIn}, nil
	}
	key := cache.Key{Agent: "a"}
	for wait := time.Duration(0); time.Now().Add(wait).Before(end); {
		time.Sleep(wait)
		wait = time.Duration(rand.ExpFloat64() * float64(thinkTime))
		_, _, refresh, ok := store.Lookup(key)
		if refresh {
			store.Refresh(ctx, key, fetch)
		}
		if !ok {
			_, _, _, err = store.Get(ctx, key, fetch)
		}
		at := time.Since(h.start)
		h.mu.Lock()
		switch {
		case ok || err == nil:
			h.served++
		default:
			wait = retryTime
			if at < outageAt || at > recoveryAfter+retryTime {
				h.failed++
			}
		}
		h.mu.Unlock()
	}
	if err := store.Close(ctx); err != nil {
		panic(err)
	}
}

// run lives the day of n pods.
func (h *herd) run(t *testing.T, n int) {
	synctest.Test(t, func(t *testing.T) {
		h.start, h.seconds = time.Now(), make([]int, int(herdDay/time.Second))
		var pods sync.WaitGroup
		for i := range n {
			pods.Go(func() {
				time.Sleep(time.Duration(i) * h.spread / time.Duration(n))
				rollout := h.start.Add(rolloutAt + time.Duration(i)*rolloutTime/time.Duration(n))
				for end := h.start.Add(herdDay); time.Now().Before(end); {
					until := time.Now().Add(time.Duration(rand.ExpFloat64() * float64(meanLife)))
					if time.Now().Before(rollout) && until.After(rollout) {
						until = rollout
					}
					if until.After(end) {
						until = end
					}
					h.pod(t.Context(), until)
					time.Sleep(max(0, time.Until(until)))
				}
			})
		}
		pods.Wait()
	})
}

// peak is the most requests in one second of a part of the day, and total all.
func (h *herd) peak(from, to time.Duration) (peak, total int) {
	part := h.seconds[int(from/time.Second):int(to/time.Second)]
	for _, n := range part {
		total += n
	}
	return slices.Max(part), total
}

func (h *herd) write(t *testing.T, name string) {
	file, err := os.OpenFile(*herdCSV, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	w := csv.NewWriter(file)
	for minute := range len(h.seconds) / 60 {
		part := h.seconds[minute*60 : minute*60+60]
		total := 0
		for _, n := range part {
			total += n
		}
		if err := w.Write([]string{name, strconv.Itoa(minute), strconv.Itoa(total), strconv.Itoa(slices.Max(part))}); err != nil {
			t.Fatal(err)
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		t.Fatal(err)
	}
}

// TestHerd: the pods of a day ask Entra about once per pod and token, and never
// all at once: not when tokens grow old, not in a rollout, and when Entra comes
// back no faster than their agents ask. Nothing is fetched before an agent asks,
// so the start is as fast as the agents are; tokens that were fetched in one
// second are not renewed in one, because each renewal has a delay of its own.
func TestHerd(t *testing.T) {
	for _, test := range []struct {
		name     string
		lifetime func() time.Duration
		hinted   bool
		spread   time.Duration
	}{
		{"tokens of 60 to 90 minutes", func() time.Duration { return time.Hour + rand.N(30*time.Minute) }, false, startSpread},
		{"tokens of 60 minutes, all pods start in one second", func() time.Duration { return time.Hour }, false, time.Second},
		{"tokens of 24 hours, refresh_in 12", func() time.Duration { return 24 * time.Hour }, true, startSpread},
	} {
		h := &herd{lifetime: test.lifetime, hinted: test.hinted, spread: test.spread}
		began := time.Now()
		h.run(t, *herdPods)
		n := float64(*herdPods)
		startPeak, _ := h.peak(0, 5*time.Minute)
		renewalPeak, _ := h.peak(5*time.Minute, 2*time.Hour)
		steadyPeak, steady := h.peak(2*time.Hour, rolloutAt)
		rolloutPeak, _ := h.peak(rolloutAt, rolloutAt+rolloutTime)
		outagePeak, away := h.peak(outageAt, recoveryAfter)
		backPeak, back := h.peak(recoveryAfter, recoveryAfter+10*time.Minute)
		wavePeak, _ := h.peak(recoveryAfter+10*time.Minute, herdDay)
		perHour := float64(steady) / 4 / n
		t.Logf("%s: %d pods, %d requests of agents served\n"+
			"  start       peak %5d/s\n  renewal     peak %5d/s\n  steady      peak %5d/s  %.2f per pod and hour\n  rollout     peak %5d/s\n"+
			"  outage      peak %5d/s  %.1f per pod and hour\n  afterwards  peak %5d/s  %.2f per pod in 10 minutes\n  later       peak %5d/s  (%s)",
			test.name, *herdPods, h.served, startPeak, renewalPeak, steadyPeak, perHour, rolloutPeak,
			outagePeak, float64(away)/n/outageTime.Hours(), backPeak, float64(back)/n, wavePeak, time.Since(began).Round(time.Millisecond))
		if *herdCSV != "" {
			h.write(t, test.name)
		}
		bound := func(what string, got, most float64) {
			if got > most {
				t.Errorf("%s: %s: got %.2f, want at most %.2f", test.name, what, got, most)
			}
		}
		slack := n/100 + 10 // a second in which 1 % of the pods ask is no herd
		bound("start, requests a second", float64(startPeak), n/min(test.spread.Seconds(), 100)+slack)
		bound("renewal, requests a second", float64(renewalPeak), slack)
		bound("steady, requests a second", float64(steadyPeak), slack)
		bound("steady, requests per pod and hour", perHour, 1.4)
		bound("rollout, requests a second", float64(rolloutPeak), slack)
		bound("after the outage, requests a second", float64(backPeak), n/retryTime.Seconds()+slack)
		bound("after the outage, requests per pod in ten minutes", float64(back)/n, 1.1)
		bound("later, requests a second", float64(wavePeak), slack)
		if h.failed > 0 {
			t.Errorf("%s: %d requests of agents failed while Entra was there", test.name, h.failed)
		}
		if steady == 0 && !test.hinted || startPeak == 0 || h.served < 100**herdPods {
			t.Errorf("%s: got a day in which nothing happened: %d served", test.name, h.served)
		}
	}
}
