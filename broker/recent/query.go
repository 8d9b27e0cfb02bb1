package recent

import (
	"slices"
	"strings"
)

// Query chooses issuances. Empty fields match everything.
type Query struct {
	Agent    string // exactly; Nobody for callers that are no agent
	User     string // object id, <tenant id>/<object id>, or the hash of that
	UserHash string // stands for User where users are hashed; "": not known
	Scope    string // part of one
	Decision string
	Reason   string
	Door     string
	Cache    string
	ID       string // any of its ids: the issuance's, the trace's, the conversation's, Entra's correlation id, request id or uti
	Trace    string // trace id, also as the GUID that Entra has
	// CorrelationID is that of Entra's sign-in log.
	CorrelationID string
	After         uint64 // numbers above this one only
	Limit         int    // of Find: at most so many
}

// Nobody stands for no agent in a Query.
const Nobody = "-"

// matches reports whether i is chosen.
func (q *Query) matches(i *Issuance) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return i.Number > q.After &&
		(is(q.Agent, i.Agent) || q.Agent == Nobody && i.Agent == "") &&
		(q.User == "" || i.UserHash == "" && strings.EqualFold(q.User, i.UserObjectID) || strings.EqualFold(q.User, i.User()) || q.UserHash != "" && q.UserHash == i.UserHash) &&
		(q.Scope == "" || slices.ContainsFunc(i.Scopes, func(s string) bool { return strings.Contains(strings.ToLower(s), strings.ToLower(q.Scope)) })) &&
		is(q.Decision, i.Decision) && is(q.Reason, i.Reason) && is(q.Door, i.Door) && is(q.Cache, i.Cache) &&
		(q.ID == "" || i.isCalled(q.ID)) &&
		(q.Trace == "" || sameID(q.Trace, i.TraceID.String())) &&
		(q.CorrelationID == "" || i.correlates(q.CorrelationID))
}

func (i *Issuance) isCalled(id string) bool {
	return sameID(id, i.ID) || sameID(id, i.TraceID.String()) || sameID(id, i.RequestID) || i.UniqueID != "" && id == i.UniqueID || i.SaidConversation != "" && id == i.SaidConversation || i.correlates(id)
}

// correlates: Entra is sent the trace id as its correlation id, so that the
// failures of which no correlation id is known are found by their trace.
func (i *Issuance) correlates(id string) bool {
	return sameID(id, i.CorrelationID) || i.Cache == "miss" && i.CorrelationID == "" && sameID(id, i.TraceID.String())
}

// sameID compares ids as people paste them: in any case, with dashes or not.
func sameID(a, b string) bool {
	return b != "" && strings.EqualFold(strings.ReplaceAll(a, "-", ""), strings.ReplaceAll(b, "-", ""))
}
