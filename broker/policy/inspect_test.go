package policy_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/policy"
)

// An inspection looks at the caller, the agent, the identity and whether the user
// is known, and at nothing that is about a token to be issued.
func TestDecideInspection(t *testing.T) {
	p := users(t, appIdentity, ", users: {roles: [Analyst]}, clients: ["+signInApp+"], scopes: [access_as_user]")
	now := time.Unix(1_800_000_000, 0)
	user := &policy.User{Tenant: tenantID, ObjectID: aliceID, Client: bobID, Guest: true, GroupsOverage: true, Expires: now.Add(time.Minute)}
	ask := policy.Request{Peer: policy.Peer{UID: 1, Known: true}, Inspect: true, Now: now, User: user}
	for name, test := range map[string]struct {
		change func(r *policy.Request)
		reason policy.Reason
		rule   string
	}{
		"whoever the user is":   {func(*policy.Request) {}, "", "agents.a.onBehalfOf"},
		"whatever is asked for": {func(r *policy.Request) { r.Scope, r.API, r.Raw, r.Method, r.Path = "x", "y", true, "GET", "/" }, "", "agents.a.onBehalfOf"},
		"with on behalf of":     {func(r *policy.Request) { r.OnBehalfOf = true }, "", "agents.a.onBehalfOf"},
		"nobody":                {func(r *policy.Request) { r.Peer.UID = 2 }, policy.UnknownAgent, "agents"},
		"not verified":          {func(r *policy.Request) { r.User = nil }, policy.UserUnverified, "agents.a.onBehalfOf"},
		"out of date":           {func(r *policy.Request) { r.Now = user.Expires }, policy.UserExpired, "agents.a.onBehalfOf"},
		"over the limit":        {func(r *policy.Request) { r.Over = true }, policy.OverLimit, "agents.a.limits"},
		"another's identity":    {func(r *policy.Request) { r.Identity = "x" }, policy.IdentityNotAllowed, "agents.a.identity"},
		"scopes are demanded":   {func(r *policy.Request) { r.Scoped = true }, policy.UserScopeMissing, "agents.a.onBehalfOf.scopes"},
		"scopes are there": {func(r *policy.Request) {
			u := *user
			u.Scopes, r.User, r.Scoped = []string{"other", "access_as_user"}, &u, true
		}, "", "agents.a.onBehalfOf"},
	} {
		r := ask
		test.change(&r)
		d := p.Decide(r)
		if d.Allowed != (test.reason == "") || d.Reason != test.reason || d.Rule != test.rule || d.OnBehalfOf || d.RawToken || d.LongRunning != 0 || len(d.Scopes) != 0 || d.Allowed != (d.Hint == "") {
			t.Errorf("%s: got %+v", name, d)
		}
		explained := p.Explain(r)
		if diff := cmp.Diff(d.Rule, explained.Decision.Rule); diff != "" || explained.Steps[len(explained.Steps)-1].OK != d.Allowed {
			t.Errorf("%s: explained differently: %+v", name, explained)
		}
	}
	if d := p.Decide(policy.Request{Peer: ask.Peer, Inspect: true, Now: now}); !slices.Equal(d.UserTenants, []string{tenantID}) {
		t.Errorf("got user tenants %q", d.UserTenants)
	}
}
