package policy_test

import (
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/policy"
)

// The model is DESIGN's rules written a second time, slowly: lists and loops
// over what was put into the file, no index, net/url for the scopes, and all
// that is wrong with a request collected before anything is decided.

type modelPolicy struct {
	audit         bool
	blockedAgents []string
	blockedUsers  []policy.UserID
	agents        []modelAgent
}

type modelAgent struct {
	name, expires, identity string // expires and identity: "" for none
	identities              []string
	callers                 []modelCaller
	allow                   modelAllow
	mode                    string // "" for that of the file
	blocked, keepsToken     bool
	onBehalfOf              *modelOnBehalfOf
}

type modelAllow struct{ scopes, roles, apis []string }

type modelAPI struct{ scopes, methods, paths []string }

type modelOnBehalfOf struct {
	allow                                              modelAllow
	tenants, groups, roles, clients, scopes, acrs, amr []string
	objects                                            []policy.UserID
	guests, groupsFromGraph                            bool
}

type modelCaller struct {
	socket  string
	uids    []uint32
	keyFile string
	any     bool // any local process
}

type modelAnswer struct {
	reason, audited                 policy.Reason
	agent, identity, member, scopes string
	resolve, raw                    bool
}

// modelForgiven is what audit mode lets pass.
var modelForgiven = []policy.Reason{
	policy.AgentExpired, policy.OverLimit, policy.APINotAllowed, policy.ScopeNotAllowed, policy.APIMethodNotAllowed, policy.APIPathNotAllowed, policy.UserTenantNotAllowed, policy.UserNotListed, policy.UserIsGuest,
	policy.UserClientNotAllowed, policy.UserScopeMissing, policy.UserNotInGroup, policy.UserRoleMissing, policy.UserACRSMissing, policy.UserAMRMissing,
}

// matches is the table of who a caller lets in.
func (c modelCaller) matches(p policy.Peer, fileHasKeys bool) bool {
	uidFits := len(c.uids) == 0 || p.Known && slices.Contains(c.uids, p.UID)
	keyless := p.KeyFile == "" && (!p.KeyRefused || !fileHasKeys)
	switch {
	case p.Socket != "":
		return c.socket == p.Socket && uidFits
	case c.socket != "":
		return false
	case c.keyFile != "":
		return p.KeyFile == c.keyFile && !p.KeyRefused && uidFits
	case c.any:
		return keyless
	}
	return keyless && uidFits
}

// clashes reports whether one peer could match both callers.
func (c modelCaller) clashes(o modelCaller) bool {
	switch {
	case c.socket != "" || o.socket != "":
		oneIsBare := !path.IsAbs(c.socket) || !path.IsAbs(o.socket)
		return c.socket == o.socket || c.socket != "" && o.socket != "" && oneIsBare && path.Base(c.socket) == path.Base(o.socket)
	case c.keyFile != "" || o.keyFile != "":
		return c.keyFile == o.keyFile
	}
	return c.any || o.any || slices.ContainsFunc(c.uids, func(uid uint32) bool { return slices.Contains(o.uids, uid) })
}

func (m modelPolicy) decide(r policy.Request) modelAnswer {
	hasKeys := false
	for _, a := range m.agents {
		hasKeys = hasKeys || slices.ContainsFunc(a.callers, func(c modelCaller) bool { return c.keyFile != "" })
	}
	for _, a := range m.agents {
		for _, c := range a.callers {
			if c.matches(r.Peer, hasKeys) {
				return m.answer(a, r)
			}
		}
	}
	return modelAnswer{reason: policy.UnknownAgent}
}

// answer collects what is wrong and picks what counts: the first, or in audit
// mode the first that is not forgiven.
func (m modelPolicy) answer(a modelAgent, r policy.Request) modelAnswer {
	audit := a.mode == "audit" || a.mode == "" && m.audit
	answer := modelAnswer{agent: a.name}
	wrong := m.wrongWithAgent(a, r)
	identity, member, more := a.wrongWithIdentity(r)
	if identity != "" {
		more = append(more, a.wrongWithAPI(r)...)
		more = append(more, a.wrongWithScopes(r)...)
		more = append(more, m.wrongWithUser(a, identity, r)...)
		if r.Raw && a.keepsToken {
			more = append(more, policy.RawTokenForbidden)
		}
		more = append(more, wrongWithCall(r)...)
	}
	for _, reason := range append(wrong, more...) {
		if audit && slices.Contains(modelForgiven, reason) {
			if answer.audited == "" {
				answer.audited = reason
			}
			continue
		}
		answer.reason, answer.audited = reason, ""
		break
	}
	if answer.reason == "" || len(wrong) == 0 && identity != "" || audit && identity != "" && !slices.ContainsFunc(wrong, unforgiven) {
		answer.identity, answer.member = identity, member
	}
	if answer.reason == policy.GroupsOverage {
		answer.resolve = a.onBehalfOf.groupsFromGraph
	}
	if answer.reason == "" {
		scopes := modelAsked(r)
		slices.Sort(scopes)
		answer.scopes, answer.raw = strings.Join(slices.Compact(scopes), " "), !a.keepsToken
	}
	return answer
}

