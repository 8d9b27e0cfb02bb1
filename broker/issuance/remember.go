package issuance

import (
	"time"

	"github.com/credfree/credfree/broker/recent"
)

// remember keeps the record for people to look at. It is on the path of every
// cache hit, and allocates nothing there.
func (r *Record) remember(m *recent.Memory, end time.Time) {
	sc := r.SpanContext()
	i := recent.Issuance{
		Start: r.Start, Took: end.Sub(r.Start), ID: r.ID, TraceID: recent.TraceID(sc.TraceID()), SpanID: recent.SpanID(sc.SpanID()),
		Agent: r.Agent, Owner: r.Owner, PeerNet: r.PeerNet, PeerSocket: r.PeerSocket, PeerUID: r.PeerUID, PeerKnown: r.PeerKnown, Door: r.Door, Grant: r.Grant,
		SaidAgentID: r.SaidAgentID, SaidAgentName: r.SaidAgentName, SaidConversation: r.SaidConversation,
		Identity: r.Identity, Member: r.Member, Tenant: r.Tenant, ClientID: r.ClientID, Scopes: r.Scopes, API: r.API,
		OnBehalfOf: r.OnBehalfOf, UserTenant: r.UserTenant, UserObjectID: r.UserObjectID, UserHash: r.UserHash, UserClient: r.UserClient, Session: r.Session, Inspection: r.Inspection,
		Decision: string(r.Decision), Reason: r.Reason, Rule: r.Rule, Hint: r.Hint, Audited: r.Audited, FirstUse: r.FirstUse, Revision: r.Revision, Steps: r.Steps,
		Cache: string(r.Cache), Asked: r.Asked, TokenKind: r.TokenKind, ExpiresAt: r.ExpiresAt,
		UniqueID: r.UniqueID, CorrelationID: r.CorrelationID, RequestID: r.RequestID, EntraError: r.EntraError, EntraCodes: r.EntraCodes,
	}
	if r.above.IsValid() {
		i.Parent = recent.SpanID(r.above.SpanID())
		if i.SpanID == i.Parent { // nothing was traced here, and it is the caller's own span
			i.SpanID = recent.SpanID{}
		}
	}
	if r.shared.IsValid() {
		i.Joined = recent.SpanID(r.shared.SpanID())
	}
	m.Add(&i)
}
