package broker_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/managedidentity"
	"github.com/credfree/credfree/exchange/secret"
	"github.com/credfree/credfree/exchange/usertoken"
)

// traced are the scenarios of the golden traces: each outcome, and each kind of
// identity.
var traced = map[string]func(t *testing.T, w *world){
	"allowed": func(t *testing.T, w *world) {
		_, err := w.ask(as(t, 10001), graph)
		check(t, err)
	},
	"hit": func(t *testing.T, w *world) {
		_, err := w.ask(as(t, 10001), graph)
		check(t, err)
		w.spans.Reset()
		_, err = w.ask(as(t, 10001), graph)
		check(t, err)
	},
	"joined": func(t *testing.T, w *world) {
		_, err := w.ask(as(t, 10001), graph) // the first use is not either one's
		check(t, err)
		w.purge(t, broker.Selection{})
		w.spans.Reset()
		w.entra.SetBehavior(entratest.Behavior{Delay: time.Second})
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				_, err := w.ask(as(t, 10001), graph)
				if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		both.Wait()
	},
	"inspected": func(t *testing.T, w *world) {
		w.use(t, assistant(""))
		_, err := w.look(as(t, 10001), w.userToken(t, nil), "")
		check(t, err)
	},
	"inspected-own": func(t *testing.T, w *world) {
		w.inspectOwn(t, onSocket(t, "/run/credfree/researcher.sock", 10001), broker.Request{Scope: graph})
	},
	"inspected-own-agent": func(t *testing.T, w *world) {
		w.use(t, assistant(""))
		w.inspectOwn(t, as(t, 10001), broker.Request{Identity: "agent", Scope: graph})
	},
	"inspected-own-audited": func(t *testing.T, w *world) {
		w.use(t, assistant("    mode: audit\n"))
		w.inspectOwn(t, as(t, 10001), broker.Request{Scope: vault})
	},
	"inspected-own-hashed": func(t *testing.T, w *world) {
		w.useRecording(t, assistant(""), "users: hashed\n")
		w.inspectOwn(t, as(t, 10001), broker.Request{OnBehalfOf: true, UserToken: w.userToken(t, nil), Scope: userRead})
	},
	"inspection-failed": func(t *testing.T, w *world) {
		w.keysThrough(t, func(*http.Request) error { return errors.New("unreachable") })
		w.use(t, assistant(""))
		if _, err := w.look(as(t, 10001), w.userToken(t, nil), ""); err == nil {
			t.Error("it was told")
		}
	},
	"inspection-refused": func(t *testing.T, w *world) {
		w.use(t, assistant(""))
		if _, err := w.look(as(t, 10001), secret.New("not-a-token"), ""); err == nil {
			t.Error("it was told")
		}
	},
	"hashed-user": func(t *testing.T, w *world) {
		w.useRecording(t, assistant(""), "users: hashed\n")
		_, err := w.actFor(as(t, 10001), w.userToken(t, nil), userRead)
		check(t, err)
	},
	"denied": func(t *testing.T, w *world) {
		if _, err := w.ask(as(t, 10002), vault); err == nil {
			t.Error("it was allowed")
		}
	},
	"unknown": func(t *testing.T, w *world) {
		if _, err := w.ask(as(t, 4242), graph); err == nil {
			t.Error("it was allowed")
		}
	},
	"refused": func(t *testing.T, w *world) {
		if _, err := w.Refuse(as(t, 10001), broker.Request{Door: "oauth"}, "foreign_origin", "no browsers"); err == nil {
			t.Error("it was allowed")
		}
	},
	"failed": func(t *testing.T, w *world) {
		w.entra.SetBehavior(entratest.Behavior{Code: 700016})
		if _, err := w.ask(as(t, 10001), graph); err == nil {
			t.Error("it was allowed")
		}
	},
	"on-behalf-of": func(t *testing.T, w *world) {
		w.use(t, assistant(""))
		_, err := w.actFor(as(t, 10001), w.userToken(t, nil), userRead)
		check(t, err)
	},
	"user-refused": func(t *testing.T, w *world) {
		w.use(t, assistant("      users: {roles: [Analyst]}\n"))
		if _, err := w.actFor(as(t, 10001), w.userToken(t, nil), userRead); err == nil {
			t.Error("it was allowed")
		}
	},
	"agent-user": func(t *testing.T, w *world) {
		w.use(t, assistant(""))
		_, err := w.Issue(as(t, 10001), broker.Request{Door: "oauth", Grant: "client_credentials", Identity: "agent-user", Scope: userRead})
		check(t, err)
	},
	"audited": func(t *testing.T, w *world) {
		w.use(t, assistant("    mode: audit\n"))
		_, err := w.ask(as(t, 10001), vault)
		check(t, err)
	},
	"session": func(t *testing.T, w *world) {
		w.use(t, assistant("      longRunning: {maxAge: 8h}\n"))
		user := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Lifetime = time.Minute })
		_, err := w.actFor(as(t, 10001), user, userRead)
		check(t, err)
		time.Sleep(2 * time.Minute)
		w.spans.Reset()
		_, err = w.actFor(as(t, 10001), user, userRead)
		check(t, err)
	},
	"no-workload-token": func(t *testing.T, w *world) {
		check(t, os.Remove(w.file))
		if _, err := w.ask(as(t, 10001), graph); err == nil {
			t.Error("it was allowed")
		}
	},
	"refreshed": func(t *testing.T, w *world) {
		w.entra.SetBehavior(entratest.Behavior{Lifetime: time.Hour})
		_, err := w.ask(as(t, 10001), graph)
		check(t, err)
		time.Sleep(55 * time.Minute)
		w.spans.Reset()
		_, err = w.ask(as(t, 10001), graph)
		check(t, err)
		synctest.Wait()
	},
	"refreshed-leg": func(t *testing.T, w *world) {
		w.refreshBlueprint(t, func() {})
	},
	"refresh-of-leg-failed": func(t *testing.T, w *world) {
		w.refreshBlueprint(t, func() { check(t, os.Remove(w.file)) })
	},
	"caller-gone": func(t *testing.T, w *world) {
		w.entra.SetBehavior(entratest.Behavior{Delay: time.Second})
		ctx, cancel := context.WithTimeout(as(t, 10001), 50*time.Millisecond)
		defer cancel()
		if _, err := w.ask(ctx, graph); err == nil {
			t.Error("it was answered")
		}
		time.Sleep(2 * time.Second)
	},
	"in-the-callers-trace": func(t *testing.T, w *world) {
		// The caller's flag says "not sampled": it does not count here.
		remote := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, Remote: true})
		_, err := w.ask(trace.ContextWithRemoteSpanContext(as(t, 10001), remote), graph)
		check(t, err)
	},
	"agent": func(t *testing.T, w *world) {
		w.use(t, assistant(""))
		_, err := w.Issue(as(t, 10001), broker.Request{Door: "oauth", Grant: "client_credentials", Identity: "agent", Scope: graph})
		check(t, err)
	},
	"agent-on-behalf-of": func(t *testing.T, w *world) {
		w.use(t, assistant(""))
		user := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Audience = entratest.DemoBlueprintClientID })
		_, err := w.Issue(as(t, 10001), broker.Request{Door: "oauth", Grant: "urn:ietf:params:oauth:grant-type:jwt-bearer", Identity: "agent", Scope: userRead, OnBehalfOf: true, UserToken: user})
		check(t, err)
	},
	"groups-from-graph": memberless,
	"groups-from-graph-refreshed": func(t *testing.T, w *world) {
		w.entra.SetBehavior(entratest.Behavior{Lifetime: time.Hour})
		memberless(t, w)
		time.Sleep(55 * time.Minute)
		w.spans.Reset()
		memberless(t, w)
	},
	"groups-unavailable": func(t *testing.T, w *world) {
		w.rules.Graph = serving{http.NotFoundHandler()}
		memberless(t, w)
	},
	"keys-unavailable": func(t *testing.T, w *world) {
		w.use(t, assistant(""))
		user := w.userToken(t, nil)
		rules := w.rules
		rules.Policy = w.Rules().Policy
		users, err := usertoken.New(usertoken.Config{Authority: authority, Transport: serving{http.NotFoundHandler()}, Tracer: w.tracer})
		check(t, err)
		t.Cleanup(users.Close)
		rules.Users = users
		check(t, w.Use(rules))
		failing(t, func() error { _, err := w.actFor(as(t, 10001), user, userRead); return err })
	},
	"throttled": func(t *testing.T, w *world) {
		w.entra.SetBehavior(entratest.Behavior{Status: 429, RetryAfter: "7"})
		failing(t, func() error { _, err := w.ask(as(t, 10001), graph); return err })
	},
	"throttled-held-back": func(t *testing.T, w *world) {
		w.entra.SetBehavior(entratest.Behavior{Status: 429, RetryAfter: "7"})
		failing(t, func() error { _, err := w.ask(as(t, 10001), graph); return err })
		w.spans.Reset()
		failing(t, func() error { _, err := w.ask(as(t, 10001), vault); return err })
	},
	"breaker-open": func(t *testing.T, w *world) {
		w.entra.SetBehavior(entratest.Behavior{Status: 503})
		failing(t, func() error { _, err := w.ask(as(t, 10001), graph); return err })
		w.spans.Reset()
		failing(t, func() error { _, err := w.ask(as(t, 10001), graph); return err })
	},
	"timeout": func(t *testing.T, w *world) {
		w.entra.SetBehavior(entratest.Behavior{Hang: true})
		failing(t, func() error { _, err := w.ask(as(t, 10001), graph); return err })
	},
	"malformed-reply": func(t *testing.T, w *world) {
		w.entra.SetBehavior(entratest.Behavior{Truncate: true})
		failing(t, func() error { _, err := w.ask(as(t, 10001), graph); return err })
	},
	"another-kind-of-token": func(t *testing.T, w *world) {
		w.entra.SetBehavior(entratest.Behavior{DelegatedInstead: true})
		failing(t, func() error { _, err := w.ask(as(t, 10001), graph); return err })
	},
	"audit-unavailable": func(t *testing.T, w *world) {
		w.audit.fail(errors.New("no space left on device"))
		failing(t, func() error { _, err := w.ask(as(t, 10001), graph); return err })
	},
	"purged": func(t *testing.T, w *world) {
		w.entra.SetBehavior(entratest.Behavior{Delay: time.Second})
		var asking sync.WaitGroup
		asking.Go(func() { failing(t, func() error { _, err := w.ask(as(t, 10001), graph); return err }) })
		synctest.Wait()
		w.purge(t, broker.Selection{})
		asking.Wait()
		time.Sleep(2 * time.Second)
	},
	"refresh-failed": func(t *testing.T, w *world) {
		w.entra.SetBehavior(entratest.Behavior{Lifetime: time.Hour})
		_, err := w.ask(as(t, 10001), graph)
		check(t, err)
		time.Sleep(55 * time.Minute)
		w.spans.Reset()
		w.entra.SetBehavior(entratest.Behavior{Code: 700016})
		_, err = w.ask(as(t, 10001), graph)
		check(t, err)
		synctest.Wait()
	},
	"managed-identity": func(t *testing.T, w *world) {
		machine, err := entratest.NewIMDS(entratest.ManagedIdentityConfig{Server: w.entra, Identities: []entratest.ManagedIdentity{{ClientID: machineID, PrincipalID: machineID}}})
		check(t, err)
		w.onMachine(t, machine.RoundTripper("http://169.254.169.254"))
		_, err = w.ask(as(t, 10001), graph)
		check(t, err)
	},
	"managed-identity-unavailable": func(t *testing.T, w *world) {
		w.onMachine(t, serving{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })})
		for range 2 {
			failing(t, func() error { _, err := w.ask(as(t, 10001), graph); return err })
		}
	},
	"unix-socket": func(t *testing.T, w *world) {
		_, err := w.ask(onSocket(t, "/run/credfree/researcher.sock", 10001), graph)
		check(t, err)
	},
	"what-the-caller-says": func(t *testing.T, w *world) {
		_, err := w.Issue(as(t, 10001), broker.Request{Door: "oauth", Grant: "client_credentials", Scope: graph,
			Said: broker.Said{AgentID: "asst_7", AgentName: "Research assistant", Conversation: "eyJhbGciOiJSUzI1NiJ9.e30.x"}})
		check(t, err)
	},
}

