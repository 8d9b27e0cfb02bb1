package cache

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func numbered(i int) Key {
	k := alice
	k.User[0], k.User[1], k.User[2] = byte(i), byte(i>>8), byte(i>>16)
	return k
}

func sized(v string, bytes int) Fetch[string] {
	return func(context.Context) (Entry[string], error) {
		return Entry[string]{Value: v, Lifetime: time.Hour, Bytes: bytes}, nil
	}
}

func TestEvictionByEntries(t *testing.T) {
	c := newCache(t, Config{MaxEntries: 3})
	for i := range 3 {
		mustGet(t, c, numbered(i), sized("token", 100))
	}
	wantHit(t, c, numbered(0), "token") // now the most recently used
	mustGet(t, c, numbered(3), sized("token", 100))
	wantMiss(t, c, numbered(1))
	for _, i := range []int{0, 2, 3} {
		wantHit(t, c, numbered(i), "token")
	}
	want := Stats{Entries: 3, Bytes: 3 * (EntryOverhead + 100), Fetches: 4, Evicted: 1}
	if diff := cmp.Diff(want, c.Stats()); diff != "" {
		t.Errorf("Stats (-want +got):\n%s", diff)
	}
}

func TestEvictionByBytes(t *testing.T) {
	c := newCache(t, Config{MaxBytes: 4 * (EntryOverhead + 1000)})
	for i := range 4 {
		mustGet(t, c, numbered(i), sized("token", 1000))
	}
	if st := c.Stats(); st.Entries != 4 || st.Evicted != 0 {
		t.Errorf("Stats = %+v, want exactly full", st)
	}
	wantHit(t, c, numbered(0), "token")
	mustGet(t, c, numbered(4), sized("large", 1001)) // needs two to go
	wantMiss(t, c, numbered(1))
	wantMiss(t, c, numbered(2))
	want := Stats{Entries: 3, Bytes: 3*(EntryOverhead+1000) + 1, Fetches: 5, Evicted: 2}
	if diff := cmp.Diff(want, c.Stats()); diff != "" {
		t.Errorf("Stats (-want +got):\n%s", diff)
	}
}

// Whoever asks with ever other claims crowds out itself alone.
func TestClaimsCrowdOutNobody(t *testing.T) {
	c := newCache(t, Config{MaxEntries: 10})
	challenged := func(user, i int) Key {
		k := numbered(user)
		k.Claims[0], k.Claims[1] = byte(i), 1
		return k
	}
	mustGet(t, c, alice, brings("another's", time.Hour))
	mustGet(t, c, numbered(1), brings("plain", time.Hour))
	for i := range 100 {
		mustGet(t, c, challenged(1, i), brings("challenged", time.Hour))
	}
	mustGet(t, c, challenged(2, 0), brings("another user's", time.Hour))
	for i := range 100 - maxClaims {
		wantMiss(t, c, challenged(1, i))
	}
	for i := 100 - maxClaims; i < 100; i++ {
		wantHit(t, c, challenged(1, i), "challenged")
	}
	wantHit(t, c, alice, "another's")
	wantHit(t, c, numbered(1), "plain")
	wantHit(t, c, challenged(2, 0), "another user's")
	if got := c.Stats(); got.Entries != 3+maxClaims || got.Evicted != 100-maxClaims {
		t.Errorf("Stats = %+v, want %d entries and %d evicted", got, 3+maxClaims, 100-maxClaims)
	}
	// One that is got again is no further one, and nothing is kept of those that go.
	c.refreshNow(t, challenged(3, 0), brings("first", time.Hour))
	c.Drop(challenged(3, 0))
	c.refreshNow(t, challenged(3, 0), brings("second", time.Hour))
	if got := len(c.claimed[numbered(3)]); got != 1 {
		t.Errorf("got %d entries with claims, want 1", got)
	}
	if c.Purge(func(Key) bool { return true }); len(c.claimed) != 0 {
		t.Errorf("after a purge: %d keys are left", len(c.claimed))
	}
}

