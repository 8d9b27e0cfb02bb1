package exchange_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
)

// One test per row of the table in patience.go, and some for what lies between
// the rows. Time is synctest's: nothing sleeps, and durations are exact.

const (
	vault  = "https://vault.azure.net/.default"
	search = "https://search.azure.com/.default"
	mfa    = `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`
)

var well = entratest.Behavior{}

// inTime runs a test of an emulator on a clock of its own.
func inTime(t *testing.T, test func(t *testing.T, e *entra)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := newEntra(t)
		e.write(t, e.workloadToken(t, entratest.ServiceAccountToken{Lifetime: 24 * time.Hour}))
		test(t, e)
	})
}

// meets lets the nth request from now meet the nth behavior, and all further
// ones the last.
func (e *entra) meets(behaviors ...entratest.Behavior) {
	first := e.count()
	e.sent.before = func(n int) { e.server.SetBehavior(behaviors[min(n-first, len(behaviors)-1)]) }
}

// count is the number of requests that have left.
func (e *entra) count() int {
	e.sent.mu.Lock()
	defer e.sent.mu.Unlock()
	return len(e.sent.requests)
}

// pauses are the times between the requests from the nth on.
func (e *entra) pauses(n int) []time.Duration {
	var pauses []time.Duration
	for i := n + 1; i < len(e.sent.at); i++ {
		pauses = append(pauses, e.sent.at[i].Sub(e.sent.at[i-1]))
	}
	return pauses
}

// within checks that pauses are as many as most, and none longer.
func within(t *testing.T, pauses []time.Duration, most ...time.Duration) {
	t.Helper()
	ok := len(pauses) == len(most)
	for i := range min(len(pauses), len(most)) {
		ok = ok && pauses[i] <= most[i]
	}
	if !ok {
		t.Errorf("got pauses %v, want at most %v", pauses, most)
	}
}

// good asks and wants a token; bad wants an error with this reason.
func (e *entra) good(t *testing.T, scopes ...string) {
	t.Helper()
	if _, err := e.ask(t.Context(), scopes...); err != nil {
		t.Fatalf("got %v, want a token", err)
	}
}

func (e *entra) bad(t *testing.T, reason exchange.Reason, scopes ...string) exchange.Error {
	t.Helper()
	_, err := e.ask(t.Context(), scopes...)
	got := asError(t, err)
	if got.Reason != reason {
		t.Fatalf("got %s (%s), want %s", got.Reason, got.Message, reason)
	}
	return *got
}

// atOnce is bad without a request and without waiting.
func (e *entra) atOnce(t *testing.T, reason exchange.Reason, scopes ...string) exchange.Error {
	t.Helper()
	requests, now := e.count(), time.Now()
	got := e.bad(t, reason, scopes...)
	if e.count() != requests || time.Since(now) != 0 {
		t.Fatalf("got %d requests and an answer after %s, want none and at once", e.count()-requests, time.Since(now))
	}
	return got
}

// crowd asks for many tokens of three keys at once and returns the errors, by
// reason. Each of the crowd waits for its answer.
func (e *entra) crowd(t *testing.T) map[exchange.Reason]int {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex // guards reasons
	reasons := map[exchange.Reason]int{}
	for i := range 90 {
		all.Go(func() {
			_, err := e.ask(t.Context(), []string{graph, vault, search}[i%3])
			var reason exchange.Reason
			if failure, ok := errors.AsType[*exchange.Error](err); ok {
				reason = failure.Reason
			}
			mu.Lock()
			defer mu.Unlock()
			reasons[reason]++
		})
	}
	all.Wait()
	return reasons
}

// attribute of the newest span.
func (e *entra) attribute(key attribute.Key) string {
	spans := e.spans.Ended()
	set := attribute.NewSet(spans[len(spans)-1].Attributes()...)
	value, _ := set.Value(key)
	return value.String()
}

// Row 1: a token ends an exchange; there is nothing to wait for and nothing held.
func TestTokenHoldsNobody(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		if got := e.crowd(t); got[""] != 90 || e.count() != 90 {
			t.Errorf("got %v from %d requests, want 90 tokens from 90", got, e.count())
		}
		if holds := e.client.Holds(); len(holds) != 0 {
			t.Errorf("got holds %v, want none", holds)
		}
		for _, span := range e.spans.Ended() {
			set := attribute.NewSet(span.Attributes()...)
			if set.HasValue("http.request.resend_count") || set.HasValue("credfree.exchange.held_back") {
				t.Errorf("span %s of an exchange without failures has %v", span.Name(), span.Attributes())
			}
		}
	})
}

