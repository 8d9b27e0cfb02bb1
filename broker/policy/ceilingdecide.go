package policy

import (
	"fmt"
	"slices"
)

// The parts of a decision that are about the ceiling: each follows the step of
// the policy that it narrows, so that both have to pass. Audit mode forgives
// none of them. Without a ceiling, all pass.

// above denies what the policy grants beyond the ceiling.
func (t *trace) above(d *Decision, at step, rule string) bool {
	return t.deny(d, at, AboveCeiling, rule, "the policy grants it, and "+rule+" does not: whoever owns the ceiling can raise it")
}

// admits follows step 2: the agent itself, and where the policy sends it.
func (c *Ceiling) admits(d *Decision, t *trace) bool {
	if c == nil {
		return true
	}
	if rule := c.agentRule(d.Agent); rule != "" {
		return t.above(d, stepAgent, rule)
	}
	return true
}

// agentRule is the rule by which an agent gets nothing, or "".
func (c *Ceiling) agentRule(a *Agent) string {
	cloud := &a.policy.Cloud
	switch i := slices.Index(c.agents, a.Name); {
	case !c.valid:
		return "ceiling"
	case i >= 0:
		return fmt.Sprintf("ceiling.blocked.agents[%d]", i)
	case c.owner && a.Owner == "":
		return "ceiling.require.owner"
	case c.expires && a.Expires.IsZero():
		return "ceiling.require.expires"
	case len(c.clouds) > 0 && !slices.Contains(c.clouds, cloud.Name):
		return "ceiling.clouds"
	case len(c.authorities) > 0 && cloud.Name == customCloud && !slices.Contains(c.authorities, cloud.Authority):
		return "ceiling.authorities"
	}
	return ""
}

// identifies follows step 3: the tenant and the client of the identity.
func (c *Ceiling) identifies(d *Decision, t *trace) bool {
	if c == nil {
		return true
	}
	identity := d.Agent.policy.Identities[d.Identity]
	if rule := c.identityRule(identity, d.Member); rule != "" {
		return t.above(d, stepIdentity, rule)
	}
	return true
}

// identityRule is the rule by which an identity, or one member of a fleet, gets
// nothing, or "".
func (c *Ceiling) identityRule(identity Identity, member string) string {
	ids := identity.clientIDs()
	if identity.Agent != nil && member != "" {
		ids = []string{member}
	}
	switch {
	case len(c.tenants) > 0 && !slices.Contains(c.tenants, identity.Tenant):
		return "ceiling.tenants"
	case len(c.clientIDs) > 0 && (len(ids) == 0 || !hasAll(c.clientIDs, ids)):
		return "ceiling.clientIDs" // the machine's own identity has no id to look for
	}
	return ""
}

// grants follows step 4: each of the scopes, and where an API's token goes.
func (c *Ceiling) grants(d *Decision, r *Request, t *trace) bool {
	if c == nil {
		return true
	}
	for _, scope := range d.Scopes {
		if rule := c.scopeRule(scope, d.Resource, d.OnBehalfOf); rule != "" {
			return t.above(d, stepScope, rule)
		}
	}
	if api, ok := d.Agent.policy.APIs[r.API]; ok && r.Method != "" {
		if rule := c.apiRule(api); rule != "" {
			return t.above(d, stepScope, rule)
		}
	}
	return true
}

func (c *Ceiling) scopeRule(scope, resource string, forUser bool) string {
	allow, rule := c.allow, "ceiling.allow"
	if forUser && c.forUser != c.allow {
		allow, rule = c.forUser, "ceiling.onBehalfOf.allow"
	}
	if allow != nil && !allow.has(scope, resource) {
		return rule
	}
	return ""
}

func (c *Ceiling) apiRule(api API) string {
	if len(c.apiHosts) > 0 && !slices.Contains(c.apiHosts, apiHost(api.BaseURL)) {
		return "ceiling.apiHosts"
	}
	return ""
}

// lets follows step 5: the user.
func (c *Ceiling) lets(d *Decision, u *User, t *trace) bool {
	if c == nil {
		return true
	}
	rule := c.blocked[UserID{u.Tenant, u.ObjectID}]
	switch {
	case rule != "":
		rule = "ceiling." + rule
	case len(c.users.tenants) > 0 && !slices.Contains(c.users.tenants, u.Tenant):
		rule = "ceiling.onBehalfOf.users.tenants"
	case c.users.noGuests && u.Guest:
		rule = "ceiling.onBehalfOf.users.guests"
	case len(c.users.clients) > 0 && !slices.Contains(c.users.clients, u.Client):
		rule = "ceiling.onBehalfOf.clients"
	default:
		return true
	}
	return t.above(d, stepUser, rule)
}

// Permits reports whether the policy's ceiling, if it has one, lets the agent
// have these scopes as this identity: what Decide asks of it before it looks at
// a user.
func (p *Policy) Permits(agent, identity, member string, scopes []string, onBehalfOf bool) bool {
	c, a := p.ceiling, p.Agents[agent]
	if c == nil || a == nil {
		return a != nil
	}
	above := func(scope string) bool {
		resource, _ := splitScope(scope)
		return c.scopeRule(scope, resource, onBehalfOf) != ""
	}
	return c.agentRule(a) == "" && c.identityRule(p.Identities[identity], member) == "" && !slices.ContainsFunc(scopes, above)
}
