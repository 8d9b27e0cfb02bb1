package localapi_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"github.com/credfree/credfree/broker/localapi"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/exchange/entratest"
)

const (
	header    = "/AuthorizationHeader/"
	ownHeader = "/AuthorizationHeaderUnauthenticated/"
	scopesAre = "optionsOverride.Scopes="
	tenantIs  = "optionsOverride.AcquireTokenOptions.Tenant="
	asApp     = "optionsOverride.RequestAppToken=true"
	asAgent   = "AgentIdentity=" + entratest.DemoAgentIdentityID
	asRobot   = asAgent + "&AgentUserId=" + entratest.DemoAgentUserID
)

// sidecar is an agent that asks for APIs: for itself as anything it can be, and
// for users. more stands at its end.
func sidecar(more string) func(string) string {
	return func(string) string {
		return fmt.Sprintf("  demo:\n    identity: demo\n    identities: [demo, fleet, robot]\n    callers: [{tcp: {uids: [%d]}}, {socket: agent.sock, uids: [%d]}]\n"+
			"    allow: {apis: [graph], scopes: [%s]}\n    onBehalfOf: {allow: {apis: [users]}, clients: [%s]}\n%s", os.Getuid(), os.Getuid(), userRead, entratest.DemoFrontendClientID, more)
	}
}

// bearer is the header's value with a token of the demo's user for an application.
func (d *door) bearer(t testing.TB, audience string) []string {
	t.Helper()
	return []string{"Authorization", "Bearer " + d.user(t, func(r *entratest.UserTokenRequest) { r.Audience = audience })}
}

// tokenIn is the token of an answer that is exactly the auth sidecar's.
func tokenIn(t testing.TB, got answer) string {
	t.Helper()
	token, ok := strings.CutPrefix(got.body, `{"authorizationHeader":"Bearer `)
	token, end := strings.CutSuffix(token, `"}`)
	if got.StatusCode != 200 || got.Header.Get("Content-Type") != "application/json; charset=utf-8" || !ok || !end {
		t.Fatalf("got %d %v %s", got.StatusCode, got.Header, got.body)
	}
	return token
}

