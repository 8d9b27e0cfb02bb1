package policy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/policy"
)

const (
	tenantID  = "8a0c5b0e-0000-4000-8000-0123456789ab"
	otherID   = "9a0c5b0e-0000-4000-8000-0123456789ab"
	groupID   = "91111111-2222-3333-4444-555555555555"
	signInApp = "c1111111-2222-3333-4444-555555555555"
	aliceID   = "e1111111-2222-3333-4444-555555555555"
	bobID     = "e2222222-2222-3333-4444-555555555555"
	malloryID = "e9999999-2222-3333-4444-555555555555"
	userRead  = "https://graph.microsoft.com/User.Read"
)

// governed has every rule that a request can fail, on one agent.
const governed = `version: 1
tenant: 8a0c5b0e-0000-4000-8000-0123456789ab
mode: enforce
sources: {pod: {file: {path: /t}}}
identities:
  app: {application: {clientID: 11111111-2222-3333-4444-55555555aaaa, source: pod}}
  vm: {managedIdentity: {}}
apis:
  mail: {baseURL: https://graph.microsoft.com/v1.0, scopes: [graph/Mail.Read], methods: [GET, HEAD], paths: [/me, /me/messages/*]}
  files: {baseURL: https://graph.microsoft.com/v1.0, scopes: [graph/Mail.Read]}
blocked:
  users: [8a0c5b0e-0000-4000-8000-0123456789ab/e9999999-2222-3333-4444-555555555555]
agents:
  a:
    expires: 2027-06-30
    blocked: false
    identity: app
    identities: [app, vm]
    callers: [{tcp: {uids: [1]}}]
    allow: {scopes: [graph]}
    onBehalfOf:
      allow: {scopes: [graph/User.Read, graph/Mail.Read], apis: [mail]}
      users:
        tenants: [8a0c5b0e-0000-4000-8000-0123456789ab]
        objects: [8a0c5b0e-0000-4000-8000-0123456789ab/e1111111-2222-3333-4444-555555555555, e9999999-2222-3333-4444-555555555555]
        groups: [91111111-2222-3333-4444-555555555555, 92222222-2222-3333-4444-555555555555]
        roles: [Analyst, Admin]
        guests: false
      clients: [c1111111-2222-3333-4444-555555555555]
      scopes: [access_as_user, files]
      acrs: [c1, c2]
      amr: [mfa, fido]
    rawToken: true
    limits: {perMinute: 60, onBehalfOf: {perMinute: 6}}
  chooser: {identities: [app, vm], callers: [{tcp: {uids: [2]}}], allow: {scopes: [graph]}}
`

// alice passes every rule of governed.
func alice() *policy.User {
	return &policy.User{
		Tenant: tenantID, ObjectID: aliceID, Client: signInApp, Groups: []string{otherID, groupID}, Roles: []string{"Analyst"},
		Scopes: []string{"files", "access_as_user"}, ACRS: []string{"c2", "c1"}, AMR: []string{"pwd", "mfa"}, Expires: may2027.Add(time.Hour),
	}
}

func forAlice() policy.Request {
	return policy.Request{Peer: tcp(1), Scope: userRead, OnBehalfOf: true, User: alice(), Raw: true, Now: may2027}
}

// callForAlice is allowed too: a call of an API that the broker makes itself.
func callForAlice(change func(*policy.Request)) func(*policy.Request) {
	return func(r *policy.Request) {
		r.Scope, r.Raw, r.API, r.Method, r.Path = "", false, "mail", "GET", "/me"
		change(r)
	}
}

// ruleCase breaks one rule: in the request that is allowed otherwise, or in the
// file.
type ruleCase struct {
	reason   policy.Reason
	ask      func(*policy.Request)
	file     []string // pairs: what is replaced by what
	rule     string
	forgiven bool // in audit mode
}

const forUsers = "agents.a.onBehalfOf"

