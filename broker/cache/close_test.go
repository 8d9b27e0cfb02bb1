package cache

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestCloseCancelsAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		mustGet(t, c, alice, brings("token", time.Hour))
		const tidyUp = 5 * time.Second
		var returned atomic.Int64
		slow := func(ctx context.Context) (Entry[string], error) {
			<-ctx.Done()
			time.Sleep(tidyUp)
			returned.Add(1)
			return Entry[string]{Value: "late", Lifetime: time.Hour}, nil
		}
		purged, waited := alice, alice
		purged.Agent, waited.Agent = "purged", "waited"
		c.Refresh(t.Context(), purged, slow)
		synctest.Wait()
		c.Purge(byAgent("purged"))
		began := time.Now()
		go func() {
			_, _, _, err := c.Get(t.Context(), waited, slow)
			if !errors.Is(err, ErrClosed) || time.Since(began) != time.Second {
				t.Errorf("Get = %v after %v, want ErrClosed after 1s", err, time.Since(began))
			}
		}()
		time.Sleep(time.Second)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := c.Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2 fetches") {
			t.Errorf("Close with 1s = %v, want deadline exceeded with 2 fetches still running", err)
		}
		if err := c.Close(t.Context()); err != nil || time.Since(began) != time.Second+tidyUp {
			t.Errorf("Close = %v after %v, want nil when the fetches have returned", err, time.Since(began))
		}
		if n := returned.Load(); n != 2 {
			t.Errorf("Close returned after %d of 2 fetches", n)
		}
		wantMiss(t, c, waited)
		wantHit(t, c, alice, "token")
	})
}

func TestClosedCacheStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Config{})
		s := &server{}
		s.answer(Entry[string]{Value: "token", Lifetime: time.Hour}, nil)
		mustGet(t, c, alice, s.fetch)
		done, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Close(done); err != nil {
			t.Errorf("Close with nothing in flight = %v, want nil whatever ctx says", err)
		}
		time.Sleep(55 * time.Minute)
		if _, _, refresh, ok := c.Lookup(alice); refresh || !ok {
			t.Errorf("Lookup: refresh %v, ok %v, want a hit and no refresh", refresh, ok)
		}
		if c.Refresh(t.Context(), alice, s.fetch) {
			t.Error("Refresh = true, want false")
		}
		if c.Refresh(t.Context(), Key{}, s.fetch) {
			t.Error("Refresh of a key that is not stored = true, want false")
		}
		time.Sleep(time.Hour)
		if _, _, how, err := c.Get(t.Context(), alice, s.fetch); !errors.Is(err, ErrClosed) || how != (How{}) {
			t.Errorf("Get = %+v, %v, want no outcome, ErrClosed", how, err)
		}
		s.wantCalls(t, 1)
	})
}

// secretive panics with a value whose text must not get out.
type secretive struct{ token string }

func (s secretive) Error() string  { return s.token }
func (s secretive) String() string { return s.token }

func TestFetchThatDoesNotReturn(t *testing.T) {
	const token = "eyJ0eXAi"
	for _, tt := range []struct {
		name  string
		fetch Fetch[string]
		want  string
	}{
		{"panic with an error", func(context.Context) (Entry[string], error) { panic(secretive{token}) }, "cache.secretive"},
		{"panic with text", func(context.Context) (Entry[string], error) { panic(token) }, "string"},
		{"panic of the runtime", func(context.Context) (Entry[string], error) {
			var none map[string]int
			none[token] = 1 //nolint:govet,staticcheck // the panic is the test
			return Entry[string]{}, nil
		}, "runtime."},
		{"panic with nil", func(context.Context) (Entry[string], error) { panic(nil) }, "*runtime.PanicNilError"}, //nolint:govet // the panic is the test
		{"Goexit", func(context.Context) (Entry[string], error) {
			runtime.Goexit()
			return Entry[string]{}, nil
		}, "goroutine"},
		{"no fetch at all", nil, "runtime."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCache(t, Config{})
				slowly := func(ctx context.Context) (Entry[string], error) {
					time.Sleep(time.Second)
					return tt.fetch(ctx)
				}
				for range 3 {
					go func() {
						v, _, _, err := c.Get(t.Context(), alice, slowly)
						if v != "" || !errors.Is(err, ErrNoResult) {
							t.Errorf("Get = %q, %v, want nothing, ErrNoResult", v, err)
							return
						}
						if text := err.Error(); !strings.Contains(text, tt.want) || strings.Contains(text, token) {
							t.Errorf("error %q: want it to name %q, and not %q", text, tt.want, token)
						}
					}()
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if st := c.Stats(); st.InFlight != 0 || st.Fetches != 1 || st.Failed != 1 {
					t.Errorf("Stats = %+v, want 1 fetch, failed, nothing in flight", st)
				}
				if v, _, how := mustGet(t, c, alice, brings("token", time.Hour)); v != "token" || how.Outcome != Miss {
					t.Errorf("Get afterwards = %q, %+v, want token, miss", v, how)
				}
			})
		})
	}
}