func TestAuthorizationHeaders(t *testing.T) {
	d := open(t, sidecar(""))
	application, blueprint := d.bearer(t, entratest.DemoClientID), d.bearer(t, entratest.DemoBlueprintClientID)
	for name, test := range map[string]struct {
		path    string
		headers []string
		client  string
		object  string // "" for an application's own
	}{
		"agent itself":            {ownHeader + "graph", nil, entratest.DemoClientID, ""},
		"in small letters":        {"/authorizationheaderunauthenticated/graph/", nil, entratest.DemoClientID, ""},
		"app token":               {ownHeader + "graph?" + asApp, nil, entratest.DemoClientID, ""},
		"app token not wanted":    {ownHeader + "graph?OptionsOverride.requestapptoken=False", nil, entratest.DemoClientID, ""},
		"own scopes":              {ownHeader + "graph?" + scopesAre + url.QueryEscape(graph) + "&" + scopesAre + "&" + asApp, nil, entratest.DemoClientID, ""},
		"own tenant":              {ownHeader + "graph?" + tenantIs + strings.ToUpper(entratest.DemoTenantID), nil, entratest.DemoClientID, ""},
		"agent instance":          {ownHeader + "graph?" + asAgent + "&" + asApp, nil, entratest.DemoAgentIdentityID, ""},
		"agent instance's tenant": {ownHeader + "graph?" + asAgent + "&" + tenantIs + entratest.DemoTenantID, nil, entratest.DemoAgentIdentityID, ""},
		"in capitals":             {ownHeader + "graph?AGENTIDENTITY=" + strings.ToUpper(entratest.DemoAgentIdentityID), nil, entratest.DemoAgentIdentityID, ""},
		"by its name here":        {ownHeader + "graph?identity=fleet/" + entratest.DemoAgentIdentityID, nil, entratest.DemoAgentIdentityID, ""},
		"agent's user":            {ownHeader + "graph?" + asRobot, nil, entratest.DemoAgentIdentityID, entratest.DemoAgentUserID},
		"agent's user in braces": {ownHeader + "graph?" + asAgent + "&agentuserid=" + url.QueryEscape("{"+strings.ToUpper(entratest.DemoAgentUserID)+"}"), nil,
			entratest.DemoAgentIdentityID, entratest.DemoAgentUserID},
		"what changes nothing": {ownHeader + "graph?trace=1&optionsOverride.AcquireTokenOptions.ForceRefresh=true&optionsOverride.AcquireTokenOptions.CorrelationId=x&optionsOverride.BaseUrl=https://evil.example" +
			"&optionsOverride.RelativePath=../x&optionsOverride.HttpMethod=Delete&optionsOverride.ExtraHeaderParameters.Host=x&optionsOverride.AcquireTokenOptions.FmiPath=", nil, entratest.DemoClientID, ""},
		"no key":                        {ownHeader + "graph", []string{"X-IDENTITY-HEADER", "none"}, entratest.DemoClientID, ""},
		"user":                          {header + "users", application, entratest.DemoClientID, entratest.DemoUserID},
		"user, and no key":              {header + "users", append([]string{"X-IDENTITY-HEADER", "none"}, application...), entratest.DemoClientID, entratest.DemoUserID},
		"user by an agent":              {header + "users?" + asAgent, blueprint, entratest.DemoAgentIdentityID, entratest.DemoUserID},
		"agent itself beside a user":    {header + "graph?" + asApp, application, entratest.DemoClientID, ""},
		"instance itself beside a user": {header + "graph?" + asAgent + "&" + asApp, application, entratest.DemoAgentIdentityID, ""},
		"agent's user beside a user":    {header + "graph?" + asRobot, application, entratest.DemoAgentIdentityID, entratest.DemoAgentUserID},
	} {
		t.Run(name, func(t *testing.T) {
			got := d.send(t, http.MethodGet, test.path, "", test.headers...)
			token := d.verify(t, tokenIn(t, got))
			if token.Client != test.client || test.object != "" && token.ObjectID != test.object || (test.object != "") != (strings.Trim(token.Scopes, "/") != "") {
				t.Errorf("got a token of %+v, want one of client %s and user %q", token, test.client, test.object)
			}
			expires, err := strconv.ParseInt(got.Header.Get("credfree-expires-on"), 10, 64)
			if left := time.Until(time.Unix(expires, 0)); err != nil || left < 50*time.Minute || left > 25*time.Hour {
				t.Errorf("the token expires in %s (%v)", left, err)
			}
			if got.Header.Get("credfree-correlation-id") == "" || got.Header.Get(client.IssuanceHeader) == "" || got.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("got headers %v", got.Header)
			}
			if line := d.audited(); !strings.Contains(line, `"auth_sidecar"`) || !strings.Contains(line, `"allow"`) {
				t.Errorf("recorded is %s", line)
			}
		})
	}
}

// problem is an error of the auth sidecar.
type problem struct {
	Type, Title, Detail string
	Status              int
	client.Error
}

// problemIn is an error with what every error has to have.
func problemIn(t testing.TB, got answer) problem {
	t.Helper()
	var p problem
	if err := json.Unmarshal([]byte(got.body), &p); err != nil || got.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("got %d %v %s: %v", got.StatusCode, got.Header, got.body, err)
	}
	title := http.StatusText(got.StatusCode)
	if p.Reason != "" {
		title += ": " + p.Reason
	}
	if p.Rule != "" {
		title += " (" + p.Rule + ")"
	}
	if p.Type == "" || p.Title != title || p.Status != got.StatusCode || p.Detail == "" || p.Description != "" || p.Hint == "" || !strings.HasSuffix(p.Detail, p.Hint) {
		t.Errorf("got %s", got.body)
	}
	if p.IssuanceID == "" || p.IssuanceID != got.Header.Get(client.IssuanceHeader) {
		t.Errorf("got issuance %q and %q", p.IssuanceID, got.Header.Get(client.IssuanceHeader))
	}
	if waits := got.StatusCode == 429 || got.StatusCode == 503; waits != (got.Header.Get("Retry-After") != "") {
		t.Errorf("got %d and Retry-After %q", got.StatusCode, got.Header.Get("Retry-After"))
	}
	if (got.StatusCode == 401) != (got.Header.Get("WWW-Authenticate") != "") {
		t.Errorf("got %d and WWW-Authenticate %q", got.StatusCode, got.Header.Get("WWW-Authenticate"))
	}
	return p
}

