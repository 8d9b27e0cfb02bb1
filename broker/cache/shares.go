package cache

import "github.com/hashicorp/golang-lru/v2/simplelru"

// share is what is stored for one agent. Where there is no room the largest share
// gives way, so that an agent that asks for ever other tokens loses its own.
type share[V any] struct {
	entries *simplelru.LRU[Key, *stored[V]] // never full: the cache makes room before
	bytes   int64                           // the sum of size over entries
}

// get returns the entry for key, which becomes the most recently used one of its
// share. It is called with mu held, as are the others.
func (c *Cache[V]) get(key Key) (*stored[V], bool) {
	if s := c.shares[key.Agent]; s != nil {
		return s.entries.Get(key)
	}
	return nil, false
}

// peek is get without the use.
func (c *Cache[V]) peek(key Key) (*stored[V], bool) {
	if s := c.shares[key.Agent]; s != nil {
		return s.entries.Peek(key)
	}
	return nil, false
}

// remove reports whether there was an entry for key.
func (c *Cache[V]) remove(key Key) bool {
	s := c.shares[key.Agent]
	return s != nil && s.entries.Remove(key)
}

// add stores what there is room for, for a key without an entry.
func (c *Cache[V]) add(key Key, e *stored[V]) {
	s := c.shares[key.Agent]
	if s == nil {
		s = &share[V]{}
		// The callback runs for every removal, whatever the reason, so that nothing can
		// be forgotten on one of the paths.
		s.entries, _ = simplelru.NewLRU(c.cfg.MaxEntries, c.removed) // it refuses sizes below 1, as does New
		c.shares[key.Agent] = s
	}
	s.entries.Add(key, e)
	s.bytes += e.size
	c.entries++
	c.bytes += e.size
}

// storedKeys lists the keys of what is stored, share by share.
func (c *Cache[V]) storedKeys() [][]Key {
	keys := make([][]Key, 0, len(c.shares))
	for _, s := range c.shares {
		keys = append(keys, s.entries.Keys())
	}
	return keys
}

// makeRoom evicts until an entry of that agent and size fits, which it does alone.
func (c *Cache[V]) makeRoom(agent string, size int64) {
	for c.entries >= c.cfg.MaxEntries {
		c.evict(agent, 1, func(s *share[V]) int64 { return int64(s.entries.Len()) })
	}
	for c.bytes+size > c.cfg.MaxBytes {
		c.evict(agent, size, func(s *share[V]) int64 { return s.bytes })
	}
}

// evict evicts the least recently used entry of the largest share, as it would be if
// the agent's had grown; of two that are as large, of the agent's.
func (c *Cache[V]) evict(agent string, growth int64, size func(*share[V]) int64) {
	var largest *share[V]
	var most int64
	if own := c.shares[agent]; own != nil {
		largest, most = own, size(own)+growth
	}
	for _, s := range c.shares {
		if n := size(s); n > most {
			largest, most = s, n
		}
	}
	largest.entries.RemoveOldest()
	c.counters.evicted++
}
