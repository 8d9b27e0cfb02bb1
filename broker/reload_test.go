package broker_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/managedidentity"
)

// A right that is taken away is gone with the very next request, and so are the
// tokens; what was not touched stays.
func TestReloadTakesRightsAway(t *testing.T) {
	w := newWorld(t)
	w.use(t, assistant(""))
	_, err := w.ask(as(t, 10001), graph)
	check(t, err)
	user := w.userToken(t, nil)
	_, err = w.actFor(as(t, 10001), user, userRead)
	check(t, err)
	_, err = w.Issue(as(t, 10001), broker.Request{Identity: "agent", Scope: graph})
	check(t, err)
	for _, step := range []struct {
		name, text string
		entries    int // that are left: own, of the agent identity, of the blueprint, for the user
		own        policy.Reason
		forUser    policy.Reason
	}{
		{"nothing", assistant("# a comment\n"), 4, "", ""},
		{"a user who is blocked", assistant("") + "blocked: {users: [" + entratest.DemoTenantID + "/" + entratest.DemoUserID + "]}\n", 3, "", policy.UserBlocked},
		{"the user's client", strings.Replace(assistant(""), entratest.DemoFrontendClientID, groupID, 1), 3, "", policy.UserClientNotAllowed},
		{"acting for users", assistant("")[:strings.Index(assistant(""), "    onBehalfOf")], 3, "", policy.OnBehalfOfNotAllowed},
		{"a scope", strings.Replace(assistant(""), graph+", ", "", 1), 1, policy.ScopeNotAllowed, ""},
		{"the agent", "agents: {}\n", 1, policy.UnknownAgent, policy.UnknownAgent},
	} {
		w.use(t, step.text)
		if got := w.cache.Stats().Entries; got != step.entries {
			t.Errorf("%s: got %d entries left, want %d", step.name, got, step.entries)
		}
		for flow, want := range map[string]policy.Reason{"own": step.own, "user": step.forUser} {
			var issued broker.Issued
			var err error
			if flow == "own" {
				issued, err = w.ask(as(t, 10001), graph)
			} else {
				issued, err = w.actFor(as(t, 10001), user, userRead)
			}
			if want == "" {
				check(t, err)
			} else if got := denial(t, err); got.Reason != want || issued.Token.Len() > 0 {
				t.Errorf("%s: got %s, want %s", step.name, got.Reason, want)
			}
		}
		if step.own != "" || step.forUser == "" {
			continue
		}
		// Fill again what the next step takes away.
		w.use(t, assistant(""))
		_, err := w.ask(as(t, 10001), graph)
		check(t, err)
	}
}

// A token that was granted by the other name of its resource stays, and goes, with
// the grant, and is purged by either name.
func TestReloadKeepsAnAlias(t *testing.T) {
	const alias = "https://management.core.windows.net/.default"
	w := newWorld(t)
	with := strings.Replace(agents, vault, "arm", 1)
	w.use(t, with)
	issued, err := w.ask(as(t, 10001), alias)
	check(t, err)
	if issued.Scope != alias {
		t.Errorf("got %s, want %s", issued.Scope, alias)
	}
	w.use(t, with+"# a comment\n")
	if got := w.cache.Stats().Entries; got != 1 {
		t.Errorf("got %d entries after a reload, want the token", got)
	}
	w.use(t, agents)
	if got := w.cache.Stats().Entries; got != 0 {
		t.Errorf("got %d entries without the grant, want none", got)
	}
	w.use(t, with)
	for _, purged := range []string{"arm", alias} {
		for _, scope := range []string{alias, "https://management.azure.com/.default"} {
			_, err := w.ask(as(t, 10001), scope)
			check(t, err)
		}
		if tokens, _, err := w.Purge(broker.Selection{Scope: purged}); err != nil || tokens != 2 {
			t.Errorf("purge of %s: got %d, %v, want both names' tokens gone", purged, tokens, err)
		}
	}
}