// Row 2: Entra says how long, and says it to all.
func TestThrottlingIsShared(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.server.SetBehavior(entratest.Behavior{Status: 429, RetryAfter: "7"})
		first := e.bad(t, exchange.EntraThrottled, graph)
		if first.RetryAfter != 7*time.Second || e.count() != 1 {
			t.Fatalf("got Retry-After %s after %d requests, want 7s after 1", first.RetryAfter, e.count())
		}
		time.Sleep(4500 * time.Millisecond)
		for _, scope := range []string{graph, vault} {
			got := e.atOnce(t, exchange.EntraThrottled, scope)
			if got.RetryAfter != 2500*time.Millisecond || got.CorrelationID != first.CorrelationID || got.RequestID != first.RequestID || got.Status != 429 {
				t.Errorf("%s: got Retry-After %s, correlation id %s; want 2.5s and %s", scope, got.RetryAfter, got.CorrelationID, first.CorrelationID)
			}
			if kind := e.attribute("credfree.exchange.held_back"); kind != "throttled" {
				t.Errorf("got held back as %q, want throttled", kind)
			}
		}
		want := []exchange.Hold{{Tenant: entratest.DemoTenantID, ClientID: entratest.DemoClientID, Kind: exchange.Throttled, Until: time.Now().Add(2500 * time.Millisecond)}}
		if holds := e.client.Holds(); len(holds) != 1 || !holds[0].Until.Equal(want[0].Until) || holds[0].Kind != want[0].Kind ||
			holds[0].Tenant != want[0].Tenant || holds[0].ClientID != want[0].ClientID {
			t.Errorf("got holds %v, want %v", holds, want)
		}
		// The workload token is not even read.
		if err := os.Rename(e.file, e.file+".away"); err != nil {
			t.Fatal(err)
		}
		e.atOnce(t, exchange.EntraThrottled, graph)
		if err := os.Rename(e.file+".away", e.file); err != nil {
			t.Fatal(err)
		}
		// Another client of the tenant is not held.
		other := e.app
		other.ClientID = "00000000-0000-4000-8000-00000000dead"
		if _, err := e.client.Token(t.Context(), other, exchange.Request{Scopes: []string{graph}}); err == nil || e.count() != 2 {
			t.Errorf("got %v after %d requests, want another client's to leave", err, e.count())
		}
		// Nor does the way a name is written make it another.
		same := e.app
		same.Tenant, same.ClientID = strings.ToUpper(same.Tenant), strings.ToUpper(same.ClientID)
		if _, err := e.client.Token(t.Context(), same, exchange.Request{Scopes: []string{graph}}); err == nil || e.count() != 2 {
			t.Errorf("got %v after %d requests, want the same client's to be held", err, e.count())
		}
	})
}

// Whoever comes when the time is over, and however many: one of them asks.
func TestOneRequestPerWindow(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.server.SetBehavior(entratest.Behavior{Status: 429, RetryAfter: "30"})
		e.bad(t, exchange.EntraThrottled, graph)
		e.server.SetBehavior(entratest.Behavior{Status: 429, RetryAfter: "30", Delay: 9 * time.Second})
		for window := range 5 {
			time.Sleep(30 * time.Second)
			if got := e.crowd(t); got[exchange.EntraThrottled] != 90 || e.count() != window+2 {
				t.Fatalf("window %d: got %v after %d requests, want 90 throttled after %d", window, got, e.count(), window+2)
			}
		}
		time.Sleep(30 * time.Second)
		e.server.SetBehavior(entratest.Behavior{Delay: 9 * time.Second})
		time.AfterFunc(8*time.Second, func() { // the one that asks is still under way
			if got := e.atOnce(t, exchange.EntraThrottled, vault); got.RetryAfter != time.Second {
				t.Errorf("got Retry-After %s, want 1s: there may be news by then", got.RetryAfter)
			}
		})
		if got := e.crowd(t); got[""] != 1 || got[exchange.EntraThrottled] != 89 {
			t.Errorf("got %v, want one token: the others do not wait for the one that asks", got)
		}
		if got := e.crowd(t); got[""] != 90 {
			t.Errorf("got %v, want 90 tokens", got)
		}
	})
}

// The ways in which Entra says "later".
func TestThrottlingInEveryForm(t *testing.T) {
	for name, test := range map[string]struct {
		behavior func() entratest.Behavior
		waits    []time.Duration // of the throttlings in a row
	}{
		"seconds": {func() entratest.Behavior { return entratest.Behavior{Status: 429, RetryAfter: "3"} }, []time.Duration{3 * time.Second, 3 * time.Second}},
		"date": {func() entratest.Behavior {
			return entratest.Behavior{Status: 429, RetryAfter: time.Now().Add(20 * time.Second).UTC().Format(http.TimeFormat)}
		}, []time.Duration{20 * time.Second, 20 * time.Second}},
		"absurd":      {func() entratest.Behavior { return entratest.Behavior{Status: 429, RetryAfter: "99999999"} }, []time.Duration{time.Hour}},
		"endless":     {func() entratest.Behavior { return entratest.Behavior{Status: 429, RetryAfter: "99999999999999999999"} }, []time.Duration{time.Hour}},
		"90055":       {func() entratest.Behavior { return entratest.Behavior{Code: 90055} }, []time.Duration{10 * time.Second}},
		"without one": {func() entratest.Behavior { return entratest.Behavior{Status: 429} }, []time.Duration{2e9, 4e9, 8e9, 16e9, 32e9, 60e9, 60e9}},
		"garbled":     {func() entratest.Behavior { return entratest.Behavior{Status: 429, RetryAfter: "soon"} }, []time.Duration{2e9, 4e9}},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, e *entra) {
				for i, wait := range test.waits {
					e.server.SetBehavior(test.behavior())
					if got := e.bad(t, exchange.EntraThrottled, graph); got.RetryAfter != wait || e.count() != i+1 {
						t.Fatalf("throttling %d: got Retry-After %s after %d requests, want %s after %d", i, got.RetryAfter, e.count(), wait, i+1)
					}
					time.Sleep(wait - 1)
					e.atOnce(t, exchange.EntraThrottled, vault)
					time.Sleep(time.Nanosecond)
				}
				e.server.SetBehavior(well)
				e.good(t, graph)
				e.server.SetBehavior(test.behavior())
				if got := e.bad(t, exchange.EntraThrottled, graph); got.RetryAfter != test.waits[0] {
					t.Errorf("after a success: got Retry-After %s, want %s again", got.RetryAfter, test.waits[0])
				}
			})
		})
	}
}

