package cache

import "time"

// Stats is a reading of a cache. Entries, Bytes and InFlight go up and down; the
// others only grow.
type Stats struct {
	Entries  int   // stored; an expired one counts until it is read or evicted
	Bytes    int64 // what Entries count against Config.MaxBytes
	InFlight int   // fetches that have not returned, purged ones included

	Fetches uint64 // fetches started, by Get and by Refresh
	Failed  uint64 // of those, how many ended with an error, a panic or runtime.Goexit
	Evicted uint64 // entries removed for want of room
	Expired uint64 // entries found expired and removed
	Purged  uint64 // entries removed by Purge
}

// counters is the part of Stats that only grows.
type counters struct {
	fetches, failed, evicted, expired, purged uint64
}

// Stats takes a consistent reading, at about the cost of a Lookup.
func (c *Cache[V]) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{
		Entries:  c.entries,
		Bytes:    c.bytes,
		InFlight: len(c.running),
		Fetches:  c.counters.fetches,
		Failed:   c.counters.failed,
		Evicted:  c.counters.evicted,
		Expired:  c.counters.expired,
		Purged:   c.counters.purged,
	}
}

// TimeLeft returns, per agent, the time until the first of its entries expires, of
// those that are refreshed. It takes time in proportion to the number of entries.
func (c *Cache[V]) TimeLeft() map[string]time.Duration {
	now := c.now()
	left := map[string]time.Duration{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for agent, own := range c.shares {
		if agent == "" {
			continue
		}
		for _, s := range own.entries.Values() {
			if s.refreshAfter >= s.lifetime || !s.valid(now) {
				continue
			}
			rest := s.lifetime - s.age(now)
			if least, known := left[agent]; !known || rest < least {
				left[agent] = rest
			}
		}
	}
	return left
}
