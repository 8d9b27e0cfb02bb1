package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
)

// What is not written as it has to be, or is known to nobody, purges nothing and
// says so: whoever pulls a brake must not believe that it has gripped.
func TestPurgeOfNothing(t *testing.T) {
	w := newWorld(t)
	const object = entratest.DemoUserID
	for _, test := range []struct {
		selection broker.Selection
		unknown   bool
		want      string
	}{
		{broker.Selection{Agent: "Researcher"}, true, `the policy in force has no agent "Researcher", and nor has the cache; did you mean researcher?`},
		{broker.Selection{Agent: "payroll"}, true, `no agent "payroll", and nor has the cache; known are researcher, twin`},
		{broker.Selection{Agent: "researcher", Identity: "Agent"}, true, `no identity "Agent", and nor has the cache; did you mean agent?`},
		{broker.Selection{Identity: "demo/"}, true, "identity demo is no fleet; name it alone"},
		{broker.Selection{Identity: "agent/" + object}, true, "identity agent has no such member; identities.agent of the policy lists them"},
		{broker.Selection{Scope: "https://graph.microsoft.com/User.Read"}, true, `no scope "https://graph.microsoft.com/User.Read", and nor has the cache; known are https://graph.microsoft.com/.default`},
		{broker.Selection{Scope: "https://nowhere.example/.default"}, true, "known are https://graph.microsoft.com/.default, https://vault.azure.net/.default"},
		{broker.Selection{Scope: "https://Graph.Microsoft.com/.default"}, false, "upper-case letters in its host; write https://graph.microsoft.com/.default"},
		{broker.Selection{Scope: "Graph"}, false, `the scope "Graph" has no resource; did you mean graph?`},
		{broker.Selection{User: "alice@contoso.com"}, false, "that is not the id of a user; write TENANT/OBJECT-ID"},
		{broker.Selection{User: "contoso.com/" + object}, false, "not the id of a user"},
		{broker.Selection{User: object + "/"}, false, "not the id of a user"},
		{broker.Selection{User: object[:8]}, false, "not the id of a user"},
		{broker.Selection{User: strings.Repeat("a", 64)}, false, "no users: hashed; write TENANT/OBJECT-ID"},
	} {
		_, err := w.ask(as(t, 10001), graph)
		check(t, err)
		held := w.cache.Stats().Entries
		_, _, err = w.Purge(test.selection)
		wrong, ok := errors.AsType[*broker.SelectionError](err)
		if !ok || wrong.Unknown != test.unknown || !strings.Contains(wrong.Text+"; "+wrong.Hint, test.want) {
			t.Errorf("%+v: got %+v, want %q", test.selection, err, test.want)
		}
		if got := w.cache.Stats().Entries; got != held || strings.Contains(fmt.Sprint(err), object) {
			t.Errorf("%+v: %d of %d tokens are left, and the error is %v", test.selection, got, held, err)
		}
	}
}

// A scope in another case is the slip that is hardest to see.
func TestPurgeOfAScopeInAnotherCase(t *testing.T) {
	w := newWorld(t)
	w.use(t, assistant(""))
	_, _, err := w.Purge(broker.Selection{Scope: "graph/user.read"})
	wrong, ok := errors.AsType[*broker.SelectionError](err)
	if want := "did you mean " + userRead + "?"; !ok || wrong.Hint != want {
		t.Errorf("got %+v, want the hint %q", err, want)
	}
}

// What an agent in audit mode has got beyond its rules is known, because it is
// held.
func TestPurgeOfWhatOnlyTheCacheKnows(t *testing.T) {
	w := newWorld(t)
	w.use(t, "agents: {twin: {identity: demo, mode: audit, callers: [{tcp: {uids: [10002]}}], allow: {scopes: ["+graph+"]}}}\n")
	_, err := w.ask(as(t, 10002), vault)
	check(t, err)
	for _, want := range []int{1, 0} {
		got, _, err := w.Purge(broker.Selection{Scope: "keyvault"})
		if got != want || (err == nil) != (want == 1) {
			t.Errorf("purged %d tokens, %v, want %d", got, err, want)
		}
	}
}

// Nor does it matter that the policy does not know whose it is.
func TestPurgeOfWhatIsLeft(t *testing.T) {
	w := newWorld(t)
	for _, selected := range []broker.Selection{{Agent: "gone"}, {Identity: "gone"}, {Identity: "gone/member"}, {Identity: "agent/gone"}} {
		for _, key := range []cache.Key{{Agent: "gone", Identity: "gone/member"}, {Agent: "researcher", Identity: "agent/gone"}} {
			_, _, _, err := w.cache.Get(t.Context(), key, func(context.Context) (cache.Entry[exchange.Token], error) {
				return cache.Entry[exchange.Token]{Lifetime: time.Hour}, nil
			})
			check(t, err)
		}
		for _, want := range []int{1, 0} {
			if got, _, err := w.Purge(selected); got != want || (err == nil) != (want == 1) {
				t.Errorf("%+v: purged %d tokens, %v, want %d", selected, got, err, want)
			}
		}
	}
}

// With users: hashed, the hash that everything shows selects the user too.
func TestPurgeByHash(t *testing.T) {
	w := newWorld(t)
	rules := w.rules
	rules.Pseudonyms = issuance.NewPseudonyms([]byte("0123456789abcdef"))
	rules.Policy = w.policy(t, "users: hashed\nusersKeyFile: users.key\n"+assistant("      longRunning: {maxAge: 8h}\n"))
	check(t, w.Use(rules))
	hash := rules.Pseudonyms.Of(entratest.DemoTenantID, entratest.DemoUserID)
	user := w.userToken(t, nil)
	for selected, want := range map[string]int{hash: 1, strings.ToUpper(hash): 1, entratest.DemoUserID: 1, hash[1:] + "0": 0} {
		_, err := w.actFor(as(t, 10001), user, userRead)
		check(t, err)
		_, err = w.ask(as(t, 10001), graph)
		check(t, err)
		if tokens, sessions, err := w.Purge(broker.Selection{User: selected}); err != nil || tokens != want || sessions != want {
			t.Errorf("%s: purged %d tokens and %d sessions, %v, want %d", selected, tokens, sessions, err, want)
		}
	}
}
