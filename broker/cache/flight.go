package cache

import (
	"context"
	"fmt"
	"time"
)

// flight is one fetch, from its start until it has returned.
type flight[V any] struct {
	// leader is the context of whoever started the fetch. It is kept only as long as
	// the flight, to be handed to those who join; nothing here waits on it.
	leader  context.Context //nolint:containedctx // only handed on
	started instant
	cancel  context.CancelFunc

	// done is closed when the outcome below is final: the fetch returned, or Purge or
	// Close answered in its place.
	done    chan struct{}
	value   V
	expires time.Time
	err     error
}

// start begins a fetch that others can join. It is called with mu held, with no
// flight for key and the cache open. now is when the caller came in: if the lock
// was contended, the lifetime counts from a little too early, never too late.
func (c *Cache[V]) start(ctx context.Context, key Key, fetch Fetch[V], now instant) *flight[V] {
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.FetchTimeout) //nolint:gosec // run calls cancel
	f := &flight[V]{leader: ctx, started: now, cancel: cancel, done: make(chan struct{})}
	c.flights[key] = f
	c.running[f] = struct{}{}
	c.counters.fetches++
	go c.run(detached, key, f, fetch)
	return f
}

// run owns the goroutine of one fetch and lands it however the fetch ends: by a
// return, a panic or runtime.Goexit.
func (c *Cache[V]) run(ctx context.Context, key Key, f *flight[V], fetch Fetch[V]) {
	var entry Entry[V]
	err := fmt.Errorf("%w: it ended its goroutine", ErrNoResult) // stands unless fetch returns or panics
	defer func() {
		f.cancel()
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: panic of type %T", ErrNoResult, p)
		}
		c.land(key, f, entry, err)
	}()
	entry, err = fetch(ctx)
}

// land books the end of a fetch and tells those who wait.
func (c *Cache[V]) land(key Key, f *flight[V], entry Entry[V], err error) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()

	delete(c.running, f)
	if c.closed && len(c.running) == 0 {
		close(c.idle)
	}
	if err != nil {
		c.counters.failed++
	}
	if c.flights[key] != f {
		return // disowned by Purge or Close, which answered those who waited
	}
	delete(c.flights, key)
	if err != nil {
		c.backOff(key, now)
		f.settle(err)
		return
	}
	s := newStored(entry, f.started)
	if !c.store(key, s, now) {
		c.backOff(key, now)
	}
	f.value, f.expires = entry.Value, s.expires(now)
	f.settle(nil)
}

// disown takes the flight of key, if there is one, out of reach: its result will
// not be stored, and those who wait get err now. It is called with mu held.
func (c *Cache[V]) disown(key Key, err error) {
	if f := c.flights[key]; f != nil {
		delete(c.flights, key)
		f.settle(err)
	}
}

// settle makes the outcome final. It is called with mu held, once per flight: by
// whoever took the flight out of flights.
func (f *flight[V]) settle(err error) {
	f.err = err
	close(f.done)
}

// wait returns the outcome of f, or leaves when ctx ends first.
func (f *flight[V]) wait(ctx context.Context) (v V, expires time.Time, err error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		select {
		case <-f.done: // both at once: the value is worth more than the reason to leave
		default:
			return v, expires, leaving(ctx.Err())
		}
	}
	return f.value, f.expires, f.err
}

func leaving(err error) error { return fmt.Errorf("cache: waiting for the fetch: %w", err) }
