package policy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/policy"
)

const (
	blueprintID = "b1111111-2222-3333-4444-555555555555"
	agentOne    = "a1111111-2222-3333-4444-555555555555"
	agentTwo    = "a2222222-2222-3333-4444-555555555555"
	userOne     = "e1111111-2222-3333-4444-555555555555"
)

// fleets has every kind of identity, single and in fleets.
const fleets = `version: 1
tenant: contoso.com
sources: {pod: {file: {path: /t}}}
identities:
  app: {application: {clientID: 11111111-2222-3333-4444-55555555AAAA, source: pod, tenant: 8A0C5B0E-0000-4000-8000-0123456789AB, clientCapabilities: [cp1]}}
  one: {agent: {blueprintID: B1111111-2222-3333-4444-555555555555, agentIDs: [A1111111-2222-3333-4444-555555555555], source: pod}}
  many: {agent: {blueprintID: b1111111-2222-3333-4444-555555555555, agentIDs: [a1111111-2222-3333-4444-555555555555, a2222222-2222-3333-4444-555555555555], source: pod, tenant: Fabrikam.com}}
  user: {agentUser: {blueprintID: b1111111-2222-3333-4444-555555555555, agentID: a1111111-2222-3333-4444-555555555555, username: Research@Contoso.com, source: pod}}
  users: {agentUser: {blueprintID: b1111111-2222-3333-4444-555555555555, agentID: a1111111-2222-3333-4444-555555555555, usernames: [r1@contoso.com, r2@contoso.com], source: pod}}
  user-id: {agentUser: {blueprintID: b1111111-2222-3333-4444-555555555555, agentID: a1111111-2222-3333-4444-555555555555, userIDs: [e1111111-2222-3333-4444-555555555555], source: pod}}
  vm: {managedIdentity: {}}
  vm-client: {managedIdentity: {clientID: 11111111-2222-3333-4444-55555555BBBB}}
  vm-object: {managedIdentity: {objectID: 11111111-2222-3333-4444-55555555CCCC}}
  vm-resource: {managedIdentity: {resourceID: /Subscriptions/8a0c5b0e-0000-4000-8000-0123456789AB/resourcegroups/my.group/providers/microsoft.managedidentity/userAssignedIdentities/my-id}}
agents:
  a:
    identity: many
    identities: [app, one, many, user, users, user-id, vm, vm-client, vm-object, vm-resource]
    callers: [{tcp: {uids: [1]}}]
    allow: {scopes: [https://graph.microsoft.com/.default]}
`

func TestIdentities(t *testing.T) {
	const tenant = "contoso.com"
	want := map[string]policy.Identity{
		"app": {
			Tenant: "8a0c5b0e-0000-4000-8000-0123456789ab", Capabilities: []string{"cp1"},
			Application: &policy.Application{ClientID: billingID, Source: "pod"},
		},
		"one":  {Tenant: tenant, Agent: &policy.AgentIdentity{BlueprintID: blueprintID, AgentIDs: []string{agentOne}, Source: "pod"}},
		"many": {Tenant: "fabrikam.com", Agent: &policy.AgentIdentity{BlueprintID: blueprintID, AgentIDs: []string{agentOne, agentTwo}, Source: "pod"}},
		"user": {Tenant: tenant, AgentUser: &policy.AgentUser{
			BlueprintID: blueprintID, AgentID: agentOne, Source: "pod", Users: []policy.AgentUserName{{Username: "research@contoso.com"}},
		}},
		"users": {Tenant: tenant, AgentUser: &policy.AgentUser{
			BlueprintID: blueprintID, AgentID: agentOne, Source: "pod", Users: []policy.AgentUserName{{Username: "r1@contoso.com"}, {Username: "r2@contoso.com"}},
		}},
		"user-id": {Tenant: tenant, AgentUser: &policy.AgentUser{
			BlueprintID: blueprintID, AgentID: agentOne, Source: "pod", Users: []policy.AgentUserName{{ObjectID: userOne}},
		}},
		"vm":        {Tenant: tenant, ManagedIdentity: &policy.ManagedIdentity{}},
		"vm-client": {Tenant: tenant, ManagedIdentity: &policy.ManagedIdentity{ClientID: "11111111-2222-3333-4444-55555555bbbb"}},
		"vm-object": {Tenant: tenant, ManagedIdentity: &policy.ManagedIdentity{ObjectID: "11111111-2222-3333-4444-55555555cccc"}},
		"vm-resource": {Tenant: tenant, ManagedIdentity: &policy.ManagedIdentity{
			ResourceID: "/Subscriptions/8a0c5b0e-0000-4000-8000-0123456789AB/resourcegroups/my.group/providers/microsoft.managedidentity/userAssignedIdentities/my-id",
		}},
	}
	if diff := cmp.Diff(want, parse(t, fleets).Identities); diff != "" {
		t.Errorf("identities (-want +got):\n%s", diff)
	}
}

