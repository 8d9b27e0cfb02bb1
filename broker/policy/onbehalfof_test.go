package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/policy"
)

func TestOnBehalfOf(t *testing.T) {
	p := parse(t, string(fullFile(t)))
	want := &policy.OnBehalfOf{
		Scopes: []string{"https://graph.contoso.example/User.Read", "https://cognitiveservices.contoso.example/.default", "https://ai.contoso.example/.default", "https://graph.contoso.example/.default"},
		APIs:   []string{"mail"},
		Users: policy.Users{
			Tenants: []string{tenantID}, Objects: []policy.UserID{{Tenant: tenantID, ObjectID: aliceID}, {ObjectID: bobID}},
			Groups: []string{groupID}, Roles: []string{"Analyst"},
		},
		Clients: []string{signInApp}, RequiredScopes: []string{"access_as_user"}, ACRS: []string{"c1"}, AMR: []string{"mfa", "fido"},
		GroupsFromGraph: true, LongRunning: 8 * time.Hour,
	}
	agent := p.Agents["researcher"]
	if diff := cmp.Diff(want, agent.OnBehalfOf); diff != "" {
		t.Errorf("on behalf of (-want +got):\n%s", diff)
	}
	if agent.RawToken || !agent.Audit || agent.Advertise != 15*time.Minute || agent.Limits != (policy.Limits{PerMinute: 120, OnBehalfOfPerMinute: 30}) {
		t.Errorf("got %+v", agent)
	}
	retired := p.Agents["retired"]
	if !retired.Blocked || retired.Audit || !retired.RawToken || retired.OnBehalfOf != nil || !p.Strict || p.Audit {
		t.Errorf("got %+v", retired)
	}
	blocked := policy.Blocked{Agents: []string{"retired"}, Users: []policy.UserID{{Tenant: tenantID, ObjectID: malloryID}}}
	if diff := cmp.Diff(blocked, p.Blocked); diff != "" {
		t.Errorf("block list (-want +got):\n%s", diff)
	}
}

// users is a policy whose agent acts for users by the given rules only.
func users(t *testing.T, identity, rules string) *policy.Policy {
	t.Helper()
	return parse(t, "version: 1\ntenant: "+tenantID+"\nsources: {pod: {file: {path: /t}}}\nidentities: {app: "+identity+
		"}\nagents: {a: {identity: app, callers: [{tcp: {uids: [1]}}], onBehalfOf: {allow: {scopes: [graph/User.Read]}"+rules+"}}}\n")
}

const (
	appIdentity   = "{application: {clientID: 11111111-2222-3333-4444-55555555aaaa, source: pod}}"
	otherIdentity = "{application: {clientID: 11111111-2222-3333-4444-55555555aaaa, source: pod, tenant: " + otherID + "}}"
	byDomain      = "{application: {clientID: 11111111-2222-3333-4444-55555555aaaa, source: pod, tenant: contoso.com}}"
)

// TestTenantsOfUsers: users are of a tenant that is listed and that the
// identity lives in, so far as it is known.
func TestTenantsOfUsers(t *testing.T) {
	for _, test := range []struct {
		identity, rules string
		want            []string
	}{
		{appIdentity, "", []string{tenantID}},
		{appIdentity, ", users: {}", []string{tenantID}},
		{appIdentity, ", users: {tenants: [" + tenantID + ", " + otherID + "]}", []string{tenantID}},
		{otherIdentity, "", []string{otherID}},
		{otherIdentity, ", users: {tenants: [" + tenantID + ", " + otherID + "]}", []string{otherID}},
		{byDomain, ", users: {tenants: [" + otherID + ", " + tenantID + "]}", []string{otherID, tenantID}},
	} {
		p := users(t, test.identity, test.rules)
		r := forAlice()
		r.User = nil
		if d := p.Decide(r); d.Reason != policy.UserUnverified || cmp.Diff(test.want, d.UserTenants) != "" || d.Identity != "app" {
			t.Errorf("%s%s: got %+v, want the tenants %q to verify with", test.identity, test.rules, d, test.want)
		}
		for _, tenant := range []string{tenantID, otherID, "contoso.com", strings.ToUpper(tenantID)} {
			r.User = alice()
			r.User.Tenant = tenant
			allowed := tenant == test.want[0] || tenant == test.want[len(test.want)-1]
			if d := p.Decide(r); d.Allowed != allowed || !allowed && d.Reason != policy.UserTenantNotAllowed {
				t.Errorf("%s%s, user of %s: got %+v, want allowed %v", test.identity, test.rules, tenant, d, allowed)
			}
		}
	}
}

