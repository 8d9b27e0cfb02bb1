package exchange_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
)

// However long Entra hangs, and however many users ask meanwhile, few requests are sent:
// those who failed a while ago are no newcomers all at once.
func TestLongOutageOfManyUsers(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		const users, lasts, every = 100, 4 * time.Minute, 2 * time.Second
		token := e.userToken(t, entratest.DemoClientID).Token
		start := time.Now()
		var mu sync.Mutex // guards sent
		var sent []time.Duration
		e.sent.answer = func(req *http.Request) (*http.Response, error) {
			mu.Lock()
			sent = append(sent, time.Since(start))
			mu.Unlock()
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		var all sync.WaitGroup
		for n := range users {
			all.Go(func() {
				time.Sleep(time.Duration(n) * every / users)
				for ; time.Since(start) < lasts; time.Sleep(every) {
					ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
					_, err := e.client.Token(ctx, e.app, exchange.Request{Scopes: []string{userRead}, User: exchange.User{Token: token, ObjectID: fmt.Sprint("user-", n)}})
					stop()
					if err == nil {
						t.Error("got a token")
					}
				}
			})
		}
		all.Wait()
		in := map[time.Duration]int{} // requests by their ten seconds
		for _, at := range sent {
			in[at/(10*time.Second)]++
		}
		for at := time.Duration(4); at < lasts/(10*time.Second); at++ { // the first ones hang for half a minute
			if in[at] > 20 || in[at] == 0 {
				t.Errorf("%s: %d requests within 10 s", at*10*time.Second, in[at])
			}
		}
	})
}

// Who has not failed waits for a second for another's probe, though it hangs.
func TestNewcomerBehindAProbeThatHangs(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		token := e.userToken(t, entratest.DemoClientID).Token
		ask := func(user string) {
			_, _ = e.client.Token(t.Context(), e.app, exchange.Request{Scopes: []string{userRead}, User: exchange.User{Token: token, ObjectID: user}}) // fails
		}
		var over, hangs atomic.Bool
		e.sent.answer = func(req *http.Request) (*http.Response, error) {
			switch {
			case !over.Load():
				return respond(503, "text/plain", "")(req)
			case hangs.CompareAndSwap(true, false):
				<-req.Context().Done()
				return nil, req.Context().Err()
			}
			return e.sent.next.RoundTrip(req)
		}
		ask("one")
		ask("two") // which makes it everybody's
		time.Sleep(time.Second)
		over.Store(true)
		hangs.Store(true)
		var hanging sync.WaitGroup
		hanging.Go(func() { ask("three") })
		time.Sleep(time.Millisecond)
		start := time.Now()
		for {
			if _, err := e.ask(t.Context(), vault); err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if waited := time.Since(start); waited > 1100*time.Millisecond {
			t.Errorf("waited %s", waited)
		}
		hanging.Wait()
	})
}

// A failure of an hour ago does not make somebody wait for those who fail now.
func TestOldFailureIsForgotten(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		var over atomic.Bool // for search
		e.sent.answer = func(req *http.Request) (*http.Response, error) {
			if over.Load() && strings.HasPrefix(formOf(req).Get("scope"), search) {
				return e.sent.next.RoundTrip(req)
			}
			return respond(503, "text/plain", "")(req)
		}
		e.bad(t, exchange.EntraUnavailable, search)
		e.bad(t, exchange.EntraUnavailable, vault)
		time.Sleep(time.Hour)
		end := time.Now().Add(2 * time.Minute)
		var all sync.WaitGroup
		for n, scope := range []string{graph, vault} {
			all.Go(func() {
				time.Sleep(time.Duration(n) * 50 * time.Millisecond)
				for ; time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
					_, _ = e.ask(t.Context(), scope) // fails
				}
			})
		}
		time.Sleep(time.Minute + 33*time.Millisecond)
		over.Store(true)
		_, err := e.ask(t.Context(), search)
		if err != nil {
			t.Errorf("got %v", err)
		}
		all.Wait()
	})
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
