package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newCache returns a cache that is closed, with nothing left running, at the end
// of the test.
func newCache(t testing.TB, cfg Config) *Cache[string] {
	t.Helper()
	c, err := New[string](cfg)
	if err != nil {
		t.Fatalf("New(%+v) = %v, want no error", cfg, err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Errorf("Close = %v, want nil", err)
		}
	})
	return c
}

// server stands for what issues tokens: it takes latency for each, or less if the
// fetch is cancelled, and counts.
type server struct {
	calls   atomic.Int64
	latency time.Duration

	mu    sync.Mutex
	entry Entry[string]
	err   error
}

func (s *server) answer(e Entry[string], err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entry, s.err = e, err
}

func (s *server) fetch(ctx context.Context) (Entry[string], error) {
	s.calls.Add(1)
	select {
	case <-time.After(s.latency):
	case <-ctx.Done():
		return Entry[string]{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entry, s.err
}

func (s *server) wantCalls(t *testing.T, want int64) {
	t.Helper()
	if got := s.calls.Load(); got != want {
		t.Errorf("fetches = %d, want %d", got, want)
	}
}

// brings is a fetch that returns at once.
func brings(v string, lifetime time.Duration) Fetch[string] {
	return func(context.Context) (Entry[string], error) {
		return Entry[string]{Value: v, Lifetime: lifetime}, nil
	}
}

// mustGet is Get with nothing to wait for but the fetch.
func mustGet(t *testing.T, c *Cache[string], key Key, fetch Fetch[string]) (string, time.Time, How) {
	t.Helper()
	v, expires, how, err := c.Get(context.Background(), key, fetch)
	if err != nil {
		t.Fatalf("Get = %v, want no error", err)
	}
	return v, expires, how
}

func wantHit(t *testing.T, c *Cache[string], key Key, want string) {
	t.Helper()
	if v, _, _, ok := c.Lookup(key); !ok || v != want {
		t.Errorf("Lookup = %q, %v, want %q, true", v, ok, want)
	}
}

func wantMiss(t *testing.T, c *Cache[string], key Key) {
	t.Helper()
	if v, expires, refresh, ok := c.Lookup(key); ok || v != "" || refresh || !expires.IsZero() {
		t.Errorf("Lookup = %q, %v, %v, %v, want all zero", v, expires, refresh, ok)
	}
}

// twoClocks is a Config.Clock whose clocks move only when told, each by itself.
type twoClocks struct {
	mu   sync.Mutex
	wall time.Time
	mono time.Duration
}

func newTwoClocks() *twoClocks {
	return &twoClocks{wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), mono: 17 * time.Hour}
}

func (tc *twoClocks) read() (time.Time, time.Duration) {
	tc.mu.Lock()
	defer tc.mu.Unlock()
	return tc.wall, tc.mono
}

func (tc *twoClocks) move(wall, mono time.Duration) {
	tc.mu.Lock()
	defer tc.mu.Unlock()
	tc.wall = tc.wall.Add(wall)
	tc.mono += mono
}

// pass moves both clocks, as time does.
func (tc *twoClocks) pass(d time.Duration) { tc.move(d, d) }
