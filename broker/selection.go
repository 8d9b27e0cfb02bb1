package broker

import (
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/policy"
)

// Selection says what to purge. Fields that are empty match everything; the
// zero Selection matches all there is.
type Selection struct {
	Agent    string // name
	Identity string // name, or <name>/<member> of a fleet
	User     string // <tenant id>/<object id>, an object id, or with users: hashed the hash that stands for the user
	Scope    string // one scope, written out or as a shorthand of the policy
}

// SelectionError says why a Selection cannot mean anything. It names no user.
type SelectionError struct {
	Text string
	Hint string // what to write; never empty
	// Unknown: it is well written, and names what neither the policy in force nor
	// the cache knows.
	Unknown bool
}

// Error returns the text, without the hint.
func (e *SelectionError) Error() string { return e.Text }

// Resolve returns the selection as tokens and sessions have it: shorthands of
// scopes written out, ids in lower case. The error is a *SelectionError when a
// field is not written as it has to be, or names what is not known: a slip of
// the hand would else purge nothing, and nobody would notice. What is known and
// not cached is well selected. Of users, none is known beforehand.
func (b *Broker) Resolve(s Selection) (Selection, error) {
	g := b.rules.Load()
	for _, resolve := range []func(*generation, *Selection) *SelectionError{b.resolveAgent, b.resolveIdentity, resolveUser, b.resolveScope} {
		if problem := resolve(g, &s); problem != nil {
			return Selection{}, problem
		}
	}
	return s, nil
}

func (b *Broker) resolveAgent(g *generation, s *Selection) *SelectionError {
	if s.Agent == "" || g.Policy.Agents[s.Agent] != nil || b.holds(Selection{Agent: s.Agent}) {
		return nil
	}
	return unknown("agent", s.Agent, policy.DidYouMean(s.Agent, slices.Sorted(maps.Keys(g.Policy.Agents))))
}

func (b *Broker) resolveIdentity(g *generation, s *Selection) *SelectionError {
	name, memberName, ofFleet := strings.Cut(s.Identity, "/")
	if ofFleet {
		s.Identity = name + "/" + strings.ToLower(memberName)
	}
	identity, known := g.Policy.Identities[name]
	switch {
	case s.Identity == "" || known && (!ofFleet || slices.Contains(identity.Members(), strings.ToLower(memberName))):
		return nil
	case b.holds(Selection{Identity: s.Identity}):
		return nil
	case !known:
		return unknown("identity", name, policy.DidYouMean(name, slices.Sorted(maps.Keys(g.Policy.Identities))))
	case len(identity.Members()) == 0:
		return &SelectionError{Text: "identity " + name + " is no fleet", Hint: "name it alone, without a slash", Unknown: true}
	}
	// Members may be user names: they are neither repeated nor listed.
	return &SelectionError{Text: "identity " + name + " has no such member", Hint: "identities." + name + " of the policy lists them; " + name + " alone is all of them", Unknown: true}
}

// The ids that Entra gives users, and the hashes that stand for them.
var (
	userForm = regexp.MustCompile(`^(?:` + guidForm + `/)?` + guidForm + `$`)
	hashForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

const guidForm = `[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}`

// resolveUser takes what the records of users have, and how people paste it. What
// was given instead may name the user, and is not repeated.
func resolveUser(g *generation, s *Selection) *SelectionError {
	s.User = strings.ToLower(s.User)
	switch {
	case s.User == "" || userForm.MatchString(s.User):
		return nil
	case !hashForm.MatchString(s.User):
		return &SelectionError{Text: "that is not the id of a user", Hint: "write TENANT/OBJECT-ID or OBJECT-ID alone, both GUIDs, or with users: hashed the whole hash that the audit log has"}
	case g.Pseudonyms == nil:
		return &SelectionError{Text: "hashes stand for no users: the policy in force has no users: hashed", Hint: "write TENANT/OBJECT-ID or OBJECT-ID alone, both GUIDs"}
	}
	return nil
}

func (b *Broker) resolveScope(g *generation, s *Selection) *SelectionError {
	if s.Scope == "" {
		return nil
	}
	scope, problem := g.Policy.Cloud.Scope(s.Scope)
	if problem != nil {
		return &SelectionError{Text: problem.Message, Hint: problem.Hint}
	}
	s.Scope = scope
	known := map[string]bool{}
	for _, agent := range g.Policy.Agents {
		for _, scope := range agent.Scopes {
			known[scope] = true
		}
		if agent.OnBehalfOf != nil {
			for _, scope := range agent.OnBehalfOf.Scopes {
				known[scope] = true
			}
		}
	}
	if known[scope] || known[policy.Listed(scope)] || b.holds(Selection{Scope: scope}) {
		return nil
	}
	return unknown("scope", scope, nearScopes(scope, slices.Sorted(maps.Keys(known))))
}

// nearScopes is the hint for a scope that is not known: the same in another case,
// or else what is known of its resource, or else of all.
func nearScopes(scope string, known []string) string {
	resource := scope[:strings.LastIndexByte(scope, '/')+1]
	var same []string
	for _, other := range known {
		if strings.EqualFold(scope, other) {
			return "did you mean " + other + "?"
		}
		if strings.HasPrefix(other, resource) {
			same = append(same, other)
		}
	}
	if len(same) == 0 {
		same = known
	}
	return policy.DidYouMean("", same)
}

const maxNamed = 100 // bytes of a name that is not known

func unknown(what, name, hint string) *SelectionError {
	name = strconv.QuoteToASCII(name[:min(len(name), maxNamed)])
	return &SelectionError{Text: fmt.Sprintf("the policy in force has no %s %s, and nor has the cache", what, name), Hint: hint, Unknown: true}
}

// holds reports whether a token or a session of an agent is selected.
func (b *Broker) holds(s Selection) bool {
	g := b.rules.Load()
	return b.cfg.Cache.Has(func(key cache.Key) bool { return key.Agent != "" && s.matches(key, g) }) ||
		s.Scope == "" && b.sessions.has(func(agent, identity, userID string) bool { return s.matchesSession(agent, identity, userID, g) })
}

// matches says whether a token is selected, by whichever name of its resource.
func (s Selection) matches(key cache.Key, g *generation) bool {
	if key.Agent == "" {
		return s.matchesLeg(key, g)
	}
	isOf := func(scope string) bool { return policy.Listed(scope) == policy.Listed(s.Scope) }
	return s.matchesSession(key.Agent, key.Identity, key.UserID, g) &&
		(s.Scope == "" || slices.ContainsFunc(strings.Fields(key.Scopes), isOf))
}

// matchesSession ignores the scope: a session is for all that the agent may have.
func (s Selection) matchesSession(agent, identity, userID string, g *generation) bool {
	return (s.Agent == "" || s.Agent == agent) && s.isIdentity(identity) && s.isUser(userID, g)
}

func (s Selection) isIdentity(key string) bool {
	name, _, _ := strings.Cut(key, "/")
	return s.Identity == "" || s.Identity == key || s.Identity == name
}

func (s Selection) isUser(userID string, g *generation) bool {
	tenant, object, known := strings.Cut(userID, "/")
	switch {
	case s.User == "":
		return true
	case !known: // the agent's own
		return false
	case len(s.User) == hex.EncodedLen(32):
		return g.Pseudonyms != nil && g.Pseudonyms.Of(tenant, object) == s.User
	case !strings.Contains(s.User, "/"):
		return strings.EqualFold(s.User, object)
	}
	return strings.EqualFold(s.User, userID)
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
