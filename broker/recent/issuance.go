package recent

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// TraceID is a W3C trace id. The zero value is none.
type TraceID [16]byte

// SpanID is a W3C span id. The zero value is none.
type SpanID [8]byte

// String is the id in hexadecimal, or "" for none.
func (id TraceID) String() string { return text(id[:], id == TraceID{}) }

// String is the id in hexadecimal, or "" for none.
func (id SpanID) String() string { return text(id[:], id == SpanID{}) }

// MarshalText implements encoding.TextMarshaler.
func (id TraceID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// MarshalText implements encoding.TextMarshaler.
func (id SpanID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *TraceID) UnmarshalText(b []byte) error { return read(id[:], b) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *SpanID) UnmarshalText(b []byte) error { return read(id[:], b) }

func text(id []byte, none bool) string {
	if none {
		return ""
	}
	return hex.EncodeToString(id)
}

func read(id, b []byte) error {
	clear(id)
	if len(b) == 0 {
		return nil
	}
	if len(b) != hex.EncodedLen(len(id)) {
		return hex.ErrLength
	}
	_, err := hex.Decode(id, b)
	return err
}

// Issuance is what is remembered of one issuance. The names in JSON are those
// of the audit line.
type Issuance struct {
	Number  uint64        `json:"number"` // counts up from 1 since the start
	Start   time.Time     `json:"time"`
	Took    time.Duration `json:"-"` // duration_us
	ID      string        `json:"issuance_id"`
	TraceID TraceID       `json:"trace_id,omitzero"`
	SpanID  SpanID        `json:"span_id,omitzero"`
	Parent  SpanID        `json:"parent_span_id,omitzero"` // the caller's own span
	// Joined is the span of the issuance whose exchange this one shared.
	Joined SpanID `json:"joined_span_id,omitzero"`

	Agent      string `json:"agent,omitempty"` // "": the caller is nobody
	Owner      string `json:"owner,omitempty"`
	PeerNet    string `json:"peer_network,omitempty"`
	PeerSocket string `json:"peer_socket,omitempty"`
	PeerUID    uint32 `json:"peer_uid"` // means nothing unless PeerKnown
	PeerKnown  bool   `json:"peer_uid_known"`
	Door       string `json:"door"`
	Grant      string `json:"grant,omitempty"`

	// What the caller says of itself in its baggage.
	SaidAgentID      string `json:"said_agent_id,omitempty"`
	SaidAgentName    string `json:"said_agent_name,omitempty"`
	SaidConversation string `json:"said_conversation_id,omitempty"`

	Identity     string   `json:"identity,omitempty"`
	Member       string   `json:"identity_member,omitempty"`
	Tenant       string   `json:"tenant_id,omitempty"`
	ClientID     string   `json:"client_id,omitempty"`
	Scopes       []string `json:"scopes,omitempty"`
	API          string   `json:"api,omitempty"`
	OnBehalfOf   bool     `json:"on_behalf_of,omitempty"`
	UserTenant   string   `json:"user_tenant_id,omitempty"`
	UserObjectID string   `json:"user_object_id,omitempty"`
	UserHash     string   `json:"user_hash,omitempty"` // in the place of the two, where users are hashed
	UserClient   string   `json:"user_client_id,omitempty"`
	Session      bool     `json:"session,omitempty"`
	Inspection   bool     `json:"inspection,omitempty"` // asked what a token says, and for none

	Decision string `json:"decision"`
	Reason   string `json:"reason,omitempty"`
	Rule     string `json:"rule,omitempty"`
	Hint     string `json:"hint,omitempty"` // what to change
	Audited  bool   `json:"audited,omitempty"`
	FirstUse bool   `json:"first_use,omitempty"`
	Revision string `json:"policy_revision,omitempty"`
	Steps    []Step `json:"-"` // of the decision

	Cache         string    `json:"cache,omitempty"`
	Asked         bool      `json:"entra_asked,omitempty"` // for the token, whether or not it answered
	TokenKind     string    `json:"token_kind,omitempty"`
	ExpiresAt     time.Time `json:"expires_at,omitzero"`
	UniqueID      string    `json:"uti,omitempty"`
	CorrelationID string    `json:"entra_correlation_id,omitempty"`
	RequestID     string    `json:"entra_request_id,omitempty"`
	EntraError    string    `json:"entra_error,omitempty"`
	EntraCodes    []int     `json:"entra_error_codes,omitempty"`
}

// The decisions.
const (
	Allow = "allow"
	Deny  = "deny"
	Fail  = "error"
)

// Step is one step of a decision, as credfree explain prints it.
type Step struct {
	Number  int    `json:"number"`
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Audited bool   `json:"audited,omitempty"` // OK in audit mode only
	Detail  string `json:"detail"`
	Rule    string `json:"rule,omitempty"`
}

// MarshalJSON writes the duration as the audit line does.
func (i Issuance) MarshalJSON() ([]byte, error) {
	type plain Issuance
	return json.Marshal(struct {
		plain
		Took int64 `json:"duration_us"`
	}{plain(i), i.Took.Microseconds()})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (i *Issuance) UnmarshalJSON(b []byte) error {
	type plain Issuance
	var read struct {
		plain
		Took int64 `json:"duration_us"`
	}
	if err := json.Unmarshal(b, &read); err != nil {
		return err
	}
	*i = Issuance(read.plain)
	i.Took = time.Duration(read.Took) * time.Microsecond
	return nil
}

// End is when the issuance was answered.
func (i *Issuance) End() time.Time { return i.Start.Add(i.Took) }

// User is the user, as <tenant id>/<object id>, or the hash of that where users
// are hashed; "" for none.
func (i *Issuance) User() string {
	if i.UserHash != "" {
		return i.UserHash
	}
	if i.UserObjectID == "" {
		return ""
	}
	return i.UserTenant + "/" + i.UserObjectID
}

// Scope is all scopes, separated by spaces.
func (i *Issuance) Scope() string { return strings.Join(i.Scopes, " ") }

// Plain says that a token was handed out from the cache, and nothing else was
// done: such issuances are many, and have no spans but their own.
func (i *Issuance) Plain() bool { return i.Decision == Allow && i.Cache == "hit" }

// Inspected says that the agent was told what a token says, and was handed out none.
func (i *Issuance) Inspected() bool { return i.Inspection && i.Decision == Allow }

// size is what the texts but the id count against the bound. Some of them are
// shared with others, and counted all the same.
func (i *Issuance) size() int {
	n := len(i.Agent) + len(i.Owner) + len(i.PeerNet) + len(i.PeerSocket) + len(i.Door) + len(i.Grant) + len(i.Identity) + len(i.Member) +
		len(i.Tenant) + len(i.ClientID) + len(i.API) + len(i.UserTenant) + len(i.UserObjectID) + len(i.UserClient) + len(i.UserHash) +
		len(i.Decision) + len(i.Reason) + len(i.Rule) + len(i.Hint) + len(i.Revision) + len(i.Cache) + len(i.TokenKind) +
		len(i.UniqueID) + len(i.CorrelationID) + len(i.RequestID) + len(i.EntraError) + 8*len(i.EntraCodes) +
		len(i.SaidAgentID) + len(i.SaidAgentName) + len(i.SaidConversation)
	for _, s := range i.Scopes {
		n += 16 + len(s)
	}
	for _, s := range i.Steps {
		n += 64 + len(s.Name) + len(s.Detail) + len(s.Rule)
	}
	return n
}

// own copies what callers chose: a string that is cut out of a request would
// keep all of the request in memory, and with it a user's token.
func (i *Issuance) own(m *Memory) {
	i.Grant, i.Member, i.API = m.texts.own(i.Grant), m.texts.own(i.Member), m.texts.own(i.API)
	for _, s := range []*string{&i.UniqueID, &i.CorrelationID, &i.RequestID, &i.EntraError, &i.Hint} {
		if len(*s) > maxText {
			*s = strings.Clone(clip(*s))
		}
	}
	for _, s := range []*string{&i.SaidAgentID, &i.SaidAgentName, &i.SaidConversation} {
		if *s != "" {
			*s = strings.Clone(clip(*s))
		}
	}
	if len(i.EntraCodes) > 0 {
		i.EntraCodes = slices.Clone(i.EntraCodes[:min(len(i.EntraCodes), maxCodes)])
	}
	if i.Decision == Allow && len(i.Scopes) == 1 {
		return // the policy's own
	}
	scopes := make([]string, len(i.Scopes))
	for n, s := range i.Scopes {
		scopes[n] = m.texts.own(s)
	}
	i.Scopes = scopes
}

// texts are strings that are owned and shared.
type texts map[string]string

const maxTexts = 512

func (t *texts) own(s string) string {
	if s == "" {
		return ""
	}
	if found, ok := (*t)[s]; ok {
		return found
	}
	if *t == nil || len(*t) >= maxTexts {
		*t = texts{} // what is remembered goes on using the old ones
	}
	s = strings.Clone(clip(s))
	(*t)[s] = s
	return s
}

// Bounds of a text, and of a list of Entra's error numbers.
const (
	maxText  = 512
	maxCodes = 8
)

func clip(s string) string {
	if len(s) > maxText {
		return strings.ToValidUTF8(s[:maxText], "")
	}
	return s
}
