package broker_test

import (
	"net/http"
	"testing"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/entratest"
)

// Groups that the token cannot list are asked for where the policy allows it,
// remembered for a while, and never taken for granted.
func TestGroupsOverage(t *testing.T) {
	overage := func(r *entratest.UserTokenRequest) {
		r.Claims = map[string]any{"_claim_names": map[string]any{"groups": "src1"}, "_claim_sources": map[string]any{"src1": map[string]any{}}}
	}
	rules := func(fromGraph string) string {
		return assistant("      users: {groups: [" + groupID + "]}\n" + fromGraph)
	}
	mute := func(d *entratest.Directory) { d.Tenants[0].Applications[0].AppRoles = nil }
	member := func(d *entratest.Directory) {
		d.Tenants[0].Groups = []entratest.Group{{ObjectID: groupID}}
		d.Tenants[0].Users[0].Groups = []string{groupID}
		d.Tenants[0].Applications[0].AppRoles["https://graph.microsoft.com"] = []string{"User.Read.All", "GroupMember.Read.All"}
	}
	for name, test := range map[string]struct {
		directory func(*entratest.Directory)
		fromGraph string
		reason    policy.Reason // "" for a token
		asked     int
	}{
		"a member":               {member, "      groupsFromGraph: true\n", "", 1},
		"not a member":           {func(d *entratest.Directory) { member(d); d.Tenants[0].Users[0].Groups = nil }, "      groupsFromGraph: true\n", policy.UserNotInGroup, 1},
		"nobody may ask":         {member, "", policy.GroupsOverage, 0},
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
