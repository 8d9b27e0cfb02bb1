package broker

import (
	"reflect"
	"strings"

	"github.com/credfree/credfree/broker/cache"
)

// Purge forgets the tokens and ends the sessions that match, and returns how
// many there were. Exchanges in flight for them go to nobody. Tokens that agents
// hold already live on until they expire, but are not active to Introspect. What
// Microsoft Graph told of a user that is selected, or of all where nothing else is, is
// forgotten, whichever agent asked.
// Nothing is purged when the selection means nothing: see Resolve.
func (b *Broker) Purge(selected Selection) (tokens, sessions int, err error) {
	s, err := b.Resolve(selected)
	if err != nil {
		return 0, 0, err
	}
	g := b.rules.Load()
	if s.User != "" || s == (Selection{}) {
		b.groups.forget(func(userID string) bool { return s.isUser(userID, g) })
	}
	// First what new tokens can be made from.
	sessions = b.sessions.end(func(agent, identity, userID string) bool { return s.matchesSession(agent, identity, userID, g) })
	match := func(key cache.Key) bool { return s.matches(key, g) }
	tokens = b.cfg.Cache.Purge(match)
	b.released.forget(match)
	return tokens, sessions, nil
}

// purgeForbidden forgets what the rules do not permit any more: all of it when
// they have another Entra.
func (b *Broker) purgeForbidden(before, now *generation) {
	if before.Exchange != now.Exchange {
		b.groups.forget(func(string) bool { return true })
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
