package cache

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func byAgent(agent string) func(Key) bool {
	return func(k Key) bool { return k.Agent == agent }
}

func TestPurgeRemovesWhatMatches(t *testing.T) {
	c := newCache(t, Config{})
	bob := alice
	bob.Agent = "writer"
	for i := range 5 {
		alice, bob := alice, bob
		alice.User[0], bob.User[0] = byte(i), byte(i)
		mustGet(t, c, alice, brings("a", time.Hour))
		mustGet(t, c, bob, brings("b", time.Hour))
	}
	if c.Has(byAgent("nobody")) || !c.Has(byAgent(bob.Agent)) {
		t.Error("Has = true of nobody, or false of the writer")
	}
	if n := c.Purge(byAgent("nobody")); n != 0 {
		t.Errorf("Purge of nobody = %d, want 0", n)
	}
	if n := c.Purge(byAgent(alice.Agent)); n != 5 {
		t.Errorf("Purge = %d, want 5", n)
	}
	wantMiss(t, c, alice)
	wantHit(t, c, bob, "b")
	if st := c.Stats(); st.Entries != 5 || st.Bytes != 5*EntryOverhead || st.Purged != 5 {
		t.Errorf("Stats = %+v, want 5 entries left, 5 purged", st)
	}
}

func TestPurgeDuringAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		s := &server{latency: 10 * time.Second}
		s.answer(Entry[string]{Value: "stale", Lifetime: time.Hour}, nil)
		began := time.Now()
		for range 5 {
			go func() {
				v, _, _, err := c.Get(t.Context(), alice, s.fetch)
				if v != "" || !errors.Is(err, ErrPurged) {
					t.Errorf("Get = %q, %v, want nothing, ErrPurged", v, err)
				}
				if waited := time.Since(began); waited != time.Second {
					t.Errorf("waited %v, want to be told at once, after 1s", waited)
				}
			}()
		}
		time.Sleep(time.Second)
		if !c.Has(byAgent(alice.Agent)) {
			t.Error("Has = false of what is in flight")
		}
		if n := c.Purge(byAgent(alice.Agent)); n != 0 {
			t.Errorf("Purge = %d, want 0: nothing was stored yet", n)
		}
		if st := c.Stats(); st.InFlight != 1 {
			t.Errorf("in flight after Purge = %d, want 1", st.InFlight)
		}
		time.Sleep(10 * time.Second)
		wantMiss(t, c, alice)
		if st := c.Stats(); st.InFlight != 0 || st.Entries != 0 || st.Bytes != 0 {
			t.Errorf("Stats = %+v, want nothing in flight, nothing stored", st)
		}
	})
}

func TestGetAfterPurgeStartsAFetchOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		old := &server{latency: 10 * time.Second}
		old.answer(Entry[string]{Value: "stale", Lifetime: time.Hour}, nil)
		go func() { _, _, _, _ = c.Get(t.Context(), alice, old.fetch) }()
		synctest.Wait()
		c.Purge(byAgent(alice.Agent))

		next := &server{latency: 20 * time.Second}
		next.answer(Entry[string]{Value: "new", Lifetime: time.Hour}, nil)
		go func() { _, _, _, _ = c.Get(t.Context(), alice, next.fetch) }()
		time.Sleep(15 * time.Second) // the old fetch has returned, the new one has not
		wantMiss(t, c, alice)
		if v, _, how := mustGet(t, c, alice, next.fetch); v != "new" || how.Outcome != Joined {
			t.Errorf("Get = %q, %+v, want new, joined to the second fetch", v, how)
		}
		wantHit(t, c, alice, "new")
		old.wantCalls(t, 1)
		next.wantCalls(t, 1)
	})
}

func TestPurgeLeavesOtherFetchesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		s := &server{latency: time.Second}
		s.answer(Entry[string]{Value: "token", Lifetime: time.Hour}, nil)
		go func() { _, _, _, _ = c.Get(t.Context(), alice, s.fetch) }()
		synctest.Wait()
		c.Purge(byAgent("writer"))
		mustGet(t, c, alice, s.fetch)
		s.wantCalls(t, 1)
	})
}

func TestPurgeDuringARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		s := &server{latency: time.Second}
		s.answer(Entry[string]{Value: "stale", Lifetime: time.Hour}, nil)
		mustGet(t, c, alice, s.fetch)
		time.Sleep(55 * time.Minute)
		if !c.Refresh(t.Context(), alice, s.fetch) {
			t.Error("Refresh = false, want true")
		}
		seen := 0
		n := c.Purge(func(k Key) bool { seen++; return k == alice })
		if n != 1 || seen != 2 {
			t.Errorf("Purge = %d after %d calls of match, want 1 after 2", n, seen)
		}
		time.Sleep(2 * time.Second)
		wantMiss(t, c, alice)
	})
}

func TestMatchMayUseTheCache(t *testing.T) {
	c := newCache(t, Config{})
	mustGet(t, c, alice, brings("token", time.Hour))
	n := c.Purge(func(k Key) bool {
		_, _, _, ok := c.Lookup(k)
		return ok && c.Stats().Entries == 1
	})
	if n != 1 {
		t.Errorf("Purge = %d, want 1", n)
	}
}
