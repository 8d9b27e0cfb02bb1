package review

import (
	"errors"
	"strings"
	"time"

	"github.com/credfree/credfree/broker/policy"
)

// Config is what New needs. The zero Config reviews all lines without a policy.
type Config struct {
	// Policy is compared with the logs. Nil: it cannot be told what is granted.
	Policy *policy.Policy
	// File is the text that Policy was parsed from. Required with Policy.
	File []byte
	// Since leaves out what is older. Zero leaves out nothing.
	Since time.Time
	// Until leaves out what is of that time or newer. Zero leaves out nothing.
	Until time.Time
	// Agent reviews that agent alone. "" reviews all.
	Agent string
	// User reviews what was done for that user alone: <tenant id>/<object id>, the
	// object id, or the hash that stands for the two in logs that hash users. Not
	// with Policy: what is not for the user would look unused.
	User string
	// UserHash is the hash that stands for User. "": not known, so that lines with
	// hashes are left out, unless User is one.
	UserHash string
	// Now tells whether an agent has expired. Zero: none has.
	Now time.Time
	// Users is how many users to list per agent; 0 lists none.
	Users int
}

// Bounds of what is kept. What comes after is counted, and not kept apart.
const (
	maxAgents     = 10_000
	maxStrangers  = 200
	maxRights     = 500 // of one agent, beyond those that the policy grants
	maxIdentities = 1_000
	maxUsers      = 10_000
	maxDenials    = 200
	maxFailures   = 50
	maxKept       = 200_000 // of all of these together
)

// Review sums up logs. It is not safe for concurrent use.
type Review struct {
	cfg       Config
	lines     Lines
	all       Use // of all counted lines
	agents    map[string]*tally
	more      int64 // lines of agents that there was no room for
	strangers counts[Stranger]
	room      int // how many more things can be kept
}

// Use says how often something happened, and when first and last.
type Use struct {
	Count int64     `json:"count"`
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
}

// add counts once more. Logs may come in any order.
func (u *Use) add(at time.Time) {
	u.Count++
	if u.First.IsZero() || at.Before(u.First) {
		u.First = at
	}
	if at.After(u.Last) {
		u.Last = at
	}
}

// counts counts what happened by what it was.
type counts[K comparable] struct {
	by   map[K]*Use
	more int64 // what there was no room for
}

// add counts key, and keeps at most so many of them.
func (c *counts[K]) add(r *Review, most int, key K, at time.Time) {
	use, ok := c.by[key]
	if !ok {
		if len(c.by) >= most || r.room <= 0 {
			c.more++
			return
		}
		if c.by == nil {
			c.by = map[K]*Use{}
		}
		r.room--
		use = &Use{}
		c.by[key] = use
	}
	use.add(at)
}

// right is a scope that an agent has for itself or on behalf of users.
type right struct {
	scope   string
	forUser bool
}

// tally is what the logs say about one agent.
type tally struct {
	agent      *policy.Agent // nil: the policy does not know it
	owner      string        // by the newest line
	requests   Use
	inspected  int64 // of the requests
	granted    granted
	rights     map[right]*asking // those that are granted
	others     counts[right]     // issued, and not granted
	identities counts[string]    // of the requests that were allowed
	users      counts[User]
	denials    counts[Denial]
	failures   counts[Failure]
}

// asking is how a right that is granted was asked for.
type asking struct {
	issued    Use
	notIssued int64 // denied or failed
}

// New returns a Review of no lines yet. The error says that File is not the
// text of Policy, or that there are a Policy and a User.
func New(cfg Config) (*Review, error) {
	r := &Review{cfg: cfg, agents: map[string]*tally{}, room: maxKept}
	if cfg.Policy == nil {
		return r, nil
	}
	if cfg.User != "" {
		return nil, errors.New("what was done for one user cannot be compared with a policy")
	}
	all, err := grants(cfg.Policy, cfg.File)
	if err != nil {
		return nil, err
	}
	for name, agent := range cfg.Policy.Agents {
		if cfg.Agent != "" && cfg.Agent != name {
			continue
		}
		t := &tally{agent: agent, granted: all[name], rights: map[right]*asking{}}
		for _, g := range t.granted.list {
			t.rights[g.right] = &asking{}
		}
		r.agents[name] = t
	}
	return r, nil
}

