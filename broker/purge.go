package broker

import (
	"reflect"
	"slices"
	"strings"

	"github.com/credfree/credfree/broker/cache"
)

// Selection says what to purge. Fields that are empty match everything; the
// zero Selection matches all there is.
type Selection struct {
	Agent    string // name
	Identity string // name, or <name>/<member> of a fleet
	User     string // <tenant id>/<object id>
	Scope    string // one scope, canonical
}

// Purge forgets the tokens and ends the sessions that match, and returns how
// many there were. Exchanges in flight for them go to nobody. Tokens that agents
// hold already live on until they expire, but are not active to Introspect.
func (b *Broker) Purge(s Selection) (tokens, sessions int) {
	g := b.rules.Load()
	// First what new tokens can be made from.
	sessions = b.sessions.end(func(agent, identity, userID string) bool {
		return (s.Agent == "" || s.Agent == agent) && s.isIdentity(identity) && (s.User == "" || s.User == userID)
	})
	match := func(key cache.Key) bool {
		if key.Agent == "" {
			return s.matchesLeg(key, g)
		}
		return (s.Agent == "" || s.Agent == key.Agent) && s.isIdentity(key.Identity) && (s.User == "" || s.User == key.UserID) &&
			(s.Scope == "" || slices.Contains(strings.Fields(key.Scopes), s.Scope))
	}
	tokens = b.cfg.Cache.Purge(match)
	b.released.forget(match)
	return tokens, sessions
}

func (s Selection) isIdentity(key string) bool {
	name, _, _ := strings.Cut(key, "/")
	return s.Identity == "" || s.Identity == key || s.Identity == name
}

// matchesLeg says whether an intermediate token belongs to what is selected. It
// is no agent's own, so only the identity and the whole select it.
func (s Selection) matchesLeg(key cache.Key, g *generation) bool {
	if s.Agent != "" || s.User != "" || s.Scope != "" {
		return false
	}
	if s.Identity == "" {
		return true
	}
	for _, p := range g.principals {
		if s.isIdentity(p.key) && p.tenant == key.Tenant && (p.clientID == key.Client || p.audience == key.Client || p.clientID == key.Identity) {
			return true
		}
	}
	return false
}

// purgeForbidden forgets what the rules do not permit any more: all of it when
// they have another Entra.
func (b *Broker) purgeForbidden(before, now *generation) {
	if before.Exchange != now.Exchange {
		b.sessions.end(func(string, string, string) bool { return true })
		everything := func(cache.Key) bool { return true }
		b.cfg.Cache.Purge(everything)
		b.released.forget(everything)
		return
	}
	changed := map[string]bool{} // agents whose rules about users are others
	for name, agent := range before.Policy.Agents {
		if again := now.Policy.Agents[name]; again == nil || !reflect.DeepEqual(agent.OnBehalfOf, again.OnBehalfOf) {
			changed[name] = true
		}
	}
	usersBlocked := before.Policy.Ceiling() != now.Policy.Ceiling() || !reflect.DeepEqual(before.Policy.Blocked.Users, now.Policy.Blocked.Users)
	forUser := func(agent string) bool { return changed[agent] || usersBlocked }
	b.sessions.end(func(agent, identity, _ string) bool {
		name, memberName, _ := strings.Cut(identity, "/")
		return forUser(agent) || now.principals[member{name, memberName}] == nil
	})
	forbidden := func(key cache.Key) bool {
		if key.Agent == "" {
			return !now.hasLeg(key)
		}
		onBehalfOf := key.UserID != ""
		return onBehalfOf && forUser(key.Agent) ||
			!now.permits(key.Agent, key.Identity, key.Tenant, key.Client, key.Scopes, onBehalfOf)
	}
	b.cfg.Cache.Purge(forbidden)
	b.released.forget(forbidden)
}

// hasLeg reports whether an identity still needs the intermediate token.
func (g *generation) hasLeg(key cache.Key) bool {
	for _, p := range g.principals {
		if p.tenant == key.Tenant && (p.clientID == key.Client || p.clientID == key.Identity) {
			return true
		}
	}
	return false
}
