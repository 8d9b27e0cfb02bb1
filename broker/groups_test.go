package broker_test

import (
	"io"
	"maps"
	"net/http"
	"slices"
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
		"Graph does not tell us": {mute, "      groupsFromGraph: true\n", policy.GroupsOverage, 2},
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
			w.use(t, apis+assistant("      users: {groups: ["+groupID+"]}\n      groupsFromGraph: true\n"))
			var asked []string
			rules := w.Rules()
			rules.Policy.Cloud.Name = cloud
			rules.Graph = roundTripper(func(req *http.Request) (*http.Response, error) {
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

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }

// What Graph told counts for five minutes, for whoever acts for the user and however
// long: in sessions and in introspection, too.
func TestGroupsFromGraphHoldForMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, inGroup)
		asked, gone := 0, false
		graph := countGraph{w.rules.Graph, &asked}
		w.rules.Graph = roundTripper(func(req *http.Request) (*http.Response, error) {
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
