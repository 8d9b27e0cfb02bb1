package cache

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRefreshRunsInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		s := &server{latency: 3 * time.Second}
		s.answer(Entry[string]{Value: "old", Lifetime: time.Hour}, nil)
		mustGet(t, c, alice, s.fetch)
		s.answer(Entry[string]{Value: "new", Lifetime: time.Hour}, nil)

		began := time.Now()
		started := 0
		ask := func() {
			v, _, refresh, ok := c.Lookup(alice)
			if !ok || v != "old" {
				t.Errorf("Lookup during the refresh = %q, %v, want old, true", v, ok)
			}
			if refresh && c.Refresh(t.Context(), alice, s.fetch) {
				started++
			}
		}
		ask()
		if started != 0 {
			t.Errorf("refreshes of a new entry = %d, want 0", started)
		}
		time.Sleep(55 * time.Minute) // past 85 % of an hour
		ask()
		for range 100 {
			if _, _, refresh, _ := c.Lookup(alice); refresh {
				t.Fatal("Lookup reports a refresh due while one is in flight")
			}
			ask()
		}
		if v, _, how := mustGet(t, c, alice, s.fetch); v != "old" || how.Outcome != Hit {
			t.Errorf("Get during the refresh = %q, %+v, want old, hit", v, how)
		}
		if waited := time.Since(began); waited != 55*time.Minute {
			t.Errorf("callers waited %v, want 0", waited-55*time.Minute)
		}
		time.Sleep(4 * time.Second)
		s.wantCalls(t, 2)
		if started != 1 {
			t.Errorf("refreshes started = %d, want 1", started)
		}
		v, expires, refresh, ok := c.Lookup(alice)
		if want := began.Add(115 * time.Minute); v != "new" || !ok || refresh || !expires.Equal(want) {
			t.Errorf("Lookup = %q, %v, %v, %v, want new until %v, no refresh due", v, expires, refresh, ok, want)
		}
	})
}

// A caller may read that a refresh is due, and be so slow to start it that another
// one has refreshed the entry, or failed to, meanwhile.
func TestLateRefreshIsNotASecondOne(t *testing.T) {
	for name, second := range map[string]error{"refreshed": nil, "failed": errors.New("unavailable")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCache(t, Config{})
				s := &server{}
				s.answer(Entry[string]{Value: "token", Lifetime: time.Hour}, nil)
				mustGet(t, c, alice, s.fetch)
				time.Sleep(55 * time.Minute)
				if _, _, refresh, _ := c.Lookup(alice); !refresh {
					t.Fatal("no refresh is due after 55 minutes of an hour")
				}
				s.answer(Entry[string]{Value: "token", Lifetime: time.Hour}, second)
				if !c.Refresh(t.Context(), alice, s.fetch) {
					t.Error("first Refresh = false, want true")
				}
				synctest.Wait()
				if c.Refresh(t.Context(), alice, s.fetch) {
					t.Error("second Refresh = true, want false")
				}
				s.wantCalls(t, 2)
			})
		})
	}
}

func TestFailedRefreshKeepsTheEntryAndBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		s := &server{}
		s.answer(Entry[string]{Value: "token", Lifetime: 1000 * time.Second}, nil)
		mustGet(t, c, alice, s.fetch)
		s.answer(Entry[string]{}, errors.New("unavailable"))

		time.Sleep(900 * time.Second)
		began := time.Now()
		var attempts []time.Duration
		for range 1000 { // 100 seconds in steps of a tenth
			v, _, refresh, ok := c.Lookup(alice)
			if !ok || v != "token" {
				t.Fatalf("Lookup %v before expiry = %q, %v, want token, true", 100*time.Second-time.Since(began), v, ok)
			}
			if refresh && c.Refresh(t.Context(), alice, s.fetch) {
				attempts = append(attempts, time.Since(began))
			}
			time.Sleep(100 * time.Millisecond)
		}
		wantMiss(t, c, alice)
		want := []time.Duration{0, 1, 3, 7, 15, 31, 61, 91} // delays of 1, 2, 4, 8, 16, 30, 30
		if len(attempts) != len(want) {
			t.Fatalf("attempts at %v, want at %v seconds", attempts, want)
		}
		for i := range want {
			if attempts[i] != want[i]*time.Second {
				t.Errorf("attempt %d at %v, want %v", i, attempts[i], want[i]*time.Second)
			}
		}
	})
}

func TestSuccessStartsTheBackoffAfresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{RefreshBackoff: Backoff{First: 10 * time.Second, Max: time.Minute}})
		s := &server{}
		good := Entry[string]{Value: "token", Lifetime: time.Hour, RefreshIn: time.Minute}
		s.answer(good, nil)
		mustGet(t, c, alice, s.fetch)
		for range 2 {
			time.Sleep(20 * time.Minute) // the hint and its jitter: 1 to 15¾ minutes
			for _, err := range []error{errors.New("unavailable"), nil} {
				s.answer(good, err)
				if !c.Refresh(t.Context(), alice, s.fetch) {
					t.Fatalf("Refresh with the server answering %v = false, want true", err)
				}
				synctest.Wait()
				time.Sleep(10 * time.Second)
			}
		}
		s.wantCalls(t, 5)
	})
}