// A loop of one request is throttled by itself: others of the client leave.
func TestLoopIsHeldByItself(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		for i, wait := range []time.Duration{2e9, 4e9, 8e9, 16e9, 32e9, 60e9, 60e9} {
			e.meets(entratest.Behavior{Code: 50196}, well)
			if got := e.bad(t, exchange.EntraThrottled, graph); got.RetryAfter != wait {
				t.Errorf("loop %d: got Retry-After %s, want %s", i, got.RetryAfter, wait)
			}
			e.good(t, vault)
			if holds := e.client.Holds(); len(holds) != 0 {
				t.Errorf("got holds %v, want none: other requests leave", holds)
			}
			time.Sleep(wait - 1)
			if got := e.atOnce(t, exchange.EntraThrottled, graph); got.RetryAfter != 1 {
				t.Errorf("loop %d: got Retry-After %s, want 1ns", i, got.RetryAfter)
			}
			time.Sleep(time.Nanosecond)
		}
		e.server.SetBehavior(well)
		e.good(t, graph)
		// One that is throttled with 429 is the client's: Entra counts it so.
		e.sent.answer = respond(429, "application/json", `{"error":"invalid_grant","error_codes":[50196]}`)
		e.bad(t, exchange.EntraThrottled, graph)
		e.atOnce(t, exchange.EntraThrottled, vault)
	})
}

// A user who has to sign in anew, and whose agent asks again and again instead, is
// asked for seldom; Entra's loop detector, which sees that all the same, stops nobody
// else.
func TestLoopOfOneUser(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		const d = 4 * time.Minute
		e.server.SetBehavior(entratest.Behavior{LoopLimit: 20, RequireMFA: true})
		user := e.userToken(t, entratest.DemoClientID)
		looped, others, failed := 0, 0, 0
		for began := time.Now(); time.Since(began) < d; time.Sleep(200 * time.Millisecond) {
			if time.Since(began) >= time.Duration(others)*20*time.Second {
				others++
				if _, err := e.ask(t.Context(), vault); err != nil {
					failed++
				}
			}
			_, err := e.client.Token(t.Context(), e.app, exchange.Request{Scopes: []string{userRead}, User: user})
			if asError(t, err).Reason == exchange.EntraThrottled {
				looped++
			}
		}
		if sent := e.count() - others; looped == 0 || failed > 0 || sent > 30 {
			t.Errorf("got %d answers of a loop, %d failures of others and %d requests, want some, none and at most 30", looped, failed, sent)
		}
	})
}

// Of requests that left together the longest wait counts, and a token that was
// on its way lifts nothing.
func TestStragglersDoNotLiftAThrottling(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.meets(entratest.Behavior{Delay: 2 * time.Second}, entratest.Behavior{Delay: time.Second, Status: 429, RetryAfter: "20"}, entratest.Behavior{Status: 429, RetryAfter: "5"})
		var all sync.WaitGroup
		for _, scope := range []string{graph, vault, search} {
			all.Go(func() { _, _ = e.ask(t.Context(), scope) })
			synctest.Wait()
		}
		all.Wait() // 2 s: the token came last
		if got := e.atOnce(t, exchange.EntraThrottled, graph); got.RetryAfter != 19*time.Second {
			t.Errorf("got Retry-After %s, want 19s: 20s from the second", got.RetryAfter)
		}
	})
}

// A throttling and an outage end each other: either is news.
func TestOneTroubleEndsTheOther(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		throttled := entratest.Behavior{Status: 429, RetryAfter: "3"}
		e.meets(throttled, entratest.Behavior{Status: 503}, throttled, well)
		e.bad(t, exchange.EntraThrottled, graph)
		time.Sleep(3 * time.Second)
		e.bad(t, exchange.EntraUnavailable, graph) // the probe, once
		time.Sleep(e.atOnce(t, exchange.EntraUnavailable, graph).RetryAfter)
		e.bad(t, exchange.EntraThrottled, graph)
		time.Sleep(e.atOnce(t, exchange.EntraThrottled, graph).RetryAfter)
		e.good(t, graph)
	})
}

// A probe whose caller leaves has shown nothing: the next one asks.
func TestProbeThatIsGivenUp(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.server.SetBehavior(entratest.Behavior{Status: 429, RetryAfter: "3"})
		e.bad(t, exchange.EntraThrottled, graph)
		time.Sleep(3 * time.Second)
		e.server.SetBehavior(entratest.Behavior{Hang: true})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := e.ask(ctx, graph); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's end", err)
		}
		e.server.SetBehavior(well)
		e.good(t, graph)
	})
}

// Row 3: outages are tried again twice, in the span of a second.
func TestOutageIsRetried(t *testing.T) {
	down := entratest.Behavior{Status: 503}
	for name, test := range map[string]struct {
		meets  []entratest.Behavior
		pauses []time.Duration
		reason exchange.Reason // "" for a token
	}{
		"once":        {[]entratest.Behavior{down, well}, []time.Duration{200e6}, ""},
		"twice":       {[]entratest.Behavior{down, {Code: 90033}, well}, []time.Duration{200e6, 800e6}, ""},
		"three times": {[]entratest.Behavior{down, down, {Status: 500}, well}, []time.Duration{200e6, 800e6}, exchange.EntraUnavailable},
		"hangs":       {[]entratest.Behavior{{Hang: true}, well}, []time.Duration{10200e6}, ""},
		"hangs on":    {[]entratest.Behavior{{Hang: true}}, []time.Duration{10200e6, 10800e6}, exchange.Timeout},
		"then refuses": {[]entratest.Behavior{down, {Code: 700016}}, []time.Duration{200e6},
			exchange.EntraRejected},
		"then throttles": {[]entratest.Behavior{down, {Status: 429}}, []time.Duration{200e6}, exchange.EntraThrottled},
		"then garbles":   {[]entratest.Behavior{down, {Truncate: true}, well}, []time.Duration{200e6}, exchange.ReplyMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, e *entra) {
				e.meets(test.meets...)
				if test.reason == "" {
					e.good(t, graph)
				} else {
					e.bad(t, test.reason, graph)
				}
				within(t, e.pauses(0), test.pauses...)
				var ids []string
				for i, span := range slices.DeleteFunc(e.spans.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.Name() != "entra.token" }) {
					set := attribute.NewSet(span.Attributes()...)
					if count, _ := set.Value("http.request.resend_count"); count.AsInt64() != int64(i) {
						t.Errorf("span %d: got resend count %d", i, count.AsInt64())
					}
					id, _ := set.Value("credfree.entra.correlation_id")
					ids = append(ids, id.AsString())
				}
				if len(ids) != e.count() || len(slices.Compact(ids)) != 1 {
					t.Errorf("got spans with correlation ids %v for %d requests, want one span each and one id", ids, e.count())
				}
			})
		})
	}
}

