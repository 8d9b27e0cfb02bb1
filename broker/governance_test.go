package broker_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/entratest"
)

// The limits of an agent are its own, hold for both flows, and are not renewed
// by putting the same policy in force again.
func TestLimits(t *testing.T) {
	const limited = `
  other:
    identity: demo
    callers: [{tcp: {uids: [10002]}}]
    allow: {scopes: [` + graph + `]}
`
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		text := assistant("    limits: {perMinute: 3, onBehalfOf: {perMinute: 1}}\n") + limited
		w.use(t, text)
		over := func(err error) bool { return err != nil && denial(t, err).Reason == policy.OverLimit }
		user := w.userToken(t, nil)
		for i, want := range []bool{false, true} {
			if _, err := w.actFor(as(t, 10001), user, userRead); over(err) != want {
				t.Errorf("request %d for a user: got %v, want over: %t", i, err, want)
			}
		}
		for i, want := range []bool{false, true} {
			if _, err := w.ask(as(t, 10001), graph); over(err) != want {
				t.Errorf("request %d: got %v, want over: %t", i, err, want)
			}
			w.use(t, text+"# the same\n")
		}
		if _, err := w.ask(as(t, 10002), graph); err != nil {
			t.Errorf("another agent is held back: %v", err)
		}
		time.Sleep(20 * time.Second)
		if _, err := w.ask(as(t, 10001), graph); err != nil {
			t.Errorf("got %v after a third of a minute, want one more", err)
		}
	})
}

// Each member of a fleet has the agent's limits for itself. As what is no member, an
// agent has its own, however many names it makes up.
func TestLimitsOfFleets(t *testing.T) {
	const second = "aaaaaaaa-0000-4000-8000-000000000001"
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		use := func(more string) {
			text := strings.Replace("agents:\n  assistant:\n    identity: fleet\n    identities: [fleet, demo]\n    callers: [{tcp: {uids: [10001]}}]\n    allow: {scopes: [GRAPH]}\n    limits: {perMinute: 2}\n"+more, "GRAPH", graph, 1)
			p, err := policy.Parse("credfree.yaml", []byte("version: 1\ntenant: "+entratest.DemoTenantID+"\ncloud: custom\nauthority: "+authority+"\nsources: {pod: {file: {path: "+w.file+"}}}\n"+
				"identities:\n  demo: {application: {clientID: "+entratest.DemoClientID+", source: pod}}\n"+
				"  fleet: {agent: {blueprintID: "+entratest.DemoBlueprintClientID+", agentIDs: ["+entratest.DemoAgentIdentityID+", "+second+"], source: pod}}\n"+text))
			check(t, err)
			rules := w.rules
			rules.Policy = p
			check(t, w.Use(rules))
		}
		use("")
		for i, step := range []struct {
			identity string
			reason   policy.Reason // "" for no denial
		}{
			{"fleet/" + second, ""},
			{"fleet/" + strings.ToUpper(second), ""}, // the same member
			{"fleet/" + second, policy.OverLimit},
			{"fleet/" + entratest.DemoAgentIdentityID, ""},
			{"fleet/" + person(1), policy.IdentityNotAllowed},
			{"demo", ""},
			{"fleet/" + person(2), policy.OverLimit},
			{"demo", policy.OverLimit},
			{"fleet", policy.OverLimit},
			{"fleet/" + entratest.DemoAgentIdentityID, ""},
			{"fleet/" + entratest.DemoAgentIdentityID, policy.OverLimit},
		} {
			use("# reload " + step.identity + "\n") // gives nobody a fresh start
			_, err := w.Issue(as(t, 10001), broker.Request{Identity: step.identity, Scope: graph})
			if denied, ok := errors.AsType[*broker.Denied](err); ok != (step.reason != "") || ok && denied.Reason != step.reason {
				t.Errorf("request %d, as %s: got %v, want %q", i, step.identity, err, step.reason)
			}
		}
	})
}

// Audit mode issues what would be denied and says so; it never helps a caller
// whom nobody knows, nor one that is blocked.
func TestAuditMode(t *testing.T) {
	w := newWorld(t)
	w.use(t, assistant("    mode: audit\n"))
	issued, err := w.ask(as(t, 10001), vault)
	check(t, err)
	if line := w.audit.last(t); issued.Token.Len() == 0 || line["decision"] != "allow" || line["audited"] != true || line["reason"] != string(policy.ScopeNotAllowed) {
		t.Errorf("got %v, want a token and what would have denied it", line)
	}
	if _, err := w.ask(as(t, 4242), graph); denial(t, err).Reason != policy.UnknownAgent {
		t.Errorf("got %v for an unknown caller", err)
	}
	w.use(t, assistant("    mode: audit\n    blocked: true\n"))
	if _, err := w.ask(as(t, 10001), graph); denial(t, err).Reason != policy.AgentBlocked {
		t.Errorf("got %v for a blocked agent", err)
	}
	// Its users have to be known as well.
	w.use(t, assistant("    mode: audit\n"))
	stranger := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Lifetime = -time.Minute })
	if _, err := w.actFor(as(t, 10001), stranger, userRead); denial(t, err).Reason != "user_token_expired" {
		t.Errorf("got %v for an expired user token", err)
	}
}

// An agent is told a shorter life than its token has where the policy says so.
func TestAdvertise(t *testing.T) {
	w := newWorld(t)
	w.use(t, assistant("    advertise: 15m\n"))
	for range 2 {
		issued, err := w.ask(as(t, 10001), graph)
		check(t, err)
		if left := time.Until(issued.ExpiresAt); left > 15*time.Minute || left < 14*time.Minute {
			t.Errorf("got %s, want 15m", left)
		}
	}
}

// Where no token may leave the broker, no door that hands it out gets it.
func TestRawTokenIsWithheld(t *testing.T) {
	w := newWorld(t)
	w.use(t, assistant("    rawToken: false\n"))
	if _, err := w.Issue(as(t, 10001), broker.Request{Scope: graph, Raw: true}); denial(t, err).Reason != policy.RawTokenForbidden {
		t.Errorf("got %v, want %s", err, policy.RawTokenForbidden)
	}
	if got := w.entra.TokenRequests(); got != 0 {
		t.Errorf("Entra was asked %d times", got)
	}
	_, err := w.Issue(as(t, 10001), broker.Request{Scope: graph})
	check(t, err)
}
