package broker_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
)

// What another Entra answers late does not hide what the one in force has answered.
func TestReloadWithAnotherEntraThatAnswersLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		answersAfter := func(delay time.Duration) *exchange.Client {
			client, err := exchange.New(exchange.Config{Authority: authority, Audience: entratest.TokenExchangeAudience, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				time.Sleep(delay)
				return w.entra.RoundTripper().RoundTrip(req)
			})})
			check(t, err)
			return client
		}
		w.rules.Exchange = answersAfter(5 * time.Second)
		check(t, w.Use(w.rules))
		var asking sync.WaitGroup
		asking.Go(func() {
			if _, err := w.ask(as(t, 10001), graph); !errors.Is(err, cache.ErrPurged) {
				t.Errorf("got %v, want %v", err, cache.ErrPurged)
			}
		})
		time.Sleep(time.Second)
		w.rules.Exchange = answersAfter(0)
		check(t, w.Use(w.rules))
		_, err := w.ask(as(t, 10001), graph)
		check(t, err)
		want, _ := w.LastExchange()
		time.Sleep(10 * time.Second)
		if at, _ := w.LastExchange(); want.IsZero() || !at.Equal(want) {
			t.Errorf("got %s, want %s", at, want)
		}
		asking.Wait()
	})
}

// What is in flight when a right goes is not released, whoever waits for it.
func TestReloadWhileInFlight(t *testing.T) {
	for name, test := range map[string]struct {
		gone string
		left int // entries: the agent may still have it, but its caller is nobody now
	}{
		"agent":    {"agents: {}\n", 0},
		"blocked":  {assistant("    blocked: true\n"), 0},
		"scope":    {strings.Replace(assistant(""), graph+", ", "", 1), 0},
		"identity": {strings.Replace(assistant(""), "    identity: demo\n    identities: [demo, agent, agent-user]", "    identity: agent", 1), 0},
		"default":  {strings.Replace(assistant(""), "    identity: demo\n", "    identity: agent\n", 1), 1},
		"caller":   {strings.Replace(assistant(""), "10001", "10009", 1), 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.use(t, assistant(""))
				w.entra.SetBehavior(entratest.Behavior{Delay: 5 * time.Second})
				var asking sync.WaitGroup
				for range 3 {
					asking.Go(func() {
						issued, err := w.ask(as(t, 10001), graph)
						if err == nil || issued.Token.Len() > 0 {
							t.Error("a token was released")
						}
					})
				}
				time.Sleep(time.Second)
				w.use(t, test.gone)
				asking.Wait()
				if got := w.cache.Stats().Entries; got != test.left {
					t.Errorf("got %d entries, want %d", got, test.left)
				}
			})
		})
	}
}

// What began under the rules of another Entra is not released, kept or gone on with,
// though its exchange starts after everything was purged.
func TestReloadWithAnotherEntraBeforeTheExchange(t *testing.T) {
	for identity, audience := range map[string]string{"demo": entratest.DemoClientID, "agent": entratest.DemoBlueprintClientID} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.keysThrough(t, func(*http.Request) error { time.Sleep(2 * time.Second); return nil })
			entra := func(asked *atomic.Int64) *exchange.Client {
				client, err := exchange.New(exchange.Config{Authority: authority, Audience: entratest.TokenExchangeAudience, Legs: broker.Legs(w.cache, w.recorder),
					Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
						asked.Add(1)
						return w.entra.RoundTripper().RoundTrip(req)
					})})
				check(t, err)
				return client
			}
			var old, now atomic.Int64
			w.rules.Exchange = entra(&old)
			w.use(t, assistant("      longRunning: {maxAge: 8h}\n"))
			user := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Audience = audience; r.Lifetime = 10 * time.Minute })
			request := broker.Request{Identity: identity, Scope: userRead, OnBehalfOf: true, UserToken: user}
			var asking sync.WaitGroup
			asking.Go(func() {
				if issued, err := w.Issue(as(t, 10001), request); !errors.Is(err, cache.ErrPurged) || issued.Token.Len() > 0 {
					t.Errorf("%s: got %d bytes of the other Entra's and %v", identity, issued.Token.Len(), err)
				}
			})
			time.Sleep(time.Second)
			w.rules.Exchange = entra(&now)
			w.use(t, assistant("      longRunning: {maxAge: 8h}\n"))
			asking.Wait()
			if old.Load() == 0 {
				t.Errorf("%s: the exchange did not start after the reload", identity)
			}
			before := old.Load()
			_, err := w.Issue(as(t, 10001), request)
			check(t, err)
			if now.Load() != before || old.Load() != before || w.audit.last(t)["cache"] != "miss" {
				t.Errorf("%s: got %d requests to the new Entra, %d to the old, cache %v; want all %d steps to the new", identity, now.Load(), old.Load()-before, w.audit.last(t)["cache"], before)
			}
		})
	}
}