// ruleCases has a case for each reason, in the order of the steps.
func ruleCases() []ruleCase {
	user := func(change func(*policy.User)) func(*policy.Request) {
		return func(r *policy.Request) { change(r.User) }
	}
	return []ruleCase{
		{reason: policy.UnknownAgent, ask: func(r *policy.Request) { r.Peer = tcp(9) }, rule: "agents"},

		{reason: policy.AgentMismatch, ask: func(r *policy.Request) { r.Agent = "chooser" }, rule: "agents.a"},
		{reason: policy.AgentBlocked, file: []string{"blocked: false", "blocked: true"}, rule: "agents.a.blocked"},
		{reason: policy.AgentBlocked, file: []string{"  users: [8a0c", "  agents: [a]\n  users: [8a0c"}, rule: "blocked.agents[0]"},
		{reason: policy.AgentExpired, ask: func(r *policy.Request) {
			r.Now, r.User.Expires = r.Now.AddDate(1, 0, 0), r.User.Expires.AddDate(1, 0, 0)
		}, rule: "agents.a.expires", forgiven: true},
		{reason: policy.OverLimit, ask: func(r *policy.Request) { r.Over = true }, rule: "agents.a.limits.onBehalfOf.perMinute", forgiven: true},
		{reason: policy.OverLimit, ask: func(r *policy.Request) { r.Over, r.OnBehalfOf, r.Scope = true, false, graph }, rule: "agents.a.limits.perMinute", forgiven: true},
		{reason: policy.OnBehalfOfNotAllowed, ask: func(r *policy.Request) { r.Peer, r.Identity = tcp(2), "app" }, rule: "agents.chooser.onBehalfOf"},

		{reason: policy.IdentityNotAllowed, ask: func(r *policy.Request) { r.Identity = "root" }, rule: "agents.a.identities"},
		{reason: policy.IdentityNotAllowed, ask: func(r *policy.Request) { r.Identity = "app/" + aliceID }, rule: "identities.app"},
		{reason: policy.IdentityMissing, ask: func(r *policy.Request) { r.Peer, r.OnBehalfOf = tcp(2), false }, rule: "agents.chooser.identities"},
		{reason: policy.IdentityNotForUsers, ask: func(r *policy.Request) { r.Identity = "vm" }, rule: "identities.vm"},

		{reason: policy.APIUnknown, ask: callForAlice(func(r *policy.Request) { r.API = "mails" }), rule: "apis"},
		{reason: policy.APIUnknown, ask: callForAlice(func(r *policy.Request) { r.API, r.Scope = "", userRead }), rule: "apis"},
		{reason: policy.APINotAllowed, ask: callForAlice(func(r *policy.Request) { r.API = "files" }), rule: forUsers + ".allow.apis", forgiven: true},
		{reason: policy.APINotAllowed, ask: callForAlice(func(r *policy.Request) { r.OnBehalfOf = false }), rule: "agents.a.allow.apis", forgiven: true},
		{reason: policy.APINotAllowed, ask: callForAlice(func(r *policy.Request) { r.API, r.Scope = "files", userRead }), rule: forUsers + ".allow.apis", forgiven: true},
		{reason: policy.ScopeMissing, ask: func(r *policy.Request) { r.Scope = " " }, rule: forUsers + ".allow.scopes"},
		{reason: policy.ScopeMalformed, ask: func(r *policy.Request) { r.Scope = "graph/User.Read" }, rule: forUsers + ".allow.scopes"},
		{reason: policy.ScopeReserved, ask: func(r *policy.Request) { r.Scope = "api://AzureADTokenExchange/.default" }, rule: forUsers + ".allow.scopes"},
		{reason: policy.ScopeMixedResources, ask: func(r *policy.Request) { r.Scope += " " + search }, rule: forUsers + ".allow.scopes"},
		{reason: policy.ScopeNotAllowed, ask: func(r *policy.Request) { r.Scope = graph }, rule: forUsers + ".allow.scopes", forgiven: true}, // only for itself
		{reason: policy.ScopeNotAllowed, ask: func(r *policy.Request) { r.OnBehalfOf = false }, rule: "agents.a.allow.scopes", forgiven: true},

		{reason: policy.UserUnverified, ask: func(r *policy.Request) { r.User = nil }, rule: forUsers},
		{reason: policy.UserUnverified, ask: user(func(u *policy.User) { u.ObjectID = "" }), rule: forUsers},
		{reason: policy.UserUnverified, ask: user(func(u *policy.User) { u.Tenant = "" }), rule: forUsers},
		{reason: policy.UserExpired, ask: user(func(u *policy.User) { u.Expires = may2027 }), rule: forUsers},
		{reason: policy.UserExpired, ask: user(func(u *policy.User) { u.Expires = time.Time{} }), rule: forUsers},
		{reason: policy.UserExpired, file: []string{"    expires: 2027-06-30\n", ""}, ask: func(r *policy.Request) { r.Now = time.Time{} }, rule: forUsers},
		{reason: policy.UserBlocked, ask: user(func(u *policy.User) { u.ObjectID = malloryID }), rule: "blocked.users[0]"},
		{reason: policy.UserTenantNotAllowed, ask: user(func(u *policy.User) { u.Tenant = otherID }), rule: forUsers + ".users.tenants", forgiven: true},
		{reason: policy.UserNotListed, ask: user(func(u *policy.User) { u.ObjectID = bobID }), rule: forUsers + ".users.objects", forgiven: true},
		{reason: policy.UserIsGuest, ask: user(func(u *policy.User) { u.Guest = true }), rule: forUsers + ".users.guests", forgiven: true},
		{reason: policy.UserClientNotAllowed, ask: user(func(u *policy.User) { u.Client = otherID }), rule: forUsers + ".clients", forgiven: true},
		{reason: policy.UserScopeMissing, ask: user(func(u *policy.User) { u.Scopes = u.Scopes[1:] }), rule: forUsers + ".scopes", forgiven: true},
		{reason: policy.GroupsOverage, ask: user(func(u *policy.User) { u.Groups, u.GroupsOverage = nil, true }), rule: forUsers + ".users.groups"},
		{reason: policy.UserNotInGroup, ask: user(func(u *policy.User) { u.Groups = u.Groups[:1] }), rule: forUsers + ".users.groups", forgiven: true},
		{reason: policy.UserRoleMissing, ask: user(func(u *policy.User) { u.Roles = []string{"analyst"} }), rule: forUsers + ".users.roles", forgiven: true},
		{reason: policy.UserACRSMissing, ask: user(func(u *policy.User) { u.ACRS = u.ACRS[1:] }), rule: forUsers + ".acrs", forgiven: true},
		{reason: policy.UserAMRMissing, ask: user(func(u *policy.User) { u.AMR = u.AMR[:1] }), rule: forUsers + ".amr", forgiven: true},

		{reason: policy.RawTokenForbidden, file: []string{"rawToken: true", "rawToken: false"}, rule: "agents.a.rawToken"},

		{reason: policy.APIMethodNotAllowed, ask: callForAlice(func(r *policy.Request) { r.Method = "POST" }), rule: "apis.mail.methods", forgiven: true},
		{reason: policy.APIMethodNotAllowed, ask: callForAlice(func(r *policy.Request) { r.Method = "get" }), rule: "apis.mail.methods", forgiven: true},
		{reason: policy.APIPathNotAllowed, ask: callForAlice(func(r *policy.Request) { r.Path = "/users" }), rule: "apis.mail.paths", forgiven: true},
		{reason: policy.APIPathNotAllowed, ask: callForAlice(func(r *policy.Request) { r.Path = "" }), rule: "apis.mail.paths", forgiven: true},
	}
}

