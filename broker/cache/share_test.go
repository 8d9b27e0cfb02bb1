package cache

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var alice = Key{Agent: "researcher", Identity: "graph", Tenant: "contoso", Client: "app", Scopes: "Mail.Read User.Read"}

func TestConcurrentCallersShareOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		s := &server{latency: time.Second}
		s.answer(Entry[string]{Value: "token", Lifetime: time.Hour}, nil)
		began := time.Now()

		type spanName struct{}
		var mu sync.Mutex
		outcomes := make(map[Outcome]int)
		leaders := make(map[any]int)
		var leader any
		for i := range 200 {
			go func() {
				ctx := context.WithValue(t.Context(), spanName{}, i)
				v, expires, how, err := c.Get(ctx, alice, s.fetch)
				if v != "token" || err != nil {
					t.Errorf("Get = %q, %v, want token, nil", v, err)
				}
				if want := began.Add(time.Hour); !expires.Equal(want) {
					t.Errorf("expires = %v, want %v: an hour from the start of the fetch", expires, want)
				}
				mu.Lock()
				defer mu.Unlock()
				outcomes[how.Outcome]++
				if how.Outcome == Joined {
					leaders[how.Leader.Value(spanName{})]++
				} else {
					leader = i
					if how.Leader != nil {
						t.Errorf("Leader of a %s = %v, want nil", how.Outcome, how.Leader)
					}
				}
			}()
		}
		time.Sleep(2 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		s.wantCalls(t, 1)
		if outcomes[Miss] != 1 || outcomes[Joined] != 199 {
			t.Errorf("outcomes = %v, want 1 miss and 199 joined", outcomes)
		}
		if leaders[leader] != 199 {
			t.Errorf("leaders told to those who joined = %v, want only %v", leaders, leader)
		}
		if _, _, how := mustGet(t, c, alice, s.fetch); how != (How{Outcome: Hit}) {
			t.Errorf("how, later = %+v, want a hit without leader", how)
		}
	})
}

func TestCallerWithLittleTimeLeavesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		s := &server{latency: time.Second}
		s.answer(Entry[string]{Value: "token", Lifetime: time.Hour}, nil)

		for range 5 {
			go func() {
				if v, _, _, err := c.Get(t.Context(), alice, s.fetch); v != "token" || err != nil {
					t.Errorf("Get of a patient caller = %q, %v, want token, nil", v, err)
				}
			}()
		}
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		v, _, how, err := c.Get(ctx, alice, s.fetch)
		if v != "" || !errors.Is(err, context.DeadlineExceeded) || how.Outcome != Joined {
			t.Errorf("Get with 50ms left = %q, %+v, %v, want nothing, joined, deadline exceeded", v, how, err)
		}
		if waited := time.Since(began); waited != 50*time.Millisecond {
			t.Errorf("waited %v, want 50ms", waited)
		}
		time.Sleep(2 * time.Second)
		s.wantCalls(t, 1)
	})
}

func TestLeaderLeavesAndTheFetchGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		s := &server{latency: time.Second}
		s.answer(Entry[string]{Value: "token", Lifetime: time.Hour}, nil)

		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, _, how, err := c.Get(ctx, alice, s.fetch)
			if !errors.Is(err, context.Canceled) || how.Outcome != Miss {
				t.Errorf("Get of the leader = %+v, %v, want miss, canceled", how, err)
			}
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if v, _, how := mustGet(t, c, alice, s.fetch); v != "token" || how.Outcome != Joined {
			t.Errorf("Get after the leader left = %q, %+v, want token, joined", v, how)
		}
		s.wantCalls(t, 1)
	})
}

func TestAbandonedFetchFillsTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		s := &server{latency: time.Second}
		s.answer(Entry[string]{Value: "token", Lifetime: time.Hour}, nil)

		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, _, _, err := c.Get(ctx, alice, s.fetch); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get = %v, want deadline exceeded", err)
		}
		wantMiss(t, c, alice)
		time.Sleep(time.Second)
		synctest.Wait()
		wantHit(t, c, alice, "token")
	})
}

func TestCallerWhoIsGoneStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		s := &server{}
		s.answer(Entry[string]{Value: "token", Lifetime: time.Hour}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, how, err := c.Get(ctx, alice, s.fetch); !errors.Is(err, context.Canceled) || how != (How{}) {
			t.Errorf("Get = %+v, %v, want no outcome, canceled", how, err)
		}
		s.wantCalls(t, 0)

		mustGet(t, c, alice, s.fetch)
		if v, _, how, err := c.Get(ctx, alice, s.fetch); v != "token" || how.Outcome != Hit || err != nil {
			t.Errorf("Get of what is stored = %q, %+v, %v, want token, hit, nil", v, how, err)
		}
	})
}

func TestErrorIsSharedAndNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		s := &server{latency: time.Second}
		refused := errors.New("refused")
		s.answer(Entry[string]{Value: "not to be seen", Lifetime: time.Hour}, refused)

		for range 10 {
			go func() {
				if v, _, _, err := c.Get(t.Context(), alice, s.fetch); v != "" || !errors.Is(err, refused) {
					t.Errorf("Get = %q, %v, want nothing and the error itself", v, err)
				}
			}()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		s.wantCalls(t, 1)
		wantMiss(t, c, alice)

		s.answer(Entry[string]{Value: "token", Lifetime: time.Hour}, nil)
		if v, _, how := mustGet(t, c, alice, s.fetch); v != "token" || how.Outcome != Miss {
			t.Errorf("Get after the error = %q, %+v, want token, miss", v, how)
		}
		s.wantCalls(t, 2)
		if st := c.Stats(); st.Fetches != 2 || st.Failed != 1 {
			t.Errorf("Stats = %+v, want 2 fetches, 1 failed", st)
		}
	})
}

func TestFetchContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{FetchTimeout: 7 * time.Second})
		type traceID struct{}
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), traceID{}, "4bf9"), time.Minute)
		defer cancel()
		var last context.Context
		if _, _, _, err := c.Get(ctx, Key{}, func(ctx context.Context) (Entry[string], error) {
			last = ctx
			return Entry[string]{}, nil
		}); err != nil || last.Err() == nil {
			t.Errorf("Get = %v, want nil and the fetch's context released", err)
		}
		began := time.Now()
		_, _, _, err := c.Get(ctx, alice, func(ctx context.Context) (Entry[string], error) {
			if got := ctx.Value(traceID{}); got != "4bf9" {
				t.Errorf("value in the fetch's context = %v, want that of the caller", got)
			}
			if deadline, _ := ctx.Deadline(); !deadline.Equal(began.Add(7 * time.Second)) {
				t.Errorf("deadline of the fetch = %v, want FetchTimeout from now", deadline)
			}
			<-ctx.Done()
			return Entry[string]{}, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			t.Errorf("Get = %v with the caller's context %v, want the fetch's deadline exceeded, nil", err, ctx.Err())
		}
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("Get took %v, want FetchTimeout", took)
		}
	})
}

func TestSlowKeyDoesNotHoldUpAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		slow := &server{latency: 20 * time.Second}
		go func() { _, _, _, _ = c.Get(t.Context(), alice, slow.fetch) }()
		synctest.Wait()
		other := alice
		other.Agent = "writer"
		began := time.Now()
		mustGet(t, c, other, brings("token", time.Hour))
		wantHit(t, c, other, "token")
		if took := time.Since(began); took != 0 {
			t.Errorf("waited %v for another key's fetch, want 0", took)
		}
	})
}
