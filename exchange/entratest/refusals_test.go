package entratest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/credfree/credfree/exchange/entratest"
)

func decodeJSON(t testing.TB, r io.Reader, v any) {
	t.Helper()
	if err := json.NewDecoder(r).Decode(v); err != nil {
		t.Fatal(err)
	}
}

// workload signs claims like those of the trusted workload, changed by change.
func (w *world) workload(t testing.TB, change map[string]any) string {
	t.Helper()
	now := time.Now()
	claims := map[string]any{
		"iss": issuerURL, "sub": "system:serviceaccount:agents:billing", "aud": entratest.TokenExchangeAudience,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	for name, value := range change {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
	token, err := w.issuer.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// forged is a workload token whose header is right and whose key is not.
func forged(t testing.TB, alg jose.SignatureAlgorithm, kid string) string {
	t.Helper()
	signingKey := any([]byte(strings.Repeat("k", 64)))
	if alg == jose.ES256 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signingKey = key
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: signingKey, KeyID: kid}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": issuerURL, "sub": "system:serviceaccount:agents:billing", "aud": entratest.TokenExchangeAudience, "exp": time.Now().Add(time.Hour).Unix(),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// tampered changes the payload of a token and keeps its signature.
func tampered(token string) string {
	parts := strings.Split(token, ".")
	return parts[0] + "." + parts[1][:len(parts[1])-4] + "." + parts[2]
}

func badSignature(token string) string {
	i := strings.LastIndexByte(token, '.')
	return token[:i+1] + strings.Repeat("A", len(token)-i-1)
}

func TestClientCredentialsRefusals(t *testing.T) {
	w := newWorld(t)
	stranger, err := entratest.NewIssuer(entratest.IssuerConfig{URL: issuerURL})
	if err != nil {
		t.Fatal(err)
	}
	unknownKey, err := stranger.ServiceAccountToken(entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	assertion := func(change map[string]any) []string { return []string{"client_assertion", w.workload(t, change)} }
	appToken := func() string {
		return w.post(t, tenantID, with(w.appForm(t), "scope", "api://AzureADTokenExchange/.default")).text("access_token")
	}
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }

	for _, c := range []struct {
		name   string
		tenant string
		change []string
		status int
		error  string
		code   int
	}{
		{"tenant is no name", "not_a_tenant", nil, 400, "invalid_request", 900023},
		{"tenant is a path", "..%2F" + tenantID, nil, 400, "invalid_request", 900023},
		{"unknown tenant id", userID, nil, 400, "invalid_request", 90002},
		{"unknown domain", "nowhere.example", nil, 400, "invalid_request", 90002},
		{"common", "common", nil, 400, "invalid_request", 9001023},
		{"consumers", "Consumers", nil, 400, "invalid_request", 9001023},
		{"organizations", "organizations", nil, 400, "invalid_request", 50194},
		{"no grant", "", []string{"grant_type", ""}, 400, "invalid_request", 900144},
		{"unknown grant", "", []string{"grant_type", "password"}, 400, "unsupported_grant_type", 70003},
		{"token exchange", "", []string{"grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"}, 400, "unsupported_grant_type", 70003},
		{"no client", "", []string{"client_id", ""}, 400, "invalid_request", 900144},
		{"no scope", "", []string{"scope", ""}, 400, "invalid_request", 900144},
		{"no credential", "", []string{"client_assertion", ""}, 401, "invalid_client", 7000218},
		{"no assertion type", "", []string{"client_assertion_type", ""}, 400, "invalid_request", 900144},
		{"wrong assertion type", "", []string{"client_assertion_type", "saml"}, 401, "invalid_client", 7000218},
		{"secret", "", []string{"client_assertion", "", "client_secret", "hunter2"}, 401, "invalid_client", 7000215},
		{"claims are no JSON", "", []string{"claims", "cp1"}, 400, "invalid_request", 90023},
		{"unknown client", "", []string{"client_id", userID}, 400, "unauthorized_client", 700016},
		{"client of another tenant", otherTenant, nil, 400, "unauthorized_client", 700016},
		{"disabled client", "", []string{"client_id", disabledID}, 400, "unauthorized_client", 7000112},

		{"assertion is no JWT", "", []string{"client_assertion", "hunter2"}, 400, "invalid_request", 50027},
		{"assertion without exp", "", assertion(map[string]any{"exp": nil}), 400, "invalid_request", 50027},
		{"assertion without sub", "", assertion(map[string]any{"sub": nil}), 400, "invalid_request", 50027},
		{"alg none", "", []string{"client_assertion", "eyJhbGciOiJub25lIn0.e30."}, 400, "invalid_request", 50027},
		{"ES256", "", []string{"client_assertion", forged(t, jose.ES256, "k")}, 400, "invalid_request", 5002738},
		{"HS256", "", []string{"client_assertion", forged(t, jose.HS256, "k")}, 400, "invalid_request", 5002738},
		{"unknown key", "", []string{"client_assertion", unknownKey}, 401, "invalid_client", 700027},
		{"bad signature", "", []string{"client_assertion", badSignature(w.workloadToken(t))}, 401, "invalid_client", 700027},
		{"tampered", "", []string{"client_assertion", tampered(w.workloadToken(t))}, 400, "invalid_request", 50027},
		{"expired", "", assertion(map[string]any{"exp": in(-6 * time.Minute)}), 401, "invalid_client", 700024},
		{"not yet valid", "", assertion(map[string]any{"nbf": in(6 * time.Minute)}), 401, "invalid_client", 700024},
		{"from the future", "", assertion(map[string]any{"iat": in(6 * time.Minute)}), 401, "invalid_client", 700024},
		{"no federated credential", "", []string{"client_id", bareID}, 401, "invalid_client", 70025},
		{"other issuer", "", assertion(map[string]any{"iss": "https://elsewhere.example"}), 401, "invalid_client", 700211},
		{"issuer without slash", "", assertion(map[string]any{"iss": strings.TrimSuffix(issuerURL, "/")}), 401, "invalid_client", 700211},
		{"other audience", "", assertion(map[string]any{"aud": "https://kubernetes.default.svc"}), 401, "invalid_client", 700212},
		{"audience in another case", "", assertion(map[string]any{"aud": "api://azureadtokenexchange"}), 401, "invalid_client", 700212},
		{"other subject", "", assertion(map[string]any{"sub": "system:serviceaccount:agents:other"}), 401, "invalid_client", 700213},
		{"subject in another case", "", assertion(map[string]any{"sub": "system:serviceaccount:Agents:billing"}), 401, "invalid_client", 7002138},
		{"a token of our own", "", []string{"client_assertion", appToken()}, 401, "invalid_client", 700222},
		{"a user's token", "", []string{"client_assertion", w.userToken(t, entratest.UserTokenRequest{})}, 401, "invalid_client", 700229},
		{"a forged token of our own", "", []string{"client_assertion", badSignature(appToken())}, 401, "invalid_client", 700027},
		{"an application's token where a managed identity is trusted", "", []string{"client_id", chainedID, "client_assertion", appToken()}, 401, "invalid_client", 700222},

		{"only OIDC scopes", "", []string{"scope", "openid profile"}, 400, "invalid_scope", 1002012},
		{"named scope", "", []string{"scope", graph + "/User.Read"}, 400, "invalid_scope", 1002012},
		{"resource without .default", "", []string{"scope", graph}, 400, "invalid_scope", 1002012},
		{"two resources", "", []string{"scope", graphDefault + " " + ledgerDefault}, 400, "invalid_scope", 700022},
		{"unknown resource", "", []string{"scope", "https://nothing.example/.default"}, 400, "invalid_resource", 500011},
		{"assignment required", "", []string{"scope", "api://strict/.default"}, 400, "invalid_grant", 501051},
	} {
		t.Run(c.name, func(t *testing.T) {
			tenant := c.tenant
			if tenant == "" {
				tenant = tenantID
			}
			checkRefusal(t, w.post(t, tenant, with(w.appForm(t), c.change...)), c.status, c.error, c.code)
		})
	}
}

func checkRefusal(t *testing.T, a answer, status int, oauth string, code int) {
	t.Helper()
	if a.status != status || a.text("error") != oauth || a.code() != code {
		t.Errorf("got %d %s %d (%s), want %d %s %d", a.status, a.text("error"), a.code(), a.text("error_description"), status, oauth, code)
	}
	if a.body["access_token"] != nil {
		t.Error("got an access token with a refusal, want none")
	}
}

func TestMalformedRequests(t *testing.T) {
	w := newWorld(t)
	const form = "application/x-www-form-urlencoded"
	good := w.appForm(t).Encode()
	for _, c := range []struct {
		name, method, contentType, body string
		code                            int
	}{
		{"GET", http.MethodGet, form, "", 900561},
		{"PUT", http.MethodPut, form, good, 900561},
		{"JSON", http.MethodPost, "application/json", `{"grant_type":"client_credentials"}`, 900144},
		{"form called JSON", http.MethodPost, "application/json", good, 900144},
		{"no content type", http.MethodPost, "", good, 900144},
		{"malformed", http.MethodPost, form, "grant_type=%zz", 90023},
		{"duplicated parameter", http.MethodPost, form, good + "&client_id=" + agentID, 9000411},
		{"too large", http.MethodPost, form, good + "&x=" + strings.Repeat("x", 300<<10), 90023},
		{"empty", http.MethodPost, form, "", 900144},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := w.send(t.Context(), c.method, "/"+tenantID+"/oauth2/v2.0/token", c.contentType, c.body)
			if err != nil {
				t.Fatal(err)
			}
			checkRefusal(t, a, 400, "invalid_request", c.code)
		})
	}
}

func TestOnBehalfOfRefusals(t *testing.T) {
	w := newWorld(t)
	assertion := func(req entratest.UserTokenRequest) []string { return []string{"assertion", w.userToken(t, req)} }
	appOnly := w.post(t, tenantID, with(w.appForm(t), "scope", agentID+"/.default")).text("access_token")
	for _, c := range []struct {
		name   string
		change []string
		error  string
		code   int
	}{
		{"no assertion", []string{"assertion", ""}, "invalid_request", 900144},
		{"no requested_token_use", []string{"requested_token_use", ""}, "invalid_request", 900144},
		{"other requested_token_use", []string{"requested_token_use", "something"}, "invalid_request", 90023},
		{"garbled", []string{"assertion", "hunter2"}, "invalid_grant", 50013},
		{"bad signature", []string{"assertion", badSignature(w.userToken(t, entratest.UserTokenRequest{}))}, "invalid_grant", 50013},
		{"a workload token", []string{"assertion", w.workloadToken(t)}, "invalid_grant", 50013},
		{"another tenant's issuer", assertion(entratest.UserTokenRequest{Claims: map[string]any{"iss": baseURL + "/" + otherTenant + "/v2.0"}}), "invalid_grant", 50013},
		{"a Graph token", assertion(entratest.UserTokenRequest{Audience: graph}), "invalid_grant", 50013},
		{"a token for another API", assertion(entratest.UserTokenRequest{Audience: "api://ledger"}), "invalid_grant", 500131},
		{"an id token", assertion(entratest.UserTokenRequest{IDToken: true}), "invalid_request", 240002},
		{"expired", assertion(entratest.UserTokenRequest{Lifetime: -6 * time.Minute}), "invalid_grant", 500133},
		{"app-only", []string{"assertion", appOnly}, "unauthorized_client", 7000114},
		{"unknown user", assertion(entratest.UserTokenRequest{Claims: map[string]any{"oid": agentID}}), "invalid_grant", 50034},
		{"disabled user", assertion(entratest.UserTokenRequest{User: disabledUser}), "invalid_grant", 50057},
		{"no consent for the scope", []string{"scope", "Mail.Send"}, "invalid_grant", 65001},
		{"no consent for the resource", []string{"scope", "https://vault.azure.net/.default"}, "invalid_grant", 65001},
		{"undefined scope", []string{"scope", graph + "/Everything"}, "invalid_scope", 70011},
		{"only OIDC scopes", []string{"scope", "openid"}, "invalid_scope", 70011},
		{".default and a name", []string{"scope", graphDefault + " " + graph + "/User.Read"}, "invalid_scope", 70011},
		{"two resources", []string{"scope", graph + "/User.Read api://ledger/run"}, "invalid_scope", 700022},
		{"unknown resource", []string{"scope", "api://nothing/run"}, "invalid_resource", 500011},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkRefusal(t, w.post(t, tenantID, with(w.userForm(t), c.change...)), 400, c.error, c.code)
		})
	}
}

