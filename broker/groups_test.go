package broker_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/secret"
)

// overage makes a token that cannot list the user's groups.
func overage(r *entratest.UserTokenRequest) {
	r.Claims = map[string]any{"_claim_names": map[string]any{"groups": "src1"}, "_claim_sources": map[string]any{"src1": map[string]any{}}}
}

// inGroup puts the user into a group, and lets the broker ask for it.
func inGroup(d *entratest.Directory) {
	d.Tenants[0].Groups = []entratest.Group{{ObjectID: groupID}}
	d.Tenants[0].Users[0].Groups = []string{groupID}
	d.Tenants[0].Applications[0].AppRoles["https://graph.microsoft.com"] = []string{"User.Read.All", "GroupMember.Read.All"}
}

// Groups that the token cannot list are asked for where the policy allows it,
// remembered for a while, and never taken for granted.
func TestGroupsOverage(t *testing.T) {
	rules := func(fromGraph string) string {
		return assistant("      users: {groups: [" + groupID + "]}\n" + fromGraph)
	}
	mute := func(d *entratest.Directory) { d.Tenants[0].Applications[0].AppRoles = nil }
	for name, test := range map[string]struct {
		directory func(*entratest.Directory)
		fromGraph string
		reason    policy.Reason // "" for a token
		asked     int
	}{
		"a member":               {inGroup, "      groupsFromGraph: true\n", "", 1},
		"not a member":           {func(d *entratest.Directory) { inGroup(d); d.Tenants[0].Users[0].Groups = nil }, "      groupsFromGraph: true\n", policy.UserNotInGroup, 1},
		"nobody may ask":         {inGroup, "", policy.GroupsOverage, 0},
		"Graph does not tell us": {mute, "      groupsFromGraph: true\n", policy.GroupsOverage, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldOf(t, test.directory)
			asked := 0
			w.rules.Graph = countGraph{w.rules.Graph, &asked}
			w.use(t, rules(test.fromGraph))
			user := w.userToken(t, overage)
			for range 2 {
				issued, err := w.actFor(as(t, 10001), user, userRead)
				if test.reason == "" {
					check(t, err)
					continue
				}
				if got := denial(t, err); got.Reason != test.reason || issued.Token.Len() > 0 {
					t.Errorf("got %s (%s), want %s", got.Reason, got.Hint, test.reason)
				}
			}
			if asked != test.asked {
				t.Errorf("Graph was asked %d times, want %d", asked, test.asked)
			}
		})
	}
}

type countGraph struct {
	next http.RoundTripper
	n    *int
}

func (c countGraph) RoundTrip(req *http.Request) (*http.Response, error) {
	*c.n++
	return c.next.RoundTrip(req)
}

// What Graph told counts for five minutes, for whoever acts for the user and however
// long: in sessions and in introspection, too.
func TestGroupsFromGraphHoldForMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, inGroup)
		asked, gone := 0, false
		graph := countGraph{w.rules.Graph, &asked}
		w.rules.Graph = roundTrip(func(req *http.Request) (*http.Response, error) {
			if gone {
				return countGraph{answering(http.StatusOK, `{"value":[]}`, nil), &asked}.RoundTrip(req)
			}
			return graph.RoundTrip(req)
		})
		w.use(t, assistant("      users: {groups: ["+groupID+"]}\n      groupsFromGraph: true\n      longRunning: {maxAge: 24h}\n"))
		user := w.userToken(t, func(r *entratest.UserTokenRequest) { overage(r); r.Lifetime = 30 * time.Minute })
		var held secret.Text // a token of the agent's, to act for the user
		for _, step := range []struct {
			name   string
			after  time.Duration
			gone   bool
			member bool
			asked  int
		}{
			{"first", 0, false, true, 1},
			{"gone from the group, unnoticed", 4 * time.Minute, true, true, 1},
			{"gone from the group", 2 * time.Minute, true, false, 2},
			{"in again", 10 * time.Minute, false, true, 3},
			{"in a session", 2 * time.Hour, false, true, 4},
			{"gone, in a session", 6 * time.Minute, true, false, 5},
			{"long gone", 19 * time.Hour, true, false, 6},
			{"in again, in a session", time.Hour, false, true, 7},
		} {
			time.Sleep(step.after)
			gone = step.gone
			issued, err := w.actFor(as(t, 10001), user, userRead)
			if step.member {
				check(t, err)
				held = issued.Token.Text
			} else if got := denial(t, err).Reason; got != policy.UserNotInGroup {
				t.Errorf("%s: got %s, want %s", step.name, got, policy.UserNotInGroup)
			}
			found, err := w.Introspect(as(t, 10001), broker.Request{Door: "oauth"}, held)
			check(t, err)
			if found.Active && !step.member || step.member && !found.Active {
				t.Errorf("%s: got a token that is active: %t", step.name, found.Active)
			}
			if asked != step.asked {
				t.Errorf("%s: Graph was asked %d times, want %d", step.name, asked, step.asked)
			}
		}
	})
}

