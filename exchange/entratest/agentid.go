package entratest

import (
	"slices"
	"strings"
)

// BlueprintPrincipal is the presence of an agent identity blueprint in a
// tenant. Without one the blueprint gets no tokens there (7000229).
type BlueprintPrincipal struct {
	// Blueprint is the client id of an Application with Blueprint set: one of
	// this tenant, or a MultiTenant one of another. Required.
	Blueprint string `yaml:"blueprint"`
	// ObjectID is the principal's GUID: oid of the tokens with which the
	// blueprint acts as an agent. Empty: derived from the tenant and the blueprint.
	ObjectID string `yaml:"objectID,omitempty"`
	// Disabled refuses the blueprint and all its agents with 7000112.
	Disabled bool `yaml:"disabled,omitempty"`
	// Delegated lists the delegated permissions for which an administrator
	// consented, by resource. Agents have those of the blueprint's
	// InheritablePermissions; the blueprint itself can use none.
	Delegated map[string][]string `yaml:"delegated,omitempty"`
	// CreateAsManager grants AgentIdentity.CreateAsManager, the one role a
	// blueprint can have, and with it tokens for Microsoft Graph. Without it
	// they are refused like those for any other resource (82001).
	CreateAsManager bool `yaml:"createAsManager,omitempty"`
}

// AgentIdentity is an agent. It has no credentials: its blueprint gets a token
// for it (client_credentials with fmi_path), and that is its client assertion.
type AgentIdentity struct {
	// ObjectID is the GUID of the agent and at the same time its client id. Required.
	ObjectID string `yaml:"objectID"`
	Name     string `yaml:"name,omitempty"`
	// Blueprint is the client id of the one parent, which must have a
	// BlueprintPrincipal in the tenant. Required.
	Blueprint string `yaml:"blueprint"`
	// Disabled refuses every request of the agent with 7000112.
	Disabled bool `yaml:"disabled,omitempty"`
	// AppRoles and Delegated are the agent's own permissions, as those of an
	// Application.
	AppRoles  map[string][]string `yaml:"appRoles,omitempty"`
	Delegated map[string][]string `yaml:"delegated,omitempty"`
}

const (
	graphClientID       = "00000003-0000-0000-c000-000000000000"
	roleCreateAsManager = "AgentIdentity.CreateAsManager"
	maxSubject          = 600
)

// notForAgents are the permissions for Microsoft Graph that agent identities
// cannot be granted, as far as they are public.
var notForAgents = []string{
	"Application.ReadWrite.All", "RoleManagement.ReadWrite.All", "User.ReadWrite.All", "Directory.AccessAsUser.All",
}

// clientKind says by which rules a client lives.
type clientKind int

const (
	ordinaryClient clientKind = iota
	blueprintClient
	agentClient
)

// client is whatever has a client id in a tenant and can ask for tokens: an
// application, a blueprint's principal or an agent identity.
type client struct {
	Application
	kind         clientKind
	certificates []clientCertificate
	inheritable  map[string]bool // by client id of the resource
	// principal is a blueprint's in this tenant, or nil.
	principal *BlueprintPrincipal
	// foreign says that the blueprint is registered in another tenant.
	foreign bool
	// parent is an agent's blueprint.
	parent *client
}

// audience is the application whose tokens the client may present on behalf of
// a user.
func (c *client) audience() *client {
	if c.kind == agentClient {
		return c.parent
	}
	return c
}

// agentSubject is the sub of the token with which a blueprint acts as a child.
func agentSubject(tenantID, blueprintID, child string) string {
	return "/eid1/c/pub/t/" + encodedGUID(tenantID) + "/a/" + encodedGUID(blueprintID) + "/" + child
}

// blueprintHome is a blueprint where it is registered.
type blueprintHome struct {
	tenant *tenant
	client *client
}

func collectBlueprints(tenants []*tenant, p *problems) map[string]blueprintHome {
	all := map[string]blueprintHome{}
	for _, t := range tenants {
		for _, src := range t.Applications {
			c, ok := t.apps[canonicalGUID(src.ClientID)]
			if !ok || !c.Blueprint {
				continue
			}
			if other, dup := all[c.ClientID]; dup && other.client != c {
				p.addf("tenant %s: blueprint %s is also one of tenant %s", t.ID, c.ClientID, other.tenant.ID)
			}
			all[c.ClientID] = blueprintHome{t, c}
		}
	}
	return all
}

func checkBlueprint(tenantID string, a Application, p *problems) {
	at := "tenant " + tenantID + ": blueprint " + a.ClientID
	if len(a.AppRoles) > 0 {
		p.addf("%s: a blueprint cannot have appRoles: grant them to its agent identities", at)
	}
	if len(a.Delegated) > 0 {
		p.addf("%s: delegated belongs into the blueprintPrincipals of a tenant", at)
	}
}

