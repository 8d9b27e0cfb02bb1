package policy

import (
	"slices"
	"strings"
	"time"
)

// Decide answers one request. It does not modify the policy, waits for
// nothing, and allocates only to deny or to allow several scopes at once.
func (p *Policy) Decide(r Request) Decision { return p.decide(r, nil) }

// decide is Decide and Explain: t keeps the steps, and is nil for Decide.
func (p *Policy) decide(r Request, t *trace) Decision {
	// 1. Who asks: the evidence, never the request's own word.
	agent, rule := p.callers.find(r.Peer)
	if agent == nil {
		return t.deny(stepCaller, Decision{}, UnknownAgent, rule, nobodyHint(r.Peer, rule))
	}
	if t != nil {
		t.pass(stepCaller, rule, describePeer(r.Peer)+" is agent "+agent.Name)
	}
	d := Decision{Agent: agent}

	// 2. The agent: not confused about itself, and not expired.
	if !agent.isCalled(r.Agent) {
		return t.deny(stepAgent, d, AgentMismatch, agent.rules.agent, mismatchHint(agent))
	}
	if agent.expired(r.Now) {
		return t.deny(stepAgent, d, AgentExpired, agent.rules.expires, expiredHint(agent))
	}
	if t != nil {
		t.pass(stepAgent, agent.rules.agent, describeExpiry(agent))
	}

	// 3. The identity to act as.
	switch {
	case r.Identity != "" && !slices.Contains(agent.Identities, r.Identity):
		return t.deny(stepIdentity, d, IdentityNotAllowed, agent.rules.identities, identityHint(agent, r.Identity))
	case r.Identity != "":
		d.Identity = r.Identity
	case agent.Default == "":
		return t.deny(stepIdentity, d, IdentityMissing, agent.rules.identities, noIdentityHint(agent))
	default:
		d.Identity = agent.Default
	}
	if t != nil {
		t.pass(stepIdentity, agent.rules.identities, "acts as "+d.Identity)
	}

	// 4. The scopes.
	return agent.decideScopes(d, r.Scope, t)
}

// isCalled reports whether name is something that the agent may call itself.
// GUIDs are compared without regard to case: client libraries send the client
// id as their user wrote it.
func (a *Agent) isCalled(name string) bool {
	if name == "" || name == a.Name {
		return true
	}
	return slices.ContainsFunc(a.clientIDs, func(id string) bool { return strings.EqualFold(id, name) })
}

func (a *Agent) expired(now time.Time) bool {
	// A caller that forgot the time must not outlive an expiry by it.
	return !a.Expires.IsZero() && (now.IsZero() || !now.Before(a.Expires))
}

// decideScopes is step 4: all scopes are canonical, then all are of one
// resource, then each is in the list.
func (a *Agent) decideScopes(d Decision, text string, t *trace) Decision {
	var room [maxScopes]string
	scopes := room[:0]
	for scope := range strings.FieldsSeq(text) {
		if len(scopes) == maxScopes {
			return t.deny(stepScope, d, ScopeMalformed, a.rules.scopes, "ask for at most 16 scopes at once")
		}
		scopes = append(scopes, scope)
	}
	if len(scopes) == 0 {
		return t.deny(stepScope, d, ScopeMissing, a.rules.scopes, noScopeHint(a))
	}

	first, other := "", ""
	for i, scope := range scopes {
		resource, defect := splitScope(scope)
		switch {
		case defect != "":
			return t.deny(stepScope, d, ScopeMalformed, a.rules.scopes, malformedHint(scope, defect))
		case i == 0:
			first = resource
		case resource != first:
			other = resource
		}
	}
	if other != "" {
		return t.deny(stepScope, d, ScopeMixedResources, a.rules.scopes, mixedHint(first, other))
	}

	for _, scope := range scopes {
		if _, ok := a.grants[scope]; !ok {
			return t.deny(stepScope, d, ScopeNotAllowed, a.rules.scopes, notAllowedHint(a, scope, first))
		}
	}
	return a.grant(d, scopes, t)
}

// grant allows scopes, all of which are in the list. One scope, by far the
// most frequent request, is answered with what Parse has prepared.
func (a *Agent) grant(d Decision, scopes []string, t *trace) Decision {
	g := a.grants[scopes[0]]
	d.Allowed, d.Rule, d.Scopes, d.Resource = true, g.rule, g.scopes, g.resource
	slices.Sort(scopes)
	if scopes = slices.Compact(scopes); len(scopes) > 1 {
		d.Rule, d.Scopes = a.rules.scopes, slices.Clone(scopes)
		d.Scope = strings.Join(scopes, " ")
	} else {
		d.Scope = g.scopes[0]
	}
	if t != nil {
		t.pass(stepScope, d.Rule, "listed: "+d.Scope)
	}
	return d
}
