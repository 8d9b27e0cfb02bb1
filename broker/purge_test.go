package broker_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/exchange/entratest"
)

func TestPurge(t *testing.T) {
	w := newWorld(t)
	w.use(t, assistant("")+`
  twin:
    identity: demo
    callers: [{tcp: {uids: [10002]}}]
    allow: {scopes: [`+graph+`, `+vault+`]}
`)
	user := w.userToken(t, nil)
	fill := func() {
		for _, ask := range []func() (broker.Issued, error){
			func() (broker.Issued, error) { return w.ask(as(t, 10001), graph) },
			func() (broker.Issued, error) { return w.ask(as(t, 10002), graph) },
			func() (broker.Issued, error) { return w.ask(as(t, 10002), vault) },
			func() (broker.Issued, error) { return w.actFor(as(t, 10001), user, userRead) },
			func() (broker.Issued, error) {
				return w.Issue(as(t, 10001), broker.Request{Identity: "agent", Scope: graph})
			},
		} {
			_, err := ask()
			check(t, err)
		}
	}
	for name, test := range map[string]struct {
		selection broker.Selection
		tokens    int
	}{
		"all":              {broker.Selection{}, 6}, // with the blueprint's
		"agent":            {broker.Selection{Agent: "twin"}, 2},
		"identity":         {broker.Selection{Identity: "agent"}, 2}, // with the blueprint's
		"member":           {broker.Selection{Identity: "agent/" + entratest.DemoAgentIdentityID}, 2},
		"user":             {broker.Selection{User: entratest.DemoTenantID + "/" + entratest.DemoUserID}, 1},
		"scope":            {broker.Selection{Scope: graph}, 3},
		"agent and scope":  {broker.Selection{Agent: "twin", Scope: vault}, 1},
		"a shorthand":      {broker.Selection{Scope: "graph/User.Read"}, 1},
		"a member, pasted": {broker.Selection{Identity: "agent/" + strings.ToUpper(entratest.DemoAgentIdentityID)}, 2},
		"a user, pasted":   {broker.Selection{User: strings.ToUpper(entratest.DemoTenantID + "/" + entratest.DemoUserID)}, 1},
		"an object id":     {broker.Selection{User: strings.ToUpper(entratest.DemoUserID)}, 1},
		"another tenant's": {broker.Selection{User: entratest.DemoUserID + "/" + entratest.DemoUserID}, 0},
		"nobody's":         {broker.Selection{User: entratest.DemoTenantID}, 0},
		"nothing's":        {broker.Selection{Identity: "machine"}, 0},
	} {
		fill()
		got, _, err := w.Purge(test.selection)
		if err != nil || got != test.tokens {
			t.Errorf("%s: purged %d tokens, %v, want %d", name, got, err, test.tokens)
		}
	}
}

// A purge forgets what Graph told, also what it is telling just then.
func TestPurgeForgetsGroups(t *testing.T) {
	for name, test := range map[string]struct {
		selection broker.Selection
		forgotten bool
	}{
		"all":       {broker.Selection{}, true},
		"the user":  {broker.Selection{User: entratest.DemoUserID}, true},
		"the agent": {broker.Selection{Agent: "assistant"}, false},
		"a scope":   {broker.Selection{Scope: userRead}, false},
		"another":   {broker.Selection{User: groupID}, false},
	} {
		for _, inFlight := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w, asked := slowGraph(t)
				user := w.userToken(t, overage)
				var asking sync.WaitGroup
				asking.Go(func() {
					_, err := w.actFor(as(t, 10001), user, userRead)
					if purged := errors.Is(err, cache.ErrPurged); purged != (test.forgotten && inFlight) {
						t.Errorf("%s: got %v", name, err)
					}
				})
				if inFlight {
					time.Sleep(time.Second)
				} else {
					asking.Wait()
				}
				w.purge(t, test.selection)
				asking.Wait()
				time.Sleep(10 * time.Second)
				_, err := w.actFor(as(t, 10001), user, userRead)
				check(t, err)
				if forgotten := *asked == 2; forgotten != test.forgotten {
					t.Errorf("%s, in flight %t: Graph was asked %d times", name, inFlight, *asked)
				}
			})
		}
	}
}

// Identities share the tokens in between. Who waits for one of them while those of
// another identity are purged gets it all the same, and nobody else does not.
func TestPurgeOfAnotherIdentitysLegs(t *testing.T) {
	for purged, goesOn := range map[string]bool{"agent-user": true, "agent": false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.use(t, assistant(""))
			w.entra.SetBehavior(entratest.Behavior{Delay: 5 * time.Second})
			var asking sync.WaitGroup
			asking.Go(func() {
				issued, err := w.Issue(as(t, 10001), broker.Request{Identity: "agent", Scope: graph})
				if goesOn {
					check(t, err)
				} else if !errors.Is(err, cache.ErrPurged) || issued.Token.Len() > 0 {
					t.Errorf("got %d bytes and %v, want %v", issued.Token.Len(), err, cache.ErrPurged)
				}
			})
			time.Sleep(time.Second)
			w.purge(t, broker.Selection{Identity: purged})
			asking.Wait()
			check(t, w.cache.Close(context.WithoutCancel(t.Context())))
		})
	}
}
