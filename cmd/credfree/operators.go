package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/credfree/credfree/broker/admin"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/broker/recent"
	"github.com/credfree/credfree/exchange"
)

// readAdminKey reads the operator key, and is strict: who names a file means it.
func readAdminKey(path string) (*peer.Keys, error) {
	if path == "" {
		return nil, nil
	}
	keys := peer.NewKeys([]string{path})
	if problems := keys.Problems(); len(problems) > 0 {
		return nil, fail(exitError, fmt.Errorf("the operator key: %w", errors.Join(problems...)), "write a random key into the file: head -c 32 /dev/urandom | base64")
	}
	return keys, nil
}

// warnOfOperators names the agents that may run as root: they are taken for
// operators.
func (s *service) warnOfOperators() {
	agents := s.inForce().Policy.Agents
	for _, name := range slices.Sorted(maps.Keys(agents)) {
		agent := agents[name]
		if slices.ContainsFunc(agent.Callers, func(c policy.Caller) bool { return slices.Contains(c.UIDs, 0) }) {
			s.cfg.log.Warn("operators: agent "+name+" may run as root, and sees the operators' page as root does", "hint", "give the agent a uid of its own, other than 0")
		}
	}
}

// overview is what the operators' page shows beside the issuances.
func (s *service) overview() admin.Overview {
	s.mu.Lock()
	rules, reload := s.rules, s.reload
	applied, refused := s.reload.count[reloadApplied], s.reload.count[reloadRefused]
	s.mu.Unlock()
	stats := s.cache.Stats()
	uses, uncounted := s.memory.Uses()
	o := admin.Overview{
		Version: buildVersion(), Policy: policyView(rules.Policy, rules.Pseudonyms), Agents: agentViews(rules.Policy, uses), Uncounted: uncounted,
		Cache: admin.CacheView{
			Tokens: stats.Entries, Bytes: stats.Bytes, InFlight: stats.InFlight, Fetches: stats.Fetches, Failed: stats.Failed, Evicted: stats.Evicted, Expired: stats.Expired, Purged: stats.Purged,
		},
		Entra: admin.EntraView{Holds: []admin.Hold{}},
	}
	o.Policy.File, o.Policy.Since, o.Policy.Changed, o.Policy.Applied, o.Policy.Refused = s.cfg.policyFile, reload.since, reload.at, applied, refused
	if reload.failed != nil {
		o.Policy.Error = reload.failed.Error()
	}
	at, err := s.broker.LastExchange()
	o.Entra.LastAsked = at
	if failure, ok := errors.AsType[*exchange.Error](err); ok {
		o.Entra.Error, o.Entra.Hint, o.Entra.Refused = failure.Message, failure.Hint, refusal(failure)
	}
	for _, hold := range rules.Exchange.Holds() {
		o.Entra.Holds = append(o.Entra.Holds, admin.Hold{Tenant: hold.Tenant, ClientID: hold.ClientID, Kind: string(hold.Kind), Until: hold.Until})
	}
	return o
}

func policyView(p *policy.Policy, pseudonyms *issuance.Pseudonyms) admin.PolicyView {
	v := admin.PolicyView{
		Revision: p.Revision, Tenant: p.Tenant, Authority: p.Cloud.Authority, Audit: p.Audit, Strict: p.Strict,
		Warnings: []admin.Warning{}, Identities: []admin.IdentityView{}, APIs: []admin.APIView{},
	}
	for _, w := range p.Warnings {
		v.Warnings = append(v.Warnings, admin.Warning{Line: w.Line, Path: w.Path, Text: w.Message, Hint: w.Hint})
	}
	for _, name := range slices.Sorted(maps.Keys(p.Identities)) {
		identity := p.Identities[name]
		kind, clients := kindOf(identity)
		v.Identities = append(v.Identities, admin.IdentityView{Name: name, Kind: kind, Tenant: identity.Tenant, Clients: clients, Source: identity.Source()})
	}
	for _, name := range slices.Sorted(maps.Keys(p.APIs)) {
		api := p.APIs[name]
		v.APIs = append(v.APIs, admin.APIView{Name: name, BaseURL: api.BaseURL, Scopes: api.Scopes, Methods: api.Methods, Paths: api.Paths})
	}
	for _, user := range p.Blocked.Users {
		shown := user.Tenant + "/" + user.ObjectID
		if pseudonyms != nil {
			shown = pseudonyms.Of(user.Tenant, user.ObjectID)
		}
		v.BlockedUsers = append(v.BlockedUsers, shown)
	}
	return v
}

