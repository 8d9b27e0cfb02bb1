package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/credfree/credfree/broker/policy"
)

// What random files and requests are made of: few values, so that they meet.
var (
	modelUIDs    = []uint32{0, 1, 2, 3}
	modelSockets = []string{"a.sock", "b.sock", "/run/a.sock", "/run/c.sock", "/srv/c.sock"}
	modelKeys    = []string{"/k/1", "/k/2", "/k/3"}
	modelDates   = []string{"2027-01-01", "2027-06-30"}
	modelGood    = []string{graph, mailRead, userRead, search, orders, modelARM, modelARMAlias, "00000003-0000-0000-c000-000000000000/.default", "https://contoso.com/a/b/.default"}
	modelBad     = []string{
		"https://Graph.microsoft.com/.default", "https://graph.microsoft.com:443/.default", "https://graph.microsoft.com", "User.Read", "graph",
		"openid", "https://graph.microsoft.com///.default", "https://graph.microsoft.com/%2e", "https://a@b/.default", "api://a:1/x",
		"https://graph.microsoft.com/Mail.Send", "https://contoso.com/a/.default", "https://graph.microsoft.com/.defaults", "https://é.example/x",
		"api://AzureADTokenExchange/.default", "api://AzureADTokenExchange//.default", "fb60f99c-7a34-4190-8149-302f77469936/.default", "api://azurefmitokenexchange/x/y",
	}
	modelShorthands = map[string]string{"graph/Mail.Read": mailRead, "ai-search": search}
	modelRoles      = map[string][]string{"reader": {"graph/Mail.Read", orders}, "searcher": {"ai-search"}}
	modelAPIs       = map[string]modelAPI{
		"mail":   {scopes: []string{"graph/Mail.Read", graph}},
		"orders": {scopes: []string{orders}, methods: []string{"GET", "POST"}, paths: []string{"/a", "/b/*"}},
	}
	modelPaths   = []string{"/", "/a", "/a/", "/b", "/b/", "/b/c", "/b/c/d", "/ab"}
	modelTenants = []string{tenantID, otherID}
	modelUsers   = []string{aliceID, bobID, malloryID}
	modelGroups  = []string{groupID, "92222222-2222-3333-4444-555555555555"}
	modelClients = []string{signInApp, "c2222222-2222-3333-4444-555555555555"}
	modelWords   = []string{"c1", "c2"} // roles, scopes and contexts alike
	modelMethods = []string{"mfa", "fido", "pwd"}
)

// modelIdentities are the same in every file. tenant is "" for a domain.
var modelIdentities = map[string]struct {
	yaml, tenant string
	members      []string
	forUsers     bool
}{
	"app":   {"{application: {clientID: " + billingID + ", source: pod}}", tenantID, nil, true},
	"web":   {"{application: {clientID: " + billingID + ", source: pod, tenant: " + otherID + "}}", otherID, nil, true},
	"dns":   {"{application: {clientID: " + billingID + ", source: pod, tenant: contoso.com}}", "", nil, true},
	"bot":   {"{agent: {blueprintID: " + blueprintID + ", agentID: " + agentOne + ", source: pod}}", tenantID, []string{agentOne}, true},
	"fleet": {"{agent: {blueprintID: " + blueprintID + ", agentIDs: [" + agentOne + ", " + agentTwo + "], source: pod}}", tenantID, []string{agentOne, agentTwo}, true},
	"mail":  {"{agentUser: {blueprintID: " + blueprintID + ", agentID: " + agentOne + ", username: r@contoso.com, source: pod}}", tenantID, []string{"r@contoso.com"}, false},
	"vm":    {"{managedIdentity: {}}", tenantID, nil, false},
}

var modelAPINames = []string{"mail", "orders"}

var modelNames = []string{"app", "web", "dns", "bot", "fleet", "mail", "vm"}

func some[T any](rng *rand.Rand, from []T) []T {
	var chosen []T
	for _, v := range from {
		if rng.IntN(3) == 0 {
			chosen = append(chosen, v)
		}
	}
	return chosen
}

// seldom is some, and nothing at all most of the time.
func seldom[T any](rng *rand.Rand, from []T) []T {
	if rng.IntN(3) > 0 {
		return nil
	}
	return some(rng, from)
}

