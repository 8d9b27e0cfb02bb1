package cache

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestEntryIsServedUntilItTrulyExpires(t *testing.T) {
	clock := newTwoClocks()
	c := newCache(t, Config{Clock: clock.read})
	began := clock.wall
	_, expires, _ := mustGet(t, c, alice, brings("token", time.Hour))
	if want := began.Add(time.Hour); !expires.Equal(want) {
		t.Errorf("expires = %v, want %v", expires, want)
	}
	clock.pass(time.Hour - 1)
	wantHit(t, c, alice, "token")
	clock.pass(1)
	wantMiss(t, c, alice)
	if st := c.Stats(); st.Entries != 0 || st.Bytes != 0 || st.Expired != 1 {
		t.Errorf("Stats = %+v, want the expired entry dropped on read", st)
	}
}

func TestEitherClockExpires(t *testing.T) {
	for _, tt := range []struct {
		name       string
		wall, mono time.Duration
		want       bool
	}{
		{"suspended past expiry", time.Hour, 0, false},
		{"suspended, not past expiry", time.Hour - 1, 0, true},
		{"clock set back, then an hour passed", -23 * time.Hour, time.Hour, false},
		{"clock set back, then not quite an hour", -23 * time.Hour, time.Hour - 1, true},
		{"clock set forward, not past expiry", 59 * time.Minute, time.Minute, true},
		{"both", time.Hour, time.Hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock := newTwoClocks()
			c := newCache(t, Config{Clock: clock.read})
			mustGet(t, c, alice, brings("token", time.Hour))
			clock.move(tt.wall, tt.mono)
			if _, _, _, ok := c.Lookup(alice); ok != tt.want {
				t.Errorf("Lookup after wall %v, monotonic %v: ok = %v, want %v", tt.wall, tt.mono, ok, tt.want)
			}
			want := Miss
			if tt.want {
				want = Hit
			}
			if _, _, how := mustGet(t, c, alice, brings("next", time.Hour)); how.Outcome != want {
				t.Errorf("Get: outcome %s, want %s", how.Outcome, want)
			}
		})
	}
}

func TestEitherClockMakesARefreshDue(t *testing.T) {
	for name, move := range map[string][2]time.Duration{
		"wall":      {52 * time.Minute, 0},
		"monotonic": {0, 52 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			clock := newTwoClocks()
			c := newCache(t, Config{Clock: clock.read})
			mustGet(t, c, alice, brings("token", time.Hour))
			clock.move(move[0], move[1])
			if _, _, refresh, ok := c.Lookup(alice); !refresh || !ok {
				t.Errorf("Lookup: refresh %v, ok %v, want both", refresh, ok)
			}
		})
	}
}

// A caller turns the expiry into expires_in by its own wall clock: once that clock
// was set back, the old wall time would promise life that the token does not have.
func TestExpiryToldFollowsAClockSetBack(t *testing.T) {
	clock := newTwoClocks()
	c := newCache(t, Config{Clock: clock.read})
	began := clock.wall
	mustGet(t, c, alice, brings("token", time.Hour))

	clock.move(-2*time.Hour+10*time.Minute, 10*time.Minute)
	if _, expires, _, _ := c.Lookup(alice); expires.Sub(clock.wall) != 50*time.Minute {
		t.Errorf("after being set back: expires in %v, want 50m", expires.Sub(clock.wall))
	}
	clock.move(2*time.Hour, 0)
	if _, expires, _, _ := c.Lookup(alice); !expires.Equal(began.Add(time.Hour)) {
		t.Errorf("after being set right: expires %v, want %v", expires, began.Add(time.Hour))
	}
	clock.move(-time.Millisecond, 0)
	if _, expires, _, _ := c.Lookup(alice); !expires.Equal(began.Add(time.Hour)) {
		t.Errorf("with clocks slightly apart: expires %v, want an unchanged %v", expires, began.Add(time.Hour))
	}
}

func TestLifetimeCountsFromTheStartOfTheFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		s := &server{latency: 10 * time.Second}
		s.answer(Entry[string]{Value: "token", Lifetime: time.Minute}, nil)
		began := time.Now()
		_, expires, _ := mustGet(t, c, alice, s.fetch)
		if want := began.Add(time.Minute); !expires.Equal(want) {
			t.Errorf("expires = %v, want %v", expires, want)
		}
		time.Sleep(50*time.Second - 1)
		wantHit(t, c, alice, "token")
		time.Sleep(time.Nanosecond)
		wantMiss(t, c, alice)
	})
}

func TestExpiredOnArrivalIsReturnedAndNotStored(t *testing.T) {
	for _, lifetime := range []time.Duration{-time.Minute, 0, time.Second, 2 * time.Second} {
		t.Run(lifetime.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCache(t, Config{})
				s := &server{latency: 2 * time.Second}
				s.answer(Entry[string]{Value: "token", Lifetime: lifetime}, nil)
				go func() { _, _, _, _ = c.Get(t.Context(), alice, s.fetch) }()
				synctest.Wait()
				began := time.Now()
				v, expires, how := mustGet(t, c, alice, s.fetch)
				if v != "token" || how.Outcome != Joined || !expires.Equal(began.Add(lifetime)) {
					t.Errorf("Get = %q, %v, %+v, want token, %v, joined", v, expires, how, began.Add(lifetime))
				}
				wantMiss(t, c, alice)
				if st := c.Stats(); st.Entries != 0 || st.Bytes != 0 || st.Expired != 0 {
					t.Errorf("Stats = %+v, want nothing stored", st)
				}
			})
		})
	}
}

func TestMachineSuspendedDuringAFetch(t *testing.T) {
	clock := newTwoClocks()
	c := newCache(t, Config{Clock: clock.read})
	v, _, _ := mustGet(t, c, alice, func(context.Context) (Entry[string], error) {
		clock.move(2*time.Hour, 0)
		return Entry[string]{Value: "token", Lifetime: time.Hour}, nil
	})
	if v != "token" {
		t.Errorf("Get = %q, want token", v)
	}
	wantMiss(t, c, alice)
}