// onMachine lets the researcher be an identity of a machine with this endpoint.
func (w *world) onMachine(t *testing.T, endpoint http.RoundTripper) {
	t.Helper()
	client, err := managedidentity.New(managedidentity.Config{Transport: endpoint})
	check(t, err)
	rules := w.rules
	rules.Policy = w.policy(t, "agents: {researcher: {identity: machine, callers: [{tcp: {uids: [10001]}}], allow: {scopes: [graph]}}}\n")
	rules.Exchange, err = exchange.New(exchange.Config{Authority: authority, Audience: rules.Policy.Cloud.Audience, Transport: w.entra.RoundTripper(),
		Tracer: w.tracer, Legs: broker.Legs(w.cache, w.recorder), ManagedIdentity: client})
	check(t, err)
	check(t, w.Use(rules))
}

// inspectOwn gets a token and asks what it says.
func (w *world) inspectOwn(t *testing.T, ctx context.Context, req broker.Request) {
	t.Helper()
	req.Door, req.Grant = "oauth", "client_credentials"
	got, err := w.Issue(ctx, req)
	check(t, err)
	w.spans.Reset()
	found, err := w.Introspect(ctx, broker.Request{Door: "oauth"}, got.Token.Text)
	check(t, err)
	if !found.Active {
		t.Error("it is not active")
	}
}

