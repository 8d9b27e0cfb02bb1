package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
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

// The token with which groups are asked for goes to Microsoft Graph, and to no API
// that the policy has of the same resource.
func TestGroupsAreAskedOfGraphItself(t *testing.T) {
	const own = "https://graph.microsoft.com/v1.0"
	for baseURL, want := range map[string]string{
		"":                                 own,
		"https://graph.microsoft.com/v1.0": own,
		"https://graph.microsoft.com/v1.0/me/calendar": own,
		"https://gateway.partner.example/v1.0":         own,
		"https://graph.microsoft.com.evil.example":     own,
		authority + ".evil.example/v1.0":               own,
		authority + "/v1.0/me":                         own,
		authority + "/beta":                            own,
		authority + "/v1.0":                            authority + "/v1.0",
		authority + ":8443/v1.0":                       authority + ":8443/v1.0", // as the emulator has it
	} {
		for cloud, want := range map[string]string{"custom": want, "public": own} {
			w := newWorldOf(t, inGroup)
			apis := ""
			if baseURL != "" {
				apis = "apis: {tickets: {baseURL: " + baseURL + ", scopes: [graph/User.Read]}}\n"
			}
			w.use(t, apis+fromGraph())
			var asked []string
			rules := w.Rules()
			rules.Policy.Cloud.Name = cloud
			rules.Graph = roundTrip(func(req *http.Request) (*http.Response, error) {
				asked = append(asked, req.URL.String())
				return w.rules.Graph.RoundTrip(req)
			})
			check(t, w.Use(rules))
			_, err := w.actFor(as(t, 10001), w.userToken(t, overage), userRead)
			check(t, err)
			if want := []string{want + "/users/" + entratest.DemoUserID + "/getMemberObjects"}; !slices.Equal(asked, want) {
				t.Errorf("cloud %s, an API at %q: asked %q, want %q", cloud, baseURL, asked, want)
			}
		}
	}
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

// answering is a transport that answers everything alike.
func answering(status int, body string, header http.Header) http.RoundTripper {
	return serving{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), header)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})}
}

// fromGraph lets the agent act for members of the group, whom Graph tells.
func fromGraph() string {
	return assistant("      users: {groups: [" + groupID + "]}\n      groupsFromGraph: true\n")
}

// A crowd asks Graph one question for each user, and none while Graph wants to be
// left alone. Those are told to come again, not that it is final.
func TestGraphIsAskedByFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, func(d *entratest.Directory) {
			inGroup(d)
			for i := range 2 {
				d.Tenants[0].Users = append(d.Tenants[0].Users, entratest.User{ObjectID: person(i), UserPrincipalName: fmt.Sprintf("p%d@demo.example", i), Groups: []string{groupID}})
			}
		})
		var asked atomic.Int64
		next := w.rules.Graph
		good := w.rules.Graph
		w.rules.Graph = roundTrip(func(req *http.Request) (*http.Response, error) {
			asked.Add(1)
			time.Sleep(time.Second)
			return next.RoundTrip(req)
		})
		w.use(t, fromGraph())
		var users [3]secret.Text
		for i, id := range []string{entratest.DemoUserID, person(0), person(1)} {
			users[i] = w.userToken(t, func(r *entratest.UserTokenRequest) { overage(r); r.User = id })
		}
		crowd := func(user secret.Text, want func(error)) {
			var asking sync.WaitGroup
			for range 50 {
				asking.Go(func() {
					_, err := w.actFor(as(t, 10001), user, userRead)
					want(err)
				})
			}
			asking.Wait()
		}
		fine := func(err error) {
			if err != nil {
				t.Errorf("got %v, want a token", err)
			}
		}
		throttled := func(err error) {
			failure, ok := errors.AsType[*exchange.Error](err)
			if !ok || failure.Reason != exchange.EntraThrottled || !failure.Temporary() || failure.RetryAfter <= 0 || failure.RetryAfter > time.Minute {
				t.Errorf("got %v, want to be told when to come again", err)
			}
		}
		for _, step := range []struct {
			name  string
			after time.Duration
			graph http.RoundTripper
			user  int
			want  func(error)
			asked int64
		}{
			{"the first user", 0, good, 0, fine, 1},
			{"another, throttled", 0, answering(http.StatusTooManyRequests, "", http.Header{"Retry-After": {"60"}}), 1, throttled, 2},
			{"the same", 20 * time.Second, good, 1, throttled, 2},
			{"yet another", 20 * time.Second, good, 2, throttled, 2},
			{"the first, who is known", 0, good, 0, fine, 2},
			{"a minute later", 21 * time.Second, good, 1, fine, 3},
		} {
			time.Sleep(step.after)
			next = step.graph
			crowd(users[step.user], step.want)
			if got := asked.Load(); got != step.asked {
				t.Fatalf("%s: Graph was asked %d times, want %d", step.name, got, step.asked)
			}
		}
	})
}

