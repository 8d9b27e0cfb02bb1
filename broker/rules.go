package broker

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/time/rate"

	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/managedidentity"
	"github.com/credfree/credfree/exchange/usertoken"
	"github.com/credfree/credfree/exchange/workload"
)

// Rules are a policy and all that it names. A Broker works by one set of rules
// at a time, and exchanges it as a whole: see [Broker.Use].
type Rules struct {
	Policy   *policy.Policy             // required
	Sources  map[string]workload.Source // by their names in the policy
	Exchange *exchange.Client           // of the policy's cloud; required
	// Users verifies users' tokens. Nil when no agent acts on behalf of users.
	Users *usertoken.Verifier
	// Graph carries the requests to Microsoft Graph for the groups of users
	// whose tokens do not list them. Nil: such users are denied.
	Graph http.RoundTripper
	// Keys are the key files of the policy's callers. Nil when it names none.
	Keys *peer.Keys
	// Sockets maps the path of each unix socket that is listened on to its
	// name in the policy. Nil when there are none.
	Sockets map[string]string
	// Pseudonyms stand for users in every record, with users: hashed. Nil
	// otherwise.
	Pseudonyms *issuance.Pseudonyms
}

// generation is a set of rules in use. But for the counting of the limits it
// does not change.
type generation struct {
	Rules
	principals map[member]*principal
	limits     map[counter]*limits // of agents that have some
	explained  *explained
}

// member is one thing that the broker can be at Entra: an identity of the
// policy and, of a fleet, which of it.
type member struct{ identity, name string }

// principal is a member as the exchange and the cache want it.
type principal struct {
	exchange.Identity
	key      string // in cache keys
	tenant   string
	clientID string // "" of a managed identity that is named otherwise
	entra    string // in cache keys: the client id with its capabilities or, of a managed identity, all that names it
	audience string // client id that users' tokens are issued for; "" when it cannot act for users
}

// counter is what requests are counted by: agents and, of their fleets, members.
// It has none but those that the policy lists.
type counter struct {
	agent  string
	member member // zero for requests that name none
}

// limits count the requests of one counter.
type limits struct {
	configured policy.Limits
	all, users *rate.Limiter // nil: any number
}

func newGeneration(rules Rules, before *generation) (*generation, error) {
	g := &generation{Rules: rules, principals: map[member]*principal{}, limits: map[counter]*limits{}, explained: newExplained()}
	if rules.Policy == nil || rules.Exchange == nil {
		return nil, errors.New("rules need a policy and an exchange client")
	}
	var problems []error
	if rules.Policy.Recording.HashedUsers != (rules.Pseudonyms != nil) {
		problems = append(problems, errors.New("users are hashed by the policy or by the rules, and not by both"))
	}
	if rules.Keys == nil && len(rules.Policy.KeyFiles()) > 0 {
		problems = append(problems, errors.New("the policy names key files, and there are no keys"))
	}
	for name, identity := range rules.Policy.Identities {
		source, ok := rules.Sources[identity.Source()]
		if !ok && identity.Source() != "" {
			problems = append(problems, fmt.Errorf("identity %s has no workload source", name))
		}
		g.addPrincipals(name, identity, source)
	}
	for name, agent := range rules.Policy.Agents {
		if agent.OnBehalfOf != nil && rules.Users == nil {
			problems = append(problems, fmt.Errorf("agent %s acts for users, and there is nothing to verify their tokens", name))
		}
		g.addLimits(agent, before)
	}
	return g, errors.Join(problems...)
}

// addLimits adds the counters of an agent, by which each member of a fleet has the
// agent's limits for itself.
func (g *generation) addLimits(agent *policy.Agent, before *generation) {
	counters := []counter{{agent: agent.Name}}
	for _, name := range agent.Identities {
		if members := g.Policy.Identities[name].Members(); len(members) > 1 {
			for _, memberName := range members {
				counters = append(counters, counter{agent.Name, member{name, memberName}})
			}
		}
	}
	for _, c := range counters {
		var old *limits
		if before != nil {
			old = before.limits[c]
		}
		if l := newLimits(agent.Limits, old); l != nil {
			g.limits[c] = l
		}
	}
}

