package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/usertoken"
)

// explained is a decision with its steps. Its JSON is part of the contract with
// scripts.
type explained struct {
	Allowed    bool     `json:"allowed"`
	Reason     string   `json:"reason,omitempty"` // "" when allowed
	Rule       string   `json:"rule"`
	Hint       string   `json:"hint,omitempty"`
	Agent      string   `json:"agent"`
	Identity   string   `json:"identity,omitempty"`
	Member     string   `json:"identity_member,omitempty"`
	Scopes     []string `json:"scopes,omitempty"`
	OnBehalfOf bool     `json:"on_behalf_of"`
	UserTenant string   `json:"user_tenant_id,omitempty"`
	UserID     string   `json:"user_object_id,omitempty"`
	// Audited says that only audit mode allows it, and the three that follow
	// what would have denied it.
	Audited       bool            `json:"audited"`
	AuditedReason string          `json:"audited_reason,omitempty"`
	AuditedRule   string          `json:"audited_rule,omitempty"`
	AuditedHint   string          `json:"audited_hint,omitempty"`
	Note          string          `json:"note,omitempty"`     // what the broker does beyond the policy
	FromPod       []said          `json:"from_pod,omitempty"` // values that the pod says
	Steps         []explainedStep `json:"steps"`
}

type explainedStep struct {
	Number  int    `json:"number"`
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Audited bool   `json:"audited,omitempty"`
	Detail  string `json:"detail"`
	Rule    string `json:"rule,omitempty"`
}

// newExplained is the result of an explanation; user is nil when none is known.
func newExplained(e policy.Explanation, user *policy.User) *explained {
	d := e.Decision
	x := &explained{
		Allowed: d.Allowed, Reason: string(d.Reason), Rule: d.Rule, Hint: d.Hint, Identity: d.Identity, Member: d.Member, Scopes: d.Scopes, OnBehalfOf: d.OnBehalfOf,
		Audited: d.Audited, AuditedReason: string(d.AuditedReason), AuditedRule: d.AuditedRule, AuditedHint: d.AuditedHint,
	}
	if d.Agent != nil {
		x.Agent = d.Agent.Name
	}
	if user != nil {
		x.UserTenant, x.UserID = user.Tenant, user.ObjectID
	}
	switch {
	case d.Reason == policy.UserUnverified:
		x.Note = "which user it is about is for --user-token or --user to say"
	case d.ResolveGroups:
		x.Note = "the broker would ask Microsoft Graph for the groups now, and decide again; suppose them with --user and --groups"
	}
	for _, step := range e.Steps {
		x.Steps = append(x.Steps, explainedStep(step))
	}
	return x
}

// refusedUser puts the verifier's refusal in the place of "no user is verified", as
// the broker does.
func refusedUser(e policy.Explanation, refusal *usertoken.Error) policy.Explanation {
	e.Decision.Reason, e.Decision.Hint = policy.Reason("user_token_"+string(refusal.Problem)), refusal.Hint
	e.Steps[len(e.Steps)-1].Detail = refusal.Message
	return e
}

func verdict(ok bool) string {
	if ok {
		return "yes"
	}
	return "no "
}

// print writes the explanation for people: a line per step, with its rule.
func (x *explained) print(w io.Writer) error {
	var b strings.Builder
	for _, step := range x.Steps {
		fmt.Fprintf(&b, "%d  %-9s %s  %s\n", step.Number, step.Name, verdict(step.OK), step.Detail)
		if step.Rule != "" {
			fmt.Fprintf(&b, "                  rule %s\n", step.Rule)
		}
	}
	switch {
	case x.Audited:
		fmt.Fprintf(&b, "allowed only because mode: audit, by %s: %s\nwith mode: enforce it is denied: %s by %s\nhint: %s\n", x.Rule, x.granted(), x.AuditedReason, x.AuditedRule, x.AuditedHint)
	case x.Allowed:
		fmt.Fprintf(&b, "allowed by %s: %s\n", x.Rule, x.granted())
	default:
		fmt.Fprintf(&b, "denied: %s by %s\nhint: %s\n", x.Reason, x.Rule, x.Hint)
	}
	if x.Note != "" {
		fmt.Fprintf(&b, "note: %s\n", x.Note)
	}
	for _, value := range x.FromPod {
		if value.Value == "" {
			fmt.Fprintf(&b, "note: the pod says %s, and there is no pod here: a broker in one may decide otherwise\n", value.Path)
			continue
		}
		fmt.Fprintf(&b, "note: the pod says %s: %s\n", value.Path, value.Value)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// granted says what an allowed request gets.
func (x *explained) granted() string {
	identity := x.Identity
	if x.Member != "" {
		identity += "/" + x.Member
	}
	text := "identity " + identity + ", scope " + strings.Join(x.Scopes, " ")
	if x.OnBehalfOf {
		text += ", on behalf of " + x.UserTenant + "/" + x.UserID
	}
	return text
}
