package cache

import "slices"

// maxClaims bounds the entries whose keys differ in nothing but their claims. Who
// asks chooses those freely, and must not crowd out what others have.
const maxClaims = 4

// find returns the valid entry for key as the most recently used one, or nil. It
// drops an expired one. It is called with mu held.
func (c *Cache[V]) find(key Key, now instant) *stored[V] {
	s, ok := c.get(key)
	if !ok {
		return nil
	}
	if !s.valid(now) {
		c.remove(key)
		c.counters.expired++
		return nil
	}
	return s
}

// store puts s in the place of whatever was stored for key, unless that lives
// longer, evicts what exceeds the bounds and returns true; or false, with
// everything left as it was, if s has expired or exceeds MaxBytes alone. It is
// called with mu held.
func (c *Cache[V]) store(key Key, s *stored[V], now instant) bool {
	if !s.valid(now) || s.size > c.cfg.MaxBytes {
		return false
	}
	if old, ok := c.peek(key); ok && old.left(now) > s.left(now) {
		// The next refresh is due when s would have wanted one.
		old.failures = 0
		old.refreshAfter = old.age(now) + max(s.refreshAfter-s.age(now), c.cfg.RefreshBackoff.First)
		return true
	}
	c.remove(key)
	c.claim(key)
	c.makeRoom(key.Agent, s.size)
	c.add(key, s)
	return true
}

// claim makes room among the entries that differ from key in their claims, the
// oldest of which gives way. It is called with mu held.
func (c *Cache[V]) claim(key Key) {
	plain := key.WithoutClaims()
	if key == plain {
		return
	}
	if others := c.claimed[plain]; len(others) >= maxClaims {
		c.remove(others[0])
		c.counters.evicted++
	}
	c.claimed[plain] = append(c.claimed[plain], key)
}

// removed books that an entry has gone, for whatever reason. It is called with mu
// held.
func (c *Cache[V]) removed(key Key, s *stored[V]) {
	c.entries--
	c.bytes -= s.size
	own := c.shares[key.Agent]
	if own.bytes -= s.size; own.entries.Len() == 0 {
		delete(c.shares, key.Agent)
	}
	plain := key.WithoutClaims()
	if key == plain {
		return
	}
	rest := slices.DeleteFunc(c.claimed[plain], func(other Key) bool { return other == key })
	if c.claimed[plain] = rest; len(rest) == 0 {
		delete(c.claimed, plain)
	}
}

// backOff books that a fetch brought nothing to store for key. It matters only if
// an entry is there to be refreshed. It is called with mu held.
func (c *Cache[V]) backOff(key Key, now instant) {
	if s, ok := c.peek(key); ok {
		s.failures++
		s.retryAt = now.mono + c.cfg.RefreshBackoff.after(s.failures)
	}
}
