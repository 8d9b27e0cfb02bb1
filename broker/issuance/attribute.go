package issuance

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Attribute keys of the span token.issue. README.md reproduces them, and a
// test compares the two.
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
)

// Attribute is one row of the table in README.md.
type Attribute struct{ Key, Meaning string }

// Attributes lists every attribute of the span token.issue, in the order of
// its record.
func Attributes() []Attribute {
	return []Attribute{
		{string(keyID), "id of the issuance, also in the answer's `credfree-issuance-id` header and in the audit line"},
		{string(keyDoor), "the protocol the agent spoke: `oauth`, `managed_identity`, `auth_sidecar` or `call_through`"},
		{string(keyGrant), "OAuth 2.0 grant type; `inspection` when a user's token was only inspected"},
		{string(keyAgent), "the agent, by its name in the policy; absent when the caller is nobody"},
		{string(keyOwner), "the agent's owner in the policy"},
		{string(keyPeerNet), "`unix` or `tcp`"},
		{string(keyPeerSocket), "file name of the unix socket"},
		{string(keyPeerUID), "uid of the calling process, when the kernel vouched for it"},
		{string(keyIdentity), "the identity, by its name in the policy"},
		{string(keyMember), "agent id or object id, of an identity that has several"},
		{string(keyTenant), "Entra tenant"},
		{string(keyClientID), "Entra client id of the identity"},
		{string(keyScopes), "scopes, canonical and sorted"},
		{string(keyAPI), "downstream API that the token is for, by its name in the policy"},
		{string(keyOnBehalfOf), "`true` when the token was asked for to act for a user"},
		{string(keyUserTenant), "tenant of the user whom the token is for"},
		{string(keyUserObjectID), "object id of the user whom the token is for"},
		{string(keyUserClient), "client id of the app that the user's own token was issued to"},
		{string(keySession), "`true` when the user's token has expired and a long-running session goes on"},
		{string(keyRevision), "revision of the policy that decided"},
		{string(keyDecision), "`allow`, `deny` or `error`"},
		{string(keyReason), "why not, from a closed set; with `credfree.audited`, why not if the mode were `enforce`"},
		{string(keyRule), "path in the policy file of the rule that decided"},
		{string(keyAudited), "`true` when audit mode alone allowed it: reason and rule say what would have denied"},
		{string(keyFirstUse), "`true` when the agent used these scopes for the first time since the broker started"},
		{string(keyCache), "`hit`, `joined` or `miss`"},
		{string(keyTokenKind), "`app` or `user`"},
		{string(keyExpiresIn), "seconds the token was still good for"},
		{string(keyUniqueID), "Entra's id of the token (`uti`), as in its sign-in log"},
		{string(keyCorrelationID), "correlation id of the exchange, as in Entra's sign-in log"},
		{string(keyRequestID), "Entra's request id"},
		{string(keyEntraError), "OAuth error code of Entra's refusal"},
		{string(keyEntraCode), "first AADSTS number of Entra's refusal"},
		{string(keyErrorType), "the reason again, on failures only"},
	}
}

// outcome is what a sampler may look at.
type outcome struct {
	decision Decision
	cache    Cache
}

// starts are the start options of every outcome, made once: most spans are
// started only to be dropped by the sampler.
var starts = func() map[outcome]trace.SpanStartOption {
	table := map[outcome]trace.SpanStartOption{}
	for _, decision := range []Decision{Allow, Deny, Fail} {
		for _, cache := range []Cache{"", Hit, Joined, Miss} {
			table[outcome{decision, cache}] = trace.WithAttributes(keyDecision.String(string(decision)), keyCache.String(string(cache)))
		}
	}
	return table
}()

// asServer is the kind of the spans; see starts.
var asServer = trace.WithSpanKind(trace.SpanKindServer)

// attributes are all attributes of a finished record.
func (r *Record) attributes() []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, 0, 34)
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
	text(keyIdentity, r.Identity)
	text(keyMember, r.Member)
	text(keyTenant, r.Tenant)
	text(keyClientID, r.ClientID)
	if len(r.Scopes) > 0 {
		attrs = append(attrs, keyScopes.StringSlice(r.Scopes))
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
	return attrs
}
