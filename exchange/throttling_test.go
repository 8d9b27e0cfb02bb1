package exchange_test

import (
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
)

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
