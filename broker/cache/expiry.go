package cache

import (
	"math/rand/v2"
	"time"
)

// clockTolerance is how far the two clocks may drift apart before the expiry that
// callers are told follows the monotonic one: two readings taken "together" are
// some nanoseconds apart, and an expiry should not change from call to call.
const clockTolerance = time.Second

// instant is one reading of both clocks, so that elapsed time can be asked of each.
type instant struct {
	wall int64         // Unix nanoseconds
	mono time.Duration // since an arbitrary origin
}

// realClock reads both clocks with one time.Now.
func realClock() func() (time.Time, time.Duration) {
	origin := time.Now()
	return func() (time.Time, time.Duration) {
		now := time.Now()
		return now, now.Sub(origin)
	}
}

func (c *Cache[V]) now() instant {
	wall, mono := c.cfg.Clock()
	return instant{wall: wall.UnixNano(), mono: mono}
}

// wallSince and monoSince tell how long ago start was, by one clock alone.
func (now instant) wallSince(start instant) time.Duration {
	return time.Duration(now.wall - start.wall)
}
func (now instant) monoSince(start instant) time.Duration { return now.mono - start.mono }

// stored is an entry at rest. Only failures, retryAt and refreshAfter change once it
// is built.
type stored[V any] struct {
	value        V
	started      instant // when its fetch started; lifetime and refreshAfter count from here
	lifetime     time.Duration
	refreshAfter time.Duration
	size         int64 // what it counts against MaxBytes

	failures int           // refreshes in a row that brought nothing to store
	retryAt  time.Duration // monotonic reading before which no refresh starts; 0 until one failed
}

func newStored[V any](e Entry[V], started instant) *stored[V] {
	s := &stored[V]{
		value:        e.Value,
		started:      started,
		lifetime:     e.Lifetime,
		refreshAfter: refreshAfter(e.Lifetime, e.RefreshIn),
		size:         EntryOverhead + max(0, int64(e.Bytes)),
	}
	if e.NoRefresh {
		s.refreshAfter = e.Lifetime
	}
	return s
}

// age is the time since the fetch started by the clock that saw more of it pass.
func (s *stored[V]) age(now instant) time.Duration {
	return max(now.wallSince(s.started), now.monoSince(s.started))
}

// left is the time until the entry expires; not positive if it has.
func (s *stored[V]) left(now instant) time.Duration { return s.lifetime - s.age(now) }

func (s *stored[V]) valid(now instant) bool { return s.left(now) > 0 }

// refreshDue tells whether the entry wants a refresh and its back-off allows one.
func (s *stored[V]) refreshDue(now instant) bool {
	return s.age(now) >= s.refreshAfter && (s.failures == 0 || now.mono >= s.retryAt)
}

// expires is the moment of expiry on the wall clock as it stands now. If that clock
// was set back, the entry ends earlier than the wall alone would say.
func (s *stored[V]) expires(now instant) time.Time {
	expires := time.Unix(0, s.started.wall).Add(s.lifetime)
	if lag := now.monoSince(s.started) - now.wallSince(s.started); lag > clockTolerance {
		return expires.Add(-lag)
	}
	return expires
}

// refreshAfter picks the age at which an entry wants a refresh: from the server's
// hint, or from 80 % of the lifetime where there is none that helps, a random
// share of up to a quarter of what then remains. Never before the hint, because a
// server asked early may hand out the same token again; never after the lifetime;
// and rarely together with the rest of a fleet that started at the same time.
func refreshAfter(lifetime, hint time.Duration) time.Duration {
	if lifetime <= 0 {
		return 0
	}
	earliest := hint
	if hint <= 0 || hint >= lifetime {
		earliest = lifetime - lifetime/5
	}
	return earliest + rand.N((lifetime-earliest)/4+1)
}