// addPrincipals adds each member of an identity.
func (g *generation) addPrincipals(name string, identity policy.Identity, source workload.Source) {
	application := func(clientID string) exchange.Application {
		return exchange.Application{Tenant: identity.Tenant, ClientID: clientID, Source: source, Capabilities: identity.Capabilities}
	}
	add := func(memberName string, id exchange.Identity, audience string) {
		tenant, clientID := id.Principal()
		p := &principal{Identity: id, key: name, tenant: tenant, clientID: clientID, audience: audience}
		p.entra = strings.Join(append([]string{clientID}, identity.Capabilities...), " ")
		if memberName != "" {
			p.key += "/" + memberName
		}
		if m, ok := id.(exchange.ManagedIdentity); ok {
			p.entra = strings.Join([]string{"managed", m.ID.ClientID, m.ID.ObjectID, m.ID.ResourceID}, "/")
		}
		g.principals[member{name, memberName}] = p
	}
	switch {
	case identity.Application != nil:
		add("", application(identity.Application.ClientID), identity.Application.ClientID)
	case identity.Agent != nil:
		blueprint := application(identity.Agent.BlueprintID)
		for _, id := range identity.Agent.AgentIDs {
			add(id, exchange.Agent{Blueprint: blueprint, ID: id}, blueprint.ClientID)
		}
	case identity.AgentUser != nil:
		agent := exchange.Agent{Blueprint: application(identity.AgentUser.BlueprintID), ID: identity.AgentUser.AgentID}
		for _, user := range identity.AgentUser.Users {
			add(user.Username+user.ObjectID, exchange.AgentUser{Agent: agent, Username: user.Username, ObjectID: user.ObjectID}, "")
		}
	case identity.ManagedIdentity != nil:
		add("", exchange.ManagedIdentity{ID: managedidentity.ID(*identity.ManagedIdentity), Tenant: identity.Tenant}, "")
	}
}

// newLimits keeps the count of old when the numbers are the same: a reload of
// the policy gives nobody a fresh start.
func newLimits(configured policy.Limits, old *limits) *limits {
	if configured == (policy.Limits{}) {
		return nil
	}
	if old != nil && old.configured == configured {
		return old
	}
	perMinute := func(n int) *rate.Limiter {
		if n == 0 {
			return nil
		}
		return rate.NewLimiter(rate.Limit(float64(n)/60), n)
	}
	return &limits{configured: configured, all: perMinute(configured.PerMinute), users: perMinute(configured.OnBehalfOfPerMinute)}
}

// over counts a request of the agent as an identity, and says whether it is one too
// many. As a member that is not listed it is counted as the agent's.
func (g *generation) over(agent, identity string, onBehalfOf bool) bool {
	name, memberName, _ := strings.Cut(identity, "/")
	l := g.limits[counter{agent, member{name, strings.ToLower(memberName)}}]
	if l == nil {
		l = g.limits[counter{agent: agent}]
	}
	if l == nil {
		return false
	}
	over := l.all != nil && !l.all.Allow()
	return onBehalfOf && l.users != nil && !l.users.Allow() || over
}

// permits reports whether an agent may still have, in general, what a cached
// token is good for. Who asks and for which user is decided at each request.
func (g *generation) permits(agentName, identityKey, tenant, entra, scopes string, onBehalfOf bool) bool {
	agent := g.Policy.Agents[agentName]
	if agent == nil || agent.Blocked {
		return false
	}
	if onBehalfOf && agent.OnBehalfOf == nil {
		return false
	}
	name, memberName, _ := strings.Cut(identityKey, "/")
	p := g.principals[member{name, memberName}]
	if p == nil || p.tenant != tenant || p.entra != entra || !slices.Contains(agent.Identities, name) {
		return false
	}
	if !g.Policy.Permits(agentName, name, memberName, strings.Fields(scopes), onBehalfOf) {
		return false
	}
	for scope := range strings.FieldsSeq(scopes) {
		if !agent.MayHave(scope, onBehalfOf) && !agent.Audit {
			return false
		}
	}
	return true
}
