package broker_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/broker/recent"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
)

// While Entra throttles, one request leaves per window, whatever the number of
// agents and callers, and whoever has a token in the cache notices nothing.
func TestThrottlingIsNoticedByFew(t *testing.T) {
	const crowd, windows = 60, 4
	var text strings.Builder
	text.WriteString("agents:\n")
	for i := range crowd {
		fmt.Fprintf(&text, "  a%d: {identity: demo, callers: [{tcp: {uids: [%d]}}], allow: {scopes: [graph, keyvault]}}\n", i, 20000+i)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.use(t, text.String())
		_, err := w.ask(as(t, 20000), graph)
		check(t, err)
		w.entra.SetBehavior(entratest.Behavior{Status: 429, RetryAfter: "7"})
		before := w.entra.TokenRequests()
		for window := range windows {
			var asking sync.WaitGroup
			for i := range crowd {
				asking.Go(func() {
					_, err := w.ask(as(t, uint32(20000+i)), vault)
					if failure := asExchangeError(t, err); failure.Reason != exchange.EntraThrottled || failure.RetryAfter <= 0 || failure.RetryAfter > 7*time.Second {
						t.Errorf("got %s, retry after %s, want %s within 7s", failure.Reason, failure.RetryAfter, exchange.EntraThrottled)
					}
				})
			}
			asking.Wait()
			_, err := w.ask(as(t, 20000), graph)
			check(t, err)
			if line := w.audit.last(t); line["cache"] != "hit" {
				t.Errorf("got %v, want a hit", line["cache"])
			}
			// The crowd of the first window left before anybody knew.
			if got, most := w.entra.TokenRequests()-before, crowd+window; got > most {
				t.Fatalf("window %d: got %d requests, want %d at most", window, got, most)
			}
			time.Sleep(7 * time.Second)
			if window == 0 {
				before = w.entra.TokenRequests() - crowd
			}
		}
		w.entra.SetBehavior(entratest.Behavior{})
		_, err = w.ask(as(t, 20001), vault)
		check(t, err)
	})
}

// When requests hang, whoever asks for the same token joins the one that hangs; however
// the outage ends, the next one leaves within 15 seconds.
func TestRecoveryWhereRequestsHang(t *testing.T) {
	for phase := range 20 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.use(t, "agents:\n  a: {identity: demo, callers: [{tcp: {uids: [20000]}}], allow: {scopes: [graph]}}\n")
			w.entra.SetBehavior(entratest.Behavior{Hang: true})
			outage := 40*time.Second + time.Duration(phase)*1700*time.Millisecond
			began := time.Now()
			time.AfterFunc(outage, func() { w.entra.SetBehavior(entratest.Behavior{}) })
			for {
				ctx, cancel := context.WithTimeout(as(t, 20000), time.Second)
				_, err := w.ask(ctx, graph)
				cancel()
				if err == nil {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			if took := time.Since(began) - outage; took > 15*time.Second {
				t.Errorf("after an outage of %s: got a token %s later, want 15s at most", outage, took)
			}
		})
	}
}

// What operators see of Entra's troubles are those of requests that were sent: what is
// held back, and who waits for another's answer, is no trouble of Entra's.
func TestTroublesAreThoseOfRequestsSent(t *testing.T) {
	for status, throttled := range map[int]bool{429: true, 503: false} {
		synctest.Test(t, func(t *testing.T) {
			w, memory := remembering(t)
			w.use(t, "agents:\n  a: {identity: demo, callers: [{tcp: {uids: [20000]}}], allow: {scopes: [graph, keyvault]}}\n")
			w.entra.SetBehavior(entratest.Behavior{Status: status, RetryAfter: "20", Delay: time.Second})
			for range 3 {
				var asking sync.WaitGroup
				for range 10 {
					asking.Go(func() {
						if _, err := w.ask(as(t, 20000), vault); err == nil {
							t.Error("there was a token")
						}
					})
				}
				asking.Wait()
			}
			var sum recent.Minute
			for _, m := range memory.Minutes(time.Now()) {
				sum.Failed, sum.Exchanges, sum.Errors, sum.Throttled = sum.Failed+m.Failed, sum.Exchanges+m.Exchanges, sum.Errors+m.Errors, sum.Throttled+m.Throttled
			}
			want := recent.Minute{Failed: 30, Exchanges: 1, Errors: 1}
			if throttled {
				want.Throttled = 1
			}
			if sum != want {
				t.Errorf("status %d: got %+v, want %+v", status, sum, want)
			}
		})
	}
}

// An exchange that everybody has stopped waiting for is one of Entra's troubles all the
// same, and took as long as it did.
func TestTroublesNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, memory := remembering(t)
		w.use(t, "agents:\n  a: {identity: demo, callers: [{tcp: {uids: [20000]}}], allow: {scopes: [graph, keyvault]}}\n")
		w.entra.SetBehavior(entratest.Behavior{Hang: true})
		ctx, cancel := context.WithTimeout(as(t, 20000), time.Second)
		defer cancel()
		if _, err := w.ask(ctx, graph); err == nil {
			t.Error("there was a token")
		}
		time.Sleep(time.Minute)
		var sum recent.Minute
		for _, m := range memory.Minutes(time.Now()) {
			sum.Failed, sum.Exchanges, sum.Errors, sum.Slowest = sum.Failed+m.Failed, sum.Exchanges+m.Exchanges, sum.Errors+m.Errors, max(sum.Slowest, m.Slowest)
		}
		if sum.Failed != 1 || sum.Exchanges != 1 || sum.Errors != 1 || sum.Slowest < 10*time.Second {
			t.Errorf("got %+v, want one exchange that failed after more than 10 s", sum)
		}
	})
}