// kindOf says what an identity is. The user names of agents' accounts are not
// shown: people are known by their ids.
func kindOf(i policy.Identity) (kind string, clients []string) {
	switch {
	case i.Application != nil:
		return "application", []string{i.Application.ClientID}
	case i.Agent != nil:
		return "agent identity of blueprint " + i.Agent.BlueprintID, i.Agent.AgentIDs
	case i.AgentUser != nil:
		return fmt.Sprintf("user account of an agent identity, %d in all", len(i.AgentUser.Users)), []string{i.AgentUser.AgentID}
	case i.ManagedIdentity != nil && i.ManagedIdentity.ClientID != "":
		return "managed identity", []string{i.ManagedIdentity.ClientID}
	}
	return "managed identity", nil
}

func agentViews(p *policy.Policy, uses map[string]recent.AgentUse) []admin.AgentView {
	views := make([]admin.AgentView, 0, len(p.Agents))
	for _, name := range slices.Sorted(maps.Keys(p.Agents)) {
		views = append(views, agentView(p.Agents[name], uses[name]))
	}
	return views
}

func agentView(a *policy.Agent, use recent.AgentUse) admin.AgentView {
	v := admin.AgentView{
		Name: a.Name, Owner: a.Owner, Blocked: a.Blocked, Audit: a.Audit, CallOnly: !a.RawToken, PerMinute: a.Limits.PerMinute, UsersPerM: a.Limits.OnBehalfOfPerMinute,
		Callers: []string{}, Users: userRules(a.OnBehalfOf), Allowed: use.Allowed, Inspected: use.Inspected, Denied: use.Denied, Failed: use.Failed, Last: use.Last, Rights: rightViews(a, use),
	}
	if a.Default != "" {
		v.Identities = []string{a.Default}
	}
	for _, identity := range a.Identities {
		if identity != a.Default {
			v.Identities = append(v.Identities, identity)
		}
	}
	if !a.Expires.IsZero() {
		v.Expires = a.Expires.AddDate(0, 0, -1).Format(time.DateOnly)
		v.DaysLeft = int(math.Floor(time.Until(a.Expires).Hours() / 24))
	}
	for _, caller := range a.Callers {
		v.Callers = append(v.Callers, callerWords(caller))
	}
	return v
}

func callerWords(c policy.Caller) string {
	words := "socket " + c.Socket
	if c.TCP {
		words = "tcp"
	}
	if len(c.UIDs) > 0 {
		words += ", uid " + strings.Trim(fmt.Sprint(c.UIDs), "[]")
	}
	if c.KeyFile != "" {
		words += ", key of " + c.KeyFile
	}
	if c.Any {
		words += ", any local process"
	}
	return words
}

// userRules are the rules about users, in words. Ids are counted, not listed.
func userRules(o *policy.OnBehalfOf) []string {
	if o == nil {
		return nil
	}
	words := []string{}
	for _, list := range []struct {
		what string
		n    int
	}{
		{"in a listed tenant (%d)", len(o.Users.Tenants)}, {"one of those listed (%d)", len(o.Users.Objects)}, {"in a listed group (%d)", len(o.Users.Groups)}, {"with a listed role (%d)", len(o.Users.Roles)},
		{"by a listed app (%d)", len(o.Clients)}, {"with all listed scopes (%d)", len(o.RequiredScopes)}, {"with all listed authentication contexts (%d)", len(o.ACRS)}, {"with a listed method (%d)", len(o.AMR)},
	} {
		if list.n > 0 {
			words = append(words, fmt.Sprintf(list.what, list.n))
		}
	}
	if o.Users.Guests {
		words = append(words, "guests too")
	}
	if o.LongRunning > 0 {
		words = append(words, "in sessions of up to "+o.LongRunning.String())
	}
	if len(words) == 0 {
		words = append(words, "any user of the identity's tenant")
	}
	return words
}

// rightViews are the rights that the policy grants, by whatever name they were used, and
// then those that were used under an earlier one.
func rightViews(a *policy.Agent, use recent.AgentUse) []admin.RightView {
	type right struct {
		scope   string
		forUser bool
	}
	views, granted := []admin.RightView{}, map[right]int{}
	for n, g := range a.Granted() {
		granted[right{g.Scope, g.OnBehalfOf}] = n
		views = append(views, admin.RightView{Scope: g.Scope, OnBehalfOf: g.OnBehalfOf, Granted: true, Rule: g.Rule})
	}
	for _, r := range use.Rights {
		n, ok := granted[right{r.Scope, r.OnBehalfOf}]
		if !ok {
			n, ok = granted[right{policy.Listed(r.Scope), r.OnBehalfOf}]
		}
		if !ok {
			views = append(views, admin.RightView{Scope: r.Scope, OnBehalfOf: r.OnBehalfOf, Count: r.Count, Last: r.Last})
			continue
		}
		views[n].Count += r.Count
		if r.Last.After(views[n].Last) {
			views[n].Last = r.Last
		}
	}
	return views
}
