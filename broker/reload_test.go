package broker_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/cache"
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

// What another Entra answers late does not hide what the one in force has answered.
func TestReloadWithAnotherEntraThatAnswersLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		answersAfter := func(delay time.Duration) *exchange.Client {
			client, err := exchange.New(exchange.Config{Authority: authority, Audience: entratest.TokenExchangeAudience, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				time.Sleep(delay)
				return w.entra.RoundTripper().RoundTrip(req)
			})})
			check(t, err)
			return client
		}
		w.rules.Exchange = answersAfter(5 * time.Second)
		check(t, w.Use(w.rules))
		var asking sync.WaitGroup
		asking.Go(func() {
			if _, err := w.ask(as(t, 10001), graph); !errors.Is(err, cache.ErrPurged) {
				t.Errorf("got %v, want %v", err, cache.ErrPurged)
			}
		})
		time.Sleep(time.Second)
		w.rules.Exchange = answersAfter(0)
		check(t, w.Use(w.rules))
		_, err := w.ask(as(t, 10001), graph)
		check(t, err)
		want, _ := w.LastExchange()
		time.Sleep(10 * time.Second)
		if at, _ := w.LastExchange(); want.IsZero() || !at.Equal(want) {
			t.Errorf("got %s, want %s", at, want)
		}
		asking.Wait()
	})
}

// What is in flight when a right goes is not released, whoever waits for it.
func TestReloadWhileInFlight(t *testing.T) {
	for name, test := range map[string]struct {
		gone string
		left int // entries: the agent may still have it, but its caller is nobody now
	}{
		"agent":    {"agents: {}\n", 0},
		"blocked":  {assistant("    blocked: true\n"), 0},
		"scope":    {strings.Replace(assistant(""), graph+", ", "", 1), 0},
		"identity": {strings.Replace(assistant(""), "    identity: demo\n    identities: [demo, agent, agent-user]", "    identity: agent", 1), 0},
		"default":  {strings.Replace(assistant(""), "    identity: demo\n", "    identity: agent\n", 1), 1},
		"caller":   {strings.Replace(assistant(""), "10001", "10009", 1), 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.use(t, assistant(""))
				w.entra.SetBehavior(entratest.Behavior{Delay: 5 * time.Second})
				var asking sync.WaitGroup
				for range 3 {
					asking.Go(func() {
						issued, err := w.ask(as(t, 10001), graph)
						if err == nil || issued.Token.Len() > 0 {
							t.Error("a token was released")
						}
					})
				}
				time.Sleep(time.Second)
				w.use(t, test.gone)
				asking.Wait()
				if got := w.cache.Stats().Entries; got != test.left {
					t.Errorf("got %d entries, want %d", got, test.left)
				}
			})
		})
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

// What began under the rules of another Entra is not released, kept or gone on with,
// though its exchange starts after everything was purged.
func TestReloadWithAnotherEntraBeforeTheExchange(t *testing.T) {
	for identity, audience := range map[string]string{"demo": entratest.DemoClientID, "agent": entratest.DemoBlueprintClientID} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.keysThrough(t, func(*http.Request) error { time.Sleep(2 * time.Second); return nil })
			entra := func(asked *atomic.Int64) *exchange.Client {
				client, err := exchange.New(exchange.Config{Authority: authority, Audience: entratest.TokenExchangeAudience, Legs: broker.Legs(w.cache, w.recorder),
					Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
						asked.Add(1)
						return w.entra.RoundTripper().RoundTrip(req)
					})})
				check(t, err)
				return client
			}
			var old, now atomic.Int64
			w.rules.Exchange = entra(&old)
			w.use(t, assistant("      longRunning: {maxAge: 8h}\n"))
			user := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Audience = audience; r.Lifetime = 10 * time.Minute })
			request := broker.Request{Identity: identity, Scope: userRead, OnBehalfOf: true, UserToken: user}
			var asking sync.WaitGroup
			asking.Go(func() {
				if issued, err := w.Issue(as(t, 10001), request); !errors.Is(err, cache.ErrPurged) || issued.Token.Len() > 0 {
					t.Errorf("%s: got %d bytes of the other Entra's and %v", identity, issued.Token.Len(), err)
				}
			})
			time.Sleep(time.Second)
			w.rules.Exchange = entra(&now)
			w.use(t, assistant("      longRunning: {maxAge: 8h}\n"))
			asking.Wait()
			if old.Load() == 0 {
				t.Errorf("%s: the exchange did not start after the reload", identity)
			}
			before := old.Load()
			_, err := w.Issue(as(t, 10001), request)
			check(t, err)
			if now.Load() != before || old.Load() != before || w.audit.last(t)["cache"] != "miss" {
				t.Errorf("%s: got %d requests to the new Entra, %d to the old, cache %v; want all %d steps to the new", identity, now.Load(), old.Load()-before, w.audit.last(t)["cache"], before)
			}
		})
	}
}

