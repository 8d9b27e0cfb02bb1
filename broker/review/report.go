package review

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Report is a review's result, and its JSON form. Lists are in a stable order.
// Where a list says how much it left out, it names what was seen first.
type Report struct {
	Revision string    `json:"policy_revision,omitempty"` // "" without a policy
	Since    time.Time `json:"since,omitzero"`            // as asked for
	Until    time.Time `json:"until,omitzero"`            // as asked for
	Agent    string    `json:"agent,omitempty"`           // as asked for
	User     string    `json:"user,omitempty"`            // as asked for
	Lines    Lines     `json:"lines"`
	Requests Use       `json:"requests"`
	Agents   []Agent   `json:"agents"`
	// MoreRequests were made by agents that are not in Agents.
	MoreRequests int64 `json:"more_requests,omitempty"`
	// Strangers are callers that are no agent, the most frequent first.
	Strangers     []Stranger `json:"strangers"`
	MoreStrangers int64      `json:"more_strangers,omitempty"`
}

// Agent is the review of one agent.
type Agent struct {
	Name      string `json:"name"`
	InPolicy  bool   `json:"in_policy"`
	Owner     string `json:"owner,omitempty"`   // by the policy, else by the newest line
	Expires   string `json:"expires,omitempty"` // last day, YYYY-MM-DD
	Expired   bool   `json:"expired,omitempty"`
	Blocked   bool   `json:"blocked,omitempty"`
	AuditMode bool   `json:"audit_mode,omitempty"`
	Requests  Use    `json:"requests"` // whatever the answer; 0: never seen
	// Inspections are those of the requests that only asked what a user's token says.
	Inspections int64      `json:"inspections,omitempty"`
	Identities  []Identity `json:"identities"`
	// Rights are first those that the policy grants, in its order, then others
	// that were used.
	Rights     []Right `json:"rights"`
	MoreRights int64   `json:"more_rights,omitempty"` // uses of rights that are not in Rights
	// Denied is what was denied, or would have been but for audit mode, the most
	// frequent first.
	Denied       []Denial  `json:"denied"`
	MoreDenied   int64     `json:"more_denied,omitempty"`
	Failures     []Failure `json:"failures"`
	MoreFailures int64     `json:"more_failures,omitempty"`
	// Users are those that tokens were issued for: how many, and the most
	// frequent of them.
	UserCount int    `json:"user_count"`
	Users     []User `json:"users"`
	MoreUsers int64  `json:"more_users,omitempty"` // uses for users that UserCount leaves out

	granted granted
}

// Identity is one that an agent may act as, or has acted as.
type Identity struct {
	Name    string `json:"name"` // <name>/<member> of a fleet
	Granted bool   `json:"granted"`
	Use
}

// State says what is to be thought of a right.
type State string

// The states of a right.
const (
	Used       State = "used"        // granted, and issued
	Refused    State = "refused"     // granted and asked for, but never issued
	Unused     State = "unused"      // granted, and never asked for
	NotGranted State = "not_granted" // issued by an older policy or in audit mode
	Issued     State = "issued"      // there is no policy to compare with
)

// Right is one scope of an agent, for itself or on behalf of users. Count, First
// and Last are of the tokens that were issued.
type Right struct {
	Scope      string `json:"scope"`
	OnBehalfOf bool   `json:"on_behalf_of"`
	State      State  `json:"state"`
	Rule       string `json:"rule,omitempty"` // path in the policy file of what grants it
	Use
	NotIssued int64 `json:"not_issued"` // requests for it that were denied or failed, if it is granted
}

// Denial is what was asked for and not granted.
type Denial struct {
	Scopes     string `json:"scopes"` // separated by spaces, as the audit line has them
	OnBehalfOf bool   `json:"on_behalf_of"`
	Reason     string `json:"reason"`
	Rule       string `json:"rule,omitempty"`
	Audited    bool   `json:"audited,omitempty"` // issued nevertheless, because of audit mode
	Use
}

// Failure is why what was allowed was not issued.
type Failure struct {
	Reason string `json:"reason"`
	Error  string `json:"entra_error,omitempty"`      // OAuth code of Entra's refusal
	Code   int    `json:"entra_error_code,omitempty"` // its first AADSTS number
	Use
}

// User is somebody an agent acted for: by tenant and object id, or by the hash
// that stands for the two.
type User struct {
	Tenant   string `json:"tenant_id,omitempty"`
	ObjectID string `json:"object_id,omitempty"`
	Hash     string `json:"hash,omitempty"`
	Use
}

// Stranger is a kind of caller that no agent could be told from.
type Stranger struct {
	Reason   string `json:"reason"`
	Network  string `json:"peer_network,omitempty"`
	Socket   string `json:"peer_socket,omitempty"`
	UID      uint32 `json:"peer_uid"` // means nothing unless UIDKnown
	UIDKnown bool   `json:"peer_uid_known"`
	Use
}

// Report returns what the lines read so far amount to.
func (r *Review) Report() *Report {
	report := &Report{
		Since: r.cfg.Since, Until: r.cfg.Until, Agent: clean(r.cfg.Agent), User: clean(r.cfg.User), Lines: r.lines, Requests: r.all, MoreRequests: r.more, MoreStrangers: r.strangers.more,
		Agents:    []Agent{},
		Strangers: ranked(r.strangers.by, Stranger.with, Stranger.compare),
	}
	if r.cfg.Policy != nil {
		report.Revision = r.cfg.Policy.Revision
	}
	for _, name := range slices.Sorted(maps.Keys(r.agents)) {
		report.Agents = append(report.Agents, r.agents[name].report(name, &r.cfg))
	}
	return report
}

