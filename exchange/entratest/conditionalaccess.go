package entratest

import (
	"slices"
	"strings"
)

// ConditionalAccessPolicy is a policy that is switched on. It applies to tokens
// of somebody it names for a resource it names, and then blocks them or wants
// multi-factor authentication. Nothing applies to the tokens that agents and
// their blueprints exchange (TokenExchangeResourceID).
type ConditionalAccessPolicy struct {
	// Name must be unique in the tenant. Required.
	Name string `yaml:"name"`
	// Users are people: object ids, user principal names, object ids of groups,
	// or "All". Agent users are never among them.
	Users []string `yaml:"users,omitempty"`
	// Applications are client ids of applications that act for themselves, or "All".
	Applications []string `yaml:"applications,omitempty"`
	// Agents are agent identities that act for themselves, by their own id or by
	// their blueprint's client id, or "All".
	Agents []string `yaml:"agents,omitempty"`
	// AgentUsers names all agent users.
	AgentUsers bool `yaml:"agentUsers,omitempty"`
	// Resources are what the policy protects: client ids, identifier URIs, or
	// "All". Required.
	Resources []string `yaml:"resources"`
	// Grant is "block" (53003), or "mfa" (50076 unless the user's token says
	// amr "mfa"). Only people can be asked for the latter. Required.
	Grant string `yaml:"grant"`
}

const (
	grantBlock = "block"
	grantMFA   = "mfa"
	everything = "all"
)

// policy is a ConditionalAccessPolicy whose names are resolved.
type policy struct {
	ConditionalAccessPolicy
	id                                     string
	users, applications, agents, resources map[string]bool
}

func (t *tenant) addPolicies(p *problems) {
	names := map[string]bool{}
	for _, src := range t.ConditionalAccess {
		at := "tenant " + t.ID + ": conditional access policy " + src.Name
		if src.Name == "" || names[src.Name] {
			p.addf("%s: its name is empty or there twice", at)
		}
		names[src.Name] = true
		if src.Grant != grantBlock && src.Grant != grantMFA {
			p.addf("%s: grant %q is neither block nor mfa", at, src.Grant)
		}
		if len(src.Users)+len(src.Applications)+len(src.Agents) == 0 && !src.AgentUsers {
			p.addf("%s: it applies to nobody", at)
		}
		if src.Grant == grantMFA && (len(src.Applications)+len(src.Agents) > 0 || src.AgentUsers) {
			p.addf("%s: applications, agents and agent users can only be blocked", at)
		}
		if len(src.Resources) == 0 {
			p.addf("%s: it protects no resource", at)
		}
		resolve := func(field string, names []string, find func(string) (string, bool)) map[string]bool {
			ids := map[string]bool{}
			for _, name := range names {
				id, ok := find(name)
				if strings.EqualFold(name, everything) {
					id, ok = everything, true
				}
				if !ok {
					p.addf("%s: %s: there is no %q", at, field, name)
				}
				ids[id] = true
			}
			return ids
		}
		t.policies = append(t.policies, policy{
			ConditionalAccessPolicy: src,
			id:                      derivedGUID(t.ID, "conditional access", src.Name),
			users:                   resolve("users", src.Users, t.personOrGroup),
			applications:            resolve("applications", src.Applications, t.clientOfKind(ordinaryClient)),
			agents:                  resolve("agents", src.Agents, t.clientOfKind(agentClient, blueprintClient)),
			resources: resolve("resources", src.Resources, func(name string) (string, bool) {
				r, ok := t.resource(name)
				if !ok {
					return "", false
				}
				return r.ClientID, true
			}),
		})
	}
	// What blocks goes first: nobody is asked for more and then refused.
	slices.SortStableFunc(t.policies, func(a, b policy) int { return strings.Compare(a.Grant, b.Grant) })
}

// personOrGroup resolves the name of a user or a group. A group needs no entry
// of its own if users are in it.
func (t *tenant) personOrGroup(name string) (string, bool) {
	if u, ok := t.user(name); ok {
		return u.ObjectID, true
	}
	id := canonicalGUID(name)
	return id, id != ""
}

func (t *tenant) clientOfKind(kinds ...clientKind) func(string) (string, bool) {
	return func(name string) (string, bool) {
		c, ok := t.apps[strings.ToLower(name)]
		if !ok || !slices.Contains(kinds, c.kind) {
			return "", false
		}
		return c.ClientID, true
	}
}

func hasAny(set map[string]bool, ids ...string) bool {
	return set[everything] || slices.ContainsFunc(ids, func(id string) bool { return set[id] })
}

// appliesTo says whether the policy is about this client, or about this user
// when there is one.
func (p policy) appliesTo(t *tenant, c *client, u *User) bool {
	switch {
	case u != nil && u.AgentIdentity != "":
		return p.AgentUsers
	case u != nil:
		return hasAny(p.users, append([]string{u.ObjectID}, t.memberships(u.ObjectID)...)...)
	case c.kind == agentClient:
		return hasAny(p.agents, c.ClientID, c.parent.ClientID)
	case c.kind == blueprintClient:
		return false // what blueprints do is exchange, or create agents
	}
	return hasAny(p.applications, c.ClientID)
}

// conditionalAccess applies the tenant's policies to the token asked for. u is
// nil for app-only tokens.
func conditionalAccess(g *grant, u *User, methods []string) error {
	resource := g.scope.resource.ClientID
	if resource == TokenExchangeResourceID {
		return nil
	}
	for _, p := range g.tenant.policies {
		if !hasAny(p.resources, resource) || !p.appliesTo(g.tenant, g.app, u) {
			continue
		}
		claims := `{"access_token":{"capolids":{"essential":true,"values":["` + p.id + `"]}}}`
		if p.Grant == grantBlock {
			return refuseWithClaims(53003, claims)
		}
		if !slices.Contains(methods, "mfa") {
			return refuseWithClaims(50076, claims, resource)
		}
	}
	return nil
}
