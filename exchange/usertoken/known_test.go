package usertoken_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/exchange/usertoken"
)

// A token that was verified before is read and its signature computed no more, and
// all that may have changed since is looked at.
func TestKnownTokenIsCheckedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		v := newVerifier(t, p)
		raw := sign(t, header(), lasting())
		user := verified(t, v, raw)
		if again := verified(t, v, raw); again.ObjectID != user.ObjectID || !again.ExpiresAt.Equal(user.ExpiresAt) {
			t.Errorf("got %+v and then %+v", user, again)
		}
		if allocs := testing.AllocsPerRun(100, func() { verified(t, v, raw) }); allocs > 10 {
			t.Errorf("got %v allocations for a known token", allocs)
		}

		_, err := v.Verify(t.Context(), raw, usertoken.Expectation{Tenants: ours.Tenants, Audiences: []string{frontend}})
		wantProblem(t, err, usertoken.WrongAudience)
		_, err = v.Verify(t.Context(), raw, usertoken.Expectation{Tenants: []string{otherTenant}, Audiences: ours.Audiences})
		wantProblem(t, err, usertoken.WrongTenant)
		refused(t, v, sign(t, header(), set(lasting(), "oid", otherTenant))[:len(raw)-400]+raw[len(raw)-400:], usertoken.BadSignature)

		// The tenant publishes the same keys again.
		time.Sleep(61 * time.Minute)
		verified(t, v, raw)
		synctest.Wait()
		verified(t, v, raw)
		p.wantFetches(t, 2)

		// It has another key of this name.
		p.publish(jwk("k0", &authorityKeys()[1].PublicKey))
		time.Sleep(61 * time.Minute)
		verified(t, v, raw)
		synctest.Wait()
		refused(t, v, raw, usertoken.BadSignature)

		// And it has the first again.
		p.publish(jwk("k0", &authorityKeys()[0].PublicKey))
		time.Sleep(61 * time.Minute)
		refused(t, v, raw, usertoken.BadSignature)
		synctest.Wait()
		verified(t, v, raw)
	})
}

// However large the tokens are, what is known of them takes 4 MiB at most; and of the
// usual ones it is the last 512.
func TestKnownTokensAreBounded(t *testing.T) {
	stats := func() (stats runtime.MemStats) {
		runtime.ReadMemStats(&stats)
		return stats
	}
	heap := func() int {
		runtime.GC()
		runtime.GC()
		return int(stats().HeapAlloc)
	}
	for groups, want := range map[int]int{10: 512, 140: 200} {
		v := newVerifier(t, newPublisher())
		var raws []string
		for i := range 600 {
			ids := make([]string, groups)
			for g := range ids {
				ids[g] = fmt.Sprintf("%08x-0000-4000-8000-%012x", i, g)
			}
			raws = append(raws, sign(t, header(), set(lasting(), "groups", ids)))
		}
		before := heap()
		for _, raw := range raws {
			verified(t, v, raw)
		}
		if grown := heap() - before; grown > 4<<20 {
			t.Errorf("tokens of %d bytes take %d KiB, want 4 MiB at most", len(raws[0]), grown>>10)
		}
		known := 0
		for _, raw := range slices.Backward(raws) {
			mallocs := stats().Mallocs
			verified(t, v, raw)
			if stats().Mallocs-mallocs > 40 { // it was read
				break
			}
			known++
		}
		if known < want || known > 512 {
			t.Errorf("tokens of %d bytes: %d are known, want at least %d and at most 512", len(raws[0]), known, want)
		}
		runtime.KeepAlive(raws)
	}
}

func TestKnownTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(t, newPublisher())
		raw := sign(t, header(), good("exp", time.Now().Add(time.Hour).Unix()))
		verified(t, v, raw)
		time.Sleep(time.Hour - time.Second)
		verified(t, v, raw)
		time.Sleep(time.Second)
		refused(t, v, raw, usertoken.Expired)
	})
}
