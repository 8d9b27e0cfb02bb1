package cache

// find returns the valid entry for key as the most recently used one, or nil. It
// drops an expired one. It is called with mu held.
func (c *Cache[V]) find(key Key, now instant) *stored[V] {
	s, ok := c.entries.Get(key)
	if !ok {
		return nil
	}
	if !s.valid(now) {
		c.entries.Remove(key)
		c.counters.expired++
		return nil
	}
	return s
}

// store puts s in the place of whatever was stored for key, evicts what exceeds
// the bounds and returns true; or false, with everything left as it was, if s has
// expired or exceeds MaxBytes alone. It is called with mu held.
func (c *Cache[V]) store(key Key, s *stored[V], now instant) bool {
	if !s.valid(now) || s.size > c.cfg.MaxBytes {
		return false
	}
	c.entries.Remove(key) // by way of the callback: Add would replace without it
	c.bytes += s.size
	if c.entries.Add(key, s) {
		c.counters.evicted++
	}
	// s is the most recent entry and fits alone, so this ends before it is reached.
	for c.bytes > c.cfg.MaxBytes {
		c.entries.RemoveOldest()
		c.counters.evicted++
	}
	return true
}

// backOff books that a fetch brought nothing to store for key. It matters only if
// an entry is there to be refreshed. It is called with mu held.
func (c *Cache[V]) backOff(key Key, now instant) {
	if s, ok := c.entries.Peek(key); ok {
		s.failures++
		s.retryAt = now.mono + c.cfg.RefreshBackoff.after(s.failures)
	}
}