// What a ceiling takes away goes as what the policy does, tokens for users
// included; what it raises again comes back.
func TestReloadUnderACeiling(t *testing.T) {
	w := newWorld(t)
	w.use(t, assistant(""))
	user := w.userToken(t, nil)
	for _, step := range []struct {
		ceiling      string
		entries      int    // left of two: the agent's own, and for the user
		own, forUser string // rules that deny
	}{
		{"", 2, "", ""},
		{"onBehalfOf: {allow: {}}", 1, "", "ceiling.onBehalfOf.allow"},
		{"onBehalfOf: {users: {tenants: [" + groupID + "]}}", 1, "", "ceiling.onBehalfOf.users.tenants"},
		{"blocked: {users: [" + entratest.DemoTenantID + "/" + entratest.DemoUserID + "]}", 1, "", "ceiling.blocked.users[0]"},
		{"tenants: [" + groupID + "]", 0, "ceiling.tenants", "ceiling.tenants"},
		{"allow: {}", 0, "ceiling.allow", "ceiling.allow"},
	} {
		w.use(t, assistant(""))
		_, err := w.ask(as(t, 10001), graph)
		check(t, err)
		_, err = w.actFor(as(t, 10001), user, userRead)
		check(t, err)
		if step.ceiling != "" {
			ceiling, err := policy.ParseCeiling("ceiling.yaml", []byte("version: 1\n"+step.ceiling+"\n"))
			check(t, err)
			rules := w.rules
			rules.Policy = w.policyUnder(t, ceiling, assistant(""))
			check(t, w.Use(rules))
		}
		if got := w.cache.Stats().Entries; got != step.entries {
			t.Errorf("%q: got %d entries left, want %d", step.ceiling, got, step.entries)
		}
		_, own := w.ask(as(t, 10001), graph)
		_, forUser := w.actFor(as(t, 10001), user, userRead)
		for _, asked := range []struct {
			err  error
			want string
		}{{own, step.own}, {forUser, step.forUser}} {
			if asked.want == "" {
				check(t, asked.err)
			} else if got := denial(t, asked.err); got.Reason != policy.AboveCeiling || got.Rule != asked.want {
				t.Errorf("%q: got %s by %s, want %s", step.ceiling, got.Reason, got.Rule, asked.want)
			}
		}
	}
}

// The tokens in between go with the identity that they are for.
func TestReloadDropsLegs(t *testing.T) {
	w := newWorld(t)
	w.use(t, assistant(""))
	_, err := w.Issue(as(t, 10001), broker.Request{Identity: "agent-user", Scope: userRead})
	check(t, err)
	rules := w.rules
	rules.Policy, err = policy.Parse("credfree.yaml", []byte("version: 1\ntenant: "+entratest.DemoTenantID+"\ncloud: custom\nauthority: "+authority+"\n"))
	check(t, err)
	check(t, w.Use(rules))
	if got := w.cache.Stats().Entries; got != 0 {
		t.Errorf("got %d entries, want none", got)
	}
}

// Tokens of one Entra are not served under the name of another.
func TestReloadWithAnotherEntra(t *testing.T) {
	w := newWorld(t)
	first, err := w.ask(as(t, 10001), graph)
	check(t, err)
	w.rules.Exchange, err = exchange.New(exchange.Config{Authority: authority, Audience: entratest.TokenExchangeAudience, Transport: w.entra.RoundTripper()})
	check(t, err)
	check(t, w.Use(w.rules))
	if got := w.cache.Stats().Entries; got != 0 {
		t.Errorf("got %d entries, want none", got)
	}
	if at, last := w.LastExchange(); !at.IsZero() || last != nil {
		t.Errorf("got %s and %v, of an Entra that is not asked any more", at, last)
	}
	second, err := w.ask(as(t, 10001), graph)
	check(t, err)
	if first.Token.Reveal() == second.Token.Reveal() {
		t.Error("the other's token is served")
	}
}

// A set of rules that is not complete changes nothing.
func TestRulesThatAreNotComplete(t *testing.T) {
	w := newWorld(t)
	for name, spoil := range map[string]func(*broker.Rules){
		"no policy":   func(r *broker.Rules) { r.Policy = nil },
		"no source":   func(r *broker.Rules) { r.Sources = nil },
		"no verifier": func(r *broker.Rules) { r.Policy, r.Users = w.policy(t, assistant("")), nil },
	} {
		rules := w.rules
		spoil(&rules)
		if err := w.Use(rules); err == nil {
			t.Errorf("%s: the rules were taken", name)
		}
	}
	_, err := w.ask(as(t, 10001), graph)
	check(t, err)
}

