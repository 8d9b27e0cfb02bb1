package policy

import (
	"strconv"
	"time"
)

// Explanation is a decision with the steps that led to it. The last step is
// the one that decided.
type Explanation struct {
	Decision Decision
	Steps    []Step
}

// Step is one of the six steps of a decision. The user is left out of what is
// not on behalf of one, the token of what hands out none, and the call of what
// makes none.
type Step struct {
	Number  int    // 1 to 6
	Name    string // caller, agent, identity, scope, user, token or call
	OK      bool
	Audited bool   // OK in audit mode only: Detail and Rule say what would have denied it
	Detail  string // what was found; may contain names and scopes of the file
	Rule    string // path, in the policy file, of what decided the step
}

// Explain answers a request as Decide does, by the very same function, and
// keeps the steps.
func (p *Policy) Explain(r Request) Explanation {
	var t trace
	d := p.decide(&r, &t)
	return Explanation{Decision: d, Steps: t.steps}
}

// step is a step, in the order in which they are taken.
type step int

const (
	stepCaller step = 1 + iota
	stepAgent
	stepIdentity
	stepScope
	stepUser
	stepToken
	stepCall // number 6 too
)

// number is what the contract calls the step.
func (s step) number() int { return min(int(s), int(stepToken)) }

var stepNames = [...]string{stepCaller: "caller", stepAgent: "agent", stepIdentity: "identity", stepScope: "scope", stepUser: "user", stepToken: "token", stepCall: "call"}

// trace collects steps. A nil trace collects nothing, but still denies.
type trace struct {
	steps   []Step
	audited *Step // what audit mode has forgiven in the step that is under way
}

func (t *trace) pass(at step, rule, detail string) {
	s := Step{Number: at.number(), Name: stepNames[at], OK: true, Detail: detail, Rule: rule}
	if t.audited != nil {
		s, t.audited = *t.audited, nil
	}
	t.steps = append(t.steps, s)
}

// deny ends d with a denial, and takes back what was only for those who are
// allowed. It returns false: the steps end here.
func (t *trace) deny(d *Decision, at step, reason Reason, rule, hint string) bool {
	*d = Decision{
		Reason: reason, Rule: rule, Hint: hint, Agent: d.Agent, Identity: d.Identity, Member: d.Member,
		OnBehalfOf: d.OnBehalfOf, UserTenants: d.UserTenants, ResolveGroups: d.ResolveGroups,
	}
	if t != nil {
		t.steps = append(t.steps, Step{Number: at.number(), Name: stepNames[at], Detail: reasonText[reason], Rule: rule})
	}
	return false
}

// refuse is deny for what audit mode forgives: there it notes the first of what
// would have been denied, and returns true.
func (t *trace) refuse(d *Decision, at step, reason Reason, rule, hint string) bool {
	if !d.Agent.Audit {
		return t.deny(d, at, reason, rule, hint)
	}
	if !d.Audited {
		d.Audited, d.AuditedReason, d.AuditedRule, d.AuditedHint = true, reason, rule, hint
	}
	if t != nil && t.audited == nil {
		t.audited = &Step{Number: at.number(), Name: stepNames[at], OK: true, Audited: true, Detail: "only audited: " + reasonText[reason], Rule: rule}
	}
	return true
}

// refuseUnless is refuse, or deny where it is final.
func (t *trace) refuseUnless(final bool, d *Decision, at step, reason Reason, rule, hint string) bool {
	if final {
		return t.deny(d, at, reason, rule, hint)
	}
	return t.refuse(d, at, reason, rule, hint)
}

var reasonText = map[Reason]string{
	UnknownAgent:         "the peer belongs to no agent",
	AgentMismatch:        "the request claims to come from somebody else",
	AgentBlocked:         "the agent is blocked",
	AgentExpired:         "the agent has expired",
	OverLimit:            "the agent has used up its limit",
	OnBehalfOfNotAllowed: "the agent acts for no user",
	IdentityNotAllowed:   "the agent may not act as this identity",
	IdentityMissing:      "there are several identities, and the request names none",
	IdentityNotForUsers:  "this kind of identity cannot act for users",
	APIUnknown:           "the policy has no such API",
	APINotAllowed:        "the agent may not call the API",
	ScopeMissing:         "the request names no scope",
	ScopeMalformed:       "a scope is not canonical, or there are too many",
	ScopeReserved:        "a scope is for the token exchange itself",
	ScopeMixedResources:  "the scopes belong to more than one resource",
	ScopeNotAllowed:      "a scope is not in the list",
	UserUnverified:       "no user has been verified",
	UserExpired:          "the user's token has expired",
	UserBlocked:          "the user is blocked",
	UserTenantNotAllowed: "the user is of another tenant",
	UserNotListed:        "the user is not listed",
	UserIsGuest:          "the user is a guest",
	UserClientNotAllowed: "the user's token was issued to another app",
	UserScopeMissing:     "the user's token lacks a scope",
	GroupsOverage:        "the user's token does not list the user's groups",
	UserNotInGroup:       "the user is in none of the groups",
	UserRoleMissing:      "the user has none of the roles",
	UserACRSMissing:      "the user's sign-in lacks an authentication context",
	UserAMRMissing:       "the user's sign-in used none of the methods",
	RawTokenForbidden:    "the token must not leave the broker",
	APIMethodNotAllowed:  "the API may not be called with this method",
	APIPathNotAllowed:    "this path of the API may not be called",
	AboveCeiling:         "the policy grants it, and its ceiling does not",
}

func describePeer(p Peer) string {
	uid := "uid unknown"
	if p.Known {
		uid = "uid " + strconv.FormatUint(uint64(p.UID), 10)
	}
	switch {
	case p.Socket != "":
		return "socket " + quote(p.Socket) + ", " + uid + ","
	case p.KeyFile != "":
		return "tcp, " + uid + ", key of " + quote(p.KeyFile) + ","
	}
	return "tcp, " + uid + ", no key,"
}

func describeIdentity(d *Decision) string {
	if d.Member == "" {
		return "acts as " + d.Identity
	}
	return "acts as " + d.Identity + ", " + clip(d.Member)
}

func describeExpiry(a *Agent) string {
	if a.Expires.IsZero() {
		return a.Name + " has no expiry"
	}
	return a.Name + " works until the end of " + lastDay(a) + " (UTC)"
}

// lastDay is the date that the file gives.
func lastDay(a *Agent) string { return a.Expires.AddDate(0, 0, -1).Format(time.DateOnly) }
