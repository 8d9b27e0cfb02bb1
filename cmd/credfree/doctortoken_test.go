package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/managedidentity"
)

// The authority is asked directly, and may be somebody else.
func TestDoctorAuthority(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		body   string
		state  stepState
		says   string
		goesOn bool
	}{
		"Entra":                {200, `{"token_endpoint": "AUTHORITY/t/oauth2/v2.0/token"}`, stepOK, "knows tenant t", true},
		"another cloud":        {200, `{"token_endpoint": "https://login.example/t/oauth2/v2.0/token"}`, stepWarning, "which is elsewhere", true},
		"a longer name":        {200, `{"token_endpoint": "AUTHORITY.example/t/oauth2/v2.0/token"}`, stepWarning, "which is elsewhere", true},
		"no tenant":            {400, `{"error": "invalid_tenant", "error_codes": [90002]}`, stepFailed, "AADSTS90002", false},
		"a gateway":            {502, `{"error_codes": [1]}`, stepFailed, "status 502", true},
		"a refusal of no kind": {400, `{}`, stepFailed, "status 400", true},
		"a page":               {200, `<html>`, stepFailed, "not as Entra does", true},
		"a redirect":           {302, ``, stepFailed, "status 302", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var server *httptest.Server
			asked := 0
			server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				if r.URL.Path != "/t/v2.0/.well-known/openid-configuration" {
					t.Errorf("asked for %s", r.URL.Path)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(test.status)
				_, _ = w.Write([]byte(strings.ReplaceAll(test.body, "AUTHORITY", server.URL)))
			}))
			defer server.Close()
			transport := server.Client().Transport
			d := doctor{policy: &policy.Policy{Cloud: policy.Cloud{Authority: server.URL}}, entra: transport, tokens: transport, authorities: map[string]authorityFindings{}}
			for range 2 {
				got := d.authority(t.Context(), "t")
				if got.step.State != test.state || !strings.Contains(got.step.Detail, test.says) || (got.problem == "") != test.goesOn {
					t.Errorf("got %+v, want %s, %q, and going on: %t", got, test.state, test.says, test.goesOn)
				}
				if got.step.State == stepFailed && got.step.Hint == "" {
					t.Error("it failed, and has no hint")
				}
			}
			if asked != 1 {
				t.Errorf("the authority was asked %d times, want once", asked)
			}
		})
	}
}

// The doctor asks for what an agent would.
func TestDoctorScope(t *testing.T) {
	p, err := policy.Parse("credfree.yaml", []byte(`version: 1
tenant: `+entratest.DemoTenantID+`
sources: {pod: {file: {path: /token}}}
identities:
  app: {application: {clientID: `+entratest.DemoClientID+`, source: pod}}
  user: {agentUser: {blueprintID: `+entratest.DemoBlueprintClientID+`, agentID: `+entratest.DemoAgentIdentityID+`, username: a@demo.example, source: pod}}
  idle: {application: {clientID: `+entratest.DemoFrontendClientID+`, source: pod}}
agents:
  a: {identities: [user], callers: [{tcp: {uids: [1]}}], allow: {scopes: ["https://graph.microsoft.com/Mail.Read"]}}
  b: {identities: [app], callers: [{tcp: {uids: [2]}}], allow: {scopes: ["https://graph.microsoft.com/Mail.Read", "https://vault.azure.net/.default"]}}
`))
	check(t, err)
	for identity, want := range map[string]string{"app": vaultScope, "user": "https://graph.microsoft.com/Mail.Read", "idle": graphScope} {
		d := doctor{policy: p}
		if got := strings.Join(d.scopesFor(membersOf(identity, p.Identities[identity])[0]), " "); got != want {
			t.Errorf("%s: got %s, want %s", identity, got, want)
		}
		d.scope = "https://a.example/x  https://a.example/y"
		if diff := cmp.Diff([]string{"https://a.example/x", "https://a.example/y"}, d.scopesFor(membersOf(identity, p.Identities[identity])[0])); diff != "" {
			t.Error(diff)
		}
	}
}

