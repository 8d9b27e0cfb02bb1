package cache

import (
	"maps"
	"slices"
)

// Purge removes every entry whose key matches, and returns how many it removed.
// Fetches in flight for matching keys run on to their end, but what they bring is
// not stored, and those who wait for them get ErrPurged at once; a Get that comes
// later starts a new fetch. Entries and fetches that appear while Purge is running
// may or may not be included.
//
// match is called without a lock held, on the caller's goroutine, for each key once
// or, if it is both stored and in flight, twice. It may use the cache.
func (c *Cache[V]) Purge(match func(Key) bool) int {
	var doomed []Key
	for _, keys := range c.keys() {
		for _, key := range keys {
			if match(key) {
				doomed = append(doomed, key)
			}
		}
	}

	removed := 0
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range doomed {
		// A fetch may have landed since its key was listed. It is caught as an entry.
		if c.remove(key) {
			removed++
		}
		c.disown(key, ErrPurged)
	}
	c.counters.purged += uint64(removed)
	return removed
}

// Has reports whether a key matches of what is stored or in flight. match is called
// as Purge calls it.
func (c *Cache[V]) Has(match func(Key) bool) bool {
	return slices.ContainsFunc(c.keys(), func(keys []Key) bool { return slices.ContainsFunc(keys, match) })
}

// Drop removes the entry of one key, and reports whether there was one. A fetch in
// flight for it is left alone.
func (c *Cache[V]) Drop(key Key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.remove(key) {
		return false
	}
	c.counters.purged++
	return true
}

// keys lists what is stored, then what is in flight.
func (c *Cache[V]) keys() [][]Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append(c.storedKeys(), slices.Collect(maps.Keys(c.flights)))
}
