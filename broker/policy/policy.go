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
	Sources    map[string]Source
	Identities map[string]Identity
	Agents     map[string]*Agent
	Warnings   []Problem // what is allowed and probably not meant; sorted by line
	Revision   string    // first 12 hexadecimal digits of the SHA-256 of the file

	callers callers // the only way from a peer to an agent
}

// Cloud is the Entra cloud that the tenant lives in.
type Cloud struct {
	Name      string // public, usgov, china or custom
	Authority string // origin of the token endpoint, e.g. https://login.microsoftonline.com
	CAFile    string // PEM file of the roots to trust instead of the system's; "" for the system's
	Audience  string // what Entra expects as audience of a workload token
}

// Identity is what the broker can be at Entra. Exactly one field is set.
type Identity struct{ Application *Application }

// Application is an app registration, or a user-assigned identity, with a
// federated credential.
type Application struct {
	ClientID string // lower-case GUID
	Source   string // key of Policy.Sources
}

// Agent is a configured caller: who it is, and what it may have.
type Agent struct {
	Name    string
	Owner   string    // whom to ask; "" when the file does not say
	Expires time.Time // first instant at which the agent is expired; zero: never
	// Default is the identity of a request that names none; "" when each
	// request has to name one.
	Default    string
	Identities []string // keys of Policy.Identities, in the order of the file
	Callers    []Caller // in the order of the file
	Scopes     []string // canonical, in the order of the file

	grants    map[string]grant // by scope
	clientIDs []string         // of Identities: what the request may call the agent
	rules     rules
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

// Sockets returns the unix sockets that the agents' callers name, sorted.
func (p *Policy) Sockets() []string { return slices.Sorted(maps.Keys(p.callers.sockets)) }

// KeyFiles returns the key files that the agents' callers name, sorted.
func (p *Policy) KeyFiles() []string { return slices.Sorted(maps.Keys(p.callers.keyFiles)) }