// fromGraph lets the agent act for members of the group, whom Graph tells.
func fromGraph() string {
	return assistant("      users: {groups: [" + groupID + "]}\n      groupsFromGraph: true\n")
}

// What Graph tells an identity, or refuses to, is nothing that another one knows.
func TestGroupsAreOfTheIdentityThatAsked(t *testing.T) {
	w := newWorldOf(t, func(d *entratest.Directory) { inGroup(d); d.Tenants[0].AgentIdentities[0].AppRoles = nil })
	w.use(t, fromGraph())
	forAgent := w.userToken(t, func(r *entratest.UserTokenRequest) { overage(r); r.Audience = entratest.DemoBlueprintClientID })
	asAgent := func() error {
		_, err := w.Issue(as(t, 10001), broker.Request{Identity: "agent", Scope: userRead, OnBehalfOf: true, UserToken: forAgent})
		return err
	}
	for range 2 {
		if got := denial(t, asAgent()).Reason; got != policy.GroupsOverage {
			t.Errorf("got %s for an identity that may not ask", got)
		}
		_, err := w.actFor(as(t, 10001), w.userToken(t, overage), userRead)
		check(t, err)
	}
}

// Who leaves while Graph is asked does not take the answer along.
func TestGroupsOutliveTheirCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, asked := slowGraph(t)
		user := w.userToken(t, overage)
		ctx, leave := context.WithTimeout(as(t, 10001), time.Second)
		defer leave()
		var staying sync.WaitGroup
		staying.Go(func() {
			_, err := w.actFor(as(t, 10001), user, userRead)
			if err != nil {
				t.Errorf("got %v for who stayed", err)
			}
		})
		if _, err := w.actFor(ctx, user, userRead); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v for who left", err)
		}
		if staying.Wait(); *asked != 1 {
			t.Errorf("Graph was asked %d times, want 1", *asked)
		}
	})
}

// Introspection goes by the groups that a token lists, among however many.
func TestIntrospectionByListedGroups(t *testing.T) {
	w := newWorld(t)
	user := w.userToken(t, func(r *entratest.UserTokenRequest) {
		r.Claims = map[string]any{"groups": []string{person(1), groupID, person(2)}}
	})
	for _, group := range []string{groupID, person(2)} {
		w.use(t, assistant("      users: {groups: ["+group+"]}\n"))
		issued, err := w.actFor(as(t, 10001), user, userRead)
		check(t, err)
		for _, step := range []struct {
			rule   string
			active bool
		}{{group, true}, {person(3), false}} {
			w.use(t, assistant("      users: {groups: ["+step.rule+"]}\n"))
			found, err := w.Introspect(as(t, 10001), broker.Request{Door: "oauth"}, issued.Token.Text)
			check(t, err)
			if found.Active != step.active {
				t.Errorf("of %s, under a rule for %s: got a token that is active: %t", group, step.rule, found.Active)
			}
		}
	}
}