// What the auth sidecar takes for another request, and what the policy denies.
func TestAuthorizationHeaderRefusals(t *testing.T) {
	d := open(t, sidecar(""))
	user := d.bearer(t, entratest.DemoClientID)
	const acquire = "optionsOverride.AcquireTokenOptions."
	for name, test := range map[string]struct {
		path    string
		headers []string
		status  int
		reason  string
		rule    string
	}{
		"unknown API":                   {ownHeader + "default", nil, 400, "api_unknown", "apis"},
		"another case":                  {ownHeader + "Graph", nil, 400, "api_unknown", "apis"},
		"another's API":                 {ownHeader + "tools", nil, 403, "api_not_allowed", "agents.demo.allow.apis"},
		"API for users alone":           {ownHeader + "users", nil, 403, "api_not_allowed", "agents.demo.allow.apis"},
		"API for the agent alone":       {header + "graph", user, 403, "api_not_allowed", "agents.demo.onBehalfOf.allow.apis"},
		"scope not allowed":             {ownHeader + "graph?" + scopesAre + "https://vault.azure.net/.default", nil, 403, "scope_not_allowed", "agents.demo.allow.scopes"},
		"one of two scopes not allowed": {ownHeader + "graph?" + scopesAre + graph + "&" + scopesAre + "https://graph.microsoft.com/Mail.Read", nil, 403, "scope_not_allowed", "agents.demo.allow.scopes"},
		"user's scope not allowed":      {header + "users?" + scopesAre + graph, user, 403, "scope_not_allowed", "agents.demo.onBehalfOf.allow.scopes"},
		"blueprint's own token":         {ownHeader + "graph?" + scopesAre + "api://AzureADTokenExchange/.default", nil, 403, "scope_reserved", "agents.demo.allow.scopes"},
		"no scope":                      {ownHeader + "graph?" + scopesAre + "x", nil, 400, "scope_malformed", "agents.demo.allow.scopes"},
		"agent not known":               {ownHeader + "graph?AgentIdentity=x", nil, 403, "identity_not_allowed", "agents.demo.identities"},
		"agent by name":                 {ownHeader + "graph?AgentIdentity=fleet/" + entratest.DemoAgentIdentityID, nil, 403, "identity_not_allowed", "agents.demo.identities"},
		"application as agent":          {ownHeader + "graph?AgentIdentity=" + entratest.DemoClientID, nil, 403, "identity_not_allowed", "agents.demo.identities"},
		"another agent's user":          {ownHeader + "graph?AgentIdentity=" + otherAgentID + "&AgentUserId=" + entratest.DemoAgentUserID, nil, 403, "identity_not_allowed", "agents.demo.identities"},
		"another user of the agent":     {ownHeader + "graph?" + asAgent + "&AgentUserId=" + entratest.DemoUserID, nil, 403, "identity_not_allowed", "agents.demo.identities"},
		"user by a name not listed":     {ownHeader + "graph?" + asAgent + "&AgentUsername=" + entratest.DemoAgentUserName, nil, 403, "identity_not_allowed", "agents.demo.identities"},
		"machine":                       {ownHeader + "graph?" + acquire + "ManagedIdentity.UserAssignedClientId=" + vmObjectID, nil, 403, "identity_not_allowed", "agents.demo.identities"},
		"identity not the agent's":      {ownHeader + "graph?identity=vm", nil, 403, "identity_not_allowed", "agents.demo.identities"},
		"fleet without a member":        {ownHeader + "graph?identity=fleet", nil, 400, "identity_missing", "identities.fleet.agent.agentIDs"},

		"agent is empty":            {ownHeader + "graph?AgentIdentity=", nil, 400, "bad_request", ""},
		"agent is blank":            {ownHeader + "graph?AgentIdentity=+%20", nil, 400, "bad_request", ""},
		"user is empty":             {ownHeader + "graph?" + asAgent + "&AgentUsername=", nil, 400, "bad_request", ""},
		"user without agent":        {ownHeader + "graph?AgentUserId=" + entratest.DemoAgentUserID, nil, 400, "bad_request", ""},
		"user by name and id":       {ownHeader + "graph?" + asRobot + "&AgentUsername=x@y.example", nil, 400, "bad_request", ""},
		"user id is none":           {ownHeader + "graph?" + asAgent + "&AgentUserId=x", nil, 400, "bad_request", ""},
		"user id is zero":           {ownHeader + "graph?" + asAgent + "&AgentUserId=00000000-0000-0000-0000-000000000000", nil, 400, "bad_request", ""},
		"user as application":       {ownHeader + "graph?" + asRobot + "&" + asApp, nil, 400, "bad_request", ""},
		"agent twice":               {ownHeader + "graph?" + asAgent + "&agentidentity=" + otherAgentID, nil, 400, "bad_request", ""},
		"agent and name":            {ownHeader + "graph?" + asAgent + "&identity=demo", nil, 400, "bad_request", ""},
		"app token is a word":       {ownHeader + "graph?optionsOverride.RequestAppToken=please", nil, 400, "bad_request", ""},
		"claims are none":           {ownHeader + "graph?" + acquire + "Claims=x", nil, 400, "bad_request", ""},
		"claims twice":              {ownHeader + "graph?" + acquire + "Claims=%7B%7D&claims=%7B%7D", nil, 400, "bad_request", ""},
		"broken encoding":           {ownHeader + "graph?AgentIdentity=%zz", nil, 400, "bad_request", ""},
		"too long":                  {ownHeader + "graph?a=" + strings.Repeat("a", 16<<10), nil, 414, "bad_request", ""},
		"too many":                  {ownHeader + "graph?" + strings.Repeat("a=b&", 65), nil, 400, "bad_request", ""},
		"another tenant":            {ownHeader + "graph?" + tenantIs + otherAgentID, nil, 400, "override_not_allowed", "tenant"},
		"another tenant of a fleet": {ownHeader + "graph?" + asAgent + "&" + tenantIs + "common", nil, 400, "override_not_allowed", "identities.fleet"},
		"FMI path":                  {ownHeader + "graph?" + acquire + "FmiPath=" + entratest.DemoAgentIdentityID, nil, 400, "override_not_allowed", ""},
		"proof of possession":       {ownHeader + "graph?" + acquire + "PopPublicKey=x", nil, 400, "override_not_allowed", ""},
		"session":                   {header + "users?" + acquire + "LongRunningWebApiSessionKey=AllocateForMe", user, 400, "override_not_allowed", ""},
		"as in the documentation":   {ownHeader + "graph?OptionsOverride.Tenant=x", nil, 400, "override_not_allowed", ""},
		"a slip of the pen":         {ownHeader + "graph?AgentIdentityId=" + entratest.DemoAgentIdentityID, nil, 400, "override_not_allowed", ""},

		"no user":                  {header + "users", nil, 401, "user_token_missing", ""},
		"no user beside an app":    {header + "graph?" + asApp, nil, 401, "user_token_missing", ""},
		"user of another scheme":   {header + "users", []string{"Authorization", "PoP " + strings.TrimPrefix(user[1], "Bearer ")}, 401, "user_token_missing", ""},
		"user is empty text":       {header + "users", []string{"Authorization", "Bearer"}, 401, "user_token_missing", ""},
		"no token of a user":       {header + "users", []string{"Authorization", "Bearer x"}, 401, "user_token_malformed", "agents.demo.onBehalfOf"},
		"user of another audience": {header + "users", d.bearer(t, entratest.DemoBlueprintClientID), 401, "user_token_wrong_audience", "agents.demo.onBehalfOf"},
		"user at the wrong route":  {ownHeader + "graph", user, 400, "bad_request", ""},
		"through a proxy":          {ownHeader + "graph", []string{"X-Forwarded-For", "127.0.0.1"}, 403, "foreign_forwarded", ""},
		"browser":                  {ownHeader + "graph", []string{"Origin", "null"}, 403, "foreign_origin", ""},
		"rebound name":             {header + "users", []string{"Host", "evil.example"}, 403, "foreign_host", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d.audited()
			got := d.send(t, http.MethodGet, test.path, "", test.headers...)
			p := problemIn(t, got)
			if got.StatusCode != test.status || p.Reason != test.reason || !strings.HasPrefix(p.Rule, test.rule) || test.rule == "" && p.Rule != "" {
				t.Errorf("got %d %s, want %d %s by %q", got.StatusCode, got.body, test.status, test.reason, test.rule)
			}
			// RFC 6750 §3.1: no error where there was no token.
			demand := got.Header.Get("WWW-Authenticate")
			if bad := test.status == 401 && test.reason != "user_token_missing"; bad != (demand == `Bearer error="invalid_token"`) {
				t.Errorf("got WWW-Authenticate %q", demand)
			}
			if line := d.audited(); !strings.Contains(line, test.reason) || !strings.Contains(line, `"auth_sidecar"`) {
				t.Errorf("recorded is %s", line)
			}
		})
	}
	if got := d.entra.TokenRequests(); got != 0 {
		t.Errorf("Entra was asked %d times for what is refused", got)
	}
}

