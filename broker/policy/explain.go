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

// Step is one of the four steps of a decision.
type Step struct {
	Number int    // 1 to 4
	Name   string // caller, agent, identity or scope
	OK     bool
	Detail string // what was found; may contain names and scopes of the file
	Rule   string // path, in the policy file, of what decided the step
}

// Explain answers a request as Decide does, by the very same function, and
// keeps the steps.
func (p *Policy) Explain(r Request) Explanation {
	var t trace
	d := p.decide(r, &t)
	return Explanation{Decision: d, Steps: t.steps}
}

const (
	stepCaller   = "caller"
	stepAgent    = "agent"
	stepIdentity = "identity"
	stepScope    = "scope"
)

// trace collects steps. A nil trace collects nothing.
type trace struct{ steps []Step }

func (t *trace) pass(name, rule, detail string) {
	t.steps = append(t.steps, Step{Number: len(t.steps) + 1, Name: name, OK: true, Detail: detail, Rule: rule})
}

// deny ends d with a denial.
func (t *trace) deny(name string, d Decision, reason Reason, rule, hint string) Decision {
	d.Reason, d.Rule, d.Hint = reason, rule, hint
	if t != nil {
		t.steps = append(t.steps, Step{Number: len(t.steps) + 1, Name: name, Detail: reasonText[reason], Rule: rule})
	}
	return d
}

var reasonText = map[Reason]string{
	UnknownAgent:        "the peer belongs to no agent",
	AgentMismatch:       "the request claims to come from somebody else",
	AgentExpired:        "the agent has expired",
	IdentityNotAllowed:  "the agent may not act as this identity",
	IdentityMissing:     "the agent has several identities, and the request names none",
	ScopeMissing:        "the request names no scope",
	ScopeMalformed:      "a scope is not canonical, or there are too many",
	ScopeMixedResources: "the scopes belong to more than one resource",
	ScopeNotAllowed:     "a scope is not in the list",
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

func describeExpiry(a *Agent) string {
	if a.Expires.IsZero() {
		return a.Name + " has no expiry"
	}
	return a.Name + " works until the end of " + lastDay(a) + " (UTC)"
}

// lastDay is the date that the file gives.
func lastDay(a *Agent) string { return a.Expires.AddDate(0, 0, -1).Format(time.DateOnly) }
