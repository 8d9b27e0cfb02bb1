package issuance

// Attribute is one row of the table of attributes in README.md.
type Attribute struct {
	Key     string
	Spans   []string // that have it
	Meaning string
}

// Spans that the broker makes, and one that its HTTP client makes.
const (
	spanIssue   = "token.issue"           // one per issuance
	spanInspect = "token.inspect"         // one per inspection of a token
	spanRefresh = "token.refresh"         // one per refresh that nobody waits for
	spanProof   = "workload.token"        // one per workload token that is fetched
	spanEntra   = "entra.token"           // one per request to the token endpoint
	spanMachine = "managedidentity.token" // one per request to the machine's endpoint
	spanKeys    = "user.keys"             // one per fetch of a tenant's keys
	spanGroups  = "user.groups"           // one per question to Microsoft Graph about a user's groups
	spanCall    = "api.call"              // one per request to an API, by call-through
	spanHTTP    = "HTTP"                  // one per request of the HTTP client: "HTTP GET", "HTTP POST"
)

// Attributes lists every attribute of every span, so that an operator finds all
// in one table. README.md reproduces it; a test compares it with the sources and
// with the traces of all outcomes, both ways.
func Attributes() []Attribute {
	issue, both, asked, sent := []string{spanIssue}, []string{spanIssue, spanInspect}, []string{spanEntra, spanMachine}, []string{spanEntra, spanMachine, spanCall, spanHTTP}
	return []Attribute{
		{string(keyID), []string{spanIssue, spanInspect, spanCall}, "id of the issuance, also in the answer's `credfree-issuance-id` header and in the audit line"},
		{string(keyDoor), both, "the protocol the agent spoke: `oauth`, `managed_identity`, `auth_sidecar` or `call_through`"},
		{string(keyGrant), []string{spanIssue, spanInspect, spanEntra, spanMachine}, "OAuth 2.0 grant type: what the agent asked with (`inspection`: with a user's token to be inspected), or what Entra is asked with"},
		{string(keyAgent), []string{spanIssue, spanInspect, spanRefresh}, "the agent, by its name in the policy; absent when the caller is nobody, and of the refresh of a token of the broker's own, which no agent gets"},
		{string(keyOwner), both, "the agent's owner in the policy"},
		{string(keyPeerNet), both, "`unix` or `tcp`"},
		{string(keyPeerSocket), both, "file name of the unix socket"},
		{string(keyPeerUID), both, "uid of the calling process, when the kernel vouched for it"},
		{string(keySaidAgentID), issue, "what the caller's baggage says of itself; nothing is decided by it"},
		{string(keySaidAgentName), issue, "the same"},
		{string(keySaidTalk), issue, "the same: which conversation it is in"},
		{string(keyIdentity), both, "the identity, by its name in the policy"},
		{string(keyMember), both, "agent id or object id, of an identity that has several"},
		{string(keyTenant), []string{spanIssue, spanInspect, spanEntra, spanKeys}, "Entra tenant"},
		{string(keyClientID), []string{spanIssue, spanInspect, spanRefresh, spanEntra, spanMachine}, "Entra client id of the identity, or of the leg"},
		{string(keyScopes), []string{spanIssue, spanInspect, spanEntra, spanMachine}, "scopes, canonical and sorted"},
		{string(keyAPI), []string{spanIssue, spanCall}, "downstream API that the token is for, by its name in the policy"},
		{string(keyOnBehalfOf), both, "`true` when the token was asked for to act for a user"},
		{string(keyUserTenant), both, "tenant of the user whom the token is for"},
		{string(keyUserObjectID), both, "object id of the user whom the token is for"},
		{string(keyUserHash), both, "keyed hash of the two, in their place, with `users: hashed`"},
		{string(keyUserClient), both, "client id of the app that the user's own token was issued to"},
		{string(keySession), issue, "`true` when the user's token has expired and a long-running session goes on"},
		{string(keyRevision), both, "revision of the policy that decided"},
		{string(keyDecision), both, "`allow`, `deny` or `error`"},
		{string(keyReason), both, "why not, from a closed set; of what `credfree.audited` allowed, why not if the mode were `enforce`"},
		{string(keyRule), both, "path in the policy file of the rule that decided"},
		{string(keyAudited), both, "`true` when audit mode alone allowed it: rule says what would have denied, and reason why, unless it failed"},
		{string(keyFirstUse), issue, "`true` when the agent used these scopes for the first time since the broker started"},
		{string(keyCache), []string{spanIssue, spanRefresh}, "`hit`, `joined` or `miss`; of a refresh `refresh`"},
		{string(keyTokenKind), both, "`app` or `user`"},
		{string(keyExpiresIn), both, "seconds the token was still good for"},
		{string(keyUniqueID), both, "Entra's id of the token (`uti`), as in its sign-in log"},
		{string(keyCorrelationID), []string{spanIssue, spanEntra}, "correlation id of the exchange, as in Entra's sign-in log"},
		{string(keyRequestID), []string{spanIssue, spanEntra}, "Entra's request id"},
		{string(keyEntraError), []string{spanIssue, spanEntra}, "OAuth error code of Entra's refusal"},
		{string(keyEntraCode), []string{spanIssue, spanEntra}, "first AADSTS number of Entra's refusal"},
		{"credfree.entra.leg", asked, "which leg of the exchange: `resource`, or on the way to it `blueprint` or `agent`"},
		{"credfree.exchange.held_back", asked, "why nothing was sent: `throttled`, `breaker` or `remembered`"},
		{"credfree.assertion.issuer", []string{spanProof}, "issuer of the workload token"},
		{"credfree.assertion.subject", []string{spanProof}, "subject of the workload token"},
		{"credfree.assertion.expires_in", []string{spanProof}, "seconds the workload token was still good for"},
		{string(keyErrorType), []string{spanIssue, spanInspect, spanRefresh, spanProof, spanEntra, spanMachine, spanKeys, spanGroups, spanCall, spanHTTP}, "the reason, on failures only"},
		{"http.request.method", []string{spanCall, spanHTTP}, "HTTP method"},
		{"http.request.resend_count", []string{spanEntra, spanMachine, spanCall}, "how often the request was sent before"},
		{"http.response.status_code", sent, "HTTP status"},
		{"server.address", []string{spanCall, spanHTTP}, "host that was asked"},
		{"server.port", []string{spanHTTP}, "its port, unless it is the usual one"},
		{"network.protocol.version", []string{spanHTTP}, "HTTP version"},
		{"url.full", []string{spanHTTP}, "what was asked, without a query"},
	}
}
