package admin

import (
	"time"

	"github.com/credfree/credfree/broker/recent"
)

// Overview is how a broker is: the answer of /state. It has neither tokens nor
// keys, and users by their ids alone.
type Overview struct {
	Version string      `json:"version"`
	Now     time.Time   `json:"time"`
	Ready   State       `json:"ready"`
	Held    recent.Held `json:"remembered"`
	Policy  PolicyView  `json:"policy"`
	Agents  []AgentView `json:"agents"` // by name
	// Uncounted are uses since the start that there was no room to count.
	Uncounted int64           `json:"uncounted_uses,omitempty"`
	Cache     CacheView       `json:"cache"`
	Entra     EntraView       `json:"entra"`
	Minutes   []recent.Minute `json:"minutes"` // of the last hour, the oldest first
}

// PolicyView is the policy in force.
type PolicyView struct {
	File      string    `json:"file,omitempty"`
	Revision  string    `json:"revision"`
	Tenant    string    `json:"tenant"`
	Authority string    `json:"authority"`
	Audit     bool      `json:"audit_mode"`
	Strict    bool      `json:"strict"`
	Since     time.Time `json:"in_force_since"`
	// Changed is when a changed file was last looked at; zero: it never changed.
	Changed time.Time `json:"last_reload,omitzero"`
	Applied int64     `json:"reloads_applied"`
	Refused int64     `json:"reloads_refused"`
	// Error says why the file on the disk is not in force; "" when it is.
	Error        string         `json:"error,omitempty"`
	Warnings     []Warning      `json:"warnings"`
	Identities   []IdentityView `json:"identities"`
	APIs         []APIView      `json:"apis"`
	BlockedUsers []string       `json:"blocked_users,omitempty"`
}

// Warning is what the policy allows and probably does not mean.
type Warning struct {
	Line int    `json:"line"`
	Path string `json:"path"`
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

// IdentityView is one thing that the broker can be at Entra.
type IdentityView struct {
	Name    string   `json:"name"`
	Kind    string   `json:"kind"`
	Tenant  string   `json:"tenant_id"`
	Clients []string `json:"client_ids,omitempty"`
	Source  string   `json:"source,omitempty"`
}

// APIView is one downstream API.
type APIView struct {
	Name    string   `json:"name"`
	BaseURL string   `json:"base_url"`
	Scopes  []string `json:"scopes"`
	Methods []string `json:"methods,omitempty"` // none: any
	Paths   []string `json:"paths,omitempty"`   // none: any
}

// AgentView is one agent of the policy, with what it did since the start.
type AgentView struct {
	Name       string      `json:"name"`
	Owner      string      `json:"owner,omitempty"`
	Identities []string    `json:"identities"` // the default first
	Expires    string      `json:"expires,omitempty"`
	DaysLeft   int         `json:"days_left"` // below zero: expired; means nothing without Expires
	Blocked    bool        `json:"blocked,omitempty"`
	Audit      bool        `json:"audit_mode,omitempty"`
	CallOnly   bool        `json:"call_only,omitempty"` // no token leaves the broker
	PerMinute  int         `json:"per_minute,omitempty"`
	UsersPerM  int         `json:"on_behalf_of_per_minute,omitempty"`
	Callers    []string    `json:"callers"`
	Users      []string    `json:"on_behalf_of,omitempty"` // the rules about users, in words
	Allowed    int64       `json:"allowed"`                // tokens handed out
	Inspected  int64       `json:"inspected"`              // told what a token says
	Denied     int64       `json:"denied"`
	Failed     int64       `json:"failed"`
	Last       time.Time   `json:"last_used,omitzero"`
	Rights     []RightView `json:"rights"`
}

// RightView is a scope, granted or used.
type RightView struct {
	Scope      string    `json:"scope"`
	OnBehalfOf bool      `json:"on_behalf_of,omitempty"`
	Granted    bool      `json:"granted"`
	Rule       string    `json:"rule,omitempty"` // that grants it
	Count      int64     `json:"count"`          // since the start
	Last       time.Time `json:"last_used,omitzero"`
}

// Granted counts the rights that the policy grants: audit mode, and an earlier
// policy, let agents use others.
func (a *AgentView) Granted() int {
	return a.count(func(r RightView) bool { return r.Granted })
}

// Unused counts the rights that were granted and not used since the start.
func (a *AgentView) Unused() int {
	return a.count(func(r RightView) bool { return r.Granted && r.Count == 0 })
}

func (a *AgentView) count(is func(RightView) bool) int {
	n := 0
	for _, r := range a.Rights {
		if is(r) {
			n++
		}
	}
	return n
}

// CacheView is the token cache.
type CacheView struct {
	Tokens   int    `json:"tokens"`
	Bytes    int64  `json:"bytes"`
	InFlight int    `json:"exchanges_in_flight"`
	Fetches  uint64 `json:"fetches"`
	Failed   uint64 `json:"failed"`
	Evicted  uint64 `json:"evicted"`
	Expired  uint64 `json:"expired"`
	Purged   uint64 `json:"purged"`
}

// EntraView is how Entra is seen from here.
type EntraView struct {
	LastAsked time.Time `json:"last_asked,omitzero"`
	Refused   bool      `json:"refused,omitempty"` // Error is about that one request
	Error     string    `json:"error,omitempty"`   // of that
	Hint      string    `json:"hint,omitempty"`
	Holds     []Hold    `json:"holds"` // clients for which nothing is sent now
}

// Hold is why nothing is sent to Entra for one client.
type Hold struct {
	Tenant   string    `json:"tenant_id"`
	ClientID string    `json:"client_id"`
	Kind     string    `json:"kind"` // throttled or breaker
	Until    time.Time `json:"until"`
}