// A managed identity has a chain of its own.
func TestDoctorManagedIdentity(t *testing.T) {
	const clientID = "99999999-0000-4000-8000-000000000003"
	c := newClinic(t)
	endpoint, err := entratest.NewAppService(entratest.ManagedIdentityConfig{
		Server: c.host.Server, Tenant: entratest.DemoTenantID,
		Identities: []entratest.ManagedIdentity{{ClientID: clientID, PrincipalID: "99999999-0000-4000-8000-000000000004"}},
	})
	check(t, err)
	server, err := entratest.ListenLoopback("", endpoint)
	check(t, err)
	t.Cleanup(func() { check(t, server.Close()) })
	for name, value := range endpoint.Environment(server.URL) {
		t.Setenv(name, value)
	}
	c.policy = c.policy[:strings.Index(c.policy, "sources:")] + `sources: {}
identities: {vm: {managedIdentity: {clientID: ` + clientID + `}}}
agents: {}
`
	for _, test := range []struct {
		change func()
		code   int
		states string
		says   string
	}{
		{func() {}, exitOK, "endpoint ok, token ok", "app_service answers"},
		{func() { endpoint.SetBehavior(entratest.PlatformBehavior{Status: 500}) }, exitError, "endpoint failed, token skipped", "status 500"},
		{func() {
			endpoint.SetBehavior(entratest.PlatformBehavior{})
			c.replace(t, clientID, entratest.DemoUserID)
		}, exitError, "endpoint ok, token failed", "answers"},
	} {
		test.change()
		code, found := c.diagnose(t, doctorOptions{identity: "vm"})
		if code != test.code || found.states() != test.states || !found.says("endpoint", test.says) || found.Credential != nil {
			t.Errorf("got %d, %+v; want %d, %s, and %q", code, found, test.code, test.states, test.says)
		}
	}
}

// Every identity of a policy becomes what the broker makes of it.
func TestDoctorPrincipals(t *testing.T) {
	t.Parallel()
	app := exchange.Application{Tenant: "t", ClientID: "c", Capabilities: []string{"cp1"}}
	agent := exchange.Agent{Blueprint: app, ID: "a"}
	of := func(identity policy.Identity) policy.Identity {
		identity.Tenant, identity.Capabilities = "t", []string{"cp1"}
		return identity
	}
	for _, test := range []struct {
		identity policy.Identity
		want     exchange.Identity
	}{
		{of(policy.Identity{Application: &policy.Application{ClientID: "c"}}), app},
		{of(policy.Identity{Agent: &policy.AgentIdentity{BlueprintID: "c", AgentIDs: []string{"a"}}}), agent},
		{of(policy.Identity{AgentUser: &policy.AgentUser{BlueprintID: "c", AgentID: "a", Users: []policy.AgentUserName{{Username: "u@x"}}}}), exchange.AgentUser{Agent: agent, Username: "u@x"}},
		{of(policy.Identity{AgentUser: &policy.AgentUser{BlueprintID: "c", AgentID: "a", Users: []policy.AgentUserName{{ObjectID: "o"}}}}), exchange.AgentUser{Agent: agent, ObjectID: "o"}},
		{of(policy.Identity{ManagedIdentity: &policy.ManagedIdentity{ObjectID: "o"}}), exchange.ManagedIdentity{Tenant: "t", ID: managedidentity.ID{ObjectID: "o"}}},
	} {
		if diff := cmp.Diff(test.want, membersOf("x", test.identity)[0].principal(nil)); diff != "" {
			t.Error(diff)
		}
	}
}

// A leg that was dropped and fetched again is as it went last.
func TestDoctorLegs(t *testing.T) {
	t.Parallel()
	legs := newNotedLegs()
	blueprint, agent := exchange.Leg{ClientID: "b", AgentID: "a"}, exchange.Leg{ClientID: "a"}
	keep := func(leg exchange.Leg, token exchange.Token, err error) {
		_, got := legs.Keep(t.Context(), leg, func(context.Context) (exchange.Token, error) { return token, err })
		if !errors.Is(got, err) {
			t.Errorf("got %v, want %v", got, err)
		}
	}
	state := func() string { return string(legs.step(stepBlueprint).State + ", " + legs.step(stepAgent).State) }
	refused := &exchange.Error{Reason: exchange.EntraRejected, Codes: []int{700024}, Message: "no", Status: 401, CorrelationID: "c0de"}
	for _, test := range []struct {
		do   func()
		want string
	}{
		{func() {}, "skipped, skipped"},
		{func() { keep(blueprint, exchange.Token{Lifetime: 1}, nil) }, "ok, skipped"},
		{func() { keep(agent, exchange.Token{}, refused) }, "ok, failed"},
		{func() { legs.Drop(blueprint); keep(blueprint, exchange.Token{}, refused) }, "failed, failed"},
		{func() { keep(blueprint, exchange.Token{}, nil); keep(agent, exchange.Token{}, nil) }, "ok, ok"},
		{func() { keep(blueprint, exchange.Token{}, nil) }, "ok, ok"},
	} {
		if test.do(); state() != test.want {
			t.Errorf("got %s, want %s", state(), test.want)
		}
	}
	if s := refusedStep("x", refused); !s.refused || s.Detail != "no, correlation id c0de" || len(s.Codes) != 1 {
		t.Errorf("got %+v, want Entra's refusal with its correlation id", s)
	}
	if s := refusedStep("x", errors.New("odd")); s.refused || s.State != stepFailed {
		t.Errorf("got %+v, want a failure of ours", s)
	}
}