// A call that the rules allowed before its exchange is not made by rules that have
// another API under the same name: neither with what its token was good for, nor where
// it was. The exchange itself begins when all was purged.
func TestReloadWithAnotherAPIBeforeTheExchange(t *testing.T) {
	const before = "apis: {mail: {baseURL: https://graph.microsoft.com/v1.0, scopes: [" + mailRead + "]}}"
	for name, after := range map[string]string{
		"scopes":  strings.Replace(before, mailRead, userRead, 1),
		"address": strings.Replace(before, "graph.microsoft.com/v1.0", "gateway.contoso.com", 1),
		"paths":   strings.Replace(before, "]}", "], paths: [/users]}", 1),
		"nothing": before,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.keysThrough(t, func(*http.Request) error { time.Sleep(2 * time.Second); return nil })
				agents := strings.Replace(assistant(""), "allow: {scopes: ["+userRead+", "+mailRead+"]}", "allow: {apis: [mail]}", 1)
				w.use(t, before+agents)
				user := w.userToken(t, nil)
				var asking sync.WaitGroup
				asking.Go(func() {
					issued, err := w.Issue(as(t, 10001), broker.Request{API: "mail", Method: "GET", Path: "/me", OnBehalfOf: true, UserToken: user})
					if allowed := name == "nothing"; allowed != (err == nil) || allowed != (issued.Token.Len() > 0) {
						t.Errorf("got a token for %q at %q and %v", issued.Scope, issued.API.BaseURL, err)
					}
				})
				time.Sleep(time.Second)
				w.use(t, after+agents)
				asking.Wait()
			})
		})
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

// What is recorded of an issuance that a reload overtook is what the rules say whose
// revision it names: which of them decided, and whether audit mode alone allowed it.
func TestReloadWhileInFlightIsRecorded(t *testing.T) {
	audit, listed := assistant("    mode: audit\n"), assistant("")
	bare := strings.Replace(audit, graph+", ", "", 1)
	if bare == audit {
		t.Fatal("the scope is not taken away")
	}
	for name, test := range map[string]struct {
		before, after string
		want          map[string]any
	}{
		"allowed now": {bare, listed, map[string]any{"decision": "allow", "rule": "agents.assistant.allow.scopes[0]"}},
		"audited now": {listed, bare, map[string]any{"decision": "allow", "rule": "agents.assistant.allow.scopes", "reason": "scope_not_allowed", "audited": true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.use(t, test.before)
				w.entra.SetBehavior(entratest.Behavior{Delay: 5 * time.Second})
				var asking sync.WaitGroup
				asking.Go(func() {
					if _, err := w.ask(as(t, 10001), graph); err != nil {
						t.Error(err)
					}
				})
				time.Sleep(time.Second)
				w.use(t, test.after)
				asking.Wait()
				line := w.audit.last(t)
				got := map[string]any{}
				for _, field := range []string{"decision", "rule", "reason", "audited"} {
					if line[field] != nil {
						got[field] = line[field]
					}
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("got another record (-want +got):\n%s", diff)
				}
			})
		})
	}
}
