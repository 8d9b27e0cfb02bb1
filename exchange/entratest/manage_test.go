package entratest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/exchange/entratest"
)

const manageOrigin = "http://127.0.0.1:7500"

// manage sends a request as a program on the same machine does.
func manage(t testing.TB, h http.Handler, method, path, body string, headers ...string) answer {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, manageOrigin+path, strings.NewReader(body))
	req.RemoteAddr = "127.0.0.1:40000"
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i, name := range headers {
		if i%2 != 0 {
			continue
		}
		switch value := headers[i+1]; name {
		case "Host":
			req.Host = value
		case "RemoteAddr":
			req.RemoteAddr = value
		default:
			req.Header.Set(name, value)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	resp := w.Result()
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	var err error
	if a.raw, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	_ = json.Unmarshal(a.raw, &a.body) // pages are no JSON
	return a
}

// TestManagementRefusesBrowsers: every way in which a web page could reach it.
func TestManagementRefusesBrowsers(t *testing.T) {
	w := newWorld(t)
	h := w.server.Management(w.issuer)
	mintBody := `{"tenant":"` + tenantID + `","user":"` + userID + `","audience":"` + agentID + `"}`
	tests := []struct {
		what, method, path, body string
		headers                  []string
		status                   int
	}{
		{"plain", "POST", "/user-token", mintBody, nil, 200},
		{"localhost", "GET", "/requests", "", []string{"Host", "localhost:7500"}, 200},
		{"IPv6", "GET", "/requests", "", []string{"Host", "[::1]:7500", "RemoteAddr", "[::1]:1"}, 200},
		{"typed into a browser", "GET", "/requests.html", "", []string{"Sec-Fetch-Site", "none"}, 200},
		{"followed a link of ours", "GET", "/requests.html", "", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"rebound name", "GET", "/requests", "", []string{"Host", "attacker.example:7500"}, 403},
		{"name with our address in it", "GET", "/requests", "", []string{"Host", "127.0.0.1.attacker.example"}, 403},
		{"no host", "GET", "/requests", "", []string{"Host", ""}, 403},
		{"from elsewhere", "GET", "/requests", "", []string{"RemoteAddr", "192.0.2.1:1"}, 403},
		{"no peer", "GET", "/requests", "", []string{"RemoteAddr", "@"}, 403},
		{"origin", "POST", "/user-token", mintBody, []string{"Origin", "https://attacker.example"}, 403},
		{"null origin", "POST", "/user-token", mintBody, []string{"Origin", "null"}, 403},
		{"own origin", "POST", "/user-token", mintBody, []string{"Origin", manageOrigin}, 403},
		{"cross-site", "GET", "/requests", "", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"another port of this machine", "GET", "/requests", "", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"script of ours", "POST", "/user-token", mintBody, []string{"Sec-Fetch-Site", "same-origin"}, 403},
		{"form typed in", "PUT", "/behavior", "{}", []string{"Sec-Fetch-Site", "none"}, 403},
		{"forwarded", "GET", "/requests", "", []string{"X-Forwarded-For", "10.0.0.1"}, 403},
		{"via a proxy", "GET", "/requests", "", []string{"Via", "1.1 proxy"}, 403},
		{"form", "POST", "/user-token", mintBody, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415},
		{"plain text", "POST", "/workload-token", "{}", []string{"Content-Type", "text/plain"}, 415},
		{"mint with GET", "GET", "/user-token", "", nil, 405},
		{"unknown path", "GET", "/tokens", "", nil, 404},
		{"too large", "PUT", "/behavior", `{"body":"` + strings.Repeat("a", 70<<10) + `"}`, nil, 413},
	}
	for _, tt := range tests {
		a := manage(t, h, tt.method, tt.path, tt.body, tt.headers...)
		if a.status != tt.status {
			t.Errorf("%s: got status %d %s, want %d", tt.what, a.status, a.raw, tt.status)
		}
		if tt.status != 200 && strings.Contains(string(a.raw), "eyJ") {
			t.Errorf("%s: got a token", tt.what)
		}
		if a.header.Get("Access-Control-Allow-Origin") != "" || a.header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(a.header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: got headers %v, want no CORS, no caching and a policy that loads nothing", tt.what, a.header)
		}
	}
}

// TestBehaviorFieldsAreAllInJSON sets every field of Behavior to something else
// than zero and sends it there and back: a field that is missing stays zero.
func TestBehaviorFieldsAreAllInJSON(t *testing.T) {
	w := newWorld(t)
	h := w.server.Management()
	asked := map[string]any{}
	fields := reflect.TypeFor[entratest.Behavior]()
	for i := range fields.NumField() {
		field := fields.Field(i)
		// Spelled here on its own: the first word in lower case.
		name := strings.ToLower(field.Name[:1]) + field.Name[1:]
		switch {
		case field.Type == reflect.TypeFor[time.Duration]():
			asked[name] = (time.Duration(i+1) * time.Second).String()
		case field.Name == "Status":
			asked[name] = 503.0
		case field.Type.Kind() == reflect.Bool:
			asked[name] = true
		case field.Type.Kind() == reflect.Int:
			asked[name] = float64(i + 1)
		case field.Type.Kind() == reflect.String:
			asked[name] = fmt.Sprint("text", i)
		default:
			t.Fatalf("Behavior.%s: got type %s, which this test does not know how to fill", field.Name, field.Type)
		}
	}
	body, err := json.Marshal(asked)
	if err != nil {
		t.Fatal(err)
	}
	if a := manage(t, h, "PUT", "/behavior", string(body)); a.status != http.StatusOK {
		t.Fatalf("got status %d %s, want 200", a.status, a.raw)
	}
	if diff := cmp.Diff(asked, manage(t, h, "GET", "/behavior", "").body); diff != "" {
		t.Errorf("behavior (-sent +got):\n%s", diff)
	}
	if a := manage(t, h, "PUT", "/behavior", "{}"); a.status != http.StatusOK || a.body["hang"] != false || a.body["delay"] != "0s" {
		t.Errorf("got %s, want everything back to zero", a.raw)
	}
}

func TestBehaviorTakesEffect(t *testing.T) {
	w := newWorld(t)
	h := w.server.Management()
	manage(t, h, "PUT", "/behavior", `{"status": 503, "retryAfter": "30"}`)
	if a := w.post(t, tenantID, w.appForm(t)); a.status != 503 || a.header.Get("Retry-After") != "30" {
		t.Errorf("got status %d, want the 503 that was asked for", a.status)
	}
	manage(t, h, "PUT", "/behavior", `{"lifetime": "10m"}`)
	if a := w.post(t, tenantID, w.appForm(t)); a.status != 200 || a.body["expires_in"] != 599.0 {
		t.Errorf("got %d %v, want ten minutes and no 503 any more", a.status, a.body["expires_in"])
	}
}

func TestManagementRefusesBadJSON(t *testing.T) {
	w := newWorld(t)
	h := w.server.Management(w.issuer)
	manage(t, h, "PUT", "/behavior", `{"hang": true}`)
	for body, want := range map[string]string{
		`{"hangs": true}`:                  `unknown field "hangs"`,
		`{"Hang": true}`:                   `unknown field "Hang"`,
		`{"hang": false, "hang": true}`:    "twice",
		`{"hang": "yes"}`:                  "hang: want true or false",
		`{"hang": null}`:                   "null",
		`{"delay": 2}`:                     "duration in a string",
		`{"delay": "2 s"}`:                 "duration such as",
		`{"status": 99}`:                   "not between",
		`{"status": 1000}`:                 "not between",
		`{"status": 1e99}`:                 "status: want a whole number",
		`{"delay": 2, "nope": 1, "ok": 2}`: `unknown field "nope"`,
		`{} {}`:                            "follows",
		`{"hang": true`:                    "not a JSON object",
		`[]`:                               "not a JSON object",
		`null`:                             "not a JSON object",
	} {
		a := manage(t, h, "PUT", "/behavior", body)
		if a.status != http.StatusBadRequest || !strings.Contains(a.text("error"), want) {
			t.Errorf("%s: got %d %s, want 400 and %q", body, a.status, a.raw, want)
		}
	}
	if a := manage(t, h, "GET", "/behavior", ""); a.body["hang"] != true {
		t.Error("got another behavior, want the old one after refusals")
	}
	// What is reported of a bad name must not be the token somebody put there.
	if a := manage(t, h, "PUT", "/behavior", `{"`+w.workloadToken(t)+`": true}`); strings.Contains(string(a.raw), "eyJ") {
		t.Errorf("got %s, want the name redacted", a.raw)
	}
}

func TestManagementMintsTokens(t *testing.T) {
	w := newWorld(t)
	github := rsaIssuer(t, entratest.GitHubActions, "")
	h := w.server.Management(w.issuer, github)

	a := manage(t, h, "POST", "/workload-token", `{"parameters": {"namespace": "agents", "serviceaccount": "billing"}}`)
	if a := w.post(t, tenantID, with(w.appForm(t), "client_assertion", a.text("token"))); a.status != http.StatusOK {
		t.Errorf("got %d %s, want the workload token accepted", a.status, a.raw)
	}
	a = manage(t, h, "POST", "/workload-token", `{"issuer": "https://token.actions.githubusercontent.com", "form": "environment", "lifetime": "1m", "claims": {"actor": "eve"}}`)
	_, claims := peek(t, a.text("token"))
	if claims["sub"] != "repo:contoso/payments-api:environment:production" || claims["exp"].(float64)-claims["iat"].(float64) != 60 || claims["actor"] != "eve" {
		t.Errorf("got %v, want what was asked for", claims)
	}
	body := `{"tenant": "` + tenantID + `", "user": "` + userID + `", "audience": "` + agentID + `", "scopes": ["run"], "mfa": true, "lifetime": "-5m"}`
	a = manage(t, h, "POST", "/user-token", body, "Accept", "text/plain")
	_, claims = peek(t, strings.TrimSpace(string(a.raw)))
	if claims["scp"] != "run" || claims["oid"] != userID {
		t.Errorf("got %v, want Ada's token with scope run", claims)
	}
	for path, bodies := range map[string][]string{
		"/user-token":     {`{}`, `{"user": "nobody"}`, `{"idtoken": true}`},
		"/workload-token": {`{"issuer": "https://elsewhere.example"}`, `{"parameters": {"x": "y"}}`, `{"form": "x"}`, `{"Workload": {}}`},
	} {
		for _, body := range bodies {
			if a := manage(t, h, "POST", path, body); a.status != http.StatusBadRequest || a.text("error") == "" {
				t.Errorf("%s %s: got %d %s, want 400 with an error", path, body, a.status, a.raw)
			}
		}
	}
}

func TestManagementRotatesKeys(t *testing.T) {
	w := newWorld(t)
	spire := newIssuer(t, entratest.IssuerConfig{Platform: entratest.SPIFFE})
	h := w.server.Management(w.issuer, spire)
	keyOf := func(t *testing.T) [2]string {
		return [2]string{headerOf(t, w.userToken(t, entratest.UserTokenRequest{})), headerOf(t, mint(t, spire, entratest.Workload{}))}
	}
	before := keyOf(t)
	if a := manage(t, h, "POST", "/keys/rotate", ""); a.status != http.StatusNoContent {
		t.Fatalf("got status %d, want 204", a.status)
	}
	after := keyOf(t)
	if before[0] == after[0] || before[1] != after[1] {
		t.Errorf("got keys %v after %v, want only the server's changed", after, before)
	}
	manage(t, h, "POST", "/keys/rotate?issuer="+spire.URL(), "")
	if last := keyOf(t); last[0] != after[0] || last[1] == after[1] {
		t.Errorf("got keys %v after %v, want only the issuer's changed", last, after)
	}
	if a := manage(t, h, "POST", "/keys/rotate?issuer=https://elsewhere.example", ""); a.status != http.StatusBadRequest {
		t.Errorf("got status %d, want 400 for an issuer nobody knows", a.status)
	}
}

func TestManagementShowsRequests(t *testing.T) {
	w := newWorld(t)
	h := w.server.Management(w.issuer)
	if a := manage(t, h, "GET", "/requests", ""); strings.TrimSpace(string(a.raw)) != "{\n  \"requests\": []\n}" {
		t.Errorf("got %s, want an empty list", a.raw)
	}
	w.post(t, tenantID, with(w.appForm(t), "scope", `<script>alert(1)</script>`))
	w.post(t, tenantID, w.appForm(t))
	list, _ := manage(t, h, "GET", "/requests?limit=1", "").body["requests"].([]any)
	if len(list) != 1 {
		t.Fatalf("got %d requests, want 1", len(list))
	}
	newest, _ := list[0].(map[string]any)
	if newest["status"] != 200.0 || newest["clientID"] != agentID || newest["scope"] != graphDefault {
		t.Errorf("got %v, want the newest request", newest)
	}
	page := string(manage(t, h, "GET", "/requests.html", "").raw)
	for _, bad := range []string{"<script", "src=", "href=", "style", "eyJ"} {
		if strings.Contains(page, bad) {
			t.Errorf("got a page with %q, want neither scripts nor outside assets nor what a client sent", bad)
		}
	}
	if !strings.Contains(page, "&lt;script&gt;") || !strings.Contains(page, graphDefault) {
		t.Errorf("got %s, want both requests, escaped", page)
	}
	if a := manage(t, h, "GET", "/requests?limit=0", ""); a.status != http.StatusBadRequest {
		t.Errorf("got status %d, want 400 for a limit of 0", a.status)
	}
	index := string(manage(t, h, "GET", "/", "").raw)
	for _, path := range []string{"/requests", "/requests.html", "/behavior", "/keys/rotate", "/user-token", "/workload-token"} {
		if !strings.Contains(index, manageOrigin+path) {
			t.Errorf("got an index without %s", path)
		}
	}
}

// TestHostWithPlatformsAndManagement runs everything over sockets.
func TestHostWithPlatformsAndManagement(t *testing.T) {
	all := []entratest.Platform{entratest.AKS, entratest.GitHubActions}
	h := listen(t, entratest.HostConfig{Management: "127.0.0.1:0", Platforms: all, Directory: func(issuerURL string) entratest.Directory {
		d := entratest.DemoDirectory(issuerURL)
		d.Tenants[0].Applications[0].FederatedCredentials = nil
		app := &d.Tenants[0].Applications[1]
		if app.ClientID != entratest.DemoClientID {
			app = &d.Tenants[0].Applications[0]
		}
		app.FederatedCredentials = []entratest.FederatedCredential{
			{Issuer: issuerURL + "/aks/", Subject: "system:serviceaccount:agents:demo", Audience: entratest.TokenExchangeAudience},
			{Issuer: issuerURL + "/github-actions", Subject: "repo:contoso/payments-api:ref:refs/heads/main", Audience: entratest.TokenExchangeAudience},
		}
		return d
	}})
	client := h.Client()
	defer client.CloseIdleConnections()
	for _, p := range all {
		body := fmt.Sprintf(`{"issuer": %q}`, h.Issuers[p].URL())
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.ManagementURL+"/workload-token", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var minted struct{ Token string }
		decodeJSON(t, resp.Body, &minted)
		_ = resp.Body.Close()
		form := demoForm(t, h)
		form.Set("client_assertion", minted.Token)
		if resp, err = client.PostForm(h.URL+"/"+entratest.DemoTenantID+"/oauth2/v2.0/token", form); err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: got %s %s, %v, want 200", p, resp.Status, text, err)
		}
		_ = resp.Body.Close()
	}
	for want, cfg := range map[string]entratest.HostConfig{
		"not loopback": {Management: "0.0.0.0:0"},
		"no platform":  {Platforms: []entratest.Platform{"jenkins"}},
		"twice":        {Platforms: []entratest.Platform{"aks", "aks"}},
	} {
		if h, err := entratest.Listen(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v, want %q", h, err, want)
		}
	}
}

func TestManagementClaimsChallenge(t *testing.T) {
	w := newWorld(t)
	h := w.server.Management(w.issuer)
	token := w.appToken(t, ledgerDefault)
	for _, c := range []struct {
		body             string
		status, echoedAs int
	}{
		{`{"access_token": {"nbf": {"essential": true, "value": "1900000000"}}}`, 204, 401},
		{`{"id_token": {}}`, 400, 401},
		{`[]`, 400, 401},
		{`{}`, 204, 200},
	} {
		if a := manage(t, h, "PUT", "/claims-challenge", c.body); a.status != c.status {
			t.Errorf("%s: got %d %s, want %d", c.body, a.status, a.raw, c.status)
		}
		if a := w.callAPI(t, "GET", "/echo/", token, ""); a.status != c.echoedAs {
			t.Errorf("%s: the API answers with %d, want %d", c.body, a.status, c.echoedAs)
		}
	}
}
