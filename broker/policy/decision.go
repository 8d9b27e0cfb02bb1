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
	Agent string
	// Identity is what to act as: the name of one of the agent's identities, or
	// for a fleet <name>/<member>. "" stands for the agent's default.
	Identity string
	Scope    string // as sent: canonical scopes separated by white space; no shorthands
	// API is the downstream API, by its name, that the token is for; "" for none.
	// Without a Scope, the scopes are the API's.
	API string
	// Method and Path are those of a call of the API that the broker makes
	// itself; no Method means no call. Path is what stands below the API's
	// BaseURL, begins with a slash and has no dot segments; it is decoded, but
	// for an encoded slash, which stays %2F.
	Method, Path string
	// Over says that the agent has used up the limit of this kind of request,
	// which the broker counts.
	Over       bool
	OnBehalfOf bool  // for a user
	User       *User // the user, once the token has been verified; nil until then
	Raw        bool  // the answer would hand out the token itself
	// Inspect asks for no token: the agent wants to know whether a user's token is
	// good, and issued for an identity of its own. No scope, API or call is looked
	// at, and of the user only that the token is verified and the user not blocked.
	Inspect bool
	// Scoped is about Inspect: the token must also have what onBehalfOf.scopes
	// demands.
	Scoped bool
	// Now is the time at which to decide. Zero counts as past every expiry.
	Now time.Time
}

// User is what a verified user token says. Ids are GUIDs in lower case.
type User struct {
	Tenant, ObjectID string
	Client           string // the app that the token was issued to: azp or appid
	Guest            bool
	Groups           []string
	// GroupsOverage says that the token does not list the groups. Whoever
	// resolves them fills Groups, makes this false and decides again.
	GroupsOverage bool
	Roles         []string // app roles
	Scopes        []string // scp
	ACRS, AMR     []string
	// Expires is when the token expires, or, once it has been exchanged for a
	// long-running session, when that ends. Zero counts as past.
	Expires time.Time
}

// Decision is the policy's answer. Its slices belong to the policy and must
// not be modified.
type Decision struct {
	Allowed bool
	Reason  Reason // "" when allowed
	// Rule is the path, in the policy file, of what decided: what granted the
	// scopes when they are allowed, the line that denies when they are not, the
	// mode when only that allows them.
	Rule     string
	Hint     string // what to change, and where; "" when allowed; printable ASCII, bounded
	Agent    *Agent // nil: the peer is nobody
	Identity string // key of Policy.Identities; "" when denied before or by step 3
	// Member is the agent id, user name or object id that the identity stands
	// for, in lower case; "" for an application or a managed identity.
	Member   string
	Scopes   []string // canonical, sorted, each once; nil when denied
	Scope    string   // Scopes joined by one space
	Resource string   // what all Scopes belong to, e.g. https://graph.microsoft.com

	OnBehalfOf bool // as requested
	// UserTenants are the tenants whose user tokens are accepted, from step 5 on
	// and on behalf of users only.
	UserTenants   []string
	ResolveGroups bool          // with GroupsOverage: Microsoft Graph may be asked for the groups
	LongRunning   time.Duration // how long the agent may go on for the user; 0 when denied or not at all
	RawToken      bool          // allowed, and the token may leave the broker

	// Audited says that only audit mode allows this; the rest says what would
	// have denied it, the first of several.
	Audited       bool
	AuditedReason Reason
	AuditedRule   string
	AuditedHint   string
}

// Reason says why a request is denied. The set is closed: it is in metrics,
// audit lines and answers.
type Reason string

// The reasons, in the order in which the steps find them.
const (
	UnknownAgent Reason = "unknown_agent"

	AgentMismatch        Reason = "agent_mismatch"
	AgentBlocked         Reason = "agent_blocked"
	AgentExpired         Reason = "agent_expired"
	OverLimit            Reason = "over_limit"
	OnBehalfOfNotAllowed Reason = "on_behalf_of_not_allowed"

	IdentityNotAllowed  Reason = "identity_not_allowed"
	IdentityMissing     Reason = "identity_missing"
	IdentityNotForUsers Reason = "identity_not_for_users"

	APIUnknown          Reason = "api_unknown"
	APINotAllowed       Reason = "api_not_allowed"
	ScopeMissing        Reason = "scope_missing"
	ScopeMalformed      Reason = "scope_malformed"
	ScopeReserved       Reason = "scope_reserved"
	ScopeMixedResources Reason = "scope_mixed_resources"
	ScopeNotAllowed     Reason = "scope_not_allowed"

	UserUnverified       Reason = "user_unverified"
	UserExpired          Reason = "user_expired"
	UserBlocked          Reason = "user_blocked"
	UserTenantNotAllowed Reason = "user_tenant_not_allowed"
	UserNotListed        Reason = "user_not_listed"
	UserIsGuest          Reason = "user_is_guest"
	UserClientNotAllowed Reason = "user_client_not_allowed"
	UserScopeMissing     Reason = "user_scope_missing"
	GroupsOverage        Reason = "groups_overage"
	UserNotInGroup       Reason = "user_not_in_group"
	UserRoleMissing      Reason = "user_role_missing"
	UserACRSMissing      Reason = "user_acrs_missing"
	UserAMRMissing       Reason = "user_amr_missing"

	RawTokenForbidden   Reason = "raw_token_forbidden"
	APIMethodNotAllowed Reason = "api_method_not_allowed"
	APIPathNotAllowed   Reason = "api_path_not_allowed"
)

// Reasons returns all reasons, in the order in which the steps find them.
func Reasons() []Reason {
	return []Reason{
		UnknownAgent,
		AgentMismatch, AgentBlocked, AgentExpired, OverLimit, OnBehalfOfNotAllowed,
		IdentityNotAllowed, IdentityMissing, IdentityNotForUsers,
		APIUnknown, APINotAllowed, ScopeMissing, ScopeMalformed, ScopeReserved, ScopeMixedResources, ScopeNotAllowed,
		UserUnverified, UserExpired, UserBlocked, UserTenantNotAllowed, UserNotListed, UserIsGuest, UserClientNotAllowed, UserScopeMissing,
		GroupsOverage, UserNotInGroup, UserRoleMissing, UserACRSMissing, UserAMRMissing,
		RawTokenForbidden, APIMethodNotAllowed, APIPathNotAllowed,
	}
}
