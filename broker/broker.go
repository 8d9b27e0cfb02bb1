package broker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/exchange"
)

// Config is what New needs beside the rules, and what outlives them.
type Config struct {
	Cache    *cache.Cache[exchange.Token] // required
	Recorder *issuance.Recorder           // required
	// Peer says who is at the other end of the connection that a context
	// carries. Nil means peer.FromContext, the kernel's word.
	Peer func(context.Context) (peer.Peer, error)
	// Now is the wall clock. Nil means time.Now.
	Now func() time.Time
}

// Broker issues tokens. It is safe for concurrent use.
type Broker struct {
	cfg      Config
	rules    atomic.Pointer[generation]
	sessions *sessions
	groups   *groups
	seen     *seen
	released *releases
	calls    calls
	last     atomic.Pointer[lastExchange]

	using sync.Mutex // lets one Use at a time
}

type lastExchange struct {
	at  time.Time
	err error
	of  *exchange.Client
}

// New returns a Broker or all problems of cfg and rules, joined.
func New(cfg Config, rules Rules) (*Broker, error) {
	var problems []error
	if cfg.Cache == nil || cfg.Recorder == nil {
		problems = append(problems, errors.New("a broker needs a cache and a recorder"))
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Peer == nil {
		cfg.Peer = peer.FromContext
	}
	g, err := newGeneration(rules, nil)
	problems = append(problems, err)
	b := &Broker{cfg: cfg}
	if b.sessions, err = newSessions(); err != nil {
		problems = append(problems, err)
	}
	if b.groups, err = newGroups(); err != nil {
		problems = append(problems, err)
	}
	if b.seen, err = newSeen(); err != nil {
		problems = append(problems, err)
	}
	if b.released, err = newReleases(); err != nil {
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	b.rules.Store(g)
	return b, nil
}

// Use replaces the rules, for every request that comes from now on and for
// those under way: what the new rules do not allow is not released, and tokens
// that they do not allow are purged, and calls ended, before Use returns. Rules that
// are not complete are refused, and the old ones stay.
func (b *Broker) Use(rules Rules) error {
	b.using.Lock()
	defer b.using.Unlock()
	before := b.rules.Load()
	g, err := newGeneration(rules, before)
	if err != nil {
		return err
	}
	b.rules.Store(g)
	b.purgeForbidden(before, g)
	b.endForbiddenCalls()
	return nil
}

// Rules returns the rules that the Broker works by now. They must not be
// modified.
func (b *Broker) Rules() Rules { return b.rules.Load().Rules }

// Close waits for questions to Microsoft Graph under way, until ctx ends. The cache is
// its owner's to close.
func (b *Broker) Close(ctx context.Context) error { return b.groups.told.Close(ctx) }

// exchanged takes note of how an exchange of a client ended, if anything was sent to
// the Entra of the rules in force.
func (b *Broker) exchanged(of *exchange.Client, err error) {
	if of == b.rules.Load().Exchange && asked(err) {
		b.last.Store(&lastExchange{at: b.cfg.Now(), err: err, of: of})
	}
}

// LastExchange returns when Entra last answered for an exchange, or did not, and
// how: the zero time before the first. What was never sent does not count, nor what
// another Entra than that of the rules in force answered.
func (b *Broker) LastExchange() (time.Time, error) {
	last := b.last.Load()
	if last == nil || last.of != b.rules.Load().Exchange {
		return time.Time{}, nil
	}
	return last.at, last.err
}
