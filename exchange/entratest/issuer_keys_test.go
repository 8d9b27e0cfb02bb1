package entratest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/exchange/entratest"
)

func TestIssuerKindsOfKeys(t *testing.T) {
	spire := newIssuer(t, entratest.IssuerConfig{Platform: entratest.SPIFFE})
	amazon := newIssuer(t, entratest.IssuerConfig{Platform: entratest.AWS, Key: sharedKey()})
	var trust []entratest.FederatedCredential
	for _, i := range []*entratest.Issuer{spire, amazon} {
		c, err := i.FederatedCredential(entratest.Workload{})
		if err != nil {
			t.Fatal(err)
		}
		trust = append(trust, c)
	}
	transport := entratest.IssuersRoundTripper(spire, amazon)
	w := federation(t, transport, trust...)

	elliptic := mint(t, spire, entratest.Workload{})
	if header, _ := peek(t, elliptic); header.Algorithm != "ES256" {
		t.Errorf("got %s from SPIRE, want its default ES256", header.Algorithm)
	}
	if a := w.exchange(t, 0, elliptic); a.code() != 5002738 {
		t.Errorf("ES256: got %s, want 5002738", a.raw)
	}
	doc := fetchJSON(t, transport, spire.URL()+"/keys")
	keys, _ := doc["keys"].([]any)
	if key, _ := keys[0].(map[string]any); len(keys) != 1 || key["kty"] != "EC" || key["crv"] != "P-256" || key["use"] != nil || key["d"] != nil {
		t.Errorf("got keys %v, want one public key on P-256 without use", keys)
	}
	first := mint(t, amazon, entratest.Workload{})
	if a := w.exchange(t, 1, mint(t, amazon, entratest.Workload{Algorithm: "ES384"})); a.code() != 5002738 {
		t.Errorf("ES384: got %s, want 5002738", a.raw)
	}
	if a := w.exchange(t, 1, first); a.status != http.StatusOK {
		t.Errorf("RS256: got %s, want a token", a.raw)
	}
	amazon.RotateKeys()
	second := mint(t, amazon, entratest.Workload{})
	var set jose.JSONWebKeySet
	raw, err := json.Marshal(fetchJSON(t, transport, amazon.URL()+"/.well-known/jwks.json"))
	if err != nil || json.Unmarshal(raw, &set) != nil {
		t.Fatal(err, string(raw))
	}
	var ids []string
	for _, key := range set.Keys {
		ids = append(ids, key.KeyID)
	}
	if diff := cmp.Diff([]string{"RSA_0", "EC384_0", "RSA_1", "EC384_1"}, ids); diff != "" {
		t.Errorf("key ids (-want +got):\n%s", diff)
	}
	for _, token := range []string{first, second} {
		tok, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
		if err != nil {
			t.Fatal(err)
		}
		if err := tok.Claims(&set, &map[string]any{}); err != nil {
			t.Errorf("got %v, want tokens from before and after the rotation to verify", err)
		}
	}
	if first == second || headerOf(t, first) == headerOf(t, second) {
		t.Error("got the same key after a rotation")
	}
}

func headerOf(t testing.TB, token string) string {
	t.Helper()
	header, _ := peek(t, token)
	return header.KeyID
}

func TestSubjectsAreEscapedAndReplaced(t *testing.T) {
	github := rsaIssuer(t, entratest.GitHubActions, "")
	w := entratest.Workload{Form: "environment", Parameters: map[string]string{"environment": "eu:{branch}"}}
	_, claims := peek(t, mint(t, github, w))
	if got, want := claims["sub"], "repo:contoso/payments-api:environment:eu%3A{branch}"; got != want {
		t.Errorf("got subject %v, want %v: a colon escaped, a value not a template", got, want)
	}
	if got, want := claims["environment"], "eu:{branch}"; got != want {
		t.Errorf("got environment %v, want %v", got, want)
	}
	w = entratest.Workload{Subject: "repository_id:456789", Claims: map[string]any{"actor": nil, "enterprise": "contoso"}}
	_, claims = peek(t, mint(t, github, w))
	if _, has := claims["actor"]; has || claims["sub"] != w.Subject || claims["enterprise"] != "contoso" {
		t.Errorf("got %v, want the subject replaced, actor gone and enterprise added", claims)
	}
}