// A call that the rules allowed before its exchange is not made by rules that have
// another API under the same name: neither with what its token was good for, nor where
// it was. The exchange itself begins when all was purged.
func TestReloadWithAnotherAPIBeforeTheExchange(t *testing.T) {
	const before = "apis: {mail: {baseURL: https://graph.microsoft.com/v1.0, scopes: [" + mailRead + "]}}"
	for name, after := range map[string]string{
		"scopes":  strings.Replace(before, mailRead, userRead, 1),
		"address": strings.Replace(before, "graph.microsoft.com/v1.0", "gateway.contoso.com", 1),
		"paths":   strings.Replace(before, "]}", "], paths: [/users]}", 1),
		"nothing": before,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.keysThrough(t, func(*http.Request) error { time.Sleep(2 * time.Second); return nil })
				agents := strings.Replace(assistant(""), "allow: {scopes: ["+userRead+", "+mailRead+"]}", "allow: {apis: [mail]}", 1)
				w.use(t, before+agents)
				user := w.userToken(t, nil)
				var asking sync.WaitGroup
				asking.Go(func() {
					issued, err := w.Issue(as(t, 10001), broker.Request{API: "mail", Method: "GET", Path: "/me", OnBehalfOf: true, UserToken: user})
					if allowed := name == "nothing"; allowed != (err == nil) || allowed != (issued.Token.Len() > 0) {
						t.Errorf("got a token for %q at %q and %v", issued.Scope, issued.API.BaseURL, err)
					}
				})
				time.Sleep(time.Second)
				w.use(t, after+agents)
				asking.Wait()
			})
		})
	}
}

// What is recorded of an issuance that a reload overtook is what the rules say whose
// revision it names: which of them decided, and whether audit mode alone allowed it.
func TestReloadWhileInFlightIsRecorded(t *testing.T) {
	audit, listed := assistant("    mode: audit\n"), assistant("")
	bare := strings.Replace(audit, graph+", ", "", 1)
	if bare == audit {
		t.Fatal("the scope is not taken away")
	}
	for name, test := range map[string]struct {
		before, after string
		want          map[string]any
	}{
		"allowed now": {bare, listed, map[string]any{"decision": "allow", "rule": "agents.assistant.allow.scopes[0]"}},
		"audited now": {listed, bare, map[string]any{"decision": "allow", "rule": "agents.assistant.allow.scopes", "reason": "scope_not_allowed", "audited": true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.use(t, test.before)
				w.entra.SetBehavior(entratest.Behavior{Delay: 5 * time.Second})
				var asking sync.WaitGroup
				asking.Go(func() {
					if _, err := w.ask(as(t, 10001), graph); err != nil {
						t.Error(err)
					}
				})
				time.Sleep(time.Second)
				w.use(t, test.after)
				asking.Wait()
				line := w.audit.last(t)
				got := map[string]any{}
				for _, field := range []string{"decision", "rule", "reason", "audited"} {
					if line[field] != nil {
						got[field] = line[field]
					}
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("got another record (-want +got):\n%s", diff)
				}
			})
		})
	}
}