// Entra may say when it will be back, and is believed for five seconds.
func TestOutageThatSaysWhen(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.server.SetBehavior(entratest.Behavior{Status: 503, RetryAfter: "2"})
		e.bad(t, exchange.EntraUnavailable, graph)
		if got, want := e.pauses(0), []time.Duration{2 * time.Second, 2 * time.Second}; !slices.Equal(got, want) {
			t.Errorf("got pauses %v, want %v", got, want)
		}
		if got := e.atOnce(t, exchange.EntraUnavailable, graph); got.RetryAfter != 2*time.Second {
			t.Errorf("got Retry-After %s, want 2s", got.RetryAfter)
		}
		time.Sleep(2 * time.Second)
		e.server.SetBehavior(entratest.Behavior{Status: 503, RetryAfter: "3600"})
		e.bad(t, exchange.EntraUnavailable, graph)
		if got := e.atOnce(t, exchange.EntraUnavailable, graph); got.RetryAfter != 5*time.Second {
			t.Errorf("got Retry-After %s, want 5s", got.RetryAfter)
		}
	})
}

// A connection that fails is an outage too.
func TestRefusedConnectionIsRetried(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.sent.answer = func(req *http.Request) (*http.Response, error) {
			if len(e.sent.requests) < 3 {
				return nil, errors.New("connection reset by peer")
			}
			return e.sent.next.RoundTrip(req)
		}
		e.good(t, graph)
		within(t, e.pauses(0), 200*time.Millisecond, 800*time.Millisecond)
	})
}

// Jitter is jitter: brokers that failed together do not come back together.
func TestPausesAreJittered(t *testing.T) {
	pauses := map[time.Duration]bool{}
	for range 10 {
		inTime(t, func(t *testing.T, e *entra) {
			e.meets(entratest.Behavior{Status: 503}, well)
			e.good(t, graph)
			pauses[e.pauses(0)[0]] = true
		})
	}
	if len(pauses) < 2 {
		t.Errorf("got the same pause %v ten times", pauses)
	}
}

// Row 3, the others: while Entra is down for all, one of them looks, and when it is
// back nobody waits longer than five seconds.
func TestBreaker(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.server.SetBehavior(entratest.Behavior{Status: 503})
		e.bad(t, exchange.EntraUnavailable, graph)
		second := e.bad(t, exchange.EntraUnavailable, vault)
		requests := e.count()
		if got := e.atOnce(t, exchange.EntraUnavailable, search); got.RetryAfter > time.Second || got.CorrelationID != second.CorrelationID || got.Status != 503 {
			t.Errorf("got Retry-After %s, correlation id %s; want at most 1s and that of the second", got.RetryAfter, got.CorrelationID)
		}
		time.Sleep(time.Second)
		if e.bad(t, exchange.EntraUnavailable, search); e.count() != requests+1 {
			t.Errorf("got %d requests, want 1 of one who had not failed", e.count()-requests)
		}
		for failure, most := range []time.Duration{1e9, 2e9, 4e9, 5e9, 5e9, 5e9} {
			if failure > 0 {
				e.holdsAll(t, most, false)
			}
			requests := e.count()
			if got := e.crowd(t); got[exchange.EntraUnavailable] != 90 || e.count() != requests+1 {
				t.Fatalf("failure %d: got %v and %d requests, want 90 failures and 1 request", failure, got, e.count()-requests)
			}
		}
		e.server.SetBehavior(well)
		time.Sleep(e.atOnce(t, exchange.EntraUnavailable, graph).RetryAfter)
		e.good(t, graph)
		if got := e.crowd(t); got[""] != 90 {
			t.Errorf("after the outage: got %v, want 90 tokens", got)
		}
		// It starts afresh, with retries.
		requests = e.count()
		e.server.SetBehavior(entratest.Behavior{Status: 503})
		e.bad(t, exchange.EntraUnavailable, graph)
		if got := e.atOnce(t, exchange.EntraUnavailable, graph); got.RetryAfter > time.Second || e.count() != requests+3 {
			t.Errorf("got Retry-After %s after %d requests, want at most 1s after 3", got.RetryAfter, e.count()-requests)
		}
	})
}

// holdsAll checks that all who failed are held back for about most, or the others than
// the last to fail for half of it, and waits.
func (e *entra) holdsAll(t *testing.T, most time.Duration, alike bool) {
	t.Helper()
	var waits []time.Duration
	for _, scope := range []string{graph, vault, search} {
		waits = append(waits, e.atOnce(t, exchange.EntraUnavailable, scope).RetryAfter)
		if kind := e.attribute("credfree.exchange.held_back"); kind != "breaker" {
			t.Errorf("got held back as %q, want breaker", kind)
		}
	}
	slices.Sort(waits)
	window, others := waits[2], waits[2]
	if !alike {
		others /= 2
	}
	if window > most || window < most*3/4 || waits[0] != others || waits[1] != others {
		t.Fatalf("got Retry-After %s, want one of about %s and two of %s", waits, most, others)
	}
	if holds := e.client.Holds(); len(holds) != 1 || holds[0].Kind != exchange.BreakerOpen || time.Until(holds[0].Until) != window {
		t.Errorf("got holds %v, want one for %s", holds, window)
	}
	time.Sleep(window)
	if holds := e.client.Holds(); len(holds) != 0 {
		t.Errorf("got holds %v, want none: a request would leave", holds)
	}
}