// An agent that asks for ever other tokens crowds out its own, by entries and by
// bytes, however recently it used them; and who has little gets more.
func TestAgentsCrowdOutThemselves(t *testing.T) {
	for name, cfg := range map[string]Config{"entries": {MaxEntries: 10}, "bytes": {MaxBytes: 10 * (EntryOverhead + 100)}} {
		t.Run(name, func(t *testing.T) {
			c := newCache(t, cfg)
			of := func(agent string, i int) Key {
				k := numbered(i)
				k.Agent = agent
				return k
			}
			for i := range 2 {
				mustGet(t, c, of("modest", i), sized("modest", 100))
			}
			for i := range 100 {
				mustGet(t, c, of("greedy", i), sized("greedy", 100))
			}
			for i := range 2 {
				wantHit(t, c, of("modest", i), "modest")
			}
			for i := range 92 {
				wantMiss(t, c, of("greedy", i))
			}
			for i := 92; i < 100; i++ {
				wantHit(t, c, of("greedy", i), "greedy")
			}
			for i := 2; i < 5; i++ {
				mustGet(t, c, of("modest", i), sized("modest", 100))
			}
			mustGet(t, c, of("late", 0), sized("late", 100)) // 5 and 5: of either
			mustGet(t, c, of("greedy", 200), sized("greedy", 100))
			wantHit(t, c, of("late", 0), "late")
			wantHit(t, c, of("greedy", 200), "greedy")
			for i := 92; i < 95; i++ {
				wantMiss(t, c, of("greedy", i))
			}
			if st := c.Stats(); st.Entries != 10 || st.Bytes != 10*(EntryOverhead+100) || st.Evicted != 97 {
				t.Errorf("Stats = %+v, want exactly full and 97 evicted", st)
			}
			if c.Purge(func(Key) bool { return true }); len(c.shares) != 0 || c.entries != 0 || c.bytes != 0 {
				t.Errorf("after a purge %d shares, %d entries and %d bytes are left", len(c.shares), c.entries, c.bytes)
			}
		})
	}
}

func TestTooLargeIsReturnedAndNotStored(t *testing.T) {
	const room = 10_000
	c := newCache(t, Config{MaxBytes: room})
	mustGet(t, c, numbered(0), sized("small", 1))
	for _, bytes := range []int{room - EntryOverhead + 1, math.MaxInt - EntryOverhead} {
		if v, _, how := mustGet(t, c, numbered(1), sized("large", bytes)); v != "large" || how.Outcome != Miss {
			t.Errorf("Get = %q, %+v, want large, miss", v, how)
		}
		wantMiss(t, c, numbered(1))
		wantHit(t, c, numbered(0), "small")
	}
	mustGet(t, c, numbered(1), sized("just fits", room-EntryOverhead))
	wantHit(t, c, numbered(1), "just fits")
	wantMiss(t, c, numbered(0))
}

func TestNegativeSizeGivesNoRoom(t *testing.T) {
	c := newCache(t, Config{})
	mustGet(t, c, alice, sized("token", -5000))
	if got := c.Stats().Bytes; got != EntryOverhead {
		t.Errorf("Bytes = %d, want %d", got, EntryOverhead)
	}
}

// model is the cache as one would write it without care for speed.
type model struct {
	order []Key // least recently used first
	sizes map[Key]int64
	born  map[Key]time.Duration
	stats Stats
}

func (m *model) drop(k Key) bool {
	for i, other := range m.order {
		if other == k {
			m.order = append(m.order[:i:i], m.order[i+1:]...)
			m.stats.Entries--
			m.stats.Bytes -= m.sizes[k]
			return true
		}
	}
	return false
}

func (m *model) put(k Key, size int64, now time.Duration, cfg Config) {
	if size > cfg.MaxBytes {
		return
	}
	m.drop(k)
	m.order = append(m.order, k)
	m.sizes[k], m.born[k] = size, now
	m.stats.Entries++
	m.stats.Bytes += size
	for m.stats.Entries > cfg.MaxEntries || m.stats.Bytes > cfg.MaxBytes {
		m.drop(m.order[0])
		m.stats.Evicted++
	}
}