// A name that means another managed identity now gets no token of the one that it
// meant before, by whatever the two are named.
func TestReloadOfAManagedIdentity(t *testing.T) {
	const a, b = "aaaaaaaa-0000-4000-8000-00000000000", "bbbbbbbb-0000-4000-8000-00000000000"
	const arm = "/subscriptions/5f0c0000-0000-4000-8000-000000000000/resourceGroups/agents/providers/Microsoft.ManagedIdentity/userAssignedIdentities/"
	names := map[string]string{ // what an identity is named by, and its object id
		"":                     "99999999-0000-4000-8000-000000000002",
		"clientID: " + a + "1": a + "2", "objectID: " + a + "2": a + "2", "resourceID: " + arm + "one": a + "2",
		"clientID: " + b + "1": b + "2", "objectID: " + b + "2": b + "2", "resourceID: " + arm + "two": b + "2",
	}
	w := newWorld(t)
	machine, err := entratest.NewIMDS(entratest.ManagedIdentityConfig{Server: w.entra, Identities: []entratest.ManagedIdentity{
		{ClientID: machineID, PrincipalID: names[""], SystemAssigned: true},
		{ClientID: a + "1", PrincipalID: a + "2", ResourceID: arm + "one"}, {ClientID: b + "1", PrincipalID: b + "2", ResourceID: arm + "two"},
	}})
	check(t, err)
	client, err := managedidentity.New(managedidentity.Config{Transport: machine.RoundTripper("http://169.254.169.254")})
	check(t, err)
	w.rules.Exchange, err = exchange.New(exchange.Config{Authority: authority, Audience: entratest.TokenExchangeAudience, Transport: w.entra.RoundTripper(), ManagedIdentity: client})
	check(t, err)
	objectOf := func(name string) string {
		rules := w.rules
		rules.Policy, err = policy.Parse("credfree.yaml", []byte("version: 1\ntenant: "+entratest.DemoTenantID+"\ncloud: custom\nauthority: "+authority+
			"\nidentities:\n  vm: {managedIdentity: {"+name+"}}\nagents:\n  a: {identity: vm, callers: [{tcp: {uids: [10001]}}], allow: {scopes: [graph]}}\n"))
		check(t, err)
		check(t, w.Use(rules))
		issued, err := w.ask(as(t, 10001), graph)
		check(t, err)
		var claims struct{ OID string }
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(issued.Token.Reveal(), ".")[1])
		check(t, err)
		check(t, json.Unmarshal(payload, &claims))
		return claims.OID
	}
	for before := range names {
		for after, want := range names {
			objectOf(before)
			if got := objectOf(after); got != want {
				t.Errorf("after {%s}, {%s}: got a token of %s, want %s", before, after, got, want)
			}
		}
		objectOf(before)
		if objectOf(before); w.audit.last(t)["cache"] != "hit" {
			t.Errorf("{%s}: the token is lost by a reload that changes nothing", before)
		}
	}
}

// An identity that declares other capabilities gets other tokens: with cp1 they live for
// a day, and those of before are not served until then.
func TestReloadOfCapabilities(t *testing.T) {
	w := newWorld(t)
	ask := func(more string) time.Duration {
		t.Helper()
		rules := w.rules
		var err error
		rules.Policy, err = policy.Parse("credfree.yaml", []byte("version: 1\ntenant: "+entratest.DemoTenantID+"\ncloud: custom\nauthority: "+authority+
			"\nsources: {pod: {file: {path: "+w.file+"}}}\nidentities: {demo: {application: {clientID: "+entratest.DemoClientID+", source: pod"+more+"}}}\n"+agents))
		check(t, err)
		check(t, w.Use(rules))
		issued, err := w.ask(as(t, 10001), graph)
		check(t, err)
		return time.Until(issued.ExpiresAt)
	}
	for _, step := range []struct {
		more, cache string
		day         bool
	}{
		{"", "miss", false}, {", clientCapabilities: [cp1]", "miss", true}, {", clientCapabilities: [cp1]", "hit", true}, {"", "miss", false}, {"", "hit", false},
	} {
		left := ask(step.more)
		if line := w.audit.last(t); line["cache"] != step.cache || (left > 12*time.Hour) != step.day {
			t.Errorf("with {%s}: got a %v that is good for %s, want a %s, for a day: %t", step.more, line["cache"], left, step.cache, step.day)
		}
	}
}