// count enters an audit line.
func (r *Review) count(rec *record) {
	r.all.add(rec.Time)
	if rec.Agent == "" {
		stranger := Stranger{Reason: rec.Reason, Network: rec.PeerNetwork, Socket: rec.PeerSocket}
		if rec.PeerUID != nil {
			stranger.UID, stranger.UIDKnown = *rec.PeerUID, true
		}
		r.strangers.add(r, maxStrangers, stranger, rec.Time)
		return
	}
	t, ok := r.agents[rec.Agent]
	if !ok {
		if len(r.agents) >= maxAgents || r.room <= 0 {
			r.more++
			return
		}
		r.room--
		t = &tally{}
		r.agents[rec.Agent] = t
	}
	if !rec.Time.Before(t.requests.Last) && rec.Owner != "" {
		t.owner = rec.Owner
	}
	t.requests.add(rec.Time)
	if rec.Grant == inspection {
		t.inspected++
	}
	if rec.Decision != allowed || rec.Audited {
		t.refused(r, rec)
	}
	if rec.Decision == allowed {
		t.served(r, rec)
	}
}

// served counts what was issued, and the identity that an inspection was for.
func (t *tally) served(r *Review, rec *record) {
	identity := rec.Identity
	if rec.Member != "" {
		identity += "/" + rec.Member
	}
	if identity != "" {
		t.identities.add(r, maxIdentities, identity, rec.Time)
	}
	if rec.Grant == inspection {
		return
	}
	for _, scope := range rec.Scopes {
		if found := t.right(scope, rec.OnBehalfOf); found != nil {
			found.issued.add(rec.Time)
		} else {
			t.others.add(r, maxRights, right{scope, rec.OnBehalfOf}, rec.Time)
		}
	}
	if rec.OnBehalfOf && rec.UserObjectID+rec.UserHash != "" {
		t.users.add(r, maxUsers, r.cfg.userOf(rec), rec.Time)
	}
}

// userOf is the user of a line. Of one who is asked about by ids and hash, the log
// may have both: that is one user, by the ids.
func (c *Config) userOf(rec *record) User {
	if tenant, object, ok := strings.Cut(clean(c.User), "/"); ok && c.UserHash != "" {
		return User{Tenant: tenant, ObjectID: object}
	}
	return User{Tenant: rec.UserTenant, ObjectID: rec.UserObjectID, Hash: rec.UserHash}
}

// refused counts what was not issued, and what only audit mode issued.
func (t *tally) refused(r *Review, rec *record) {
	if rec.Decision == failed {
		failure := Failure{Reason: rec.Reason, Error: rec.EntraError}
		if len(rec.EntraCodes) > 0 {
			failure.Code = rec.EntraCodes[0]
		}
		t.failures.add(r, maxFailures, failure, rec.Time)
	} else {
		t.denials.add(r, maxDenials, Denial{
			Scopes: clean(strings.Join(rec.Scopes, " ")), OnBehalfOf: rec.OnBehalfOf, Reason: rec.Reason, Rule: rec.Rule, Audited: rec.Audited,
		}, rec.Time)
	}
	if rec.Decision == allowed {
		return
	}
	for _, scope := range rec.Scopes {
		// Only what is granted: a caller may ask for anything.
		if found := t.right(scope, rec.OnBehalfOf); found != nil {
			found.notIssued++
		}
	}
}

// right returns what grants a scope, or nil.
func (t *tally) right(scope string, forUser bool) *asking {
	if found := t.rights[right{scope, forUser}]; found != nil {
		return found
	}
	return t.rights[right{policy.Listed(scope), forUser}]
}