// Entra is out of order for some users, who ask all the time, for whatever scopes and
// with whatever claims. One user holds nobody else back; of several, each counts for
// a second, once. And for each Entra is asked but every few seconds.
func TestOutageOfSomeUsers(t *testing.T) {
	const d, oneUser, another = 2 * time.Minute, "00000000-0000-4000-8000-0000000000a1", "00000000-0000-4000-8000-0000000000a2"
	for name, test := range map[string]struct {
		users  []string
		scopes []string
		claims bool
		every  time.Duration // the others ask
		failed int           // of the others, at most
		sent   int           // for each user, at most
	}{
		"one":                     {[]string{oneUser}, []string{userRead}, false, 700 * time.Millisecond, 0, 37},
		"one with several scopes": {[]string{oneUser}, []string{userRead, graph, "https://graph.microsoft.com/Mail.Read"}, false, 700 * time.Millisecond, 0, 37},
		"one with claims":         {[]string{oneUser}, []string{userRead}, true, 700 * time.Millisecond, 0, 37},
		"two":                     {[]string{oneUser, another}, []string{userRead}, false, 700 * time.Millisecond, 2, 60},
		"two, the others quiet":   {[]string{oneUser, another}, []string{userRead}, false, 7 * time.Second, 1, 60},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, e *entra) {
				token := e.userToken(t, entratest.DemoClientID).Token
				ofUsers := 0
				e.sent.answer = func(req *http.Request) (*http.Response, error) {
					if formOf(req).Get("assertion") == "" {
						return e.sent.next.RoundTrip(req)
					}
					ofUsers++
					return respond(503, "text/plain", "")(req)
				}
				var all sync.WaitGroup
				end := time.Now().Add(d)
				for i, user := range test.users {
					all.Go(func() {
						time.Sleep(time.Duration(i) * 50 * time.Millisecond)
						for n := 0; time.Now().Before(end); n++ {
							req := exchange.Request{Scopes: []string{test.scopes[n%len(test.scopes)]}, User: exchange.User{Token: token, ObjectID: user}}
							if test.claims {
								req.Claims = fmt.Sprintf(`{"access_token":{"nbf":{"essential":true,"value":"%d"}}}`, n)
							}
							if _, err := e.client.Token(t.Context(), e.app, req); err == nil {
								t.Error("got a token for whom there is none")
							}
							time.Sleep(200 * time.Millisecond)
						}
					})
				}
				asked, failed := 0, 0
				for time.Now().Before(end) {
					time.Sleep(test.every)
					asked++
					if _, err := e.ask(t.Context(), vault); err != nil {
						failed++
					}
				}
				if holds := e.client.Holds(); len(test.users) == 1 && len(holds) != 0 {
					t.Errorf("got holds %v, want none for one user", holds)
				}
				all.Wait()
				if failed > test.failed {
					t.Errorf("%d of %d requests of the others failed, want at most %d", failed, asked, test.failed)
				}
				if most := len(test.users) * test.sent; ofUsers > most {
					t.Errorf("Entra was asked %d times for %d users, want at most %d", ofUsers, len(test.users), most)
				}
			})
		})
	}
}

// After an outage of all, one of them is still out of order and asks all the time, and
// the others seldom: they get their turn, and with it the tokens of all.
func TestProbeGoesRound(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		var back atomic.Bool // for vault
		e.sent.answer = func(req *http.Request) (*http.Response, error) {
			scope, _, _ := strings.Cut(formOf(req).Get("scope"), " ")
			if scope == graph || scope == vault && !back.Load() {
				return respond(503, "text/plain", "")(req)
			}
			return e.sent.next.RoundTrip(req)
		}
		end := time.Now().Add(2 * time.Minute)
		var all sync.WaitGroup
		all.Go(func() {
			for ; time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
				e.bad(t, exchange.EntraUnavailable, graph)
			}
		})
		for time.Until(end) > time.Minute {
			e.bad(t, exchange.EntraUnavailable, vault)
			time.Sleep(1500 * time.Millisecond)
		}
		back.Store(true)
		since := time.Now()
		for {
			if _, err := e.ask(t.Context(), vault); err == nil {
				break
			}
			time.Sleep(1500 * time.Millisecond)
		}
		if took := time.Since(since); took > 7*time.Second {
			t.Errorf("it took %s to see that Entra is back, want 7s at most", took)
		}
		failed := 0
		for ; time.Now().Before(end); time.Sleep(1500 * time.Millisecond) {
			if _, err := e.ask(t.Context(), vault); err != nil {
				failed++
			}
		}
		if failed > 0 {
			t.Errorf("%d requests failed after that, want none", failed)
		}
		all.Wait()
	})
}

// A probe of one asker that finds no connection has learnt nothing of the asker.
func TestProbeWithoutAConnection(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.server.SetBehavior(entratest.Behavior{Status: 503})
		e.bad(t, exchange.EntraUnavailable, graph)
		time.Sleep(time.Second)
		e.sent.answer = func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }
		e.bad(t, exchange.EntraUnavailable, graph)
		for _, scope := range []string{graph, vault} {
			if got := e.atOnce(t, exchange.EntraUnavailable, scope); got.RetryAfter > time.Second {
				t.Errorf("%s: got Retry-After %s, want 1s at most", scope, got.RetryAfter)
			}
		}
		time.Sleep(time.Second)
		e.sent.answer = nil
		e.server.SetBehavior(well)
		e.good(t, graph)
	})
}

