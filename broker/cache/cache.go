package cache

import (
	"context"
	"errors"
	"sync"
	"time"
)

var (
	// ErrClosed is returned where a fetch would be needed after Close, and to those
	// who were waiting for one when Close was called.
	ErrClosed = errors.New("cache: closed")

	// ErrPurged is returned to those who were waiting for a fetch whose key was
	// purged meanwhile. Asking again starts a new fetch.
	ErrPurged = errors.New("cache: purged while the fetch was in flight")

	// ErrNoResult is returned to those who waited for a fetch that did not return: it
	// panicked or ended its goroutine. The text names the type of the panic's value,
	// never the value, which may hold a secret.
	ErrNoResult = errors.New("cache: fetch did not return")
)

// Entry is what a fetch brings.
type Entry[V any] struct {
	Value V

	// Lifetime runs from the moment the fetch was started, not from when it
	// returned, until the value truly expires. If it is over when the fetch returns,
	// or not positive, the value goes to those who waited and is not stored.
	Lifetime time.Duration

	// RefreshIn is the server's hint when to refresh, from the same moment. Not
	// positive, or not before the end of Lifetime: 80 % of Lifetime. Up to a quarter
	// of the rest of Lifetime is added at random, per entry.
	RefreshIn time.Duration

	// NoRefresh says that another fetch would bring nothing that lives longer, so that
	// none is due before the end of Lifetime.
	NoRefresh bool

	// Bytes is the size of Value for Config.MaxBytes. Negative counts as 0.
	Bytes int
}

// Fetch obtains a value. Its context has the values of the context of whoever
// started it, not its cancellation or deadline; it ends after Config.FetchTimeout
// or with Close, and Fetch must return soon after it does. It runs on a goroutine
// of its own and must not call Get for the same key.
type Fetch[V any] func(ctx context.Context) (Entry[V], error)

// Outcome is how Get came by its value.
type Outcome string

const (
	Hit    Outcome = "hit"    // from memory
	Joined Outcome = "joined" // waited for a fetch that somebody else had started
	Miss   Outcome = "miss"   // started the fetch
)

// How describes the work behind one Get, whether it succeeded or not.
type How struct {
	// Outcome is empty if Get gave up before it looked for a fetch to wait for: the
	// cache is closed, or ctx was done.
	Outcome Outcome

	// Leader is, for Joined, the context of whoever started the fetch, so that a span
	// can be linked to theirs. It may be done already. nil otherwise.
	Leader context.Context //nolint:containedctx // it is the answer, not a context to work under
}

// Cache is a cache of V by Key. Create it with New and end it with Close. Its
// methods are safe for concurrent use.
type Cache[V any] struct {
	cfg Config

	// mu guards all fields below it, what changes of each stored entry, and the
	// outcome of each flight until its done is closed. It is held for
	// bookkeeping only: never across a fetch, a wait, the clock, or a match function.
	mu       sync.Mutex
	shares   map[string]*share[V]    // what is stored, by agent; none is empty
	entries  int                     // in all shares
	bytes    int64                   // of them
	claimed  map[Key][]Key           // entries with claims by their keys without, the oldest first
	flights  map[Key]*flight[V]      // what Get may join: at most one per key
	running  map[*flight[V]]struct{} // every fetch that has not returned, joinable or disowned
	closed   bool
	idle     chan struct{} // closed once the cache is closed and running is empty
	counters counters
}

// New returns an empty cache, or all problems of cfg joined. It starts no goroutine.
func New[V any](cfg Config) (*Cache[V], error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Cache[V]{
		cfg:     cfg,
		shares:  make(map[string]*share[V]),
		claimed: make(map[Key][]Key),
		flights: make(map[Key]*flight[V]),
		running: make(map[*flight[V]]struct{}),
		idle:    make(chan struct{}),
	}, nil
}

// Lookup is the hit path: it returns the value stored for key and when it expires.
// ok is true only while the entry is valid on both clocks; an expired entry is
// dropped. refresh reports that a background refresh is due, allowed by the
// back-off and not in flight: the caller then calls Refresh.
//
// Lookup works after Close, with refresh always false.
func (c *Cache[V]) Lookup(key Key) (v V, expires time.Time, refresh, ok bool) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.find(key, now)
	if s == nil {
		return v, expires, false, false
	}
	return s.value, s.expires(now), c.mayRefresh(key, s, now), true
}

// Refresh starts a background fetch for key, and returns at once whether it did.
// It does not if a fetch is in flight for key, if another one has refreshed the
// entry or failed to since Lookup reported it due, or after Close. With no entry
// stored for key it starts one: for warming up.
//
// The values of ctx reach fetch, its cancellation does not. A refresh that fails,
// or brings what cannot be stored or does not live as long, leaves the entry in
// place until its expiry.
func (c *Cache[V]) Refresh(ctx context.Context, key Key, fetch Fetch[V]) bool {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.flights[key] != nil {
		return false
	}
	if s := c.find(key, now); s != nil && !c.mayRefresh(key, s, now) {
		return false
	}
	c.start(ctx, key, fetch, now)
	return true
}

// Get returns the value for key: a valid entry, else the result of the fetch in
// flight, else that of a new one. It does not look whether a refresh is due.
//
// The fetch outlives ctx: a caller whose ctx ends leaves with an error for which
// errors.Is with ctx.Err() holds, while the others wait on and the result is
// stored. An error of the fetch goes to all who waited, as it is, and is not
// stored. Get also returns ErrPurged, ErrClosed or ErrNoResult.
func (c *Cache[V]) Get(ctx context.Context, key Key, fetch Fetch[V]) (v V, expires time.Time, how How, err error) {
	gone := ctx.Err()
	now := c.now()

	c.mu.Lock()
	if s := c.find(key, now); s != nil {
		defer c.mu.Unlock()
		return s.value, s.expires(now), How{Outcome: Hit}, nil
	}
	f := c.flights[key]
	switch {
	case f != nil:
		how = How{Outcome: Joined, Leader: f.leader}
	case c.closed:
		err = ErrClosed
	case gone != nil: // nobody would read the result
		err = leaving(gone)
	default:
		how = How{Outcome: Miss}
		f = c.start(ctx, key, fetch, now)
	}
	c.mu.Unlock()

	if f == nil {
		return v, expires, how, err
	}
	v, expires, err = f.wait(ctx)
	return v, expires, how, err
}

// mayRefresh is called with mu held.
func (c *Cache[V]) mayRefresh(key Key, s *stored[V], now instant) bool {
	return s.refreshDue(now) && !c.closed && c.flights[key] == nil
}