// What cannot be stored must not be fetched again at once, and not take the place
// of what can still be served.
func TestRefreshThatBringsNothingToStoreBacksOff(t *testing.T) {
	for name, e := range map[string]Entry[string]{
		"expired":   {Value: "new"},
		"too large": {Value: "new", Lifetime: time.Hour, Bytes: 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCache(t, Config{MaxBytes: 1 << 20})
				s := &server{}
				s.answer(Entry[string]{Value: "old", Lifetime: time.Hour}, nil)
				mustGet(t, c, alice, s.fetch)
				time.Sleep(55 * time.Minute)
				s.answer(e, nil)
				c.Refresh(t.Context(), alice, s.fetch)
				synctest.Wait()
				v, _, refresh, ok := c.Lookup(alice)
				if v != "old" || refresh || !ok {
					t.Errorf("Lookup = %q, refresh %v, %v, want old, no refresh, true", v, refresh, ok)
				}
			})
		})
	}
}

// What lives shorter does not take the place of what lives longer, and is not asked
// for again before it would have been.
func TestShorterRefreshKeepsTheEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		s := &server{}
		began := time.Now()
		s.answer(Entry[string]{Value: "old", Lifetime: time.Hour, RefreshIn: 40 * time.Minute}, nil)
		mustGet(t, c, alice, s.fetch)
		for _, step := range []struct {
			at       time.Duration
			lifetime time.Duration // of what is brought from now on
			refresh  bool          // is due
			want     string        // is stored then
		}{
			{50 * time.Minute, 200 * time.Second, true, "old"},
			{52*time.Minute + 30*time.Second, 200 * time.Second, false, "old"}, // 80 % of 200 s are 160
			{53*time.Minute + 20*time.Second, time.Millisecond, true, "old"},
			{53*time.Minute + 20*time.Second + 900*time.Millisecond, time.Millisecond, false, "old"}, // not at once
			{54 * time.Minute, 6 * time.Minute, true, "new"},                                         // just as long
			{59*time.Minute + 30*time.Second, time.Hour, true, "new"},
			{90 * time.Minute, time.Hour, false, "new"},
		} {
			time.Sleep(step.at - time.Since(began))
			s.answer(Entry[string]{Value: "new", Lifetime: step.lifetime}, nil)
			_, _, due, ok := c.Lookup(alice)
			if due != step.refresh || !ok {
				t.Errorf("at %s: got an entry: %t, due: %t, want due: %t", step.at, ok, due, step.refresh)
			}
			if due {
				c.refreshNow(t, alice, s.fetch)
			}
			wantHit(t, c, alice, step.want)
		}
		s.wantCalls(t, 5)
	})
}

func TestGetJoinsTheRefreshOfAnExpiredEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		s := &server{latency: 10 * time.Second}
		s.answer(Entry[string]{Value: "old", Lifetime: time.Minute}, nil)
		mustGet(t, c, alice, s.fetch)
		time.Sleep(45 * time.Second) // 55 s after the start
		s.answer(Entry[string]{Value: "new", Lifetime: time.Minute}, nil)
		type spanName struct{}
		if !c.Refresh(context.WithValue(t.Context(), spanName{}, "refresh"), alice, s.fetch) {
			t.Error("Refresh = false, want true")
		}
		time.Sleep(6 * time.Second)
		wantMiss(t, c, alice)
		v, _, how := mustGet(t, c, alice, s.fetch)
		if v != "new" || how.Outcome != Joined || how.Leader.Value(spanName{}) != "refresh" {
			t.Errorf("Get = %q, %+v, want new, joined to the refresh", v, how)
		}
		s.wantCalls(t, 2)
	})
}

func TestRefreshOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		s := &server{latency: time.Second}
		s.answer(Entry[string]{Value: "token", Lifetime: time.Hour}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		if !c.Refresh(ctx, alice, s.fetch) {
			t.Error("Refresh of a key that is not stored = false, want true")
		}
		cancel()
		if c.Refresh(t.Context(), alice, s.fetch) {
			t.Error("Refresh of a key in flight = true, want false")
		}
		time.Sleep(2 * time.Second)
		wantHit(t, c, alice, "token")
		s.wantCalls(t, 1)
	})
}

func TestRefreshMomentsAreBoundedAndSpread(t *testing.T) {
	const hour = time.Hour
	for _, tt := range []struct {
		name           string
		lifetime, hint time.Duration
		earliest, last time.Duration
	}{
		{"no hint", hour, 0, 48 * time.Minute, 51 * time.Minute},
		{"hint", hour, 20 * time.Minute, 20 * time.Minute, 30 * time.Minute},
		{"hint just before the end", hour, hour - 1, hour - 1, hour - 1},
		{"hint at the end", hour, hour, 48 * time.Minute, 51 * time.Minute},
		{"hint after the end", hour, 2 * hour, 48 * time.Minute, 51 * time.Minute},
		{"negative hint", hour, -1, 48 * time.Minute, 51 * time.Minute},
		{"shortest life", 1, 0, 1, 1},
		{"longest life", 1<<63 - 1, 0, (1<<63 - 1) / 5 * 4, 1<<63 - 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seen := make(map[time.Duration]bool)
			for range 1000 {
				d := refreshAfter(tt.lifetime, tt.hint)
				if d < tt.earliest || d > tt.last {
					t.Fatalf("refresh after %v, want within [%v, %v]", d, tt.earliest, tt.last)
				}
				seen[d] = true
			}
			if tt.last > tt.earliest && len(seen) < 900 {
				t.Errorf("%d different moments in 1000, want nearly all different", len(seen))
			}
		})
	}
}