// TestUsersArePinned: the object id of one tenant says nothing in another.
func TestUsersArePinned(t *testing.T) {
	p := users(t, byDomain, ", users: {tenants: ["+tenantID+", "+otherID+"], objects: ["+otherID+"/"+aliceID+", "+tenantID+"/"+bobID+"]}")
	for id, want := range map[policy.UserID]policy.Reason{
		{Tenant: otherID, ObjectID: aliceID}:  "",
		{Tenant: tenantID, ObjectID: bobID}:   "",
		{Tenant: tenantID, ObjectID: aliceID}: policy.UserNotListed,
		{Tenant: otherID, ObjectID: bobID}:    policy.UserNotListed,
	} {
		r := forAlice()
		r.User.Tenant, r.User.ObjectID = id.Tenant, id.ObjectID
		if d := p.Decide(r); d.Reason != want {
			t.Errorf("%+v: got %+v, want %q", id, d, want)
		}
	}
}

// TestEmptyRulesAskForNothing: what the file does not mention is not looked at,
// but for the tenant and for guests.
func TestEmptyRulesAskForNothing(t *testing.T) {
	p := users(t, appIdentity, "")
	r := forAlice()
	r.User = &policy.User{Tenant: tenantID, ObjectID: bobID, GroupsOverage: true, Expires: may2027.Add(1)}
	if d := p.Decide(r); !d.Allowed {
		t.Errorf("got %+v, want it allowed", d)
	}
	r.User.Guest = true
	if d := p.Decide(r); d.Reason != policy.UserIsGuest {
		t.Errorf("got %+v, want user_is_guest", d)
	}
	if d := users(t, appIdentity, ", users: {guests: true}").Decide(r); !d.Allowed {
		t.Errorf("got %+v, want the guest allowed", d)
	}
}

// TestGroupsOverage: nobody is let in, nor refused for good, before the groups
// are known; who resolves them decides again.
func TestGroupsOverage(t *testing.T) {
	r := forAlice()
	r.User.Groups, r.User.GroupsOverage = []string{groupID}, true
	for rules, resolve := range map[string]bool{
		", users: {groups: [" + groupID + "]}":                        false,
		", users: {groups: [" + groupID + "]}, groupsFromGraph: true": true,
	} {
		p := users(t, appIdentity, rules)
		if d := p.Decide(r); d.Reason != policy.GroupsOverage || d.ResolveGroups != resolve {
			t.Errorf("%s: got %+v, want groups_overage, to be resolved %v", rules, d, resolve)
		}
		resolved := forAlice()
		if d := p.Decide(resolved); !d.Allowed || d.ResolveGroups {
			t.Errorf("%s: got %+v, want it allowed", rules, d)
		}
		resolved.User.Groups = nil
		if d := p.Decide(resolved); d.Reason != policy.UserNotInGroup {
			t.Errorf("%s: got %+v, want user_not_in_group", rules, d)
		}
	}
}

// TestTwoListsTwoPurposes: what an agent has for itself it does not have for
// users, and the other way round.
func TestTwoListsTwoPurposes(t *testing.T) {
	p := parse(t, governed)
	r := forAlice()
	r.Scope = graph
	if d := p.Decide(r); d.Reason != policy.ScopeNotAllowed {
		t.Errorf("got %+v, want scope_not_allowed for a user", d)
	}
	r.OnBehalfOf = false
	if d := p.Decide(r); !d.Allowed || d.OnBehalfOf || d.UserTenants != nil {
		t.Errorf("got %+v, want it allowed for the agent itself", d)
	}
	r.Scope = userRead
	if d := p.Decide(r); d.Reason != policy.ScopeNotAllowed {
		t.Errorf("got %+v, want scope_not_allowed for the agent itself", d)
	}
}

func TestLongRunning(t *testing.T) {
	for text, want := range map[string]time.Duration{"15m": 15 * time.Minute, "8h": 8 * time.Hour, "24h": 24 * time.Hour, "1440m": 24 * time.Hour} {
		p := users(t, appIdentity, ", longRunning: {maxAge: "+text+"}")
		if d := p.Decide(forAlice()); !d.Allowed || d.LongRunning != want {
			t.Errorf("%s: got %+v, want %s", text, d, want)
		}
	}
	if d := users(t, appIdentity, "").Decide(forAlice()); !d.Allowed || d.LongRunning != 0 {
		t.Errorf("got %+v, want no long-running session", d)
	}
}

// TestAgentIdentitiesActForUsers: an agent identity does, and the user account
// of one and the machine do not, whatever else is right.
func TestAgentIdentitiesActForUsers(t *testing.T) {
	const agent = "{agent: {blueprintID: " + blueprintID + ", agentIDs: [" + agentOne + ", " + agentTwo + "], source: pod}}"
	p := users(t, agent, "")
	r := forAlice()
	r.Identity = "app/" + agentTwo
	if d := p.Decide(r); !d.Allowed || d.Member != agentTwo {
		t.Errorf("got %+v, want it allowed as %s", d, agentTwo)
	}
}
