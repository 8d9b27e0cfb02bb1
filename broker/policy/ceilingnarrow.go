package policy

import (
	"slices"
	"strings"
)

// narrow puts an agent under the ceiling where a number or a switch says it all.
// What is above is warned about: it has no effect.
func (r *reader) narrow(a *Agent, key place, fields map[string]place) {
	c := r.options.Ceiling
	if c == nil {
		return
	}
	if rule := c.agentRule(a); rule != "" && rule != "ceiling.clouds" && rule != "ceiling.authorities" {
		r.above(key, "the agent gets nothing", rule)
	}
	if a.Audit && !c.audit {
		a.Audit = false
		r.above(fields["mode"].or(key), "mode: audit has no effect", "ceiling.audit")
	}
	if a.RawToken && c.keepTokens {
		a.RawToken, a.rules.rawToken = false, "ceiling.rawToken"
		r.above(fields["rawToken"].or(key), "no token leaves the broker", "ceiling.rawToken")
	}
	a.expiryIsFinal, a.limitsAreFinal = c.expires, c.limits != (Limits{})
	r.narrowLimit(&a.Limits.PerMinute, c.limits.PerMinute, &a.rules.perMinute, fields["limits"], ".perMinute")
	r.narrowLimit(&a.Limits.OnBehalfOfPerMinute, c.limits.OnBehalfOfPerMinute, &a.rules.usersPerMinute, fields["limits"], ".onBehalfOf.perMinute")
	if o := a.OnBehalfOf; o != nil {
		r.narrowUsers(o, fields["onBehalfOf"])
	}
}

func (r *reader) narrowLimit(limit *int, most int, rule *string, at place, below string) {
	if most == 0 || *limit > 0 && *limit <= most {
		return
	}
	if *limit > 0 {
		r.above(at, "the limit is lower", "ceiling.limits"+below)
	}
	*limit, *rule = most, "ceiling.limits"+below
}

func (r *reader) narrowUsers(o *OnBehalfOf, at place) {
	users := r.options.Ceiling.users
	outside := func(listed, most []string) bool {
		return len(most) > 0 && (len(listed) == 0 || slices.ContainsFunc(listed, func(id string) bool { return !slices.Contains(most, id) }))
	}
	if users.longRunning > 0 && o.LongRunning > users.longRunning {
		o.LongRunning = users.longRunning
		r.above(at, "the agent may not go on for users as long", "ceiling.onBehalfOf.longRunning")
	}
	if o.Users.Guests && users.noGuests {
		r.above(at, "no guest is acted for", "ceiling.onBehalfOf.users.guests")
	}
	if len(o.Users.Tenants) > 0 && outside(o.Users.Tenants, users.tenants) {
		r.above(at, "users of some of the tenants are denied", "ceiling.onBehalfOf.users.tenants")
	}
	if outside(o.Clients, users.clients) {
		r.above(at, "user tokens of some apps are denied", "ceiling.onBehalfOf.clients")
	}
}

// above warns about what has no effect, by which rule of the ceiling.
func (r *reader) above(at place, what, rule string) {
	r.warning(at, "above the ceiling: "+what, "remove it, or ask the owner of the ceiling to raise "+rule)
}

// warnCloud and the rest find what every decision would deny by the ceiling.
func (r *reader) warnCloud(cloud *Cloud, at place) {
	c := r.options.Ceiling
	if c == nil || !c.valid {
		return
	}
	switch rule := c.agentRule(&Agent{Owner: "somebody", Expires: farAway, policy: &Policy{Cloud: *cloud}}); rule {
	case "ceiling.clouds", "ceiling.authorities":
		r.above(at, "this cloud is asked for no token", rule)
	}
}

func (r *reader) warnIdentity(identity Identity, at place) {
	c := r.options.Ceiling
	if c == nil || !c.valid {
		return
	}
	members := identity.Members()
	if identity.Agent == nil || len(members) == 0 {
		members = []string{""}
	}
	for _, member := range members {
		if rule := c.identityRule(identity, member); rule != "" {
			r.above(at, strings.TrimSpace("this identity gets no token "+clip(member)), rule)
		}
	}
}

// warnScope is told of each grant as it is read. A name cannot have a capital
// letter, so what ends like this is what an agent may have for users.
func (r *reader) warnScope(scope, resource, rule string, at place) {
	c := r.options.Ceiling
	if c == nil || !c.valid {
		return
	}
	if rule := c.scopeRule(scope, resource, strings.HasSuffix(rule, ".onBehalfOf.allow")); rule != "" {
		r.above(at, clip(scope)+" is denied", rule)
	}
}

func (r *reader) warnAPI(api API, at place) {
	c := r.options.Ceiling
	if c == nil || !c.valid {
		return
	}
	if rule := c.apiRule(api); rule != "" {
		r.above(at, "the broker does not call this host", rule)
	}
}
