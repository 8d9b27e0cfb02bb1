package policy_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/policy"
)

func TestExpiring(t *testing.T) {
	p := parse(t, head+`agents:
  never: {identity: app}
  later: {identity: app, expires: 2027-06-30}
  soon: {identity: app, expires: 2027-05-10}
  soon-too: {identity: app, expires: 2027-05-10}
  past: {identity: app, expires: 2027-04-01}
`)
	for _, test := range []struct {
		within time.Duration
		want   []string
	}{
		{0, []string{"past"}},
		{9*24*time.Hour + 12*time.Hour - 1, []string{"past"}},
		{9*24*time.Hour + 12*time.Hour, []string{"past", "soon", "soon-too"}}, // the end of the day, to the instant
		{90 * 24 * time.Hour, []string{"past", "soon", "soon-too", "later"}},
	} {
		var got []string
		for _, agent := range p.Expiring(may2027, test.within) {
			got = append(got, agent.Name)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("within %s (-want +got):\n%s", test.within, diff)
		}
	}
	if got := new(policy.Policy).Expiring(may2027, time.Hour); len(got) != 0 {
		t.Errorf("got %v of the zero policy", got)
	}
}

// TestLimitRules: the record of a request over its limit names the limit that
// the broker counted against.
func TestLimitRules(t *testing.T) {
	for _, test := range []struct {
		limits     string
		onBehalfOf bool
		want       string
	}{
		{"", false, "agents.a.limits"},
		{", limits: {perMinute: 5}", false, "agents.a.limits.perMinute"},
		{", limits: {perMinute: 5}", true, "agents.a.limits.perMinute"},
		{", limits: {perMinute: 5, onBehalfOf: {perMinute: 1}}", false, "agents.a.limits.perMinute"},
		{", limits: {perMinute: 5, onBehalfOf: {perMinute: 1}}", true, "agents.a.limits.onBehalfOf.perMinute"},
		{", limits: {onBehalfOf: {perMinute: 1}}", false, "agents.a.limits"},
	} {
		p := parse(t, head+"agents: {a: {identity: app, callers: [{tcp: {uids: [1]}}]"+test.limits+"}}\n")
		d := p.Decide(policy.Request{Peer: tcp(1), OnBehalfOf: test.onBehalfOf, Over: true, Scope: graph})
		if d.Reason != policy.OverLimit || d.Rule != test.want {
			t.Errorf("%s, on behalf of %v: got %+v, want over_limit by %s", test.limits, test.onBehalfOf, d, test.want)
		}
	}
}

// TestRawToken: a token that stays is granted to a call, and kept from the
// agent; the decision says so to a caller that forgot to ask.
func TestRawToken(t *testing.T) {
	p := parse(t, head+"agents: {a: {identity: app, rawToken: false, callers: [{tcp: {uids: [1]}}], allow: {scopes: [graph]}}}\n")
	if d := p.Decide(policy.Request{Peer: tcp(1), Scope: graph}); !d.Allowed || d.RawToken {
		t.Errorf("got %+v, want it allowed without the token", d)
	}
	if d := p.Decide(policy.Request{Peer: tcp(1), Scope: graph, Raw: true}); d.Reason != policy.RawTokenForbidden {
		t.Errorf("got %+v, want raw_token_forbidden", d)
	}
	if d := parse(t, example).Decide(policy.Request{Peer: tcp(10001), Scope: graph, Now: may2027}); !d.Allowed || !d.RawToken {
		t.Errorf("got %+v, want it allowed with the token", d)
	}
}