// Where no connection comes about, it does not matter who asks.
func TestNoConnectionHoldsAll(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.sent.answer = func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }
		e.bad(t, exchange.EntraUnavailable, graph)
		for _, most := range []time.Duration{1e9, 2e9, 4e9, 5e9} {
			e.holdsAll(t, most, true)
			requests := e.count()
			if got := e.crowd(t); got[exchange.EntraUnavailable] != 90 || e.count() != requests+1 {
				t.Fatalf("got %v and %d requests, want 90 failures and 1 request", got, e.count()-requests)
			}
		}
	})
}

// Requests that fail together are one failure, and their repetitions at most one
// more: else the hold would be one of five seconds.
func TestCrowdFailsOnce(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.server.SetBehavior(entratest.Behavior{Status: 503})
		if got := e.crowd(t); got[exchange.EntraUnavailable] != 90 {
			t.Errorf("got %v, want 90 failures", got)
		}
		time.Sleep(2 * time.Second)
		e.server.SetBehavior(well)
		e.good(t, graph)
	})
}

// An outage of weeks in which nothing answers, with somebody always asking:
// every request hangs, and still a token is there five seconds after its end.
func TestRecoveryWhileAProbeHangs(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.server.SetBehavior(entratest.Behavior{Hang: true})
		var probes sync.WaitGroup
		requests := 0 // it ends when the newest probe has just begun to hang
		for began := time.Now(); time.Since(began) < 2*time.Minute || e.count() == requests; time.Sleep(100 * time.Millisecond) {
			requests = e.count()
			scope := []string{graph, vault}[requests%2]
			probes.Go(func() {
				if _, err := e.ask(t.Context(), scope); err != nil && asError(t, err).Reason != exchange.Timeout {
					t.Errorf("got %v, want %s", err, exchange.Timeout)
				}
			})
			synctest.Wait()
		}
		e.server.SetBehavior(well)
		back := time.Now()
		for {
			if _, err := e.ask(t.Context(), vault); err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		// The first exchange takes half a minute to fail. Until then all leave,
		// and repeat themselves; after that one in five seconds.
		if most := 700; e.count() > most {
			t.Errorf("got %d requests, want at most %d", e.count(), most)
		}
		if took := time.Since(back); took > 5100*time.Millisecond {
			t.Errorf("it took %s to see that Entra is back, want at most 5s", took)
		}
		probes.Wait()
		e.good(t, search) // the last of the hanging probes closed nothing again
	})
}

// A failure of this morning says nothing of now.
func TestBreakerForgets(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.meets(entratest.Behavior{Status: 503}, entratest.Behavior{Status: 503}, entratest.Behavior{Status: 503}, entratest.Behavior{Status: 503}, well)
		e.bad(t, exchange.EntraUnavailable, graph)
		time.Sleep(2 * time.Minute)
		e.good(t, graph)
		if e.count() != 5 {
			t.Errorf("got %d requests, want 5: three, then one and its repetition", e.count())
		}
	})
}

// Row 4: an answer that is none is asked for once more.
func TestMalformedReplyIsRetriedOnce(t *testing.T) {
	for name, behavior := range map[string]entratest.Behavior{
		"truncated": {Truncate: true}, "html": {Status: 200, Body: "<html>"}, "redirect": {Redirect: "https://evil.example/"}, "huge": {Huge: true},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, e *entra) {
				e.meets(behavior, well)
				e.good(t, graph)
				e.meets(behavior)
				e.bad(t, exchange.ReplyMalformed, graph)
				within(t, e.pauses(2), 200*time.Millisecond)
				if got := e.atOnce(t, exchange.ReplyMalformed, graph); got.RetryAfter <= 0 || got.RetryAfter > time.Second {
					t.Errorf("got Retry-After %s, want at most 1s", got.RetryAfter)
				}
			})
		})
	}
}

// Row 5: the platform replaced the workload token a moment too late.
func TestExpiredWorkloadTokenIsReadAgain(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.server.SetBehavior(entratest.Behavior{ClockSkew: 2 * time.Hour})
		old := e.workloadToken(t, entratest.ServiceAccountToken{Lifetime: time.Hour})
		e.write(t, old)
		replaced := e.workloadToken(t, entratest.ServiceAccountToken{Lifetime: 24 * time.Hour})
		e.sent.before = func(int) { e.write(t, replaced) }
		e.good(t, graph)
		if e.count() != 2 || e.sent.forms[0].Get("client_assertion") != old || e.sent.forms[1].Get("client_assertion") != replaced {
			t.Errorf("got %d requests, want one with the old token and one with the new", e.count())
		}
		// It is not replaced: once more, and not again; and nothing is remembered.
		e.sent.before = nil
		e.write(t, old)
		for want := 4; want <= 6; want += 2 {
			if got := e.bad(t, exchange.EntraRejected, graph); !slices.Contains(got.Codes, 700024) || e.count() != want {
				t.Errorf("got %v after %d requests, want 700024 after %d", got.Codes, e.count(), want)
			}
		}
		e.write(t, replaced)
		e.good(t, graph)
		// It is gone: that is what there is to say.
		e.write(t, old)
		e.sent.before = func(int) {
			if err := os.Remove(e.file); err != nil {
				t.Error(err)
			}
		}
		e.bad(t, exchange.AssertionUnavailable, graph)
	})
}

