package entratest_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/exchange/entratest"
)

// sharedKey is the key of every issuer here, because making one takes longer
// than everything else.
var sharedKey = sync.OnceValue(func() crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// realForms are issuers, subjects and places of keys as the platforms document
// them, written out and not derived from the table under test.
var realForms = []struct {
	platform              entratest.Platform
	form                  string
	issuer, subject, keys string
}{
	{"kubernetes", "serviceaccount", "https://kubernetes.default.svc.cluster.local", "system:serviceaccount:agents:demo", "https://kubernetes.default.svc.cluster.local/openid/v1/jwks"},
	{"aks", "serviceaccount", "https://westeurope.oic.prod-aks.azure.com/5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10/0d1b3c55-8a7e-4f6b-9a3c-2f4e6d8c0b1a/", "system:serviceaccount:agents:demo", "https://westeurope.oic.prod-aks.azure.com/5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10/0d1b3c55-8a7e-4f6b-9a3c-2f4e6d8c0b1a/openid/v1/jwks"},
	{"eks", "serviceaccount", "https://oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE", "system:serviceaccount:agents:demo", "https://oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE/keys"},
	{"gke", "serviceaccount", "https://container.googleapis.com/v1/projects/demo-project/locations/europe-west1/clusters/demo", "system:serviceaccount:agents:demo", "https://container.googleapis.com/v1/projects/demo-project/locations/europe-west1/clusters/demo/jwks"},
	{"github-actions", "branch", "https://token.actions.githubusercontent.com", "repo:contoso/payments-api:ref:refs/heads/main", "https://token.actions.githubusercontent.com/.well-known/jwks"},
	{"github-actions", "tag", "https://token.actions.githubusercontent.com", "repo:contoso/payments-api:ref:refs/tags/v1.2.3", "https://token.actions.githubusercontent.com/.well-known/jwks"},
	{"github-actions", "environment", "https://token.actions.githubusercontent.com", "repo:contoso/payments-api:environment:production", "https://token.actions.githubusercontent.com/.well-known/jwks"},
	{"github-actions", "pull_request", "https://token.actions.githubusercontent.com", "repo:contoso/payments-api:pull_request", "https://token.actions.githubusercontent.com/.well-known/jwks"},
	{"github-actions", "immutable-branch", "https://token.actions.githubusercontent.com", "repo:contoso@123456/payments-api@456789:ref:refs/heads/main", "https://token.actions.githubusercontent.com/.well-known/jwks"},
	{"github-actions", "immutable-tag", "https://token.actions.githubusercontent.com", "repo:contoso@123456/payments-api@456789:ref:refs/tags/v1.2.3", "https://token.actions.githubusercontent.com/.well-known/jwks"},
	{"github-actions", "immutable-environment", "https://token.actions.githubusercontent.com", "repo:contoso@123456/payments-api@456789:environment:production", "https://token.actions.githubusercontent.com/.well-known/jwks"},
	{"github-actions", "immutable-pull_request", "https://token.actions.githubusercontent.com", "repo:contoso@123456/payments-api@456789:pull_request", "https://token.actions.githubusercontent.com/.well-known/jwks"},
	{"gitlab-ci", "branch", "https://gitlab.com", "project_path:contoso/payments-api:ref_type:branch:ref:main", "https://gitlab.com/oauth/discovery/keys"},
	{"gitlab-ci", "tag", "https://gitlab.com", "project_path:contoso/payments-api:ref_type:tag:ref:v1.2.3", "https://gitlab.com/oauth/discovery/keys"},
	{"spiffe", "spiffe", "https://oidc-discovery.demo.example", "spiffe://demo.example/ns/agents/sa/demo", "https://oidc-discovery.demo.example/keys"},
	{"aws", "role", "https://0b1c2d3e-4f50-4617-8293-a4b5c6d7e8f9.tokens.sts.global.api.aws", "arn:aws:iam::123456789012:role/PaymentsAgent", "https://0b1c2d3e-4f50-4617-8293-a4b5c6d7e8f9.tokens.sts.global.api.aws/.well-known/jwks.json"},
	{"aws", "user", "https://0b1c2d3e-4f50-4617-8293-a4b5c6d7e8f9.tokens.sts.global.api.aws", "arn:aws:iam::123456789012:user/ada", "https://0b1c2d3e-4f50-4617-8293-a4b5c6d7e8f9.tokens.sts.global.api.aws/.well-known/jwks.json"},
	{"google-cloud", "standard", "https://accounts.google.com", "112233445566778899001", "https://www.googleapis.com/oauth2/v3/certs"},
	{"google-cloud", "full", "https://accounts.google.com", "112233445566778899001", "https://www.googleapis.com/oauth2/v3/certs"},
	{"terraform", "workspace", "https://app.terraform.io", "organization:contoso:project:payments:workspace:production:run_phase:apply", "https://app.terraform.io/.well-known/jwks"},
	{"azure-devops", "connection", "https://vstoken.dev.azure.com/2b1f7c64-90ab-4d1c-8a55-6d1f3f0f4f1e", "sc://contoso/payments/production", "https://vstoken.dev.azure.com/.well-known/jwks"},
	{"azure-devops", "pipeline", "https://vstoken.dev.azure.com/2b1f7c64-90ab-4d1c-8a55-6d1f3f0f4f1e", "p://contoso/payments/deploy", "https://vstoken.dev.azure.com/.well-known/jwks"},
	{"vault", "entity", "https://vault.demo.example:8200/v1/identity/oidc", "7d2e3179-f69b-450c-7179-ac8ee8bd8ca9", "https://vault.demo.example:8200/v1/identity/oidc/.well-known/keys"},
	{"circleci", "user", "https://oidc.circleci.com/org/6d0f7f20-8c3b-4a8e-9a55-0f3c7d1b2e4a", "org/6d0f7f20-8c3b-4a8e-9a55-0f3c7d1b2e4a/project/c4b1a2d3-e5f6-4708-9a1b-2c3d4e5f6071/user/9e8d7c6b-5a49-4838-a716-f5e4d3c2b1a0", "https://oidc.circleci.com/org/6d0f7f20-8c3b-4a8e-9a55-0f3c7d1b2e4a/.well-known/jwks-pub.json"},
	{"circleci", "vcs", "https://oidc.circleci.com/org/6d0f7f20-8c3b-4a8e-9a55-0f3c7d1b2e4a", "org/6d0f7f20-8c3b-4a8e-9a55-0f3c7d1b2e4a/project/c4b1a2d3-e5f6-4708-9a1b-2c3d4e5f6071/user/9e8d7c6b-5a49-4838-a716-f5e4d3c2b1a0/vcs-origin/github.com/contoso/payments-api/vcs-ref/refs/heads/main", "https://oidc.circleci.com/org/6d0f7f20-8c3b-4a8e-9a55-0f3c7d1b2e4a/.well-known/jwks-pub.json"},
	{"buildkite", "branch", "https://agent.buildkite.com", "organization:contoso:pipeline:payments:ref:refs/heads/main:commit:9f3182061f1e2cca4702c368cbc039b7dc9d4485:step:deploy", "https://agent.buildkite.com/.well-known/jwks"},
	{"buildkite", "tag", "https://agent.buildkite.com", "organization:contoso:pipeline:payments:ref:refs/tags/v1.2.3:commit:9f3182061f1e2cca4702c368cbc039b7dc9d4485:step:deploy", "https://agent.buildkite.com/.well-known/jwks"},
}

func newIssuer(t testing.TB, cfg entratest.IssuerConfig) *entratest.Issuer {
	t.Helper()
	issuer, err := entratest.NewIssuer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

// rsaIssuer is an issuer that Entra accepts, whatever the platform prefers.
func rsaIssuer(t testing.TB, p entratest.Platform, url string) *entratest.Issuer {
	t.Helper()
	return newIssuer(t, entratest.IssuerConfig{URL: url, Platform: p, Algorithms: []string{"RS256"}, Key: sharedKey()})
}

func mint(t testing.TB, i *entratest.Issuer, w entratest.Workload) string {
	t.Helper()
	token, err := i.WorkloadToken(w)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// federation is a server whose n-th application trusts the n-th credential.
func federation(t testing.TB, transport http.RoundTripper, trust ...entratest.FederatedCredential) *world {
	t.Helper()
	d := directory()
	tenant := &d.Tenants[0]
	tenant.Applications = nil
	for n, c := range trust {
		tenant.Applications = append(tenant.Applications, entratest.Application{
			ClientID: nthClient(n), FederatedCredentials: []entratest.FederatedCredential{c},
		})
	}
	server, err := entratest.New(entratest.Config{BaseURL: baseURL, Directory: d, HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	return &world{server: server, client: &http.Client{Transport: server.RoundTripper()}}
}

func nthClient(n int) string { return fmt.Sprintf("aaaaaaaa-0000-4000-8000-%012d", n) }

// exchange presents an assertion for the n-th application.
func (w *world) exchange(t testing.TB, n int, assertion string) answer {
	t.Helper()
	return w.post(t, tenantID, map[string][]string{
		"grant_type":            {"client_credentials"},
		"client_id":             {nthClient(n)},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {assertion},
		"scope":                 {graphDefault},
	})
}

func TestEveryPlatformIsTrustedAsDocumented(t *testing.T) {
	byPlatform := map[entratest.Platform]*entratest.Issuer{}
	var issuers []*entratest.Issuer
	var trust []entratest.FederatedCredential
	for _, p := range entratest.Platforms() {
		byPlatform[p] = rsaIssuer(t, p, "")
		issuers = append(issuers, byPlatform[p])
	}
	seen := map[string]bool{}
	for _, row := range realForms {
		seen[string(row.platform)+" "+row.form] = true
		trust = append(trust, entratest.FederatedCredential{Issuer: row.issuer, Subject: row.subject, Audience: entratest.TokenExchangeAudience})
	}
	for _, p := range entratest.Platforms() {
		for _, form := range p.Forms() {
			if !seen[string(p)+" "+form] {
				t.Errorf("%s %s: got no row in realForms, want one", p, form)
			}
		}
	}
	transport := entratest.IssuersRoundTripper(issuers...)
	w := federation(t, transport, trust...)
	for n, row := range realForms {
		t.Run(string(row.platform)+" "+row.form, func(t *testing.T) {
			issuer := byPlatform[row.platform]
			got, err := issuer.FederatedCredential(entratest.Workload{Form: row.form})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(trust[n], got); diff != "" {
				t.Errorf("federated credential (-want +got):\n%s", diff)
			}
			if a := w.exchange(t, n, mint(t, issuer, entratest.Workload{Form: row.form})); a.status != http.StatusOK {
				t.Errorf("got status %d %s, want 200", a.status, a.raw)
			}
			doc := fetchJSON(t, transport, strings.TrimSuffix(row.issuer, "/")+"/.well-known/openid-configuration")
			if doc["issuer"] != row.issuer || doc["jwks_uri"] != row.keys {
				t.Errorf("got issuer %v with keys at %v, want %s and %s", doc["issuer"], doc["jwks_uri"], row.issuer, row.keys)
			}
		})
	}
}

func fetchJSON(t testing.TB, transport http.RoundTripper, url string) map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var doc map[string]any
	if err != nil || json.Unmarshal(body, &doc) != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: got %s %s, %v, want a JSON object", url, resp.Status, body, err)
	}
	return doc
}

// peek returns the header and the claims of a token.
func peek(t testing.TB, token string) (jose.Header, map[string]any) {
	t.Helper()
	tok, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.ES384})
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := tok.UnsafeClaimsWithoutVerification(&claims); err != nil {
		t.Fatal(err)
	}
	return tok.Headers[0], claims
}

// TestPlatformTokenShapes pins what readers of workload tokens trip over: aud
// that is a list or not, claims some platforms leave out, numbers and lifetimes.
func TestPlatformTokenShapes(t *testing.T) {
	const exchange = entratest.TokenExchangeAudience
	tests := map[entratest.Platform]struct {
		audience any
		absent   []string
		seconds  float64
		some     map[string]any
	}{
		"kubernetes":     {[]any{exchange}, nil, 3600, nil},
		"aks":            {[]any{exchange}, nil, 3600, nil},
		"eks":            {[]any{exchange}, nil, 3600, nil},
		"gke":            {[]any{exchange}, nil, 3600, nil},
		"github-actions": {exchange, []string{"environment"}, 300, map[string]any{"repository_owner_id": "123456", "ref": "refs/heads/main", "job_workflow_ref": "contoso/payments-api/.github/workflows/deploy.yml@refs/heads/main", "run_attempt": "1"}},
		"gitlab-ci":      {exchange, nil, 3600, map[string]any{"runner_id": 1.0, "project_id": "20", "ref_protected": "true", "ci_config_ref_uri": "gitlab.com/contoso/payments-api//.gitlab-ci.yml@refs/heads/main"}},
		"spiffe":         {[]any{exchange}, []string{"nbf", "jti"}, 300, nil},
		"aws":            {exchange, []string{"nbf"}, 300, nil},
		"google-cloud":   {exchange, []string{"nbf", "jti", "email"}, 3600, map[string]any{"azp": "112233445566778899001"}},
		"terraform":      {exchange, nil, 7200, map[string]any{"terraform_full_workspace": "organization:contoso:project:payments:workspace:production"}},
		"azure-devops":   {exchange, nil, 600, map[string]any{"rpo_ref": "refs/heads/main"}},
		"vault":          {exchange, []string{"nbf", "jti"}, 86400, map[string]any{"namespace": "root"}},
		"circleci":       {exchange, []string{"nbf", "jti"}, 3600, map[string]any{"oidc.circleci.com/ssh-rerun": false}},
		"buildkite":      {exchange, []string{"jti"}, 300, map[string]any{"build_number": 1.0, "step_key": "deploy"}},
	}
	for _, p := range entratest.Platforms() {
		t.Run(string(p), func(t *testing.T) {
			want, ok := tests[p]
			if !ok {
				t.Fatal("got no row, want one for every platform")
			}
			header, claims := peek(t, mint(t, rsaIssuer(t, p, ""), entratest.Workload{}))
			if header.KeyID == "" {
				t.Error("got no key id")
			}
			if diff := cmp.Diff(want.audience, claims["aud"]); diff != "" {
				t.Errorf("aud (-want +got):\n%s", diff)
			}
			for _, name := range []string{"nbf", "jti", "email", "environment"} {
				if _, has := claims[name]; has && slices.Contains(want.absent, name) {
					t.Errorf("got claim %s, want none", name)
				} else if !has && (name == "nbf" || name == "jti") && !slices.Contains(want.absent, name) {
					t.Errorf("got no claim %s, want one", name)
				}
			}
			exp, _ := claims["exp"].(float64)
			iat, _ := claims["iat"].(float64)
			if exp-iat != want.seconds {
				t.Errorf("got a token for %v s, want %v", exp-iat, want.seconds)
			}
			for name, value := range want.some {
				if diff := cmp.Diff(value, claims[name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

// TestNoPlaceholderIsLeft fails when a row of the table misspells a parameter.
func TestNoPlaceholderIsLeft(t *testing.T) {
	for _, p := range entratest.Platforms() {
		for _, form := range p.Forms() {
			_, claims := peek(t, mint(t, rsaIssuer(t, p, ""), entratest.Workload{Form: form}))
			text := fmt.Sprint(claims)
			for name := range p.Parameters() {
				if strings.Contains(text, "{"+name+"}") {
					t.Errorf("%s %s: got %s, want {%s} filled in", p, form, text, name)
				}
			}
			if strings.ContainsAny(text, "{}") {
				t.Errorf("%s %s: got a placeholder nobody fills in: %s", p, form, text)
			}
		}
	}
}

// Names that mean something in Entra's own tokens mean what they like in others:
// Okta's scp is a list, and somebody's roles is a word.
func TestForeignClaimsHaveAnyType(t *testing.T) {
	w := newWorld(t)
	form := w.appForm(t)
	form.Set("client_assertion", w.workload(t, map[string]any{
		"scp": []string{"openid"}, "roles": "admin", "amr": "pwd", "tid": 7, "oid": nil, "azp": map[string]any{}, "appid": 1.5, "idtyp": true,
	}))
	if a := w.post(t, tenantID, form); a.status != http.StatusOK {
		t.Errorf("got status %d %s, want a token", a.status, a.raw)
	}
}