func TestConsentIsRequiredWithSuberror(t *testing.T) {
	w := newWorld(t)
	a := w.post(t, tenantID, with(w.userForm(t), "scope", "Mail.Send"))
	if got := a.text("suberror"); got != "consent_required" {
		t.Errorf("got suberror %q, want consent_required", got)
	}
}

func TestUnreachableIssuer(t *testing.T) {
	for name, transport := range map[string]roundTripFunc{
		"down":    func(r *http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
		"503":     canned(503, "{}"),
		"HTML":    canned(200, "<html>"),
		"other":   canned(200, `{"issuer":"https://elsewhere.example","jwks_uri":"https://elsewhere.example/keys"}`),
		"http":    canned(200, `{"issuer":"`+issuerURL+`","jwks_uri":"http://oidc.cluster.example/keys"}`),
		"endless": canned(200, strings.Repeat(" ", 2<<20)+`{"issuer":"`+issuerURL+`","jwks_uri":"https://oidc.cluster.example/keys"}`),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			server, err := entratest.New(entratest.Config{BaseURL: baseURL, Directory: directory(), HTTPClient: &http.Client{Transport: transport}})
			if err != nil {
				t.Fatal(err)
			}
			w.server, w.client = server, &http.Client{Transport: server.RoundTripper()}
			checkRefusal(t, w.post(t, tenantID, w.appForm(t)), 400, "invalid_request", 50166)
		})
	}
}