func one[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

func randomPolicy(rng *rand.Rand) modelPolicy {
	m := modelPolicy{audit: rng.IntN(3) == 0}
	for i := range 1 + rng.IntN(2) {
		a := modelAgent{
			name: fmt.Sprintf("agent-%d", i), identities: some(rng, modelNames), allow: randomAllow(rng),
			mode: one(rng, []string{"", "", "", "audit", "enforce"}), blocked: rng.IntN(20) == 0, keepsToken: rng.IntN(4) == 0,
		}
		if rng.IntN(2) == 0 {
			a.expires = one(rng, modelDates)
		}
		if len(a.identities) == 0 {
			a.identity = one(rng, modelNames)
		} else if rng.IntN(2) == 0 {
			a.identity = one(rng, a.identities)
		}
		for range one(rng, []int{0, 1, 1, 1, 1, 2, 2}) {
			a.callers = append(a.callers, randomCaller(rng))
		}
		a.onBehalfOf = randomOnBehalfOf(rng, a)
		if rng.IntN(20) == 0 {
			m.blockedAgents = append(m.blockedAgents, a.name)
		}
		m.agents = append(m.agents, a)
	}
	for _, tenant := range modelTenants {
		for _, user := range seldom(rng, modelUsers) {
			m.blockedUsers = append(m.blockedUsers, policy.UserID{Tenant: tenant, ObjectID: user})
		}
	}
	return m
}

func randomAllow(rng *rand.Rand) modelAllow {
	allow := modelAllow{scopes: some(rng, modelGood)}
	if rng.IntN(2) == 0 {
		allow.roles, allow.apis = some(rng, []string{"reader", "searcher"}), some(rng, modelAPINames)
	}
	if !slices.Contains(allow.scopes, search) && rng.IntN(4) == 0 {
		allow.scopes = append(allow.scopes, "ai-search")
	}
	return allow
}

// randomOnBehalfOf makes rules that Parse accepts for the agent's identities.
func randomOnBehalfOf(rng *rand.Rand, a modelAgent) *modelOnBehalfOf {
	o := &modelOnBehalfOf{
		allow: randomAllow(rng), tenants: seldom(rng, modelTenants), groups: seldom(rng, modelGroups), roles: seldom(rng, modelWords),
		clients: seldom(rng, modelClients), scopes: seldom(rng, modelWords), acrs: seldom(rng, modelWords), amr: seldom(rng, modelMethods),
		guests: rng.IntN(2) == 0, groupsFromGraph: rng.IntN(2) == 0,
	}
	able, reachable := false, false
	for _, name := range append(slices.Clone(a.identities), a.identity) {
		identity := modelIdentities[name]
		if !identity.forUsers {
			continue
		}
		able = true
		if identity.tenant == "" && len(o.tenants) == 0 {
			o.tenants = modelTenants
		}
		reachable = reachable || len(o.tenants) == 0 || identity.tenant == "" || slices.Contains(o.tenants, identity.tenant)
	}
	if !able || !reachable || rng.IntN(4) == 0 {
		return nil
	}
	for _, user := range seldom(rng, modelUsers) {
		id := policy.UserID{ObjectID: user}
		if len(o.tenants) > 0 {
			id.Tenant = one(rng, o.tenants)
		}
		o.objects = append(o.objects, id)
	}
	return o
}

func randomCaller(rng *rand.Rand) modelCaller {
	uids := some(rng, modelUIDs)
	switch rng.IntN(8) {
	case 0, 1, 2:
		return modelCaller{socket: one(rng, modelSockets), uids: uids}
	case 3, 4:
		return modelCaller{keyFile: one(rng, modelKeys), uids: uids}
	case 5:
		return modelCaller{any: true}
	}
	return modelCaller{uids: append(uids, 4)}
}

func (m modelPolicy) clashes() bool {
	var callers []modelCaller
	for _, a := range m.agents {
		callers = append(callers, a.callers...)
	}
	for i, c := range callers {
		if slices.ContainsFunc(callers[:i], c.clashes) {
			return true
		}
	}
	return false
}

func (c modelCaller) yaml() string {
	uids := ""
	if len(c.uids) > 0 {
		uids = "uids: " + strings.ReplaceAll(fmt.Sprint(c.uids), " ", ", ") + ", "
	}
	switch {
	case c.socket != "":
		return "{" + uids + "socket: " + c.socket + "}"
	case c.keyFile != "":
		return "{tcp: {" + uids + "keyFile: " + c.keyFile + "}}"
	case c.any:
		return "{tcp: {any: true}}"
	}
	return "{tcp: {" + uids + "}}"
}

// line is a field with a list, or nothing for an empty one.
func line(indent, field string, values []string) string {
	if len(values) == 0 {
		return ""
	}
	return indent + field + ": [" + strings.Join(values, ", ") + "]\n"
}

func (a modelAllow) yaml(indent string) string {
	return indent + "allow:\n" + indent + "  scopes: [" + strings.Join(a.scopes, ", ") + "]\n" + line(indent+"  ", "roles", a.roles) + line(indent+"  ", "apis", a.apis)
}

func ids(users []policy.UserID) []string {
	var texts []string
	for _, id := range users {
		texts = append(texts, strings.TrimPrefix(id.Tenant+"/"+id.ObjectID, "/"))
	}
	return texts
}

func (o *modelOnBehalfOf) yaml() string {
	if o == nil {
		return ""
	}
	const in = "      "
	return "    onBehalfOf:\n" + o.allow.yaml(in) + in + "users:\n" + fmt.Sprintf(in+"  guests: %v\n", o.guests) +
		line(in+"  ", "tenants", o.tenants) + line(in+"  ", "objects", ids(o.objects)) + line(in+"  ", "groups", o.groups) + line(in+"  ", "roles", o.roles) +
		line(in, "clients", o.clients) + line(in, "scopes", o.scopes) + line(in, "acrs", o.acrs) + line(in, "amr", o.amr) +
		fmt.Sprintf(in+"groupsFromGraph: %v\n", o.groupsFromGraph)
}

func (m modelPolicy) file() string {
	var b strings.Builder
	b.WriteString("version: 1\ntenant: " + tenantID + "\nsources: {pod: {file: {path: /t}}}\nidentities:\n")
	for _, name := range modelNames {
		fmt.Fprintf(&b, "  %s: %s\n", name, modelIdentities[name].yaml)
	}
	if m.audit {
		b.WriteString("mode: audit\n")
	}
	fmt.Fprintf(&b, "roles: {reader: [%s], searcher: [%s]}\n", strings.Join(modelRoles["reader"], ", "), strings.Join(modelRoles["searcher"], ", "))
	b.WriteString("apis:\n")
	for _, name := range modelAPINames {
		api := modelAPIs[name]
		fmt.Fprintf(&b, "  %s:\n    baseURL: https://%s.contoso.com\n%s%s%s", name, name, line("    ", "scopes", api.scopes), line("    ", "methods", api.methods), line("    ", "paths", api.paths))
	}
	fmt.Fprintf(&b, "blocked: {agents: [%s], users: [%s]}\n", strings.Join(m.blockedAgents, ", "), strings.Join(ids(m.blockedUsers), ", "))
	b.WriteString("agents:\n")
	for _, a := range m.agents {
		fmt.Fprintf(&b, "  %s:\n    identities: [%s]\n    blocked: %v\n    rawToken: %v\n", a.name, strings.Join(a.identities, ", "), a.blocked, !a.keepsToken)
		for field, value := range map[string]string{"identity": a.identity, "expires": a.expires, "mode": a.mode} {
			if value != "" {
				fmt.Fprintf(&b, "    %s: %s\n", field, value)
			}
		}
		b.WriteString("    callers:\n")
		for _, c := range a.callers {
			b.WriteString("      - " + c.yaml() + "\n")
		}
		if len(a.callers) == 0 {
			b.WriteString("      []\n")
		}
		b.WriteString(a.allow.yaml("    ") + a.onBehalfOf.yaml())
	}
	return b.String()
}

func randomRequest(rng *rand.Rand) policy.Request {
	r := policy.Request{
		Peer:  policy.Peer{UID: uint32(rng.IntN(6)), Known: rng.IntN(4) > 0},
		Agent: one(rng, []string{"", "", "", "", "agent-0", "agent-1"}),
		Identity: one(rng, append([]string{
			"", "", "", "none", "fleet/" + agentOne, "fleet/" + strings.ToUpper(agentTwo), "fleet/" + aliceID, "bot/" + agentOne, "app/x", "mail/R@contoso.com",
		}, modelNames...)),
		Now:  one(rng, []time.Time{may2027, may2027.AddDate(0, -3, 0), time.Date(2027, 6, 30, 23, 59, 59, 0, time.UTC), time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC)}),
		Over: rng.IntN(12) == 0, Raw: rng.IntN(2) == 0, OnBehalfOf: rng.IntN(3) > 0,
	}
	if rng.IntN(12) > 0 {
		r.User = randomUser(rng, r.Now)
	}
	switch rng.IntN(4) {
	case 0, 1:
		r.Peer.Socket = one(rng, append([]string{"c.sock"}, modelSockets...))
	case 2:
		r.Peer.KeyFile, r.Peer.KeyRefused = one(rng, append([]string{""}, modelKeys...)), rng.IntN(4) == 0
	}
	var scopes []string
	for range rng.IntN(4) {
		scopes = append(scopes, one(rng, modelGood[:rng.IntN(len(modelGood))+1]))
	}
	if rng.IntN(8) == 0 {
		scopes = append(scopes, one(rng, modelBad))
	}
	r.Scope = strings.Join(scopes, one(rng, []string{" ", "\t", " \n", "\u2003"}))
	if rng.IntN(4) == 0 {
		r.API, r.Method, r.Path = one(rng, append([]string{"none"}, modelAPINames...)), one(rng, []string{"", "GET", "POST", "PUT"}), one(rng, modelPaths)
	}
	return r
}

