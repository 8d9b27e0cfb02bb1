package entratest_test

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/credfree/credfree/exchange/entratest"
)

const (
	baseURL   = "https://login.entra.example"
	issuerURL = "https://oidc.cluster.example/7d1e/"

	tenantID     = "11111111-1111-4111-8111-111111111111"
	otherTenant  = "22222222-2222-4222-8222-222222222222"
	agentID      = "aaaaaaaa-0000-4000-8000-000000000001"
	disabledID   = "aaaaaaaa-0000-4000-8000-000000000002"
	bareID       = "aaaaaaaa-0000-4000-8000-000000000003"
	frontendID   = "aaaaaaaa-0000-4000-8000-000000000004"
	chainedID    = "aaaaaaaa-0000-4000-8000-000000000005"
	assignedID   = "bbbbbbbb-0000-4000-8000-000000000001"
	ledgerID     = "bbbbbbbb-0000-4000-8000-000000000002"
	userID       = "cccccccc-0000-4000-8000-000000000001"
	disabledUser = "cccccccc-0000-4000-8000-000000000002"
	guestUser    = "cccccccc-0000-4000-8000-000000000003"

	graph         = "https://graph.microsoft.com"
	graphDefault  = graph + "/.default"
	ledgerDefault = "api://ledger/.default"

	grantOBO = "urn:ietf:params:oauth:grant-type:jwt-bearer"
)

// world is a server and an issuer that know each other, without sockets.
type world struct {
	server *entratest.Server
	issuer *entratest.Issuer
	client *http.Client
}

func directory() entratest.Directory {
	demo := entratest.DemoDirectory(issuerURL).Tenants[0]
	trust := []entratest.FederatedCredential{{
		Name: "cluster", Issuer: issuerURL, Subject: "system:serviceaccount:agents:billing", Audience: entratest.TokenExchangeAudience,
	}}
	groups := make([]string, 201)
	for i := range groups {
		groups[i] = "dddddddd-0000-4000-8000-000000000000"
	}
	return entratest.Directory{Tenants: []entratest.Tenant{{
		ID:      tenantID,
		Domains: []string{"Contoso.example"},
		Resources: append(demo.Resources,
			entratest.Resource{ClientID: assignedID, Name: "strict", IdentifierURIs: []string{"api://strict"}, AssignmentRequired: true},
			entratest.Resource{ClientID: ledgerID, Name: "ledger", IdentifierURIs: []string{"api://ledger"}, AppRoles: []string{"Run"}, DelegatedScopes: []string{"run", "admin"}},
		),
		Applications: []entratest.Application{
			{
				ClientID: agentID, Name: "agent", FederatedCredentials: trust, IdentifierURIs: []string{"api://agent"},
				AppRoles:  map[string][]string{graph: {"User.Read.All"}, "api://ledger": {"Run"}},
				Delegated: map[string][]string{graph: {"User.Read", "Mail.Read"}, ledgerID: {"run"}},
			},
			{ClientID: disabledID, Name: "disabled", FederatedCredentials: trust, Disabled: true},
			{ClientID: bareID, Name: "bare"},
			{ClientID: frontendID, Name: "front end"},
			{ClientID: chainedID, Name: "chained", FederatedCredentials: []entratest.FederatedCredential{{
				Issuer: baseURL + "/" + tenantID + "/v2.0", Subject: "eeeeeeee-0000-4000-8000-000000000001", Audience: entratest.TokenExchangeAudience,
			}}},
		},
		Users: []entratest.User{
			{ObjectID: userID, UserPrincipalName: "Ada@contoso.example", DisplayName: "Ada", Groups: groups[:2]},
			{ObjectID: disabledUser, UserPrincipalName: "gone@contoso.example", Disabled: true},
			{ObjectID: guestUser, UserPrincipalName: "eve_fabrikam.example#EXT#@contoso.example", Guest: true, Groups: groups},
		},
	}, {ID: otherTenant, Domains: []string{"fabrikam.example"}}}}
}

