package exchange_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"

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

const rememberFor = 10 * time.Second

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
