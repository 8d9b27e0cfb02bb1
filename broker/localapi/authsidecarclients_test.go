package localapi_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/exchange/entratest"
)

// What does not issue anything: any path in any case, and GET alone.
func TestSidecarRoutes(t *testing.T) {
	d := open(t, sidecar(""))
	for path, status := range map[string]int{
		"/healthz": 200, "/HealthZ/": 200, "//healthz": 200, "/openapi/v1.json": 200, "/OpenAPI/V1.json": 200,
		ownHeader: 404, ownHeader + "/": 404, ownHeader + "graph/x": 404, ownHeader + "gr%61ph": 404, ownHeader + "a%2Fb": 404, "/AuthorizationHeader": 404, "/x" + ownHeader + "graph": 404,
		"/Validate/": 401, "/validate": 401, "/Validate/x": 404, "/DownstreamApi/": 404, "/DownstreamApi/graph/me": 404, "/downstreamapi/graph": 405, "/DownstreamApiUnauthenticated/graph": 405, "/health": 404, "/openapi/v1": 404,
	} {
		if got := d.send(t, http.MethodGet, path, ""); got.StatusCode != status || got.Header.Get("Location") != "" {
			t.Errorf("%s: got %d %s, want %d", path, got.StatusCode, got.body, status)
		}
	}
	for path, allowed := range map[string]string{ownHeader + "graph": "GET", header + "users": "GET", "/Validate": "GET", callRoute + "users": "POST", ownCall + "graph": "POST", "/healthz": "GET, HEAD", "/openapi/v1.json": "GET, HEAD"} {
		for _, method := range []string{"HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"} {
			got := d.send(t, method, path, "")
			refused := got.StatusCode == http.StatusMethodNotAllowed
			if refused == slices.Contains(strings.Split(allowed, ", "), method) || refused != (got.Header.Get("Allow") == allowed) {
				t.Errorf("%s %s: got %d, Allow %q; allowed is %s", method, path, got.StatusCode, got.Header.Get("Allow"), allowed)
			}
		}
	}
	if got := d.send(t, http.MethodGet, "/healthz", ""); got.body != "Healthy" || got.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("got %v %q", got.Header, got.body)
	}
	if got := d.send(t, http.MethodGet, "/healthz", "", "Origin", "null"); got.StatusCode != 403 {
		t.Errorf("a browser asks for health: got %d", got.StatusCode)
	}
}

// What the document says is taken is taken, by the names of operations that the
// auth sidecar's own document has.
func TestSidecarDocument(t *testing.T) {
	d := open(t, sidecar(""))
	described := readDescription(t, localapi.OpenAPI())
	user := d.bearer(t, entratest.DemoClientID)
	for id, headers := range map[string][]string{
		"ValidateAuthorizationHeader": user, "AuthorizationHeader": user, "AuthorizationHeaderUnauthenticated": nil, "DownstreamApi": user, "DownstreamApiUnauthenticated": nil,
	} {
		o := described.operation(t, id)
		path := strings.Replace(o.path, "{apiName}", "users", 1)
		for _, p := range append(described.parameters(o), parameter{name: "none", in: "query"}) {
			if p.in != "query" {
				continue
			}
			got := d.send(t, o.method, path+"?"+p.name+"=x", "", headers...)
			if problems := described.matches(o, got); len(problems) > 0 || strings.Contains(got.body, "is not known") || strings.Contains(got.body, "is not taken") {
				t.Errorf("%s?%s=x: got %d %s %v", path, p.name, got.StatusCode, got.body, problems)
			}
		}
	}
}

