package cache

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
		Entries:  c.entries.Len(),
		Bytes:    c.bytes,
		InFlight: len(c.running),
		Fetches:  c.counters.fetches,
		Failed:   c.counters.failed,
		Evicted:  c.counters.evicted,
		Expired:  c.counters.expired,
		Purged:   c.counters.purged,
	}
}