func (c ruleCase) decide(t *testing.T, base string) policy.Decision {
	t.Helper()
	if strings.NewReplacer(c.file...).Replace(base) == base && c.file != nil {
		t.Fatalf("the file has no %q", c.file[0])
	}
	p, r := parse(t, strings.NewReplacer(c.file...).Replace(base)), forAlice()
	if c.ask != nil {
		c.ask(&r)
	}
	return p.Decide(r)
}

// TestRule: each rule of the six steps denies by itself what is allowed
// otherwise. Deleting the check of a rule fails the case of its name.
func TestRule(t *testing.T) {
	if d := parse(t, governed).Decide(forAlice()); !d.Allowed || d.Rule != forUsers+".allow.scopes[0]" || !d.OnBehalfOf || !d.RawToken || d.Audited {
		t.Fatalf("got %+v, want it allowed", d)
	}
	for _, c := range ruleCases() {
		t.Run(string(c.reason), func(t *testing.T) {
			d := c.decide(t, governed)
			if d.Allowed || d.Reason != c.reason || d.Rule != c.rule || d.Hint == "" {
				t.Errorf("got %+v, want %s by %s", d, c.reason, c.rule)
			}
			if d.Scopes != nil || d.Scope != "" || d.Resource != "" || d.RawToken || d.Audited || d.LongRunning != 0 {
				t.Errorf("the denial has something to offer: %+v", d)
			}
		})
	}
}