func unforgiven(reason policy.Reason) bool { return !slices.Contains(modelForgiven, reason) }

// add appends reason when the condition holds.
func add(wrong []policy.Reason, condition bool, reason policy.Reason) []policy.Reason {
	if condition {
		return append(wrong, reason)
	}
	return wrong
}

func (m modelPolicy) wrongWithAgent(a modelAgent, r policy.Request) (wrong []policy.Reason) {
	wrong = add(wrong, r.Agent != "" && r.Agent != a.name, policy.AgentMismatch)
	wrong = add(wrong, a.blocked || slices.Contains(m.blockedAgents, a.name), policy.AgentBlocked)
	wrong = add(wrong, a.expires != "" && r.Now.UTC().Format(time.DateOnly) > a.expires, policy.AgentExpired)
	wrong = add(wrong, r.Over, policy.OverLimit)
	return add(wrong, r.OnBehalfOf && a.onBehalfOf == nil, policy.OnBehalfOfNotAllowed)
}

// wrongWithIdentity also returns the identity, or "" when there is none.
func (a modelAgent) wrongWithIdentity(r policy.Request) (identity, member string, wrong []policy.Reason) {
	asked := r.Identity
	if asked == "" {
		asked = a.identity
	}
	if asked == "" && len(a.identities) == 1 {
		asked = a.identities[0]
	}
	if asked == "" {
		return "", "", []policy.Reason{policy.IdentityMissing}
	}
	for _, name := range append(slices.Clone(a.identities), a.identity) {
		members := modelIdentities[name].members
		switch {
		case name == "":
			continue
		case asked == name && len(members) > 1:
			return "", "", []policy.Reason{policy.IdentityMissing}
		case asked == name && len(members) == 1:
			identity, member = name, members[0]
		case asked == name:
			identity = name
		}
		for _, listed := range members {
			if strings.EqualFold(asked, name+"/"+listed) {
				identity, member = name, listed
			}
		}
	}
	switch {
	case identity == "":
		return "", "", []policy.Reason{policy.IdentityNotAllowed}
	case r.OnBehalfOf && !modelIdentities[identity].forUsers:
		return "", "", []policy.Reason{policy.IdentityNotForUsers}
	}
	return identity, member, nil
}

// allowed is what the agent may have for the kind of request.
func (a modelAgent) allowed(r policy.Request) (allow modelAllow) {
	if !r.OnBehalfOf {
		return a.allow
	} else if a.onBehalfOf != nil {
		return a.onBehalfOf.allow
	}
	return modelAllow{}
}

// modelAsked are the scopes of a request: its own, or those of its API.
func modelAsked(r policy.Request) []string {
	if r.API != "" && r.Scope == "" {
		return modelAllow{apis: []string{r.API}}.all()
	}
	scopes := strings.Fields(r.Scope)
	for i, scope := range scopes {
		scopes[i] = modelTwoSlashes.ReplaceAllString(scope, "$1/.default")
	}
	return scopes
}

func (a modelAgent) wrongWithAPI(r policy.Request) (wrong []policy.Reason) {
	_, known := modelAPIs[r.API]
	wrong = add(wrong, r.API != "" && !known, policy.APIUnknown)
	return add(wrong, r.API != "" && !slices.Contains(a.allowed(r).apis, r.API), policy.APINotAllowed)
}

func wrongWithCall(r policy.Request) (wrong []policy.Reason) {
	api, known := modelAPIs[r.API]
	if r.Method == "" {
		return nil
	}
	below := func(listed string) bool {
		return r.Path == listed || strings.HasSuffix(listed, "/*") && strings.HasPrefix(r.Path, strings.TrimSuffix(listed, "*"))
	}
	wrong = add(wrong, !known, policy.APIUnknown)
	wrong = add(wrong, len(api.methods) > 0 && !slices.Contains(api.methods, r.Method), policy.APIMethodNotAllowed)
	return add(wrong, len(api.paths) > 0 && !slices.ContainsFunc(api.paths, below), policy.APIPathNotAllowed)
}

func (a modelAgent) wrongWithScopes(r policy.Request) (wrong []policy.Reason) {
	listed := a.allowed(r).all()
	scopes := modelAsked(r)
	resources := map[string]bool{}
	malformed, reserved, unlisted := len(scopes) > 16, false, false
	for _, scope := range scopes {
		resource, ok := modelScope(scope)
		malformed = malformed || !ok
		reserved = reserved || modelReserved.MatchString(scope)
		unlisted = unlisted || !slices.Contains(listed, scope)
		resources[resource] = true
	}
	wrong = add(wrong, len(scopes) == 0, policy.ScopeMissing)
	wrong = add(wrong, malformed, policy.ScopeMalformed)
	wrong = add(wrong, reserved, policy.ScopeReserved)
	wrong = add(wrong, len(resources) > 1, policy.ScopeMixedResources)
	return add(wrong, unlisted, policy.ScopeNotAllowed)
}

