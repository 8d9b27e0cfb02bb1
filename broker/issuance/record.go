package issuance

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/broker/recent"
)

// Decision is the outcome of an issuance.
type Decision string

// The outcomes.
const (
	Allow Decision = "allow" // a token was handed out
	Deny  Decision = "deny"  // the broker said no
	Fail  Decision = "error" // yes, but there was no token to hand out
)

// Cache says how the token was come by.
type Cache string

// The ways to a token. The empty value means that the request never got there.
const (
	Hit    Cache = "hit"    // it was there
	Joined Cache = "joined" // somebody else was already fetching it
	Miss   Cache = "miss"   // it was fetched for this request
)

// Record is one issuance. Empty fields are not recorded. A Record belongs to
// one goroutine and is used once.
type Record struct {
	ID    string    // NewID
	Start time.Time // when the request came in
	Door  string    // which protocol the agent spoke: oauth, managed_identity, auth_sidecar or call_through
	Grant string    // OAuth grant of the request; "" when it was none we know

	Agent      string // name in the policy; "" when the peer is nobody
	Owner      string // the agent's owner in the policy
	PeerNet    string // unix or tcp
	PeerSocket string // file name of the unix socket
	PeerUID    uint32 // uid of the peer, if PeerKnown
	PeerKnown  bool   // the kernel vouched for PeerUID

	Identity string   // name in the policy
	Member   string   // agent id or object id, of an identity that has several; never a name
	Tenant   string   // Entra tenant
	ClientID string   // Entra client id of the identity
	Scopes   []string // canonical, see Scopes
	API      string   // downstream API that the token is for, by its name in the policy
	Call     bool     // the broker calls the API itself; not recorded
	Revision string   // of the policy that decided

	OnBehalfOf   bool   // the request was for a token to act for a user
	UserTenant   string // tenant of the user that the token is for
	UserObjectID string // object id of that user
	UserHash     string // stands for the two above: see Pseudonyms
	UserClient   string // client id of the app that the user's token was issued to
	Session      bool   // the user's token has expired, and a session goes on

	Inspection bool // nothing was asked for but what a user's token says

	Decision Decision
	Reason   string // closed set; "" when allowed, and what audit mode overlooked
	Rule     string // path in the policy file of the rule that decided
	Audited  bool   // only audit mode allowed it: Reason and Rule would have denied
	FirstUse bool   // the agent has not used these scopes before, since the broker started
	Cache    Cache
	Asked    bool // Entra was asked for the token; in neither the span nor the audit line

	TokenKind     string // app or user
	ExpiresAt     time.Time
	UniqueID      string // uti of the token
	CorrelationID string // client-request-id of the exchange
	RequestID     string // Entra's x-ms-request-id
	EntraError    string // OAuth error code of Entra's answer
	EntraCodes    []int  // AADSTS numbers of it

	// Pseudonyms, when there are some, put a hash in the place of the user's
	// tenant and object id before anything is recorded.
	Pseudonyms *Pseudonyms
	// BestEffort lets the token go out although the audit line cannot be written.
	BestEffort bool

	// For operators' eyes, in neither the span nor the audit line.
	Hint  string        // what to change
	Steps []recent.Step // of the decision; may be shared, and is not modified

	// What the caller says of itself in its baggage, see Word. Nothing is decided by it.
	SaidAgentID, SaidAgentName, SaidConversation string

	Age time.Duration // of the token that is handed out

	opened        bool // by Open, for work under its span
	span          trace.Span
	options       [2]trace.SpanStartOption // that it was started with
	context       trace.SpanContext        // instead of a span's
	above, shared trace.SpanContext        // of the caller, and of whose exchange this one joined
}

// records are those that were freed: a record is large, and most requests are
// over in microseconds.
var records = sync.Pool{New: func() any { return new(Record) }}

// NewRecord returns an empty Record.
func NewRecord() *Record { return records.Get().(*Record) }

// Free may be called once r is closed and not needed any more: NewRecord then
// returns it again. A record that was opened stays whose it is, since work under
// its span may go on.
func (r *Record) Free() {
	if !r.opened {
		*r = Record{}
		records.Put(r)
	}
}

// SpanContext is that of the record's span, also when it has ended; it is not
// valid before Open or Close, and when there are no traces.
func (r *Record) SpanContext() trace.SpanContext {
	if r.span == nil {
		return r.context
	}
	return r.span.SpanContext()
}

// NewID returns a fresh issuance id: 16 random bytes in hexadecimal.
func NewID() string {
	b := random()
	var text [32]byte
	hex.Encode(text[:], b[:])
	return string(text[:])
}

// random is for ids, which are no secrets: nothing is opened by knowing one.
func random() (b [16]byte) {
	binary.LittleEndian.PutUint64(b[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64())
	return b
}

const (
	maxScopes     = 16
	maxScopeBytes = 256
)

// Scopes makes requested scopes fit to be recorded. On a denial they are the
// caller's own words, and may be a key or a token that ended up in the wrong
// parameter, or somebody's address: what does not look like <resource>/<permission>,
// is too long or holds the beginning of a JWT is replaced by a fixed word.
func Scopes(requested []string) []string {
	if len(requested) > maxScopes {
		requested = requested[:maxScopes]
	}
	var out []string
	for i, s := range requested {
		if recordable(s) {
			if out != nil {
				out = append(out, s)
			}
			continue
		}
		if out == nil {
			out = append(make([]string, 0, len(requested)), requested[:i]...)
		}
		out = append(out, withheld)
	}
	if out == nil {
		return requested
	}
	return out
}

func recordable(scope string) bool {
	resource, _, ok := strings.Cut(scope, "/")
	ok = ok && (resource == "https:" || resource == "api:" || len(resource) == 36 && strings.Count(resource, "-") == 4)
	return ok && len(scope) <= maxScopeBytes && !strings.ContainsAny(scope, "@?#") && !strings.Contains(scope, "eyJ") && !strings.ContainsFunc(scope, unprintable)
}

func unprintable(r rune) bool { return r <= ' ' || r > '~' }