// addAgents adds the tenant's blueprint principals, agent identities and agent
// users, in this order because each needs the one before.
func (t *tenant) addAgents(blueprints map[string]blueprintHome, p *problems) {
	for _, b := range t.BlueprintPrincipals {
		t.addBlueprintPrincipal(b, blueprints, p)
	}
	for _, a := range t.AgentIdentities {
		t.addAgentIdentity(a, p)
	}
	for _, src := range t.Users {
		if u, ok := t.users[canonicalGUID(src.ObjectID)]; ok && u.AgentIdentity != "" {
			t.addAgentUser(u, p)
		}
	}
}

func (t *tenant) addBlueprintPrincipal(b BlueprintPrincipal, blueprints map[string]blueprintHome, p *problems) {
	id := canonicalGUID(b.Blueprint)
	home, ok := blueprints[id]
	switch {
	case !ok:
		p.addf("tenant %s: blueprint principal: there is no blueprint %q", t.ID, b.Blueprint)
		return
	case home.tenant != t && !home.client.MultiTenant:
		p.addf("tenant %s: blueprint principal: blueprint %s of tenant %s is not multi-tenant", t.ID, id, home.tenant.ID)
		return
	}
	if b.ObjectID == "" {
		b.ObjectID = derivedGUID(t.ID, "service principal", id)
	} else if oid := canonicalGUID(b.ObjectID); oid != "" {
		b.ObjectID = oid
	} else {
		p.addf("tenant %s: blueprint principal of %s: objectID %q is not a GUID", t.ID, id, b.ObjectID)
	}
	c := home.client
	if home.tenant != t {
		if _, taken := t.apps[id]; taken {
			p.addf("tenant %s: blueprint principal of %s is there twice, or an application", t.ID, id)
			return
		}
		c = &client{Application: home.client.Application, kind: blueprintClient, foreign: true, certificates: home.client.certificates}
		t.apps[id] = c
		t.nameResource(&Resource{ClientID: id, Name: c.Name, TokenVersion: 2}, c.IdentifierURIs, p)
	} else if c.principal != nil {
		p.addf("tenant %s: blueprint principal of %s is there twice", t.ID, id)
	}
	c.principal = &b
	c.ObjectID = b.ObjectID
	c.Delegated = b.Delegated
}

func (t *tenant) addAgentIdentity(a AgentIdentity, p *problems) {
	id := canonicalGUID(a.ObjectID)
	if id == "" {
		p.addf("tenant %s: agent identity %q: objectID is not a GUID", t.ID, a.ObjectID)
		return
	}
	parent, ok := t.apps[canonicalGUID(a.Blueprint)]
	if !ok || parent.kind != blueprintClient || parent.principal == nil {
		p.addf("tenant %s: agent identity %s: blueprint %q has no principal in the tenant", t.ID, id, a.Blueprint)
		return
	}
	if _, taken := t.apps[id]; taken {
		p.addf("tenant %s: agent identity %s: another client has this id", t.ID, id)
		return
	}
	for name, values := range mergedGrants(a.AppRoles, a.Delegated) {
		r, ok := t.resource(name)
		for _, v := range values {
			if ok && r.ClientID == graphClientID && slices.Contains(notForAgents, v) {
				p.addf("tenant %s: agent identity %s: agents cannot be granted %s", t.ID, id, v)
			}
		}
	}
	t.apps[id] = &client{
		Application: Application{
			ClientID: id, ObjectID: id, Name: a.Name, Disabled: a.Disabled, AppRoles: a.AppRoles, Delegated: a.Delegated,
		},
		kind:   agentClient,
		parent: parent,
	}
}

func mergedGrants(all ...map[string][]string) map[string][]string {
	merged := map[string][]string{}
	for _, byName := range all {
		for name, values := range byName {
			merged[name] = append(merged[name], values...)
		}
	}
	return merged
}

func (t *tenant) addAgentUser(u *User, p *problems) {
	id := canonicalGUID(u.AgentIdentity)
	if c, ok := t.apps[id]; !ok || c.kind != agentClient {
		p.addf("tenant %s: user %s: there is no agent identity %q", t.ID, u.ObjectID, u.AgentIdentity)
		return
	}
	if other, dup := t.agentUsers[id]; dup {
		p.addf("tenant %s: user %s: agent identity %s already has the agent user %s", t.ID, u.ObjectID, id, other.ObjectID)
	}
	if u.Guest {
		p.addf("tenant %s: user %s: an agent user is not a guest", t.ID, u.ObjectID)
	}
	u.AgentIdentity = id
	t.agentUsers[id] = u
}

// consented are the delegated permissions of a client for a resource. Those an
// agent inherits are merged here, when a token is issued, and stored nowhere.
func (t *tenant) consented(c *client, r *Resource) []string {
	own := t.delegated[c.ClientID][r.ClientID]
	if c.kind != agentClient || !c.parent.inheritable[r.ClientID] {
		return own
	}
	all := slices.Clone(own)
	for _, name := range t.delegated[c.parent.ClientID][r.ClientID] {
		if !slices.ContainsFunc(all, sameScope(name)) {
			all = append(all, name)
		}
	}
	return all
}

// childPath is what may stand in fmi_path. Entra is thought not to look at
// whether such an agent exists until its token is used.
func childPath(path string) bool {
	return path != "" && len(path) <= maxSubject && strings.Trim(path, "/") == path &&
		!strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r > '~' })
}
