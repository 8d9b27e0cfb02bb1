package localapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/credfree/credfree/exchange/entratest"
)

// sample sends what the samples beside the auth sidecar send, in Python and in
// TypeScript: the path joined to the base URL, parameters form-encoded, a body in
// JSON if there is one, and the header Authorization where a user is. It returns
// what they would: the object of an answer below 400, or else the status and the
// text that they show, which is the problem's detail or else its title.
func (d *door) sample(t testing.TB, method, path, authorization string, query url.Values, body any) (result map[string]any, status int, shown string) {
	t.Helper()
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		check(t, err)
		reader = bytes.NewReader(text)
	}
	address := d.url + "/" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(t.Context(), method, address, reader)
	check(t, err)
	req.Header = http.Header{"User-Agent": {"python-requests/2.32.5"}, "Accept-Encoding": {"gzip, deflate"}, "Accept": {"*/*"}, "Connection": {"keep-alive"}}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	check(t, err)
	text, err := io.ReadAll(resp.Body)
	check(t, err)
	check(t, resp.Body.Close())
	if resp.StatusCode < 400 {
		check(t, json.Unmarshal(text, &result))
		return result, resp.StatusCode, ""
	}
	var problem struct{ Detail, Title string }
	if json.Unmarshal(text, &problem) == nil {
		shown = problem.Detail
		if shown == "" {
			shown = problem.Title
		}
	}
	return nil, resp.StatusCode, shown
}

// The samples that Microsoft keeps beside its sidecar find at all five endpoints
// what they read there.
func TestSidecarSamples(t *testing.T) {
	d, a := openCalls(t, openCaller, emulated)
	user, agentUser := d.bearer(t, entratest.DemoClientID)[1], d.bearer(t, entratest.DemoBlueprintClientID)[1]
	agent := url.Values{"AgentIdentity": {entratest.DemoAgentIdentityID}}
	options := url.Values{"optionsOverride.Scopes": {graph}, "optionsOverride.RequestAppToken": {"true"}, "optionsOverride.BaseUrl": {"https://evil.example"},
		"optionsOverride.RelativePath": {"/echo/x?y=1"}, "optionsOverride.HttpMethod": {"PATCH"}, "optionsOverride.AcceptHeader": {"text/plain"}, "optionsOverride.ContentType": {"application/merge-patch+json"},
		"optionsOverride.AcquireTokenOptions.Tenant": {entratest.DemoTenantID}, "optionsOverride.AcquireTokenOptions.ForceRefresh": {"true"},
		"optionsOverride.AcquireTokenOptions.CorrelationId": {"8a0c5b0e-0000-4000-8000-000000000001"}}

	// validate, in both languages.
	for query, authorization := range map[string]string{"": user, "AgentIdentity=" + entratest.DemoAgentIdentityID + "&AgentUserId=" + entratest.DemoAgentUserID: agentUser} {
		values, err := url.ParseQuery(query)
		check(t, err)
		result, status, shown := d.sample(t, http.MethodGet, "Validate", authorization, values, nil)
		claims, _ := result["claims"].(map[string]any)
		if result["protocol"] != "Bearer" || result["token"] != strings.TrimPrefix(authorization, "Bearer ") || claims["oid"] != entratest.DemoUserID || len(result) != 3 {
			t.Errorf("validate: got %d %q %v", status, shown, result)
		}
	}
	if _, status, _ := d.sample(t, http.MethodGet, "Validate", "Bearer x", nil, nil); status != 401 {
		t.Errorf("validate: got %d", status)
	}

	// get-auth-header and get-auth-header-unauth.
	for path, authorization := range map[string]string{"AuthorizationHeader/graph": user, "AuthorizationHeaderUnauthenticated/graph": ""} {
		result, status, shown := d.sample(t, http.MethodGet, path, authorization, options, nil)
		header, _ := result["authorizationHeader"].(string)
		token, ok := strings.CutPrefix(header, "Bearer ")
		if !ok || d.verify(t, token).Client != entratest.DemoClientID {
			t.Errorf("%s: got %d %q %v", path, status, shown, result)
		}
	}
	if result, status, shown := d.sample(t, http.MethodGet, "AuthorizationHeader/users", agentUser, agent, nil); result["authorizationHeader"] == nil {
		t.Errorf("for a user by an agent: got %d %q", status, shown)
	}
	if _, status, shown := d.sample(t, http.MethodGet, "AuthorizationHeader/users", "", nil, nil); status != 401 || !strings.Contains(shown, "Authorization: Bearer") {
		t.Errorf("without a user: got %d %q", status, shown)
	}

	// invoke-downstream and invoke-downstream-unauth.
	for path, authorization := range map[string]string{"DownstreamApi/tools": user, "DownstreamApiUnauthenticated/tools": ""} {
		result, status, shown := d.sample(t, http.MethodPost, path, authorization, options, map[string]any{"name": "x"})
		headers, _ := result["headers"].(map[string]any)
		types, _ := headers["Content-Type"].([]any)
		content, _ := result["content"].(string)
		var echo struct{ Method, Path, Query string }
		check(t, json.Unmarshal([]byte(content), &echo))
		if result["statusCode"] != float64(200) || len(types) != 1 || len(result) != 3 || echo.Method != "PATCH" || echo.Path != "/echo/x" || echo.Query != "y=1" {
			t.Errorf("%s: got %d %q %v", path, status, shown, result)
		}
		if got := a.request(); got.Header.Get("Accept") != "text/plain" || got.Header.Get("Content-Type") != "application/merge-patch+json" || got.ContentLength != int64(len(`{"name":"x"}`)) {
			t.Errorf("%s: the API got %v", path, got.Header)
		}
	}
	if _, status, shown := d.sample(t, http.MethodPost, "DownstreamApiUnauthenticated/users", "", nil, nil); status != 403 || !strings.Contains(shown, "agents.demo.allow.apis") {
		t.Errorf("an API that is not allowed: got %d %q", status, shown)
	}
}