func (t *tally) report(name string, cfg *Config) Agent {
	a := Agent{
		Name: name, InPolicy: t.agent != nil, Owner: t.owner, Requests: t.requests, Inspections: t.inspected, granted: t.granted,
		Identities: t.reportIdentities(), Rights: t.reportRights(cfg.Policy != nil), MoreRights: t.others.more,
		Denied: ranked(t.denials.by, Denial.with, Denial.compare), MoreDenied: t.denials.more,
		Failures: ranked(t.failures.by, Failure.with, Failure.compare), MoreFailures: t.failures.more,
		UserCount: len(t.users.by), MoreUsers: t.users.more,
		Users: ranked(t.users.by, User.with, User.compare),
	}
	a.Users = slices.Clone(a.Users[:min(len(a.Users), max(cfg.Users, 0))])
	if t.agent == nil {
		return a
	}
	a.Owner, a.Blocked, a.AuditMode = t.agent.Owner, t.agent.Blocked, t.agent.Audit
	if ends := t.agent.Expires; !ends.IsZero() {
		a.Expires, a.Expired = ends.AddDate(0, 0, -1).Format(time.DateOnly), !cfg.Now.Before(ends)
	}
	return a
}

// reportIdentities lists those of the policy and then others that were used. One
// that was used as a fleet's member is used.
func (t *tally) reportIdentities() []Identity {
	list := []Identity{}
	used := slices.Sorted(maps.Keys(t.identities.by))
	if t.agent != nil {
		for _, name := range t.agent.Identities {
			if !slices.ContainsFunc(used, func(s string) bool { return bare(s) == name }) {
				list = append(list, Identity{Name: name, Granted: true})
			}
		}
	}
	for _, name := range used {
		granted := t.agent != nil && slices.Contains(t.agent.Identities, bare(name))
		list = append(list, Identity{Name: name, Granted: granted, Use: *t.identities.by[name]})
	}
	slices.SortStableFunc(list, func(a, b Identity) int { return cmp.Compare(b.Count, a.Count) })
	return list
}

// bare is the name of an identity without the member of a fleet.
func bare(identity string) string {
	name, _, _ := strings.Cut(identity, "/")
	return name
}

func (t *tally) reportRights(compared bool) []Right {
	list := []Right{}
	for _, g := range t.granted.list {
		found := t.rights[g.right]
		r := Right{Scope: g.scope, OnBehalfOf: g.forUser, Rule: "agents." + t.agent.Name + "." + g.rule, State: Unused, Use: found.issued, NotIssued: found.notIssued}
		switch {
		case r.Count > 0:
			r.State = Used
		case r.NotIssued > 0:
			r.State = Refused
		}
		list = append(list, r)
	}
	state := Issued
	if compared {
		state = NotGranted
	}
	others := make([]Right, 0, len(t.others.by))
	for key, use := range t.others.by {
		others = append(others, Right{Scope: key.scope, OnBehalfOf: key.forUser, State: state, Use: *use})
	}
	slices.SortFunc(others, func(a, b Right) int {
		return cmp.Or(-cmp.Compare(flow(a.OnBehalfOf), flow(b.OnBehalfOf)), cmp.Compare(a.Scope, b.Scope))
	})
	return append(list, others...)
}

// The two ways to have a right, in words.
const (
	forItself = "self"
	forUsers  = "on-behalf-of"
)

func flow(onBehalfOf bool) string {
	if onBehalfOf {
		return forUsers
	}
	return forItself
}

// ranked lists what was counted, the most frequent first and then in order.
func ranked[K comparable](by map[K]*Use, with func(K, Use) K, order func(a, b K) int) []K {
	list := make([]K, 0, len(by))
	for key := range by {
		list = append(list, key)
	}
	slices.SortFunc(list, func(a, b K) int { return cmp.Or(cmp.Compare(by[b].Count, by[a].Count), order(a, b)) })
	for i, key := range list {
		list[i] = with(key, *by[key])
	}
	return list
}

func (d Denial) with(use Use) Denial     { d.Use = use; return d }
func (f Failure) with(use Use) Failure   { f.Use = use; return f }
func (u User) with(use Use) User         { u.Use = use; return u }
func (s Stranger) with(use Use) Stranger { s.Use = use; return s }

func (d Denial) compare(e Denial) int {
	return cmp.Or(cmp.Compare(flow(d.OnBehalfOf), flow(e.OnBehalfOf)), cmp.Compare(d.Scopes, e.Scopes), cmp.Compare(d.Reason, e.Reason),
		cmp.Compare(d.Rule, e.Rule), cmp.Compare(strconv.FormatBool(d.Audited), strconv.FormatBool(e.Audited)))
}

func (f Failure) compare(g Failure) int {
	return cmp.Or(cmp.Compare(f.Reason, g.Reason), cmp.Compare(f.Error, g.Error), cmp.Compare(f.Code, g.Code))
}

func (u User) compare(v User) int {
	return cmp.Or(cmp.Compare(u.Tenant, v.Tenant), cmp.Compare(u.ObjectID, v.ObjectID), cmp.Compare(u.Hash, v.Hash))
}

func (s Stranger) compare(t Stranger) int {
	return cmp.Or(cmp.Compare(s.Reason, t.Reason), cmp.Compare(s.Network, t.Network), cmp.Compare(s.Socket, t.Socket),
		cmp.Compare(s.UID, t.UID), cmp.Compare(strconv.FormatBool(s.UIDKnown), strconv.FormatBool(t.UIDKnown)))
}
