package issuance

// Field is one field of an audit line: a row of the table in README.md and a
// property of Schema.
type Field struct {
	Name, Meaning string
	Always        bool // else the field is absent when it has no value

	form form
}

// form says what a value looks like, in the words of JSON Schema 2020-12.
type form struct {
	Description string   `json:"description,omitempty"`
	Type        string   `json:"type,omitempty"`
	Const       any      `json:"const,omitempty"`
	Enum        []string `json:"enum,omitempty"`
	Pattern     string   `json:"pattern,omitempty"`
	MinLength   int      `json:"minLength,omitempty"`
	Minimum     *int64   `json:"minimum,omitempty"`
	Maximum     *int64   `json:"maximum,omitempty"`
	Items       *form    `json:"items,omitempty"`
	MinItems    int      `json:"minItems,omitempty"`
	MaxItems    int      `json:"maxItems,omitempty"`
}

const (
	hex16 = "^[0-9a-f]{16}$"
	hex32 = "^[0-9a-f]{32}$"
	hex64 = "^[0-9a-f]{64}$"
	word  = "^[a-z][a-z0-9_]*$"
)

var (
	text   = form{Type: "string", MinLength: 1}
	isTrue = form{Type: "boolean", Const: true}
)

func matching(pattern string) form { return form{Type: "string", Pattern: pattern} }

func oneOf(words ...string) form { return form{Type: "string", Enum: words} }

func numberTo(most int64) form {
	var zero int64
	f := form{Type: "integer", Minimum: &zero}
	if most > 0 {
		f.Maximum = &most
	}
	return f
}

// Fields lists every field of an audit line, in the order of the line.
func Fields() []Field {
	scope, code := text, numberTo(0)
	return []Field{
		{"time", "when the request came in, RFC 3339, UTC", true, matching(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$`)},
		{"type", "`audit`", true, form{Type: "string", Const: "audit"}},
		{"event", "`token.issued`, `token.denied` or `token.failed`; `token.inspected` when a user's token was only inspected", true, oneOf("token.issued", "token.denied", "token.failed", inspected)},
		{"issuance_id", "id of the issuance, also in the answer's `credfree-issuance-id` header", true, matching(hex32)},
		{"trace_id", "trace of the issuance; absent when there are no traces and the agent sent none", false, matching(hex32)},
		{"span_id", "its span, where there is one", false, matching(hex16)},
		{"agent", "the agent, by its name in the policy; absent when the caller is nobody", false, text},
		{"owner", "the agent's owner in the policy", false, text},
		{"peer_network", "`unix` or `tcp`", false, oneOf("unix", "tcp")},
		{"peer_socket", "file name of the unix socket", false, text},
		{"peer_uid", "uid of the calling process, when the kernel vouched for it", false, numberTo(1<<32 - 1)},
		{"said_agent_id", "what the caller's baggage says of itself (`gen_ai.agent.id`); nothing is decided by it", false, text},
		{"said_agent_name", "the same (`gen_ai.agent.name`)", false, text},
		{"said_conversation_id", "the same (`gen_ai.conversation.id`): which conversation it is in", false, text},
		{"door", "the protocol the agent spoke: `oauth`, `managed_identity`, `auth_sidecar` or `call_through`", false, matching(word)},
		{"grant", "OAuth 2.0 grant type; `inspection` when a user's token was only inspected", false, text},
		{"identity", "the identity, by its name in the policy", false, text},
		{"identity_member", "agent id or object id, of an identity that has several", false, text},
		{"tenant_id", "Entra tenant", false, text},
		{"client_id", "Entra client id of the identity", false, text},
		{"scopes", "scopes, canonical and sorted; of a denial, as asked for", false, form{Type: "array", Items: &scope, MinItems: 1, MaxItems: maxScopes}},
		{"api", "downstream API that the token is for, by its name in the policy", false, text},
		{"on_behalf_of", "`true` when the token was asked for to act for a user", false, isTrue},
		{"user_tenant_id", "tenant of the user whom the token is for", false, text},
		{"user_object_id", "object id of the user whom the token is for", false, text},
		{"user_hash", "keyed hash of the two, in their place, with `users: hashed`", false, matching(hex64)},
		{"user_client_id", "client id of the app that the user's own token was issued to", false, text},
		{"session", "`true` when the user's token has expired and a long-running session goes on", false, isTrue},
		{"decision", "`allow`, `deny` or `error`", true, oneOf(string(Allow), string(Deny), string(Fail))},
		{"reason", "why not, from a closed set; of what `audited` allowed, why not if the mode were `enforce`", false, matching(word)},
		{"rule", "path in the policy file of the rule that decided", false, text},
		{"audited", "`true` when audit mode alone allowed it: rule says what would have denied, and reason why, unless it failed", false, isTrue},
		{"first_use", "`true` when the agent used these scopes for the first time since the broker started", false, isTrue},
		{"policy_revision", "revision of the policy that decided", false, text},
		{"cache", "`hit`, `joined` or `miss`", false, oneOf(string(Hit), string(Joined), string(Miss))},
		{"token_kind", "`app` or `user`", false, oneOf("app", "user")},
		{"expires_at", "when the token expires, RFC 3339, UTC", false, matching(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$`)},
		{"uti", "Entra's id of the token, as in its sign-in log", false, text},
		{"entra_correlation_id", "correlation id of the exchange, as in Entra's sign-in log", false, text},
		{"entra_request_id", "Entra's request id", false, text},
		{"entra_error", "OAuth error code of Entra's refusal", false, text},
		{"entra_error_codes", "AADSTS numbers of Entra's refusal", false, form{Type: "array", Items: &code, MinItems: 1}},
		{"duration_us", "time to the answer, in microseconds", true, numberTo(0)},
		{"seq", "number of the line in its chain, with `--audit-chain`", false, numberTo(0)},
		{"prev", "seal of the line before, with `--audit-chain`", false, matching(hex64)},
	}
}