// memberless asks for a user whose token does not list its groups, and who is in
// none that is wanted.
func memberless(t *testing.T, w *world) {
	w.use(t, assistant("      users: {groups: ["+groupID+"]}\n      groupsFromGraph: true\n"))
	user := w.userToken(t, func(r *entratest.UserTokenRequest) {
		r.Claims = map[string]any{"_claim_names": map[string]any{"groups": "src1"}, "_claim_sources": map[string]any{"src1": map[string]any{}}}
	})
	failing(t, func() error { _, err := w.actFor(as(t, 10001), user, userRead); return err })
}

// refreshBlueprint issues a token to an agent whose blueprint's token is due, after
// what happens meanwhile.
func (w *world) refreshBlueprint(t *testing.T, meanwhile func()) {
	t.Helper()
	w.use(t, assistant(""))
	w.entra.SetBehavior(entratest.Behavior{Lifetime: time.Hour})
	asAgent := broker.Request{Door: "oauth", Grant: "client_credentials", Identity: "agent", Scope: graph}
	_, err := w.Issue(as(t, 10001), asAgent)
	check(t, err)
	time.Sleep(55 * time.Minute)
	w.purge(t, broker.Selection{Agent: "assistant"}) // and not the blueprint's token, which is no agent's own
	w.spans.Reset()
	meanwhile()
	_, err = w.Issue(as(t, 10001), asAgent)
	check(t, err)
	synctest.Wait()
}

// failing fails the test when ask does not fail.
func failing(t *testing.T, ask func() error) {
	t.Helper()
	if ask() == nil {
		t.Error("it was allowed")
	}
}

// The trace of each outcome, as a reviewer reads it.
func TestGoldenTraces(t *testing.T) {
	for name, scenario := range traced {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				scenario(t, w)
				synctest.Wait() // for work that goes on behind the last answer
				compareTrace(t, name, w.spans.Ended())
			})
		})
	}
}
