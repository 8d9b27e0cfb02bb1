package usertoken_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/credfree/credfree/exchange/usertoken"
)

// hang answers nothing until the request is given up.
func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func down(r *http.Request) (*http.Response, error) { return respond(r, 503, "down"), nil }

func (p *publisher) wantFetches(t *testing.T, want int) {
	t.Helper()
	if got := p.fetches(); got != want {
		t.Errorf("got %d fetches, want %d", got, want)
	}
}

// lasting is good for longer than any test of keys takes.
func lasting() map[string]any { return good("exp", time.Now().AddDate(1, 0, 0).Unix()) }

func TestKeysAreFetchedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		v := newVerifier(t, p)
		raw := sign(t, header(), good())
		p.wantFetches(t, 0)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { verified(t, v, raw) })
		}
		wg.Wait()
		time.Sleep(30 * time.Minute)
		verified(t, v, raw)
		p.wantFetches(t, 1)
	})
}

func TestJunkKeyIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		v := newVerifier(t, p)
		good := sign(t, header(), lasting())
		verified(t, v, good)
		junk := func(n int) {
			for i := range n {
				refused(t, v, sign(t, header("kid", fmt.Sprintf("%s-%d", time.Now(), i)), lasting()), usertoken.UnknownKey)
			}
		}
		junk(200)
		p.wantFetches(t, 5)
		time.Sleep(time.Minute)
		junk(200)
		p.wantFetches(t, 10) // the budget does not grow beyond a burst
		for range 6 {
			time.Sleep(10 * time.Second)
			junk(10)
		}
		p.wantFetches(t, 16)
		verified(t, v, good)

		// In the middle of it the keys change: the next fetch, whoever causes it, brings them.
		p.publish(jwk("k1", &authorityKeys()[1].PublicKey))
		time.Sleep(10 * time.Second)
		junk(1)
		verified(t, v, signWith(t, 1, header("kid", "k1"), lasting()))
		refused(t, v, good, usertoken.UnknownKey) // and the old key is gone
		p.wantFetches(t, 17)
	})
}

func TestSameUnknownKeyIDIsNotAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		v := newVerifier(t, p)
		raw := signWith(t, 1, header("kid", "k1"), lasting())
		others := []string{sign(t, header("kid", "k2"), lasting()), sign(t, header("kid", "k3"), lasting())}
		for _, raw := range append(others, raw) {
			refused(t, v, raw, usertoken.UnknownKey)
		}
		time.Sleep(29 * time.Second)
		for _, raw := range append(others, raw) {
			refused(t, v, raw, usertoken.UnknownKey)
		}
		p.wantFetches(t, 3)
		p.publish(jwk("k1", &authorityKeys()[1].PublicKey))
		time.Sleep(time.Second)
		verified(t, v, raw)
		p.wantFetches(t, 4)
	})
}

func TestHangingFetchHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		v := newVerifier(t, p)
		known, unknown := sign(t, header(), lasting()), sign(t, header("kid", "k1"), lasting())
		elsewhere := sign(t, header(), set(lasting(), "tid", otherTenant, "iss", authority+"/"+otherTenant+"/v2.0"))
		both := usertoken.Expectation{Tenants: []string{tenant, otherTenant}, Audiences: ours.Audiences}
		for _, raw := range []string{known, elsewhere} {
			if _, err := v.Verify(t.Context(), raw, both); err != nil {
				t.Fatal(err)
			}
		}
		p.answer = hang
		began := time.Now()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				e := refusal(t, v, unknown, usertoken.KeysUnavailable)
				if waited := time.Since(began); waited != 10*time.Second || !errors.Is(e, context.DeadlineExceeded) {
					t.Errorf("waited %s for %v, want the fetch's ten seconds", waited, e.Err)
				}
			})
		}
		synctest.Wait()
		for range 100 {
			wg.Go(func() {
				verified(t, v, known)
				if _, err := v.Verify(t.Context(), elsewhere, both); err != nil {
					t.Error(err)
				}
				if waited := time.Since(began); waited != 0 {
					t.Errorf("a known key waited %s", waited)
				}
			})
		}
		wg.Wait()
		p.wantFetches(t, 3)
		p.answer = nil
		refused(t, v, unknown, usertoken.UnknownKey)
		verified(t, v, known)
	})
}

func TestEachCallerWaitsForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		v := newVerifier(t, p)
		p.answer = func(r *http.Request) (*http.Response, error) {
			select {
			case <-time.After(2 * time.Second):
				return nil, nil
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		}
		raw := sign(t, header(), good())
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			began := time.Now()
			_, err := v.Verify(impatient, raw, ours) // the one that starts the fetch
			wantProblem(t, err, usertoken.KeysUnavailable)
			if waited := time.Since(began); waited != time.Second || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("waited %s, got %v, want the caller's own deadline", waited, err)
			}
		})
		synctest.Wait()
		wg.Go(func() { verified(t, v, raw) })
		wg.Wait()
		p.wantFetches(t, 1)

		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := v.Verify(gone, raw, ours); err != nil {
			t.Errorf("a caller who is gone, with a key at hand: %v", err)
		}
	})
}

func TestKeysAreRefreshedInNobodysWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		v := newVerifier(t, p)
		raw := sign(t, header(), lasting())
		verified(t, v, raw)
		p.publish(jwk("k1", &authorityKeys()[1].PublicKey)) // k0 is withdrawn
		time.Sleep(time.Hour - time.Nanosecond)
		verified(t, v, raw)
		synctest.Wait()
		p.wantFetches(t, 1)
		time.Sleep(time.Nanosecond)
		verified(t, v, raw) // with the key at hand, while the new ones are on their way
		synctest.Wait()
		p.wantFetches(t, 2)
		refused(t, v, raw, usertoken.UnknownKey)
	})
}

func TestOldKeysOutliveAnOutageOfADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		v := newVerifier(t, p)
		raw := sign(t, header(), lasting())
		verified(t, v, raw)
		p.answer = down
		for range 23 {
			time.Sleep(time.Hour)
			verified(t, v, raw)
			synctest.Wait()
		}
		p.wantFetches(t, 24)
		refused(t, v, sign(t, header("kid", "k1"), lasting()), usertoken.KeysUnavailable)
		verified(t, v, raw)
		time.Sleep(time.Hour)
		refused(t, v, raw, usertoken.KeysUnavailable)
		p.answer = nil
		verified(t, v, raw)
	})
}

func TestOutageIsNotHammered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		p.answer = down
		v := newVerifier(t, p)
		raw := sign(t, header(), good())
		for range 100 {
			refused(t, v, raw, usertoken.KeysUnavailable)
		}
		p.wantFetches(t, 5)
		p.answer = nil
		refused(t, v, raw, usertoken.KeysUnavailable)
		time.Sleep(10 * time.Second)
		verified(t, v, raw)
		p.wantFetches(t, 6)
	})
}

// A clock that is set back must not make keys fresh for ever.
func TestClockSetBack(t *testing.T) {
	p := newPublisher()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	v, err := usertoken.New(usertoken.Config{Authority: authority, Transport: p, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	raw := sign(t, header(), set(good("exp", now.AddDate(1, 0, 0).Unix()), "nbf", nil, "iat", nil))
	verified(t, v, raw)
	now = now.AddDate(0, 0, -2)
	verified(t, v, raw)
	p.wantFetches(t, 2)
	v.Close()
}

func TestTenantsAreBounded(t *testing.T) {
	p := newPublisher()
	v := newVerifier(t, p)
	verify := func(i int) {
		id := fmt.Sprintf("33333333-3333-4333-8333-%012x", i)
		want := usertoken.Expectation{Tenants: []string{id}, Audiences: ours.Audiences}
		if _, err := v.Verify(t.Context(), sign(t, header(), good("tid", id, "iss", authority+"/"+id+"/v2.0")), want); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1025 {
		verify(i)
	}
	p.wantFetches(t, 1025)
	verify(1)
	p.wantFetches(t, 1025)
	verify(0) // was forgotten
	p.wantFetches(t, 1026)
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		p.answer = func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			time.Sleep(time.Second) // what a connection takes to come down
			return nil, r.Context().Err()
		}
		v := newVerifier(t, p)
		raw := sign(t, header(), good())
		var wg sync.WaitGroup
		wg.Go(func() { refused(t, v, raw, usertoken.KeysUnavailable) })
		synctest.Wait()
		began := time.Now()
		v.Close()
		if took := time.Since(began); took != time.Second {
			t.Errorf("Close took %s, want the second that the fetch still took", took)
		}
		wg.Wait()
		p.answer = nil
		refused(t, v, raw, usertoken.KeysUnavailable)
		p.wantFetches(t, 1)
		v.Close()
	})
}

// A machine that slept for a day has keys of yesterday, although its monotonic clock
// says that they were just fetched: one that the tenant has withdrawn is not believed.
func TestKeysAgeWhileTheMachineSleeps(t *testing.T) {
	var slept atomic.Int64
	p := newPublisher()
	v, err := usertoken.New(usertoken.Config{Authority: authority, Transport: p, Now: func() time.Time { return asleep(time.Duration(slept.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	raw := sign(t, header(), lasting())
	verified(t, v, raw)
	p.publish(jwk("k1", &authorityKeys()[1].PublicKey))
	slept.Store(int64(24 * time.Hour))
	refused(t, v, raw, usertoken.UnknownKey)
}

// asleep is now on a machine that has slept for d since its start: what time.Now would
// return there.
func asleep(d time.Duration) time.Time {
	now := time.Now().Add(d)
	monotonic := (*int64)(unsafe.Add(unsafe.Pointer(&now), unsafe.Sizeof(uint64(0)))) //nolint:gosec // the second word of a time.Time that has both readings, which nothing else can set
	*monotonic -= int64(d)
	return now
}