func (a modelAllow) all() []string {
	all := slices.Clone(a.scopes)
	for _, role := range a.roles {
		all = append(all, modelRoles[role]...)
	}
	for _, api := range a.apis {
		all = append(all, modelAPIs[api].scopes...)
	}
	for i, scope := range all {
		if full, ok := modelShorthands[scope]; ok {
			all[i] = full
		}
	}
	if slices.Contains(all, modelARM) {
		all = append(all, modelARMAlias)
	}
	return all
}

func (m modelPolicy) wrongWithUser(a modelAgent, identity string, r policy.Request) (wrong []policy.Reason) {
	o, u := a.onBehalfOf, r.User
	switch {
	case !r.OnBehalfOf || o == nil:
		return nil
	case u == nil:
		return []policy.Reason{policy.UserUnverified}
	}
	tenant := modelIdentities[identity].tenant
	inTenants := (len(o.tenants) == 0 || slices.Contains(o.tenants, u.Tenant)) && (tenant == "" || u.Tenant == tenant)
	isListed := slices.Contains(o.objects, policy.UserID{Tenant: u.Tenant, ObjectID: u.ObjectID}) || slices.Contains(o.objects, policy.UserID{ObjectID: u.ObjectID})
	has := func(values, of []string) bool {
		return slices.ContainsFunc(of, func(v string) bool { return slices.Contains(values, v) })
	}
	lacks := func(values, of []string) bool {
		return slices.ContainsFunc(of, func(v string) bool { return !slices.Contains(values, v) })
	}
	wrong = add(wrong, !u.Expires.After(r.Now), policy.UserExpired)
	wrong = add(wrong, slices.Contains(m.blockedUsers, policy.UserID{Tenant: u.Tenant, ObjectID: u.ObjectID}), policy.UserBlocked)
	wrong = add(wrong, !inTenants, policy.UserTenantNotAllowed)
	wrong = add(wrong, len(o.objects) > 0 && !isListed, policy.UserNotListed)
	wrong = add(wrong, u.Guest && !o.guests, policy.UserIsGuest)
	wrong = add(wrong, len(o.clients) > 0 && !slices.Contains(o.clients, u.Client), policy.UserClientNotAllowed)
	wrong = add(wrong, lacks(u.Scopes, o.scopes), policy.UserScopeMissing)
	wrong = add(wrong, len(o.groups) > 0 && u.GroupsOverage, policy.GroupsOverage)
	wrong = add(wrong, len(o.groups) > 0 && !has(u.Groups, o.groups), policy.UserNotInGroup)
	wrong = add(wrong, len(o.roles) > 0 && !has(u.Roles, o.roles), policy.UserRoleMissing)
	wrong = add(wrong, lacks(u.ACRS, o.acrs), policy.UserACRSMissing)
	return add(wrong, len(o.amr) > 0 && !has(u.AMR, o.amr), policy.UserAMRMissing)
}

func TestModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	seen := map[policy.Reason]int{}
	refused, audited, answered := 0, 0, 0
	for range 6000 {
		m := randomPolicy(rng)
		file := m.file()
		p, err := policy.Parse("/etc/credfree.yaml", []byte(file))
		if (err != nil) != m.clashes() {
			t.Fatalf("the model says that callers clash: %v; Parse says %v\n%s", m.clashes(), err, file)
		}
		if err != nil {
			refused++
			continue
		}
		for i := range 40 {
			r := aimed(rng, m)
			if i%4 == 0 {
				r = randomRequest(rng)
			}
			d, want := p.Decide(r), m.decide(r)
			got := modelAnswer{
				reason: d.Reason, audited: d.AuditedReason, identity: d.Identity, member: d.Member, scopes: d.Scope, resolve: d.ResolveGroups, raw: d.RawToken,
			}
			if d.Agent != nil {
				got.agent = d.Agent.Name
			}
			if got != want || d.Allowed != (want.reason == "") || d.Audited != (want.audited != "") {
				t.Fatalf("%+v, user %+v:\n got %+v\nwant %+v\n%s", r, r.User, got, want, file)
			}
			seen[d.Reason]++
			answered++
			if d.Audited {
				audited++
			}
		}
	}
	// A model that meets nothing proves nothing.
	for _, reason := range append(policy.Reasons(), "") {
		if seen[reason] < 100 && reason != policy.AboveCeiling { // the model has no ceiling: TestCeilingModel
			t.Errorf("got %d answers %q of %d, want at least 100", seen[reason], reason, answered)
		}
	}
	if refused < 100 || audited < 1000 {
		t.Errorf("got %d files with clashes and %d audited answers", refused, audited)
	}
}
