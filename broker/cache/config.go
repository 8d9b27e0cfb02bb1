package cache

import (
	"errors"
	"fmt"
	"time"
)

// EntryOverhead is what one entry counts against [Config.MaxBytes] beyond its own
// [Entry.Bytes]: the key, its scopes, the index and the recency list. It is what a
// cache of 100,000 entries was measured to need, rounded up.
const EntryOverhead = 768

// Config configures [New]. The zero value is usable.
type Config struct {
	// MaxEntries bounds the number of entries. 0: 10,000.
	MaxEntries int

	// MaxBytes bounds the sum of Entry.Bytes plus EntryOverhead per entry. An entry
	// that is larger alone is returned to its callers, never stored. 0: 64 MiB.
	//
	// Of entries whose keys differ in nothing but their claims there are four at most.
	MaxBytes int64

	// FetchTimeout bounds one fetch, whoever waits for it. 0: 30 s.
	FetchTimeout time.Duration

	// RefreshBackoff spaces the background refreshes of one entry that fail.
	RefreshBackoff Backoff

	// Clock returns the wall clock and a monotonic reading with an arbitrary origin,
	// taken together. It is for tests that move one without the other; it must be
	// safe for concurrent use. nil: the real clocks.
	Clock func() (wall time.Time, monotonic time.Duration)
}

// Backoff is a doubling delay: First after the first failure, then twice as long
// after each further one, at most Max. A success starts it afresh.
type Backoff struct {
	First time.Duration // 0: 1 s
	Max   time.Duration // 0: 30 s
}

// after returns the delay after the given number of failures in a row (from 1).
func (b Backoff) after(failures int) time.Duration {
	delay := b.First
	for range failures - 1 {
		if delay >= b.Max/2 {
			return b.Max
		}
		delay *= 2
	}
	return delay
}

// withDefaults returns cfg with every zero field filled in.
func (cfg Config) withDefaults() Config {
	if cfg.MaxEntries == 0 {
		cfg.MaxEntries = 10_000
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 64 << 20
	}
	if cfg.FetchTimeout == 0 {
		cfg.FetchTimeout = 30 * time.Second
	}
	if cfg.RefreshBackoff.First == 0 {
		cfg.RefreshBackoff.First = time.Second
	}
	if cfg.RefreshBackoff.Max == 0 {
		cfg.RefreshBackoff.Max = max(30*time.Second, cfg.RefreshBackoff.First)
	}
	if cfg.Clock == nil {
		cfg.Clock = realClock()
	}
	return cfg
}

// validate expects the defaults to be filled in and returns all problems joined.
func (cfg Config) validate() error {
	var problems []error
	add := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("cache: "+format, args...))
	}
	if cfg.MaxEntries < 0 {
		add("MaxEntries is %d; it must not be negative", cfg.MaxEntries)
	}
	if cfg.MaxBytes <= EntryOverhead {
		add("MaxBytes is %d; one entry alone takes %d and its value", cfg.MaxBytes, EntryOverhead)
	}
	if cfg.FetchTimeout < 0 {
		add("FetchTimeout is %v; it must not be negative", cfg.FetchTimeout)
	}
	if cfg.RefreshBackoff.First < 0 {
		add("RefreshBackoff.First is %v; it must not be negative", cfg.RefreshBackoff.First)
	}
	if cfg.RefreshBackoff.Max < cfg.RefreshBackoff.First {
		add("RefreshBackoff.Max is %v; it must not be less than First, %v",
			cfg.RefreshBackoff.Max, cfg.RefreshBackoff.First)
	}
	return errors.Join(problems...)
}
