package issuance

import (
	"slices"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Attribute keys of the spans token.issue and token.refresh. Attributes lists
// them with those of all other spans.
const (
	keyID            = attribute.Key("credfree.issuance.id")
	keyDoor          = attribute.Key("credfree.door")
	keyGrant         = attribute.Key("credfree.grant")
	keyAgent         = attribute.Key("credfree.agent")
	keyOwner         = attribute.Key("credfree.agent.owner")
	keyPeerNet       = attribute.Key("credfree.peer.network")
	keyPeerSocket    = attribute.Key("credfree.peer.socket")
	keyPeerUID       = attribute.Key("credfree.peer.uid")
	keyIdentity      = attribute.Key("credfree.identity")
	keyMember        = attribute.Key("credfree.identity.member")
	keyTenant        = attribute.Key("credfree.entra.tenant_id")
	keyClientID      = attribute.Key("credfree.entra.client_id")
	keyScopes        = attribute.Key("credfree.scopes")
	keyRevision      = attribute.Key("credfree.policy.revision")
	keyAPI           = attribute.Key("credfree.api")
	keyOnBehalfOf    = attribute.Key("credfree.on_behalf_of")
	keyUserTenant    = attribute.Key("credfree.user.tenant_id")
	keyUserObjectID  = attribute.Key("credfree.user.object_id")
	keyUserHash      = attribute.Key("user.hash")
	keyUserClient    = attribute.Key("credfree.user.client_id")
	keySession       = attribute.Key("credfree.user.session")
	keyAudited       = attribute.Key("credfree.audited")
	keyFirstUse      = attribute.Key("credfree.first_use")
	keyDecision      = attribute.Key("credfree.decision")
	keyReason        = attribute.Key("credfree.reason")
	keyRule          = attribute.Key("credfree.rule")
	keyCache         = attribute.Key("credfree.cache")
	keyTokenKind     = attribute.Key("credfree.token.kind")
	keyExpiresIn     = attribute.Key("credfree.token.expires_in")
	keyUniqueID      = attribute.Key("credfree.token.uti")
	keyCorrelationID = attribute.Key("credfree.entra.correlation_id")
	keyRequestID     = attribute.Key("azure.service.request.id")
	keyEntraError    = attribute.Key("credfree.entra.error")
	keyEntraCode     = attribute.Key("credfree.entra.error_code")
	keyErrorType     = attribute.Key("error.type")
	keySaidAgentID   = attribute.Key("gen_ai.agent.id")
	keySaidAgentName = attribute.Key("gen_ai.agent.name")
	keySaidTalk      = attribute.Key("gen_ai.conversation.id")
)

// asServer is the kind of the spans, made once.
var asServer = trace.WithSpanKind(trace.SpanKindServer)

// attributeLists are for the attributes of spans, until these have them.
var attributeLists = sync.Pool{New: func() any { return new(attributeList) }}

// attributeList has room for attributes, and remembers the last scopes: as a value
// they take memory of their own.
type attributeList struct {
	all    []attribute.KeyValue
	scopes []string
	value  attribute.Value // of scopes
}

// of returns all attributes of a finished record, until the list is used again.
func (l *attributeList) of(r *Record) []attribute.KeyValue {
	attrs := l.all[:0]
	text := func(key attribute.Key, value string) {
		if value != "" {
			attrs = append(attrs, key.String(value))
		}
	}
	text(keyID, r.ID)
	text(keyDoor, r.Door)
	text(keyGrant, r.Grant)
	text(keyAgent, r.Agent)
	text(keyOwner, r.Owner)
	text(keyPeerNet, r.PeerNet)
	text(keyPeerSocket, r.PeerSocket)
	if r.PeerKnown {
		attrs = append(attrs, keyPeerUID.Int64(int64(r.PeerUID)))
	}
	text(keySaidAgentID, r.SaidAgentID)
	text(keySaidAgentName, r.SaidAgentName)
	text(keySaidTalk, r.SaidConversation)
	text(keyIdentity, r.Identity)
	text(keyMember, r.Member)
	text(keyTenant, r.Tenant)
	text(keyClientID, r.ClientID)
	if len(r.Scopes) > 0 {
		if !slices.Equal(l.scopes, r.Scopes) {
			l.scopes, l.value = slices.Clone(r.Scopes), attribute.StringSliceValue(r.Scopes)
		}
		attrs = append(attrs, attribute.KeyValue{Key: keyScopes, Value: l.value})
	}
	flag := func(key attribute.Key, value bool) {
		if value {
			attrs = append(attrs, key.Bool(true))
		}
	}
	text(keyAPI, r.API)
	flag(keyOnBehalfOf, r.OnBehalfOf)
	text(keyUserTenant, r.UserTenant)
	text(keyUserObjectID, r.UserObjectID)
	text(keyUserHash, r.UserHash)
	text(keyUserClient, r.UserClient)
	flag(keySession, r.Session)
	text(keyRevision, r.Revision)
	text(keyDecision, string(r.Decision))
	text(keyReason, r.Reason)
	text(keyRule, r.Rule)
	flag(keyAudited, r.Audited)
	flag(keyFirstUse, r.FirstUse)
	text(keyCache, string(r.Cache))
	text(keyTokenKind, r.TokenKind)
	if !r.ExpiresAt.IsZero() {
		attrs = append(attrs, keyExpiresIn.Int64(int64(r.ExpiresAt.Sub(r.Start).Seconds())))
	}
	text(keyUniqueID, r.UniqueID)
	text(keyCorrelationID, r.CorrelationID)
	text(keyRequestID, r.RequestID)
	text(keyEntraError, r.EntraError)
	if len(r.EntraCodes) > 0 {
		attrs = append(attrs, keyEntraCode.Int(r.EntraCodes[0]))
	}
	if r.Decision == Fail {
		text(keyErrorType, r.Reason)
	}
	l.all = attrs
	return attrs
}