func TestSidecarCallers(t *testing.T) {
	byKey := open(t, func(dir string) string { return strings.Replace(keyCaller(dir), "tools", "graph", 1) })
	for name, test := range map[string]struct {
		headers []string
		status  int
	}{
		"key":               {[]string{"X-IDENTITY-HEADER", keyText}, 200},
		"key as Bearer":     {[]string{"Authorization", "Bearer " + keyText}, 200},
		"key of nobody":     {[]string{"X-IDENTITY-HEADER", keyText + "x"}, 401},
		"no key":            {nil, 401},
		"key in two places": {[]string{"X-IDENTITY-HEADER", keyText, "Authorization", "Bearer " + keyText}, 400},
	} {
		if got := byKey.send(t, http.MethodGet, ownHeader+"graph", "", test.headers...); got.StatusCode != test.status {
			t.Errorf("%s: got %d %s, want %d", name, got.StatusCode, got.body, test.status)
		} else if test.status != 200 {
			problemIn(t, got)
		}
	}
	// For a user, Authorization is the user's.
	if got := byKey.send(t, http.MethodGet, header+"graph", "", "Authorization", "Bearer "+keyText); problemIn(t, got).Reason != "unknown_agent" || got.StatusCode != 401 {
		t.Errorf("a key as user: got %d %s", got.StatusCode, got.body)
	}
	either := open(t, func(dir string) string {
		return strings.Replace(sidecar("")(dir), "callers: [", "callers: [{tcp: {keyFile: "+dir+"/key}}, ", 1)
	})
	user := "Bearer " + either.user(t)
	for name, test := range map[string]struct {
		path    string
		headers http.Header
		status  int
	}{
		"no key":               {ownHeader + "graph", http.Header{"X-Identity-Header": {"none"}}, 200},
		"no key beside a user": {header + "users", http.Header{"Authorization": {user}, "X-Identity-Header": {"none"}}, 200},
		"key beside a user":    {header + "users", http.Header{"Authorization": {user}, "X-Identity-Header": {keyText}}, 200},
		"wrong key and a user": {header + "users", http.Header{"Authorization": {user}, "X-Identity-Header": {keyText + "x"}}, 401},
		"two keys":             {ownHeader + "graph", http.Header{"X-Identity-Header": {keyText, keyText}}, 400},
		"two keys and a user":  {header + "users", http.Header{"Authorization": {user}, "X-Identity-Header": {keyText, keyText}}, 400},
		"two users":            {header + "users", http.Header{"Authorization": {user, user}}, 400},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, either.url+test.path, nil)
		check(t, err)
		req.Header = test.headers
		resp, err := http.DefaultTransport.RoundTrip(req)
		check(t, err)
		check(t, resp.Body.Close())
		if resp.StatusCode != test.status {
			t.Errorf("%s: got %d, want %d", name, resp.StatusCode, test.status)
		}
	}
	nobody := open(t, stranger)
	if p := problemIn(t, nobody.send(t, http.MethodGet, ownHeader+"graph", "")); p.Status != 401 || p.Reason != "unknown_agent" {
		t.Errorf("nobody: got %+v", p)
	}
	sealed := open(t, sidecar("    rawToken: false\n"))
	if p := problemIn(t, sealed.send(t, http.MethodGet, ownHeader+"graph", "")); p.Status != 403 || p.Reason != "raw_token_forbidden" || p.Rule != "agents.demo.rawToken" {
		t.Errorf("no raw tokens: got %+v", p)
	}
	limited := open(t, sidecar("    limits: {perMinute: 1}\n"))
	limited.send(t, http.MethodGet, ownHeader+"graph", "")
	if p := problemIn(t, limited.send(t, http.MethodGet, ownHeader+"graph", "")); p.Status != 429 || p.Reason != "over_limit" {
		t.Errorf("over the limit: got %+v", p)
	}
}

