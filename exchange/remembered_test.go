package exchange_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
)

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