// Row 6: replicas learn of a federated credential one by one.
func TestPropagation(t *testing.T) {
	notYet := entratest.Behavior{PropagationDelay: time.Hour} // two of three refuse
	for name, test := range map[string]struct {
		age    time.Duration // since the last token; 0 for none
		pauses []time.Duration
		ok     bool
	}{
		"never a token":   {0, []time.Duration{time.Second, 3 * time.Second}, true},
		"a minute ago":    {time.Minute, []time.Duration{time.Second, 3 * time.Second}, true},
		"ten minutes ago": {10 * time.Minute, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, e *entra) {
				if test.age > 0 {
					e.good(t, graph)
					time.Sleep(test.age)
				}
				first := e.count()
				e.server.SetBehavior(notYet)
				if test.ok {
					e.good(t, graph)
				} else if got := e.bad(t, exchange.EntraRejected, graph); !slices.Contains(got.Codes, 70021) {
					t.Errorf("got %v, want 70021", got.Codes)
				}
				if got := e.pauses(first); !slices.Equal(got, test.pauses) {
					t.Errorf("got pauses %v, want %v", got, test.pauses)
				}
			})
		})
	}
}

// Each number of the row; and who never trusts us is asked no more than that.
func TestFederationThatStaysRefused(t *testing.T) {
	for _, code := range []int{70021, 700211, 700212, 700213, 70025} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			inTime(t, func(t *testing.T, e *entra) {
				e.server.SetBehavior(entratest.Behavior{Code: code})
				if got := e.bad(t, exchange.EntraRejected, graph); !slices.Contains(got.Codes, code) || e.count() != 3 {
					t.Errorf("got %v after %d requests, want %d after 3", got.Codes, e.count(), code)
				}
				e.atOnce(t, exchange.EntraRejected, graph)
			})
		})
	}
	inTime(t, func(t *testing.T, e *entra) { // 7002138 looks like one of them, and is a mistake in letters
		e.server.SetBehavior(entratest.Behavior{Code: 7002138})
		if e.bad(t, exchange.EntraRejected, graph); e.count() != 1 {
			t.Errorf("got %d requests, want 1", e.count())
		}
	})
}

// Row 7: who was refused is not asked for the same again for ten seconds.
func TestRefusalIsRemembered(t *testing.T) {
	for _, code := range []int{700016, 700027, 1002012, 500011, 65001, 90002, 82001} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			inTime(t, func(t *testing.T, e *entra) {
				e.server.SetBehavior(entratest.Behavior{Code: code})
				first := e.bad(t, exchange.EntraRejected, graph)
				e.server.SetBehavior(well)
				time.Sleep(rememberFor - 1)
				again := e.atOnce(t, exchange.EntraRejected, graph)
				if !slices.Contains(again.Codes, code) || again.CorrelationID != first.CorrelationID || again.Code != first.Code || again.Hint != first.Hint || again.Message != first.Message {
					t.Errorf("got %+v, want %+v", again, first)
				}
				if kind := e.attribute("credfree.exchange.held_back"); kind != "remembered" {
					t.Errorf("got held back as %q, want remembered", kind)
				}
				if holds := e.client.Holds(); len(holds) != 0 {
					t.Errorf("got holds %v, want none: other requests leave", holds)
				}
				e.good(t, vault) // another scope
				if _, err := e.client.Token(t.Context(), e.app, exchange.Request{Scopes: []string{graph}, Claims: mfa}); err != nil {
					t.Errorf("with claims: got %v, want a token", err)
				}
				time.Sleep(time.Nanosecond)
				e.good(t, graph)
			})
		})
	}
}

const rememberFor = 10 * time.Second

// So is a token that is withheld: Entra would issue such another.
func TestMismatchIsRemembered(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.server.SetBehavior(entratest.Behavior{DelegatedInstead: true})
		e.bad(t, exchange.TokenMismatch, graph)
		e.server.SetBehavior(well)
		time.Sleep(rememberFor - 1)
		e.atOnce(t, exchange.TokenMismatch, graph)
		e.good(t, vault)
		time.Sleep(time.Nanosecond)
		e.good(t, graph)
	})
}

// Somebody mends the platform instead: that is another question.
func TestOtherWorkloadTokenIsAnotherQuestion(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.good(t, graph)
		time.Sleep(time.Hour / 2) // a refused federation is final
		e.write(t, e.workloadToken(t, entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "other", Lifetime: time.Hour}))
		e.bad(t, exchange.EntraRejected, graph)
		e.write(t, e.workloadToken(t, entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "other", Lifetime: 2 * time.Hour}))
		e.atOnce(t, exchange.EntraRejected, graph) // replaced, and still the same workload's
		e.write(t, e.workloadToken(t, entratest.ServiceAccountToken{Lifetime: 24 * time.Hour}))
		e.good(t, graph)
	})
}

