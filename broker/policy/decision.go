package policy

import "time"

// Peer is the evidence about who asks. The zero Peer is nobody, but still some
// local process for a caller that says any: true.
type Peer struct {
	Socket     string // unix socket, as written in the policy; "" for loopback TCP
	UID        uint32 // means nothing unless Known
	Known      bool   // the kernel vouches for UID
	KeyFile    string // key file whose content was presented; "" for none
	KeyRefused bool   // a key was presented that is in no key file
}

// Request is what Decide decides about.
type Request struct {
	Peer Peer
	// Agent is the name that the request gives itself: the agent's name or the
	// client id of one of its identities. It is compared and never believed;
	// "" claims nothing.
	Agent    string
	Identity string // to act as; "" for the agent's default
	Scope    string // as sent: scopes separated by white space
	// Now is the time at which to decide. Zero counts as past every expiry.
	Now time.Time
}

// Decision is the policy's answer. Its slices belong to the policy and must
// not be modified.
type Decision struct {
	Allowed bool
	Reason  Reason // "" when allowed
	// Rule is the path, in the policy file, of what decided: the scope's line
	// when one scope is allowed, the whole list when there are several or when
	// the list lacks one.
	Rule     string
	Hint     string   // what to change, and where; "" when allowed; printable ASCII, bounded
	Agent    *Agent   // nil: the peer is nobody
	Identity string   // "" when denied before or by step 3
	Scopes   []string // canonical, sorted, each once; nil when denied
	Scope    string   // Scopes joined by one space
	Resource string   // what all Scopes belong to, e.g. https://graph.microsoft.com
}

// Reason says why a request is denied. The set is closed: it is in metrics,
// audit lines and answers.
type Reason string

// The reasons, in the order in which the steps find them.
const (
	UnknownAgent        Reason = "unknown_agent"
	AgentMismatch       Reason = "agent_mismatch"
	AgentExpired        Reason = "agent_expired"
	IdentityNotAllowed  Reason = "identity_not_allowed"
	IdentityMissing     Reason = "identity_missing"
	ScopeMissing        Reason = "scope_missing"
	ScopeMalformed      Reason = "scope_malformed"
	ScopeMixedResources Reason = "scope_mixed_resources"
	ScopeNotAllowed     Reason = "scope_not_allowed"
)