// TestFleets: a member that is listed is acted as, one that is not is refused,
// and none is ever chosen for a request that names none of several.
func TestFleets(t *testing.T) {
	p := parse(t, fleets)
	allow := func(asked, identity, member string) {
		t.Helper()
		d := p.Decide(policy.Request{Peer: tcp(1), Identity: asked, Scope: graph})
		if !d.Allowed || d.Identity != identity || d.Member != member {
			t.Errorf("%q: got %+v, want %s, member %q", asked, d, identity, member)
		}
	}
	deny := func(asked string, reason policy.Reason, rule string) {
		t.Helper()
		d := p.Decide(policy.Request{Peer: tcp(1), Identity: asked, Scope: graph})
		if d.Allowed || d.Reason != reason || d.Rule != rule || d.Hint == "" || d.Identity != "" || d.Member != "" {
			t.Errorf("%q: got %+v, want %s by %s", asked, d, reason, rule)
		}
	}
	allow("app", "app", "")
	allow("vm", "vm", "")
	allow("one", "one", agentOne)
	allow("one/"+agentOne, "one", agentOne)
	allow("many/"+agentTwo, "many", agentTwo)
	allow("many/A2222222-2222-3333-4444-555555555555", "many", agentTwo)
	allow("user", "user", "research@contoso.com")
	allow("user/RESEARCH@contoso.com", "user", "research@contoso.com")
	allow("users/r2@contoso.com", "users", "r2@contoso.com")
	allow("user-id", "user-id", userOne)

	deny("", policy.IdentityMissing, "identities.many.agent.agentIDs") // the default is a fleet
	deny("many", policy.IdentityMissing, "identities.many.agent.agentIDs")
	deny("users", policy.IdentityMissing, "identities.users.agentUser.usernames")
	deny("many/", policy.IdentityNotAllowed, "identities.many.agent.agentIDs")
	deny("many/"+userOne, policy.IdentityNotAllowed, "identities.many.agent.agentIDs")
	deny("many/"+agentOne+"/", policy.IdentityNotAllowed, "identities.many.agent.agentIDs")
	deny("one/"+agentTwo, policy.IdentityNotAllowed, "identities.one.agent.agentIDs")
	deny("user/r1@contoso.com", policy.IdentityNotAllowed, "identities.user.agentUser.username")
	deny("users/r1\u212a@contoso.com", policy.IdentityNotAllowed, "identities.users.agentUser.usernames")
	deny("user-id/"+agentOne, policy.IdentityNotAllowed, "identities.user-id.agentUser.userIDs")
	deny("app/", policy.IdentityNotAllowed, "identities.app")
	deny("app/"+billingID, policy.IdentityNotAllowed, "identities.app")
	deny("vm/x", policy.IdentityNotAllowed, "identities.vm")
	deny("/"+agentOne, policy.IdentityNotAllowed, "agents.a.identities")
	deny(agentOne, policy.IdentityNotAllowed, "agents.a.identities")
}

// TestClientIDsOfTheAgent: what a client library calls itself is the client id
// of any of the agent's identities, and never the blueprint.
func TestClientIDsOfTheAgent(t *testing.T) {
	p := parse(t, fleets)
	for name, want := range map[string]policy.Reason{
		billingID: "", agentOne: "", agentTwo: "", "11111111-2222-3333-4444-55555555bbbb": "",
		blueprintID: policy.AgentMismatch, userOne: policy.AgentMismatch, "": "",
		"11111111-2222-3333-4444-55555555cccc": policy.AgentMismatch, // an object id is no client id
	} {
		if d := p.Decide(policy.Request{Peer: tcp(1), Agent: name, Identity: "app", Scope: graph}); d.Reason != want {
			t.Errorf("%q: got %q, want %q", name, d.Reason, want)
		}
	}
}

// TestAgentOfAPeer: whom the evidence belongs to, whatever the agent may have.
func TestAgentOfAPeer(t *testing.T) {
	p := parse(t, example)
	for _, test := range []struct {
		peer policy.Peer
		want *policy.Agent
	}{
		{tcp(10001), p.Agents["researcher"]}, {socket("/run/writer.sock", 1), p.Agents["writer"]}, {tcp(1), nil}, {policy.Peer{}, nil},
	} {
		if got := p.Agent(test.peer); got != test.want {
			t.Errorf("%+v: got %v, want %v", test.peer, got, test.want)
		}
	}
}