func newWorld(t testing.TB) *world { return newWorldOf(t, directory()) }

func newWorldOf(t testing.TB, d entratest.Directory) *world {
	t.Helper()
	issuer, err := entratest.NewIssuer(entratest.IssuerConfig{URL: issuerURL, Key: sharedKey()})
	if err != nil {
		t.Fatal(err)
	}
	server, err := entratest.New(entratest.Config{
		BaseURL:    baseURL,
		Directory:  d,
		HTTPClient: &http.Client{Transport: issuer.RoundTripper()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &world{server: server, issuer: issuer, client: &http.Client{
		Transport:     server.RoundTripper(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// workloadToken is the assertion that the application "agent" trusts.
func (w *world) workloadToken(t testing.TB) string {
	t.Helper()
	token, err := w.issuer.ServiceAccountToken(entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// appForm is a request that succeeds.
func (w *world) appForm(t testing.TB) url.Values {
	t.Helper()
	return url.Values{
		"grant_type":            {"client_credentials"},
		"client_id":             {agentID},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {w.workloadToken(t)},
		"scope":                 {graphDefault},
	}
}

// userForm is an on-behalf-of request that succeeds.
func (w *world) userForm(t testing.TB) url.Values {
	t.Helper()
	f := w.appForm(t)
	f.Set("grant_type", grantOBO)
	f.Set("requested_token_use", "on_behalf_of")
	f.Set("scope", "User.Read openid offline_access profile")
	f.Set("assertion", w.userToken(t, entratest.UserTokenRequest{}))
	return f
}

// userToken is a token of Ada for the application "agent", changed by req.
func (w *world) userToken(t testing.TB, req entratest.UserTokenRequest) string {
	t.Helper()
	if req.Tenant == "" {
		req.Tenant = tenantID
	}
	if req.User == "" {
		req.User = userID
	}
	if req.Audience == "" {
		req.Audience = agentID
	}
	if req.Client == "" {
		req.Client = frontendID
	}
	token, err := w.server.UserToken(req)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// answer is what came back from the token endpoint.
type answer struct {
	status int
	header http.Header
	raw    []byte
	body   map[string]any
}

func (a answer) text(name string) string {
	s, _ := a.body[name].(string)
	return s
}

func (a answer) code() int {
	if codes, _ := a.body["error_codes"].([]any); len(codes) == 1 {
		n, _ := codes[0].(float64)
		return int(n)
	}
	return 0
}

func (w *world) post(t testing.TB, tenant string, form url.Values) answer {
	t.Helper()
	a, err := w.send(t.Context(), http.MethodPost, "/"+tenant+"/oauth2/v2.0/token", "application/x-www-form-urlencoded", form.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (w *world) send(ctx context.Context, method, path, contentType, body string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, baseURL+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := w.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.raw, err = io.ReadAll(resp.Body); err != nil {
		return answer{}, err
	}
	_ = json.Unmarshal(a.raw, &a.body) // hostile answers are no JSON
	return a, nil
}

func (w *world) get(t testing.TB, path string) answer {
	t.Helper()
	a, err := w.send(t.Context(), http.MethodGet, path, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// decode verifies a token with the published keys, as a resource would, and
// returns its header and claims.
func (w *world) decode(t testing.TB, token string, version int) (jose.Header, map[string]any) {
	t.Helper()
	path := map[int]string{1: "/" + tenantID + "/discovery/keys", 2: "/" + tenantID + "/discovery/v2.0/keys"}[version]
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(w.get(t, path).raw, &set); err != nil {
		t.Fatal(err)
	}
	tok, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := tok.Claims(&set, &claims); err != nil {
		t.Fatalf("got a token that does not verify against %s: %v", path, err)
	}
	return tok.Headers[0], claims
}

func with(form url.Values, pairs ...string) url.Values {
	form = maps.Clone(form)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			form.Del(pairs[i])
			continue
		}
		form.Set(pairs[i], pairs[i+1])
	}
	return form
}