// The auth sidecar says 401 to all of it, and never for how long.
func TestSidecarFailuresBehind(t *testing.T) {
	for name, test := range map[string]struct {
		behavior entratest.Behavior
		break_   func(t *testing.T, d *door)
		status   int
		after    string
	}{
		"throttled":              {entratest.Behavior{Status: 429, RetryAfter: "7"}, nil, 429, "7"},
		"outage":                 {entratest.Behavior{Status: 503}, nil, 503, ""},
		"refused":                {entratest.Behavior{Code: 700016}, nil, 401, ""},
		"wrong kind":             {entratest.Behavior{WrongGrant: true}, nil, 403, ""},
		"garbled workload token": {entratest.Behavior{}, func(t *testing.T, d *door) { check(t, os.WriteFile(d.file, []byte("x"), 0o600)) }, 403, ""},
		"no workload token":      {entratest.Behavior{}, func(t *testing.T, d *door) { check(t, os.Remove(d.file)) }, 503, ""},
		"audit log full":         {entratest.Behavior{}, func(_ *testing.T, d *door) { d.full.Store(true) }, 503, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, sidecar(""))
			d.entra.SetBehavior(test.behavior)
			if test.break_ != nil {
				test.break_(t, d)
			}
			got := d.send(t, http.MethodGet, ownHeader+"graph", "")
			if p := problemIn(t, got); got.StatusCode != test.status || test.after != "" && got.Header.Get("Retry-After") != test.after {
				t.Errorf("got %d %v %+v, want %d after %q", got.StatusCode, got.Header, p, test.status, test.after)
			}
		})
	}
}

