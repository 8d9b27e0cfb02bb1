package policy

import (
	"maps"
	"slices"
	"time"
)

// Policy is what one policy file says. It comes from Parse, must not be
// modified after that, and is then safe for concurrent use. The zero Policy,
// and one that was put together by hand, deny everything.
type Policy struct {
	Tenant     string // lower-case GUID or verified domain
	Cloud      Cloud
	Strict     bool // the file had to be strict: owners, expiries, clients, no caller that is anybody
	Audit      bool // of agents that do not say otherwise
	Recording  Recording
	Sources    map[string]Source
	Identities map[string]Identity
	Roles      map[string][]string // canonical scopes
	APIs       map[string]API
	Agents     map[string]*Agent
	Blocked    Blocked
	Warnings   []Problem // what is allowed and probably not meant; sorted by line
	Revision   string    // first 12 hexadecimal digits of the SHA-256 of the file
	FromPod    []FromPod // values that the pod says, in the order of the file

	ceiling      *Ceiling          // nil: none
	callers      callers           // the only way from a peer to an agent
	blockedUsers map[UserID]string // Blocked.Users, with the path of each
}

// Agent is a configured caller: who it is, and what it may have.
type Agent struct {
	Name    string
	Owner   string    // whom to ask; "" when the file does not say
	Expires time.Time // first instant at which the agent is expired; zero: never
	Blocked bool      // by itself, or by the block list
	// Audit lets the agent have what the rules about its expiry, its limits, its
	// scopes and its users deny. Decision.Audited then says what they are.
	Audit bool
	// Default is the identity of a request that names none; "" when each
	// request has to name one.
	Default    string
	Identities []string    // keys of Policy.Identities, in the order of the file
	Callers    []Caller    // in the order of the file
	Scopes     []string    // canonical, each once: those of its scopes, then of its roles, then of its apis
	APIs       []string    // keys of Policy.APIs that the agent may call
	OnBehalfOf *OnBehalfOf // nil: never for a user
	RawToken   bool        // whether a token may leave the broker
	Limits     Limits
	// Advertise is the longest lifetime that the agent is told, so that it comes
	// back earlier; 0: what is left of the token's.
	Advertise time.Duration

	policy    *Policy
	choices   []choice // Identities again, with what they are
	forItself allowance
	forUser   allowance           // of OnBehalfOf
	groups    map[string]struct{} // of OnBehalfOf
	rules     rules
	// A ceiling that bounds expiry or limits lets audit mode forgive neither.
	expiryIsFinal, limitsAreFinal bool
}

// Caller is one way to recognise an agent: either a unix socket (Socket) or
// loopback TCP (TCP).
type Caller struct {
	Socket  string   // bare file name or absolute path, as written; "" for TCP
	TCP     bool     // loopback TCP
	UIDs    []uint32 // the peer must run as one of these; empty: not looked at
	KeyFile string   // TCP: the peer must present the key in this file; "" for no key
	Any     bool     // TCP: any local process
}

// Ceiling returns the ceiling that the policy is under, or nil.
func (p *Policy) Ceiling() *Ceiling { return p.ceiling }

// Sockets returns the unix sockets that the agents' callers name, sorted.
func (p *Policy) Sockets() []string { return slices.Sorted(maps.Keys(p.callers.sockets)) }

// KeyFiles returns the key files that the agents' callers name, sorted.
func (p *Policy) KeyFiles() []string { return slices.Sorted(maps.Keys(p.callers.keyFiles)) }