// aimed is a random request of which most parts fit one agent: a request that
// is wrong everywhere never comes to the later steps.
func aimed(rng *rand.Rand, m modelPolicy) policy.Request {
	r, a := randomRequest(rng), one(rng, m.agents)
	fits := func() bool { return rng.IntN(12) > 0 }
	if len(a.callers) > 0 {
		c := one(rng, a.callers)
		r.Peer = policy.Peer{Socket: c.socket, KeyFile: c.keyFile, Known: fits()}
		if len(c.uids) > 0 {
			r.Peer.UID = one(rng, c.uids)
		}
	}
	if r.Agent != "" && fits() {
		r.Agent = a.name
	}
	if fits() {
		r.Over, r.Now = false, may2027.AddDate(0, -6, 0)
		if r.User != nil {
			r.User.Expires = r.Now.Add(time.Minute)
		}
	}
	allow := a.allow
	if r.OnBehalfOf && a.onBehalfOf != nil {
		allow = a.onBehalfOf.allow
	}
	if all := allow.all(); len(all) > 0 && fits() {
		r.Scope = one(rng, all)
	}
	if rng.IntN(12) == 0 {
		r.Scope = strings.ReplaceAll(r.Scope, "/.default", "//.default")
	}
	if r.API != "" && fits() {
		r.Scope = ""
		if len(allow.apis) > 0 && fits() {
			r.API = one(rng, allow.apis)
		}
	}
	name := one(rng, append(slices.Clone(a.identities), a.identity))
	if identity := modelIdentities[name]; fits() {
		r.Identity = name
		if len(identity.members) > 0 {
			r.Identity += "/" + one(rng, identity.members)
		}
		if r.User != nil && identity.tenant != "" && fits() {
			r.User.Tenant = identity.tenant
		}
	}
	return r
}

// randomUser passes most rules most of the time, so that every rule gets its turn.
func randomUser(rng *rand.Rand, now time.Time) *policy.User {
	most := func(from []string) []string {
		return slices.DeleteFunc(slices.Clone(from), func(string) bool { return rng.IntN(4) == 0 })
	}
	return &policy.User{
		Tenant: one(rng, modelTenants), ObjectID: one(rng, modelUsers), Client: one(rng, modelClients), Guest: rng.IntN(6) == 0,
		Groups: most(modelGroups), GroupsOverage: rng.IntN(6) == 0, Roles: most(modelWords), Scopes: most(modelWords), ACRS: most(modelWords),
		AMR: most(modelMethods), Expires: now.Add(time.Duration(rng.IntN(10)) * time.Minute),
	}
}