// What passes is told from what somebody has to change, and both are remembered for
// seconds.
func TestGraphDoesNotTell(t *testing.T) {
	const refused = "" // a denial
	broken := roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("no route") })
	cut := roundTrip(func(req *http.Request) (*http.Response, error) {
		resp, err := answering(http.StatusOK, "", nil).RoundTrip(req)
		if err == nil {
			resp.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))
		}
		return resp, err
	})
	hanging := roundTrip(func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	})
	for name, test := range map[string]struct {
		graph  http.RoundTripper
		reason exchange.Reason
		again  time.Duration // after which Graph is asked again
	}{
		"may not":               {answering(http.StatusForbidden, "", nil), refused, 10 * time.Second},
		"not of this tenant":    {answering(http.StatusNotFound, "", nil), refused, 10 * time.Second},
		"something else":        {answering(http.StatusOK, "<html>", nil), refused, 10 * time.Second},
		"half of the groups":    {answering(http.StatusOK, `{"value":["`+groupID+`"],"@odata.nextLink":"x"}`, nil), refused, 10 * time.Second},
		"throttled":             {answering(http.StatusTooManyRequests, "", nil), exchange.EntraThrottled, 10 * time.Second},
		"throttled for a day":   {answering(http.StatusTooManyRequests, "", http.Header{"Retry-After": {"86400"}}), exchange.EntraThrottled, 5 * time.Minute},
		"throttled for no time": {answering(http.StatusTooManyRequests, "", http.Header{"Retry-After": {"-1"}}), exchange.EntraThrottled, 10 * time.Second},
		"an outage":             {answering(http.StatusServiceUnavailable, "", nil), exchange.EntraUnavailable, 2 * time.Second},
		"an outage for a day":   {answering(http.StatusServiceUnavailable, "", http.Header{"Retry-After": {"86400"}}), exchange.EntraUnavailable, 5 * time.Second},
		"no connection":         {broken, exchange.EntraUnavailable, 2 * time.Second},
		"half an answer":        {cut, exchange.EntraUnavailable, 2 * time.Second},
		"no answer":             {hanging, exchange.EntraUnavailable, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorldOf(t, inGroup)
				next, good, asked := test.graph, w.rules.Graph, 0
				w.rules.Graph = roundTrip(func(req *http.Request) (*http.Response, error) { asked++; return next.RoundTrip(req) })
				w.use(t, fromGraph())
				user := w.userToken(t, overage)
				fails := func() {
					issued, err := w.actFor(as(t, 10001), user, userRead)
					if issued.Token.Len() > 0 {
						t.Error("a token was released")
					}
					if test.reason == refused {
						if got := denial(t, err).Reason; got != policy.GroupsOverage {
							t.Errorf("got %s, want %s", got, policy.GroupsOverage)
						}
					} else if got := asExchangeError(t, err); got.Reason != test.reason || !got.Temporary() || got.RetryAfter <= 0 || got.RetryAfter > test.again {
						t.Errorf("got %s, retry after %s, want %s within %s", got.Reason, got.RetryAfter, test.reason, test.again)
					}
					if line := w.audit.last(t); test.reason != refused && (line["decision"] != "error" || line["reason"] != string(test.reason)) {
						t.Errorf("got audit line %v", line)
					}
				}
				fails()
				next = good
				time.Sleep(test.again - time.Second)
				fails()
				if asked != 1 {
					t.Errorf("Graph was asked %d times, want 1", asked)
				}
				time.Sleep(time.Second)
				_, err := w.actFor(as(t, 10001), user, userRead)
				check(t, err)
			})
		})
	}
}

// Without a token for Graph nobody is told that it is final when it is not.
func TestGroupsWithoutATokenForGraph(t *testing.T) {
	for status, temporary := range map[int]bool{http.StatusServiceUnavailable: true, 0: false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorldOf(t, inGroup)
			w.use(t, fromGraph())
			user := w.userToken(t, overage)
			behavior := entratest.Behavior{Status: status}
			if !temporary {
				behavior.Code = 700016
			}
			w.entra.SetBehavior(behavior)
			_, err := w.actFor(as(t, 10001), user, userRead)
			if temporary {
				if got := asExchangeError(t, err); got.Reason != exchange.EntraUnavailable {
					t.Errorf("got %s, want %s", got.Reason, exchange.EntraUnavailable)
				}
			} else if got := denial(t, err); got.Reason != policy.GroupsOverage || !strings.Contains(got.Hint, "no token for it") {
				t.Errorf("got %s: %s", got.Reason, got.Hint)
			}
		})
	}
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
		w := newWorldOf(t, inGroup)
		next, asked := w.rules.Graph, 0
		w.rules.Graph = roundTrip(func(req *http.Request) (*http.Response, error) {
			asked++
			time.Sleep(5 * time.Second)
			return next.RoundTrip(req)
		})
		w.use(t, fromGraph())
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
		if staying.Wait(); asked != 1 {
			t.Errorf("Graph was asked %d times, want 1", asked)
		}
	})
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
				w := newWorldOf(t, inGroup)
				next, asked := w.rules.Graph, 0
				w.rules.Graph = roundTrip(func(req *http.Request) (*http.Response, error) {
					asked++
					time.Sleep(5 * time.Second)
					return next.RoundTrip(req)
				})
				w.use(t, fromGraph())
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
				if forgotten := asked == 2; forgotten != test.forgotten {
					t.Errorf("%s, in flight %t: Graph was asked %d times", name, inFlight, asked)
				}
			})
		}
	}
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