// TestRuleInAuditMode: audit mode forgives the rules that are about what is
// granted, and says what would have denied; it forgives nothing about who asks,
// whom they act as, or what is not known.
func TestRuleInAuditMode(t *testing.T) {
	audited := strings.Replace(governed, "mode: enforce", "mode: audit", 1)
	if d := parse(t, audited).Decide(forAlice()); !d.Allowed || d.Audited || d.AuditedReason != "" || d.Rule != forUsers+".allow.scopes[0]" {
		t.Fatalf("got %+v, want it allowed without audit mode", d)
	}
	for _, c := range ruleCases() {
		t.Run(string(c.reason), func(t *testing.T) {
			enforced, d := c.decide(t, governed), c.decide(t, audited)
			if !c.forgiven {
				if d.Allowed || d.Audited || d.Reason != c.reason || d.Rule != c.rule {
					t.Errorf("got %+v, want %s by %s in spite of audit mode", d, c.reason, c.rule)
				}
				return
			}
			if !d.Allowed || d.Reason != "" || d.Hint != "" || d.Rule != "mode" || d.Scope == "" || d.Resource != "https://graph.microsoft.com" {
				t.Errorf("got %+v, want it allowed by the mode", d)
			}
			if !d.Audited || d.AuditedReason != c.reason || d.AuditedRule != c.rule || d.AuditedHint != enforced.Hint {
				t.Errorf("got %+v, want it marked with %s by %s", d, c.reason, c.rule)
			}
		})
	}
}

// TestRuleForEveryReason: no reason without a case, no case out of order.
func TestRuleForEveryReason(t *testing.T) {
	var seen []policy.Reason
	for _, c := range ruleCases() {
		if !slices.Contains(seen, c.reason) {
			seen = append(seen, c.reason)
		}
	}
	seen = append(seen, policy.AboveCeiling) // TestCeilingRules has its cases
	if !slices.Equal(seen, policy.Reasons()) {
		t.Errorf("got cases for\n%v, want\n%v", seen, policy.Reasons())
	}
}

