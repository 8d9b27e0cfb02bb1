package usertoken_test

import (
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