// look returns whether k is stored and for how long it has been.
func (m *model) look(k Key, now time.Duration) (age time.Duration, ok bool) {
	if !m.drop(k) {
		return 0, false
	}
	age = now - m.born[k]
	if age >= time.Hour {
		m.stats.Expired++
		return 0, false
	}
	m.order = append(m.order, k)
	m.stats.Entries++
	m.stats.Bytes += m.sizes[k]
	return age, true
}

func TestAccountingAgainstAModel(t *testing.T) {
	const seeds, steps, keys = 20, 2000, 40
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 0))
		clock := newTwoClocks()
		cfg := Config{MaxEntries: 20, MaxBytes: 20 * (EntryOverhead + 500), Clock: clock.read}
		c := newCache(t, cfg)
		m := &model{sizes: make(map[Key]int64), born: make(map[Key]time.Duration)}
		for step := range steps {
			key, bytes := numbered(rng.IntN(keys)), rng.IntN(1200)
			if rng.IntN(50) == 0 {
				bytes = 1 << 20 // too large
			}
			size := EntryOverhead + int64(bytes)
			switch rng.IntN(10) {
			default:
				mustGet(t, c, key, sized("token", bytes))
				if _, ok := m.look(key, clock.mono); !ok {
					m.stats.Fetches++
					m.put(key, size, clock.mono, cfg)
				}
			case 0, 1, 2: // replace, if a refresh is due
				_, _, refresh, ok := c.Lookup(key)
				_, want := m.look(key, clock.mono)
				if ok != want {
					t.Fatalf("seed %d, step %d: Lookup = %v, want %v", seed, step, ok, want)
				}
				if !refresh {
					break
				}
				c.refreshNow(t, key, sized("token", bytes))
				m.stats.Fetches++
				m.put(key, size, clock.mono, cfg)
			case 3:
				clock.pass(time.Duration(rng.Int64N(int64(20 * time.Minute))))
			case 4:
				if rng.IntN(10) > 0 {
					break
				}
				odd := func(k Key) bool { return k.User[0]%5 == 0 }
				purged := c.Purge(odd)
				for i := range keys {
					if k := numbered(i); odd(k) && m.drop(k) {
						m.stats.Purged++
						purged--
					}
				}
				if purged != 0 {
					t.Fatalf("seed %d, step %d: Purge is off by %d", seed, step, purged)
				}
			}
			if diff := cmp.Diff(m.stats, c.Stats()); diff != "" {
				t.Fatalf("seed %d, step %d: Stats (-want +got):\n%s", seed, step, diff)
			}
		}
		if st := c.Stats(); st.Evicted == 0 || st.Expired == 0 || st.Purged == 0 {
			t.Errorf("seed %d: Stats = %+v: the walk missed a way to lose an entry", seed, st)
		}
	}
}

// refreshNow is a Refresh that has landed when it returns.
func (c *Cache[V]) refreshNow(t *testing.T, key Key, fetch Fetch[V]) {
	t.Helper()
	if !c.Refresh(context.Background(), key, fetch) {
		t.Fatal("Refresh = false, want true")
	}
	c.mu.Lock()
	f := c.flights[key]
	c.mu.Unlock()
	if f != nil {
		<-f.done
	}
}

func TestNewReportsAllProblems(t *testing.T) {
	_, err := New[string](Config{
		MaxEntries:     -1,
		MaxBytes:       -2,
		FetchTimeout:   -3,
		RefreshBackoff: Backoff{First: -4, Max: -5},
	})
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 5 {
		t.Errorf("New = %v, want five problems joined", err)
	}
	for _, cfg := range []Config{
		{MaxBytes: EntryOverhead},
		{RefreshBackoff: Backoff{First: time.Minute, Max: time.Second}},
	} {
		if _, err := New[string](cfg); err == nil {
			t.Errorf("New(%+v) = nil, want an error", cfg)
		}
	}
	for _, cfg := range []Config{{}, {MaxBytes: EntryOverhead + 1}, {RefreshBackoff: Backoff{First: time.Minute}}} {
		newCache(t, cfg)
	}
}