// Row 8: a challenge is the same for two seconds; who brings claims, or others, or
// another token of the user, asks something else.
func TestClaimsAreAnotherQuestion(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		with := func(claims string) exchange.Request { return exchange.Request{Scopes: []string{graph}, Claims: claims} }
		refused := func(claims string, sent bool) {
			t.Helper()
			requests := e.count()
			_, err := e.client.Token(t.Context(), e.app, with(claims))
			if got := asError(t, err); got.Reason != exchange.EntraRejected || (got.Claims != "") != (got.Codes[0] == 53003) || (e.count() > requests) != sent || got.Asked() != sent {
				t.Errorf("got %s with claims %q, %d requests, want %s, sent: %t", got.Reason, got.Claims, e.count()-requests, exchange.EntraRejected, sent)
			}
		}
		for _, code := range []int{53003, 700016} {
			e.server.SetBehavior(entratest.Behavior{Code: code})
			refused(mfa, true)
			refused(mfa, false)
			refused(`{"access_token":{"acrs":{"essential":true,"value":"c2"}}}`, true)
			time.Sleep(2*time.Second - 1)
			refused(mfa, false)
			time.Sleep(time.Nanosecond)
			refused(mfa, true)
			time.Sleep(2 * time.Second)
		}
		e.server.SetBehavior(well)
		e.good(t, graph) // what was refused with claims says nothing of the request without
		e.server.SetBehavior(entratest.Behavior{Code: 53003})
		e.bad(t, exchange.EntraRejected, graph)
		e.server.SetBehavior(well)
		e.atOnce(t, exchange.EntraRejected, graph)
		if _, err := e.client.Token(t.Context(), e.app, with(mfa)); err != nil {
			t.Errorf("got %v, want the answer to a challenge to leave at once", err)
		}
		time.Sleep(2 * time.Second)
		e.good(t, graph)
		e.server.SetBehavior(entratest.Behavior{RequireMFA: true})
		for range 2 { // the user signs in anew
			requests := e.count()
			_, err := e.client.Token(t.Context(), e.app, exchange.Request{Scopes: []string{userRead}, User: e.userToken(t, entratest.DemoClientID)})
			if got := asError(t, err); got.Claims == "" || e.count() != requests+1 {
				t.Errorf("got %d requests, want 1 for another token of the user", e.count()-requests)
			}
			time.Sleep(time.Second)
		}
	})
}

// Row 9: the workload token may be there the next moment.
func TestLocalFailuresAreNotRemembered(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		good := e.workloadToken(t, entratest.ServiceAccountToken{})
		e.write(t, "not-a-token")
		e.bad(t, exchange.AssertionUnusable, graph)
		if err := os.Remove(e.file); err != nil {
			t.Fatal(err)
		}
		e.bad(t, exchange.AssertionUnavailable, graph)
		e.write(t, good)
		e.good(t, graph)
	})
}

// Row 10: the end of the context is nobody's failure, and is not waited for in vain.
func TestEndOfTheContext(t *testing.T) {
	until := func(t *testing.T, limit time.Duration) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		t.Cleanup(cancel)
		return ctx
	}
	t.Run("in an attempt", func(t *testing.T) {
		inTime(t, func(t *testing.T, e *entra) {
			e.server.SetBehavior(entratest.Behavior{Hang: true})
			if _, err := e.ask(until(t, 4*time.Second), graph); asError(t, err).Reason != exchange.Timeout || e.count() != 1 {
				t.Errorf("got %v after %d requests, want a time-out after 1", err, e.count())
			}
			e.server.SetBehavior(well)
			e.good(t, graph)
		})
	})
	t.Run("before a repetition", func(t *testing.T) {
		inTime(t, func(t *testing.T, e *entra) {
			e.server.SetBehavior(entratest.Behavior{Status: 503, Delay: 3500 * time.Millisecond})
			now := time.Now()
			_, err := e.ask(until(t, 4*time.Second), graph)
			if got := asError(t, err); got.Reason != exchange.EntraUnavailable || e.count() != 1 || time.Since(now) != 3500*time.Millisecond {
				t.Errorf("got %s after %d requests and %s, want %s after 1 and 3.5s", got.Reason, e.count(), time.Since(now), exchange.EntraUnavailable)
			}
		})
	})
	t.Run("in a pause", func(t *testing.T) {
		inTime(t, func(t *testing.T, e *entra) {
			e.server.SetBehavior(entratest.Behavior{PropagationDelay: time.Hour})
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(1500*time.Millisecond, cancel)
			now := time.Now()
			_, err := e.ask(ctx, graph)
			if got := asError(t, err); got.Reason != exchange.Timeout || !errors.Is(err, context.Canceled) || got.CorrelationID == "" || time.Since(now) != 1500*time.Millisecond {
				t.Errorf("got %s, %v after %s, want the context's end after 1.5s", got.Reason, err, time.Since(now))
			}
		})
	})
	t.Run("of a caller that leaves", func(t *testing.T) {
		inTime(t, func(t *testing.T, e *entra) {
			e.meets(entratest.Behavior{Status: 503}, entratest.Behavior{Hang: true}, well)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(3*time.Second, cancel)
			if _, err := e.ask(ctx, graph); !errors.Is(err, context.Canceled) || e.count() != 2 {
				t.Errorf("got %v after %d requests, want the context's end after 2", err, e.count())
			}
			e.good(t, graph)
		})
	})
	t.Run("after attempts that hung", func(t *testing.T) {
		inTime(t, func(t *testing.T, e *entra) {
			e.server.SetBehavior(entratest.Behavior{Hang: true})
			if _, err := e.ask(until(t, 30*time.Second), graph); asError(t, err).Reason != exchange.Timeout || e.count() != 3 {
				t.Errorf("got %v after %d requests, want a time-out after 3", err, e.count())
			}
			e.atOnce(t, exchange.Timeout, graph) // Entra can be blamed for this one
		})
	})
}

// Many exchanges through every kind of trouble, for the race detector; and at
// the end all is well.
func TestManyTroubles(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		troubles := []entratest.Behavior{
			well, {Status: 503}, {Status: 429, RetryAfter: "1"}, {Truncate: true}, {Code: 700016}, {Code: 70021}, {Code: 700024}, {Hang: true}, {Delay: time.Second}, {WrongGrant: true},
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 50 {
					_, _ = e.ask(t.Context(), graph)
					_ = e.client.Holds()
					time.Sleep(500 * time.Millisecond)
				}
			})
		}
		for i := range 60 {
			e.server.SetBehavior(troubles[i%len(troubles)])
			time.Sleep(700 * time.Millisecond)
		}
		e.server.SetBehavior(well)
		all.Wait()
		time.Sleep(10 * time.Second)
		e.good(t, graph)
	})
}
