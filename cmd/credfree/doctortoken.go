package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/managedidentity"
	"github.com/credfree/credfree/exchange/workload"
)

// authorityFindings are what there is to find about a tenant.
type authorityFindings struct {
	step    step
	problem string // why there is no use in asking it for tokens; "" when there is
}

// authority asks the authority for what it tells everybody of a tenant.
func (d *doctor) authority(ctx context.Context, tenant string) authorityFindings {
	found, ok := d.authorities[tenant]
	if !ok {
		found = d.askAuthority(ctx, tenant)
		d.authorities[tenant] = found
	}
	return found
}

func (d *doctor) askAuthority(ctx context.Context, tenant string) authorityFindings {
	const name = "authority"
	base := d.policy.Cloud.Authority
	ctx, cancel := context.WithTimeout(ctx, documentLimit)
	defer cancel()
	status, body, err := getDocument(ctx, d.entra, base+"/"+tenant+"/v2.0"+discoveryPath)
	var said struct {
		Endpoint string `json:"token_endpoint"`
		Codes    []int  `json:"error_codes"`
	}
	understood := json.Unmarshal(body, &said) == nil
	switch {
	case err != nil && d.bound():
		return authorityFindings{step: doubted(name, base+" cannot be reached: "+err.Error(), "token requests go to the proxy in "+tokenProxyVariable+", and need it not")}
	case err != nil:
		return authorityFindings{failed(name, base+" cannot be reached: "+err.Error(),
			"check cloud and authority, DNS, egress rules and proxy settings; for a custom cloud also caFile"), "the authority cannot be reached"}
	case status >= 400 && status < 500 && understood && len(said.Codes) > 0:
		s := failed(name, "Entra knows nothing of tenant "+tenant+" (AADSTS"+strconv.Itoa(said.Codes[0])+")", "check tenant and cloud: "+base+" is the authority of cloud "+d.policy.Cloud.Name)
		s.Codes, s.refused = said.Codes[:min(len(said.Codes), 8)], true
		return authorityFindings{s, "Entra knows nothing of the tenant"}
	case status != 200 || !understood:
		return authorityFindings{step: failed(name, base+" answered with status "+strconv.Itoa(status)+", and not as Entra does",
			"something between here and the authority may be answering in its place: check cloud, authority and the proxy settings")}
	case !strings.HasPrefix(said.Endpoint, base+"/"):
		return authorityFindings{step: doubted(name, base+" names the token endpoint "+quoteClaim(said.Endpoint)+", which is elsewhere", "check that the authority is the one of the tenant's cloud")}
	}
	detail := base + " knows tenant " + tenant
	if d.bound() {
		detail += "; token requests go to the proxy in " + tokenProxyVariable
	}
	return authorityFindings{step: passed(name, detail)}
}

// fleetMember is one thing that an identity of the policy can be.
type fleetMember struct {
	policy.Identity
	name     string // of the identity, with /<member> for one of a fleet
	identity string // name of the identity alone
	member   string // "" for an identity that is one thing only
}

func membersOf(name string, identity policy.Identity) []fleetMember {
	names := identity.Members()
	if len(names) == 0 {
		return []fleetMember{{identity, name, name, ""}}
	}
	members := make([]fleetMember, len(names))
	for i, member := range names {
		members[i] = fleetMember{identity, name + "/" + member, name, member}
		if len(names) == 1 {
			members[i].name = name
		}
	}
	return members
}

// principal is the member as the exchange wants it.
func (m fleetMember) principal(source workload.Source) exchange.Identity {
	application := func(id string) exchange.Application {
		return exchange.Application{Tenant: m.Tenant, ClientID: id, Source: source, Capabilities: m.Capabilities}
	}
	switch {
	case m.Agent != nil:
		return exchange.Agent{Blueprint: application(m.Agent.BlueprintID), ID: m.member}
	case m.AgentUser != nil:
		user := exchange.AgentUser{Agent: exchange.Agent{Blueprint: application(m.AgentUser.BlueprintID), ID: m.AgentUser.AgentID}}
		if strings.Contains(m.member, "@") {
			user.Username = m.member
		} else {
			user.ObjectID = m.member
		}
		return user
	case m.ManagedIdentity != nil:
		return exchange.ManagedIdentity{ID: managedidentity.ID(*m.ManagedIdentity), Tenant: m.Tenant}
	}
	return application(m.Application.ClientID)
}

// legs are the steps before the token.
func (m fleetMember) legs() []string {
	switch {
	case m.Agent != nil:
		return []string{stepBlueprint}
	case m.AgentUser != nil:
		return []string{stepBlueprint, stepAgent}
	}
	return nil
}

const (
	stepBlueprint = "blueprint token"
	stepAgent     = "agent token"
	stepToken     = "token"
)

// scopesFor are what to ask for: what was wanted, else one that an agent with
// the identity may have, else Microsoft Graph.
func (d *doctor) scopesFor(m fleetMember) []string {
	if d.scope != "" {
		return strings.Fields(d.scope)
	}
	for _, name := range slices.Sorted(maps.Keys(d.policy.Agents)) {
		agent := d.policy.Agents[name]
		if !slices.Contains(agent.Identities, m.identity) {
			continue
		}
		for _, scope := range agent.Scopes {
			// Applications are given all they have, or nothing.
			if m.AgentUser != nil || strings.HasSuffix(scope, "/.default") {
				return []string{scope}
			}
		}
	}
	if graph := d.policy.Cloud.Resources["graph"]; graph != "" {
		return []string{graph + "/.default"}
	}
	return nil
}