// TestRuleOrder: of many things that are wrong, the earliest step is named.
// Each row repairs what the row above it was denied for.
func TestRuleOrder(t *testing.T) {
	blocked := []string{"blocked: false", "blocked: true", "rawToken: true", "rawToken: false"}
	file := strings.NewReplacer(blocked...).Replace(governed)
	r := policy.Request{
		Peer: tcp(9), Agent: "chooser", Identity: "root", Over: true, OnBehalfOf: true, Raw: true, Now: may2027.AddDate(1, 0, 0),
		API: "mails", Scope: " ", Method: "POST", Path: "/users",
		User: &policy.User{Tenant: tenantID, ObjectID: malloryID, Client: otherID, Guest: true, GroupsOverage: true},
	}
	for _, step := range []struct {
		reason policy.Reason
		repair func()
	}{
		{policy.UnknownAgent, func() { r.Peer = tcp(1) }},
		{policy.AgentMismatch, func() { r.Agent = "a" }},
		{policy.AgentBlocked, func() { file = strings.Replace(file, "blocked: true", "blocked: false", 1) }},
		{policy.AgentExpired, func() { r.Now = may2027 }},
		{policy.OverLimit, func() { r.Over = false }},
		{policy.IdentityNotAllowed, func() { r.Identity = "vm" }},
		{policy.IdentityNotForUsers, func() { r.Identity = "app" }},
		{policy.APIUnknown, func() { r.API = "files" }},
		{policy.APINotAllowed, func() { r.API = "mail" }},
		{policy.ScopeMissing, func() { r.Scope = search + " api://AzureADTokenExchange/.default User.Read" }},
		{policy.ScopeMalformed, func() { r.Scope = search + " api://AzureADTokenExchange/.default" }},
		{policy.ScopeReserved, func() { r.Scope = search + " " + graph }},
		{policy.ScopeMixedResources, func() { r.Scope = graph }},
		{policy.ScopeNotAllowed, func() { r.Scope = userRead }},
		{policy.UserExpired, func() { r.User.Expires = may2027.Add(1) }},
		{policy.UserBlocked, func() { r.User.Tenant, r.User.ObjectID = otherID, bobID }},
		{policy.UserTenantNotAllowed, func() { r.User.Tenant = tenantID }},
		{policy.UserNotListed, func() { r.User.ObjectID = aliceID }},
		{policy.UserIsGuest, func() { r.User.Guest = false }},
		{policy.UserClientNotAllowed, func() { r.User.Client = signInApp }},
		{policy.UserScopeMissing, func() { r.User.Scopes = alice().Scopes }},
		{policy.GroupsOverage, func() { r.User.GroupsOverage = false }},
		{policy.UserNotInGroup, func() { r.User.Groups = alice().Groups }},
		{policy.UserRoleMissing, func() { r.User.Roles = alice().Roles }},
		{policy.UserACRSMissing, func() { r.User.ACRS = alice().ACRS }},
		{policy.UserAMRMissing, func() { r.User.AMR = alice().AMR }},
		{policy.RawTokenForbidden, func() { r.Raw = false }},
		{policy.APIMethodNotAllowed, func() { r.Method = "GET" }},
		{policy.APIPathNotAllowed, func() { r.Path = "/me" }},
	} {
		if got := parse(t, file).Decide(r).Reason; got != step.reason {
			t.Fatalf("got %q, want %q", got, step.reason)
		}
		step.repair()
	}
	if d := parse(t, file).Decide(r); !d.Allowed || d.RawToken {
		t.Errorf("got %+v, want it allowed, and the token kept", d)
	}
}

// TestAuditPerAgent: an agent's own mode counts, in both directions.
func TestAuditPerAgent(t *testing.T) {
	denied := forAlice()
	denied.User.Guest = true
	own := func(file, mode string) policy.Decision {
		return parse(t, strings.NewReplacer("mode: enforce", "mode: "+file, "    rawToken: true", "    mode: "+mode+"\n    rawToken: true").Replace(governed)).Decide(denied)
	}
	if d := own("enforce", "audit"); !d.Allowed || !d.Audited || d.Rule != "agents.a.mode" {
		t.Errorf("got %+v, want it allowed by agents.a.mode", d)
	}
	if d := own("audit", "enforce"); d.Allowed || d.Reason != policy.UserIsGuest {
		t.Errorf("got %+v, want user_is_guest", d)
	}
}

// TestAuditKeepsTheFirst: of several lapses the first one is recorded, and a
// denial that audit mode does not forgive comes through after one it does.
func TestAuditKeepsTheFirst(t *testing.T) {
	p := parse(t, strings.Replace(governed, "mode: enforce", "mode: audit", 1))
	r := forAlice()
	r.Over, r.Scope, r.User.Guest = true, graph, true
	if d := p.Decide(r); !d.Allowed || d.AuditedReason != policy.OverLimit {
		t.Errorf("got %+v, want over_limit noted", d)
	}
	r.User.GroupsOverage = true
	if d := p.Decide(r); d.Allowed || d.Audited || d.Reason != policy.GroupsOverage {
		t.Errorf("got %+v, want groups_overage", d)
	}
	r.User = nil
	if d := p.Decide(r); d.Allowed || d.Audited || d.Reason != policy.UserUnverified {
		t.Errorf("got %+v, want user_unverified", d)
	}
}