// TestIssuerURLIsExact: AKS has a trailing slash in iss, and a credential
// without it must not match.
func TestIssuerURLIsExact(t *testing.T) {
	aks := rsaIssuer(t, entratest.AKS, "")
	c, err := aks.FederatedCredential(entratest.Workload{})
	if err != nil {
		t.Fatal(err)
	}
	c.Issuer = strings.TrimSuffix(c.Issuer, "/")
	w := federation(t, aks.RoundTripper(), c)
	if a := w.exchange(t, 0, mint(t, aks, entratest.Workload{})); a.code() != 700211 {
		t.Errorf("got %s, want 700211", a.raw)
	}
}

// TestIssuersShareAnOrigin: two clusters of a region differ only in the path.
func TestIssuersShareAnOrigin(t *testing.T) {
	one := rsaIssuer(t, entratest.EKS, "https://oidc.eks.eu-west-1.amazonaws.com/id/ONE")
	two := rsaIssuer(t, entratest.EKS, "https://oidc.eks.eu-west-1.amazonaws.com/id/TWO")
	transport := entratest.IssuersRoundTripper(one, two)
	for _, i := range []*entratest.Issuer{one, two} {
		if doc := fetchJSON(t, transport, i.URL()+"/.well-known/openid-configuration"); doc["issuer"] != i.URL() {
			t.Errorf("got the document of %v, want that of %s", doc["issuer"], i.URL())
		}
	}
	for url, want := range map[string]string{
		"https://oidc.eks.eu-west-1.amazonaws.com/id/THREE/keys": "404 Not Found",
		"https://elsewhere.example/":                             "",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if (err != nil) != (want == "") || err == nil && resp.Status != want {
			t.Errorf("%s: got %v, %v, want %q", url, resp, err, want)
		}
	}
	// A stand-in on another host keeps its keys at home, where it can serve them.
	google := rsaIssuer(t, entratest.GoogleCloud, "https://127.0.0.1:8443/google")
	doc := fetchJSON(t, google.RoundTripper(), "https://127.0.0.1:8443/google/.well-known/openid-configuration")
	if got, want := doc["jwks_uri"], "https://127.0.0.1:8443/oauth2/v3/certs"; got != want {
		t.Errorf("got keys at %v, want %v", got, want)
	}
}

func TestIssuerRefusesMistakes(t *testing.T) {
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for want, cfg := range map[string]entratest.IssuerConfig{
		"no platform":              {URL: issuerURL, Platform: "jenkins"},
		"not an https URL":         {},
		`algorithm "none"`:         {URL: issuerURL, Algorithms: []string{"none"}},
		"not for any of the algor": {URL: issuerURL, Key: p521},
		"of the algorithms [ES256": {URL: issuerURL, Algorithms: []string{"ES256"}, Key: sharedKey()},
	} {
		if _, err := entratest.NewIssuer(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	github := rsaIssuer(t, entratest.GitHubActions, "")
	for want, w := range map[string]entratest.Workload{
		"no parameter \"environmnt\"": {Parameters: map[string]string{"environmnt": "production"}},
		"no subject form":             {Form: "fork"},
		"does not sign with":          {Algorithm: "ES384"},
	} {
		if token, err := github.WorkloadToken(w); err == nil || token != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	// A number that is none must not become a token with broken claims.
	gitlab := rsaIssuer(t, entratest.GitLabCI, "")
	if _, err := gitlab.WorkloadToken(entratest.Workload{Parameters: map[string]string{"runner_id": "1,\"admin\":true"}}); err == nil {
		t.Error("got a token, want an error for a runner id that is no number")
	}
}

// An API server shows its keys as a key set and as nothing else: who asks for
// JSON alone gets 406 there, and none of us asks like that.
func TestKubernetesKeysAreAKeySet(t *testing.T) {
	issuer, err := entratest.NewIssuer(entratest.IssuerConfig{URL: "https://cluster.example"})
	if err != nil {
		t.Fatal(err)
	}
	for accept, want := range map[string]int{
		"": 200, "*/*": 200, "application/*;q=0.5": 200, "application/jwk-set+json": 200, "application/json, application/jwk-set+json": 200,
		"application/json": 406, "text/html": 406,
	} {
		r := httptest.NewRequest(http.MethodGet, "/openid/v1/jwks", nil)
		if accept != "" {
			r.Header.Set("Accept", accept)
		}
		w := httptest.NewRecorder()
		issuer.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("Accept %q: got %d, want %d", accept, w.Code, want)
		}
	}
}
