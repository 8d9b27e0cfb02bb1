package policy

import (
	"slices"
	"strings"
	"time"
)

// Decide answers one request. It does not modify the policy, waits for
// nothing, and allocates only to deny or to allow several scopes at once.
func (p *Policy) Decide(r Request) Decision { return p.decide(&r, nil) }

// decide is Decide and Explain: t keeps the steps, and is nil for Decide.
func (p *Policy) decide(r *Request, t *trace) Decision {
	var d Decision

	// 1. Who asks: the evidence, never the request's own word.
	agent, rule := p.callers.find(r.Peer)
	if agent == nil {
		t.deny(&d, stepCaller, UnknownAgent, rule, nobodyHint(r.Peer, rule))
		return d
	}
	d.Agent, d.OnBehalfOf = agent, r.OnBehalfOf
	if t != nil {
		t.pass(stepCaller, rule, describePeer(r.Peer)+" is agent "+agent.Name)
	}

	// 2. The agent, 3. the identity, 4. the scopes, 5. the user, 6. the token or
	// the call; after each, what the ceiling says of it.
	ceiling := p.ceiling
	if r.Inspect {
		d.OnBehalfOf = false
		if agent.isInOrder(&d, r, t) && ceiling.admits(&d, t) &&
			agent.mayActAs(&d, r, t) && ceiling.identifies(&d, t) &&
			agent.mayInspect(&d, r, t) && ceiling.lets(&d, r.User, t) {
			agent.allow(&d)
			d.RawToken = false
		}
		return d
	}
	if agent.isInOrder(&d, r, t) && ceiling.admits(&d, t) &&
		agent.mayActAs(&d, r, t) && ceiling.identifies(&d, t) &&
		agent.mayHave(&d, r, t) && ceiling.grants(&d, r, t) &&
		(!r.OnBehalfOf || agent.mayActFor(&d, r, t) && ceiling.lets(&d, r.User, t)) &&
		(!r.Raw || agent.mayHandOut(&d, t)) &&
		(r.Method == "" || agent.mayCall(&d, r, t)) {
		agent.allow(&d)
	}
	return d
}

// allow is what follows when every step has passed.
func (a *Agent) allow(d *Decision) {
	d.Allowed, d.RawToken = true, a.RawToken
	if d.Audited {
		d.Rule = a.rules.mode
	}
	if d.OnBehalfOf {
		d.LongRunning = a.OnBehalfOf.LongRunning
	}
}

// isInOrder is step 2: the agent is not confused about itself, not blocked, not
// expired, within its limits, and made for users when it asks for one.
func (a *Agent) isInOrder(d *Decision, r *Request, t *trace) bool {
	switch {
	case !a.isCalled(r.Agent):
		return t.deny(d, stepAgent, AgentMismatch, a.rules.agent, mismatchHint(a))
	case a.Blocked:
		return t.deny(d, stepAgent, AgentBlocked, a.rules.blocked, blockedHint(a))
	}
	if a.expired(r.Now) && !t.refuseUnless(a.expiryIsFinal, d, stepAgent, AgentExpired, a.rules.expires, expiredHint(a)) {
		return false
	}
	if r.Over {
		rule := a.limitRule(r.OnBehalfOf && !r.Inspect)
		if !t.refuseUnless(a.limitsAreFinal, d, stepAgent, OverLimit, rule, limitHint(rule)) {
			return false
		}
	}
	if (r.OnBehalfOf || r.Inspect) && a.OnBehalfOf == nil {
		return t.deny(d, stepAgent, OnBehalfOfNotAllowed, a.rules.user, notForUsersHint(a))
	}
	if t != nil {
		t.pass(stepAgent, a.rules.agent, describeExpiry(a))
	}
	return true
}

// isCalled reports whether name is something that the agent may call itself.
// GUIDs are compared without regard to case: client libraries send the client
// id as their user wrote it.
func (a *Agent) isCalled(name string) bool {
	if name == "" || name == a.Name {
		return true
	}
	for i := range a.choices {
		for _, id := range a.choices[i].clientIDs {
			if equalLower(name, id) {
				return true
			}
		}
	}
	return false
}

func (a *Agent) expired(now time.Time) bool {
	// A caller that forgot the time must not outlive an expiry by it.
	return !a.Expires.IsZero() && (now.IsZero() || !now.Before(a.Expires))
}