func TestStrangeIssuersAreNeverFetched(t *testing.T) {
	w := newWorld(t)
	server, err := entratest.New(entratest.Config{BaseURL: baseURL, Directory: directory(), HTTPClient: &http.Client{
		Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			t.Errorf("got a request for %s, want none", r.URL.Host)
			return nil, io.ErrUnexpectedEOF
		}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.server, w.client = server, &http.Client{Transport: server.RoundTripper()}
	a := w.post(t, tenantID, with(w.appForm(t), "client_assertion", w.workload(t, map[string]any{"iss": "https://169.254.169.254"})))
	checkRefusal(t, a, 401, "invalid_client", 700211)
}

func TestUnknownKeyIDsDoNotHammerTheIssuer(t *testing.T) {
	w := newWorld(t)
	fetches := 0
	server, err := entratest.New(entratest.Config{BaseURL: baseURL, Directory: directory(), HTTPClient: &http.Client{
		Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			fetches++
			return w.issuer.RoundTripper().RoundTrip(r)
		}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.server, w.client = server, &http.Client{Transport: server.RoundTripper()}
	w.post(t, tenantID, w.appForm(t))
	if fetches != 2 {
		t.Fatalf("got %d fetches for the first assertion, want 2", fetches)
	}
	parts := strings.Split(w.workloadToken(t), ".")
	for range 50 {
		// The header of an RS256 token with a key id nobody has published.
		a := w.post(t, tenantID, with(w.appForm(t), "client_assertion", "eyJhbGciOiJSUzI1NiIsImtpZCI6Im5vbmUifQ."+parts[1]+"."+parts[2]))
		checkRefusal(t, a, 401, "invalid_client", 700027)
	}
	if fetches > 2+2*5 {
		t.Errorf("got %d fetches, want at most 12", fetches)
	}
	if a := w.post(t, tenantID, w.appForm(t)); a.status != 200 {
		t.Errorf("got status %d for a good assertion afterwards, want 200", a.status)
	}
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func canned(status int, body string) roundTripFunc {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
}

// TestManagedIdentityAssertion covers the one kind of our own tokens that a
// federated credential may trust.
func TestManagedIdentityAssertion(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	token, err := w.server.UserToken(entratest.UserTokenRequest{Tenant: tenantID, User: userID, Audience: "api://AzureADTokenExchange", Claims: map[string]any{
		"idtyp": "app", "scp": nil, "sub": "eeeeeeee-0000-4000-8000-000000000001", "oid": "eeeeeeee-0000-4000-8000-000000000001", "exp": now.Add(time.Hour).Unix(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	a := w.post(t, tenantID, with(w.appForm(t), "client_id", chainedID, "client_assertion", token))
	if a.status != http.StatusOK {
		t.Errorf("got status %d %s, want 200", a.status, a.raw)
	}
}