// A claims challenge comes through, and is satisfied by passing it back.
func TestSidecarClaims(t *testing.T) {
	d := open(t, sidecar(""))
	d.entra.SetBehavior(entratest.Behavior{RequireMFA: true})
	got := d.send(t, http.MethodGet, header+"users", "", d.bearer(t, entratest.DemoClientID)...)
	p := problemIn(t, got)
	demand := got.Header.Get("WWW-Authenticate")
	if got.StatusCode != 401 || p.Claims == "" || p.CorrelationID == "" || !strings.Contains(demand, `error="insufficient_claims"`) ||
		!strings.Contains(demand, base64.StdEncoding.EncodeToString([]byte(p.Claims))) {
		t.Errorf("got %d %q %s", got.StatusCode, demand, got.body)
	}
	d.entra.SetBehavior(entratest.Behavior{})
	tokenIn(t, d.send(t, http.MethodGet, ownHeader+"graph", ""))
	before := d.entra.TokenRequests()
	for _, name := range []string{"claims", "optionsOverride.AcquireTokenOptions.Claims"} {
		tokenIn(t, d.send(t, http.MethodGet, ownHeader+"graph?"+name+"="+url.QueryEscape(`{"access_token":{"nbf":{"essential":true,"value":"1"}}}`), ""))
	}
	if asked := d.entra.TokenRequests() - before; asked == 0 {
		t.Error("claims did not lead past the cache")
	}
}

// Its clients send nothing that a tricked agent could not, so the door is closed
// unless somebody opens it.
func TestSidecarIsClosedByDefault(t *testing.T) {
	d := open(t, sidecar(""), func(cfg *localapi.Config) { cfg.AuthSidecar = false })
	for _, path := range []string{"/AuthorizationHeaderUnauthenticated/graph", "/AuthorizationHeader/graph", "/healthz"} {
		if got := d.send(t, http.MethodGet, path, ""); got.StatusCode != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", path, got.StatusCode)
		}
	}
}