// limitRule is the path of the limit that a request counts against.
func (a *Agent) limitRule(onBehalfOf bool) string {
	switch {
	case onBehalfOf && a.Limits.OnBehalfOfPerMinute > 0:
		return a.rules.usersPerMinute
	case a.Limits.PerMinute > 0:
		return a.rules.perMinute
	}
	return a.rules.limits
}

// mayHave is step 4: the API is one of the agent's; all scopes are canonical,
// none is reserved, all are of one resource, and each is in the list.
func (a *Agent) mayHave(d *Decision, r *Request, t *trace) bool {
	allow := &a.forItself
	if d.OnBehalfOf {
		allow = &a.forUser
	}
	text := r.Scope
	if r.API != "" {
		if !a.mayUse(d, r.API, allow, t) {
			return false
		}
		if text == "" {
			text = strings.Join(a.policy.APIs[r.API].Scopes, " ")
		}
	}
	// One scope as it is listed, by far the most frequent request, has been looked
	// at by Parse.
	if g, ok := allow.grants[text]; ok {
		g.give(d)
	} else if !allow.lists(d, text, t) {
		return false
	}
	if rule, ok := allow.apiRules[r.API]; ok && r.Scope == "" {
		d.Rule = rule
	}
	if t != nil {
		t.pass(stepScope, d.Rule, "listed: "+d.Scope)
	}
	return true
}

// lists decides about scopes separated by white space.
func (a *allowance) lists(d *Decision, text string, t *trace) bool {
	var room [maxScopes]string
	scopes := room[:0]
	for scope := range strings.FieldsSeq(text) {
		if len(scopes) == maxScopes {
			return t.deny(d, stepScope, ScopeMalformed, a.list, "ask for at most 16 scopes at once")
		}
		scopes = append(scopes, oneSlash(scope))
	}
	if len(scopes) == 0 {
		return t.deny(d, stepScope, ScopeMissing, a.list, noScopeHint(a))
	}
	resource, ok := a.sameResource(d, scopes, t)
	if !ok {
		return false
	}
	listed := true
	for _, scope := range scopes {
		if _, ok := a.grants[scope]; !ok {
			if !t.refuse(d, stepScope, ScopeNotAllowed, a.list, notAllowedHint(a, scope)) {
				return false
			}
			listed = false
			break
		}
	}
	slices.Sort(scopes)
	scopes = slices.Compact(scopes)
	if listed && len(scopes) == 1 {
		a.grants[scopes[0]].give(d)
		return true
	}
	if listed {
		d.Rule = a.ruleOf(scopes)
	}
	// None of it is cut out of the request: that would stay in memory with it.
	d.Resource, d.Scope = strings.Clone(resource), strings.Join(scopes, " ")
	if len(scopes) == 1 {
		d.Scope = strings.Clone(scopes[0])
	}
	d.Scopes = strings.Split(d.Scope, " ")
	return true
}

// give puts a scope on the decision as Parse has prepared it.
func (g grant) give(d *Decision) {
	d.Rule, d.Resource, d.Scopes, d.Scope = g.rule, g.resource, g.scopes, g.scopes[0]
}

// sameResource returns the resource of all scopes.
func (a *allowance) sameResource(d *Decision, scopes []string, t *trace) (string, bool) {
	first, other, reserved := "", "", false
	for i, scope := range scopes {
		resource, defect := splitScope(scope)
		switch {
		case defect != "":
			return "", t.deny(d, stepScope, ScopeMalformed, a.list, malformedHint(scope, defect, a.cloud))
		case i == 0:
			first = resource
		case resource != first:
			other = resource
		}
		reserved = reserved || a.cloud.reserves(resource)
	}
	switch {
	case reserved:
		return "", t.deny(d, stepScope, ScopeReserved, a.list, reservedHint)
	case other != "":
		return "", t.deny(d, stepScope, ScopeMixedResources, a.list, mixedHint(first, other))
	}
	return first, true
}

// mayHandOut is step 6: the token itself may leave the broker.
func (a *Agent) mayHandOut(d *Decision, t *trace) bool {
	if !a.RawToken {
		return t.deny(d, stepToken, RawTokenForbidden, a.rules.rawToken, rawTokenHint(a))
	}
	if t != nil {
		t.pass(stepToken, a.rules.agent, "the token may be handed out")
	}
	return true
}