// exchangeLimit bounds an exchange with all its legs and repetitions.
const exchangeLimit = time.Minute

// exchange asks Entra for the token of an identity that needs a workload token.
func (d *doctor) exchange(ctx context.Context, m fleetMember, platform *platformFindings, authority authorityFindings) []step {
	if problem := cmp.Or(platform.problem, authority.problem); problem != "" {
		var steps []step
		for _, name := range append(m.legs(), stepToken) {
			steps = append(steps, skipped(name, problem))
		}
		return steps
	}
	legs := newNotedLegs()
	token := d.token(ctx, m, platform.source, legs)
	var steps []step
	missing := ""
	for _, name := range append(m.legs(), stepToken) {
		s := token
		if name != stepToken {
			s = legs.step(name)
		}
		if missing != "" { // its error is the earlier one's
			s = skipped(name, "there is no "+missing)
		}
		if s.State == stepFailed {
			missing = name
		}
		steps = append(steps, s)
	}
	return steps
}

// token asks for the token itself.
func (d *doctor) token(ctx context.Context, m fleetMember, source workload.Source, legs exchange.Keeper) step {
	client, err := exchange.New(exchange.Config{
		Authority: d.policy.Cloud.Authority, Audience: d.audience(), Transport: d.tokens,
		ManagedIdentity: d.machine, Legs: legs, Now: d.now,
	})
	if err != nil {
		return failed(stepToken, err.Error(), "")
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeLimit)
	defer cancel()
	scopes := d.scopesFor(m)
	got, err := client.Token(ctx, m.principal(source), exchange.Request{Scopes: scopes})
	if err != nil {
		return refusedStep(stepToken, err)
	}
	rights := count(len(got.Roles), "role", "roles")
	if got.Kind == exchange.Delegated {
		rights = count(len(got.Scopes), "scope", "scopes")
	}
	return passed(stepToken, fmt.Sprintf("for %s: of kind %s, %s, lives %s, uti %s",
		strings.Join(scopes, " "), got.Kind, rights, got.Lifetime.Round(time.Second), cmp.Or(got.UniqueID, "unknown")))
}

// refusedStep is a step that ended with an error of the exchange.
func refusedStep(name string, err error) step {
	e, ok := errors.AsType[*exchange.Error](err)
	if !ok {
		return failed(name, err.Error(), "")
	}
	s := failed(name, e.Message, e.Hint)
	if e.CorrelationID != "" && e.Status != 0 {
		s.Detail += ", correlation id " + e.CorrelationID
	}
	s.Codes, s.refused = e.Codes, e.Reason == exchange.EntraRejected || e.Reason == exchange.EntraThrottled
	return s
}

// managedIdentity walks through the chain of an identity of this machine.
func (d *doctor) managedIdentity(ctx context.Context, m fleetMember) []step {
	const name = "endpoint"
	scopes := d.scopesFor(m)
	resource := ""
	if len(scopes) > 0 {
		resource = strings.TrimSuffix(scopes[0], "/.default")
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeLimit)
	defer cancel()
	got, err := d.machine.Token(ctx, managedidentity.ID(*m.ManagedIdentity), resource)
	said, ok := errors.AsType[*managedidentity.Error](err)
	switch {
	case err == nil:
		return []step{passed(name, got.Source+" answers"), d.token(ctx, m, nil, newNotedLegs())}
	case !ok:
		return []step{failed(name, err.Error(), ""), skipped(stepToken, "the endpoint does not answer")}
	}
	switch said.Problem {
	case managedidentity.NoIdentity, managedidentity.Refused, managedidentity.Throttled, managedidentity.Unsupported:
		return []step{passed(name, "it answers"), failed(stepToken, said.Message, said.Hint)}
	case managedidentity.NoEndpoint, managedidentity.Unavailable, managedidentity.Timeout, managedidentity.Malformed:
	}
	return []step{failed(name, said.Message, said.Hint), skipped(stepToken, "there is no endpoint to ask")}
}

// notedLegs is an exchange.Keeper for one identity. It notes how each leg went.
type notedLegs struct {
	mu     sync.Mutex // guards what follows; not held while a leg is fetched
	kept   map[exchange.Leg]exchange.Token
	failed map[string]error // by step
}

func newNotedLegs() *notedLegs {
	return &notedLegs{kept: map[exchange.Leg]exchange.Token{}, failed: map[string]error{}}
}

// Keep implements exchange.Keeper.
func (n *notedLegs) Keep(ctx context.Context, leg exchange.Leg, fetch func(context.Context) (exchange.Token, error)) (exchange.Token, error) {
	n.mu.Lock()
	token, ok := n.kept[leg]
	n.mu.Unlock()
	if ok {
		return token, nil
	}
	token, err := fetch(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.failed[stepOf(leg)] = err
		return exchange.Token{}, err
	}
	n.kept[leg] = token
	delete(n.failed, stepOf(leg))
	return token, nil
}

// Drop implements exchange.Keeper.
func (n *notedLegs) Drop(leg exchange.Leg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.kept, leg)
}

func stepOf(leg exchange.Leg) string {
	if leg.AgentID != "" {
		return stepBlueprint
	}
	return stepAgent
}

// step is how the leg of that name went.
func (n *notedLegs) step(name string) step {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.failed[name]; err != nil {
		return refusedStep(name, err)
	}
	for leg, token := range n.kept {
		if stepOf(leg) == name {
			return passed(name, "lives "+token.Lifetime.Round(time.Second).String())
		}
	}
	return skipped(name, "nothing was sent")
}
