package broker_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/secret"
)

// Thousands of requests of many agents and users at once, with policies that
// come and go and purges in between: each answer is exactly what its caller may
// have then, and nobody else's.
func TestIsolation(t *testing.T) {
	const people, rounds = 8, 400
	w := newWorldOf(t, func(d *entratest.Directory) {
		for i := range people {
			d.Tenants[0].Users = append(d.Tenants[0].Users, entratest.User{ObjectID: person(i), UserPrincipalName: fmt.Sprintf("p%d@demo.example", i)})
		}
	})
	var all strings.Builder
	all.WriteString("agents:\n")
	for i := range people {
		fmt.Fprintf(&all, "  a%d:\n    identity: %s\n    callers: [{tcp: {uids: [%d]}}]\n    allow: {scopes: [%q, %q]}\n    onBehalfOf: {allow: {scopes: [%q, %q]}, users: {objects: [%s]}}\n",
			i, []string{"demo", "agent"}[i%2], 20000+i, graph, vault, userRead, mailRead, person(i))
	}
	some := strings.ReplaceAll(all.String(), fmt.Sprintf("[%q, %q]", graph, vault), fmt.Sprintf("[%q]", graph))
	w.use(t, all.String())
	var tokens [people]secret.Text
	for i := range people {
		tokens[i] = w.userToken(t, func(r *entratest.UserTokenRequest) {
			r.User, r.Audience = person(i), []string{entratest.DemoClientID, entratest.DemoBlueprintClientID}[i%2]
		})
	}
	var asking sync.WaitGroup
	var issued atomic.Int64
	stop := make(chan struct{})
	var shaking sync.WaitGroup
	shaking.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			w.use(t, []string{some, all.String()}[i%2])
			if _, _, err := w.Purge(broker.Selection{Agent: fmt.Sprintf("a%d", i%people)}); err != nil {
				t.Error(err)
			}
			time.Sleep(2 * time.Millisecond)
		}
	})
	for i := range people {
		for worker := range 2 {
			asking.Go(func() {
				for n := range rounds {
					who, scope := i, []string{graph, vault, userRead, mailRead}[(n+worker)%4]
					shape := as(t, uint32(20000+i))
					if n%16 == 15 {
						who = (i + 1) % people // a token of somebody else's user
					}
					if checkIsolated(t, w, shape, i, who, scope, tokens[who]) {
						issued.Add(1)
					}
				}
			})
		}
	}
	asking.Wait()
	close(stop)
	shaking.Wait()
	if got := issued.Load(); got < people*rounds/4 {
		t.Errorf("only %d of %d requests got a token", got, 2*people*rounds)
	}
}

func person(i int) string { return fmt.Sprintf("0be5e000-0000-4000-8000-%012d", i) }

// checkIsolated asks as agent i, for the user who, and checks whose token comes.
func checkIsolated(t *testing.T, w *world, ctx context.Context, i, who int, scope string, user secret.Text) bool {
	forUser := scope == userRead || scope == mailRead
	req := broker.Request{Door: "oauth", Scope: scope}
	if forUser {
		req.OnBehalfOf, req.UserToken = true, user
	}
	got, err := w.Issue(ctx, req)
	if err != nil {
		if denied, ok := errors.AsType[*broker.Denied](err); !ok && !errors.Is(err, cache.ErrPurged) || ok && who == i && forUser && denied.Reason != policy.ScopeNotAllowed {
			t.Errorf("a%d for %d, %s: %v", i, who, scope, err)
		}
		return false
	}
	if forUser && who != i {
		t.Errorf("a%d got a token for the user of a%d", i, who)
	}
	var claims struct{ Aud, Appid, Oid, Scp, Idtyp string }
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(got.Token.Reveal(), ".")[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		t.Errorf("the token cannot be read: %v", err)
		return false
	}
	client := []string{entratest.DemoClientID, entratest.DemoAgentIdentityID}[i%2]
	cut := strings.LastIndexByte(scope, '/')
	switch {
	case claims.Appid != client, claims.Aud != scope[:cut]:
		t.Errorf("a%d, %s: got a token of %s for %s", i, scope, claims.Appid, claims.Aud)
	case forUser && (claims.Oid != person(i) || claims.Scp != scope[cut+1:]):
		t.Errorf("a%d, %s: got a token for user %s with %s", i, scope, claims.Oid, claims.Scp)
	case !forUser && claims.Scp != "" && claims.Scp != "/":
		t.Errorf("a%d, %s: got a user's token", i, scope)
	}
	return true
}