// The calls of Microsoft's own clients: those of the Microsoft 365 Agents SDK, and
// of the samples beside the auth sidecar.
func TestSidecarClientsOfMicrosoft(t *testing.T) {
	d := open(t, sidecar(""))
	ask := func(base, service string, query url.Values, headers http.Header) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/"+service+"?"+query.Encode(), nil)
		check(t, err)
		req.Header = headers
		resp, err := http.DefaultTransport.RoundTrip(req)
		check(t, err)
		body, err := io.ReadAll(resp.Body)
		check(t, err)
		check(t, resp.Body.Close())
		var result struct{ AuthorizationHeader, Title string }
		check(t, json.Unmarshal(body, &result))
		scheme, token, _ := strings.Cut(result.AuthorizationHeader, " ")
		if resp.StatusCode == 200 && scheme != "Bearer" {
			t.Errorf("got scheme %q", scheme)
		}
		return resp.StatusCode, token + result.Title
	}
	accepts := http.Header{"Accept": {"application/json"}}
	own := d.url + "/AuthorizationHeaderUnauthenticated"
	for name, test := range map[string]struct {
		query  url.Values
		client string
		user   string
	}{
		"connection token":     {url.Values{"optionsOverride.Scopes": {graph}, "optionsOverride.RequestAppToken": {"true"}}, entratest.DemoClientID, ""},
		"agent instance token": {url.Values{"AgentIdentity": {entratest.DemoAgentIdentityID}, "optionsOverride.RequestAppToken": {"true"}, "optionsOverride.AcquireTokenOptions.Tenant": {entratest.DemoTenantID}}, entratest.DemoAgentIdentityID, ""},
		"agent user token": {url.Values{"AgentIdentity": {entratest.DemoAgentIdentityID}, "AgentUserId": {entratest.DemoAgentUserID}, "optionsOverride.Scopes": {graph},
			"optionsOverride.AcquireTokenOptions.ForceRefresh": {"true"}}, entratest.DemoAgentIdentityID, entratest.DemoAgentUserID},
	} {
		status, text := ask(own, "graph", test.query, accepts)
		if status != 200 {
			t.Errorf("%s: got %d %s", name, status, text)
			continue
		}
		if token := d.verify(t, text); token.Client != test.client || test.user != "" && token.ObjectID != test.user {
			t.Errorf("%s: got a token of %+v", name, token)
		}
	}
	// The blueprint's token would stand in for a workload token. 400 is not retried.
	if status, text := ask(own, "agenticblueprint", url.Values{"AgentIdentity": {entratest.DemoAgentIdentityID}}, accepts); status != 400 || text != "Bad Request: api_unknown (apis)" {
		t.Errorf("blueprint token: got %d %s", status, text)
	}
	signedIn := http.Header{"Authorization": {d.bearer(t, entratest.DemoClientID)[1]}, "Accept": {"application/json"}}
	if status, text := ask(d.url+"/AuthorizationHeader", "users", url.Values{"optionsOverride.Scopes": {userRead}}, signedIn); status != 200 || d.verify(t, text).ObjectID != entratest.DemoUserID {
		t.Errorf("sample: got %d", status)
	}
	if resp := d.send(t, http.MethodGet, "/healthz", ""); resp.StatusCode != 200 {
		t.Errorf("health: got %d", resp.StatusCode)
	}
}

// A secret that stands in the wrong place is neither recorded nor sent back.
func TestSidecarSecretsInWrongPlaces(t *testing.T) {
	d := open(t, sidecar(""))
	secret := strings.TrimPrefix(d.bearer(t, entratest.DemoClientID)[1], "Bearer ")
	var answers strings.Builder
	d.audited()
	for _, name := range []string{"AgentIdentity", "AgentUsername", "AgentUserId", "identity", "claims", "unheard_of", "agentUnheardOf", "optionsOverride.Scopes", "optionsOverride.RequestAppToken",
		"optionsOverride.AcquireTokenOptions.Tenant", "optionsOverride.AcquireTokenOptions.Claims", "optionsOverride.AcquireTokenOptions.FmiPath", "optionsOverride.AcquireTokenOptions.ManagedIdentity.UserAssignedClientId"} {
		if name == "unheard_of" {
			continue // it is passed over, and the answer is a token
		}
		for _, query := range []string{name + "=" + secret, asAgent + "&" + name + "=" + secret, "agent" + secret + "=" + name} {
			answers.WriteString(d.send(t, http.MethodGet, ownHeader+"users?"+query, "").wire())
			answers.WriteString(d.send(t, http.MethodGet, header+"tools?"+query, "", "Authorization", "Bearer "+secret).wire())
		}
	}
	answers.WriteString(d.send(t, http.MethodGet, ownHeader+secret, "").wire())
	answers.WriteString(d.send(t, http.MethodGet, ownHeader+"graph", "", "Authorization", secret).wire())
	answers.WriteString(d.send(t, http.MethodGet, header+"users", "", "Authorization", "Bearer "+secret+secret).wire())
	for where, all := range map[string]string{"an answer": answers.String(), "the audit log": d.audited()} {
		for _, text := range []string{secret[:len(secret)/2], secret[len(secret)/2:]} {
			if at := strings.Index(all, text); at >= 0 {
				t.Errorf("%s holds the secret: ...%.300s", where, all[max(0, at-100):])
			}
		}
	}
}
