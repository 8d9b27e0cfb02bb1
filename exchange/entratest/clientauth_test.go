package entratest_test

import (
	"crypto/rand"
	"crypto/sha1" // x5t is a SHA-1 thumbprint
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/credfree/credfree/exchange/entratest"
)

func certificate(t testing.TB, from, until time.Time) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(from.Unix()), Subject: pkix.Name{CommonName: "client"}, NotBefore: from, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, sharedKey().Public(), sharedKey())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func pemOf(cert *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

func x5t(cert *x509.Certificate) string {
	sum := sha1.Sum(cert.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func x5tS256(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// certificateAssertion signs what a client with a certificate sends.
func certificateAssertion(t testing.TB, alg jose.SignatureAlgorithm, headers, change map[string]any) string {
	t.Helper()
	opts := &jose.SignerOptions{}
	for name, value := range headers {
		opts = opts.WithHeader(jose.HeaderKey(name), value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: sharedKey()}, opts)
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{
		"iss": bareID, "sub": bareID, "aud": baseURL + "/" + tenantID + "/oauth2/v2.0/token",
		"nbf": time.Now().Unix(), "exp": time.Now().Add(10 * time.Minute).Unix(), "jti": "1",
	}
	maps.Copy(claims, change)
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// credentialDirectory gives the application "bare" secrets and certificates.
func credentialDirectory(certs ...entratest.Certificate) entratest.Directory {
	d := directory()
	bare := &d.Tenants[0].Applications[2]
	bare.Certificates = certs
	bare.ClientSecrets = []entratest.ClientSecret{
		{Value: "good one"}, {Value: "past", ExpiresAt: time.Now().Add(-time.Hour)}, {Value: "future", ExpiresAt: time.Now().Add(time.Hour)},
	}
	return d
}

func TestClientSecrets(t *testing.T) {
	w := newWorldOf(t, credentialDirectory())
	form := with(w.appForm(t), "client_id", bareID, "client_assertion", "", "client_assertion_type", "")
	for secret, code := range map[string]int{"good one": 0, "future": 0, "past": 7000222, "wrong": 7000215, "good on": 7000215, "": 7000218} {
		a := w.post(t, tenantID, with(form, "client_secret", secret))
		if code != 0 {
			checkRefusal(t, a, 401, "invalid_client", code)
			continue
		}
		_, claims := w.decode(t, a.text("access_token"), 1)
		checkClaims(t, claims, map[string]any{"appid": bareID, "appidacr": "1"})
	}
	checkRefusal(t, w.post(t, tenantID, with(form, "client_id", agentID, "client_secret", "good one")), 401, "invalid_client", 7000215)

	for name, c := range map[string]struct {
		user, password, formID string
		code                   int
	}{
		"basic":         {bareID, "good+one", "", 0},
		"basic, raw":    {bareID, "good one", bareID, 0},
		"wrong":         {bareID, "wrong", "", 7000215},
		"other client":  {bareID, "good+one", agentID, 90023},
		"no password":   {bareID, "", "", 7000218},
		"client of its": {agentID, "good+one", "", 7000215},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, baseURL+"/"+tenantID+"/oauth2/v2.0/token", strings.NewReader(with(form, "client_id", c.formID).Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.SetBasicAuth(c.user, c.password)
		resp, err := w.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		a := answer{status: resp.StatusCode}
		decodeJSON(t, resp.Body, &a.body)
		resp.Body.Close()
		if a.code() != c.code || (c.code == 0) != (a.status == http.StatusOK) {
			t.Errorf("%s: got status %d and code %d, want code %d", name, a.status, a.code(), c.code)
		}
	}
}

func TestCertificates(t *testing.T) {
	now := time.Now()
	good, old, bad := certificate(t, now.Add(-time.Hour), now.Add(time.Hour)), certificate(t, now.Add(-2*time.Hour), now.Add(-time.Hour)), certificate(t, now.Add(-3*time.Hour), now.Add(time.Hour))
	w := newWorldOf(t, credentialDirectory(entratest.Certificate{PEM: pemOf(good)}, entratest.Certificate{PEM: pemOf(old)}, entratest.Certificate{PEM: pemOf(bad), Revoked: true}))
	h := func(pairs ...string) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	ok := h("x5t", x5t(good))
	forgedBy := func() string {
		token := certificateAssertion(t, jose.RS256, ok, nil)
		return badSignature(token)
	}
	for _, c := range []struct {
		name      string
		assertion string
		status    int
		error     string
		code      int
	}{
		{"RS256", certificateAssertion(t, jose.RS256, ok, nil), 200, "", 0},
		{"PS256", certificateAssertion(t, jose.PS256, h("x5t#S256", x5tS256(good)), nil), 200, "", 0},
		{"both thumbprints", certificateAssertion(t, jose.PS256, h("x5t", x5t(good), "x5t#S256", x5tS256(good)), nil), 200, "", 0},
		{"issuer as audience", certificateAssertion(t, jose.RS256, ok, map[string]any{"aud": baseURL + "/" + tenantID + "/v2.0"}), 200, "", 0},
		{"RS512", certificateAssertion(t, jose.RS512, ok, nil), 400, "invalid_request", 5002738},
		{"no thumbprint", certificateAssertion(t, jose.RS256, nil, nil), 401, "invalid_client", 700027},
		{"unknown thumbprint", certificateAssertion(t, jose.RS256, h("x5t", x5t(certificate(t, now.Add(-time.Minute), now.Add(time.Hour)))), nil), 401, "invalid_client", 700027},
		{"thumbprints disagree", certificateAssertion(t, jose.RS256, h("x5t", x5t(good), "x5t#S256", x5tS256(old)), nil), 401, "invalid_client", 700027},
		{"bad signature", forgedBy(), 401, "invalid_client", 700027},
		{"expired certificate", certificateAssertion(t, jose.RS256, h("x5t", x5t(old)), nil), 401, "invalid_client", 1000502},
		{"revoked certificate", certificateAssertion(t, jose.RS256, h("x5t", x5t(bad)), nil), 401, "invalid_client", 7000214},
		{"expired assertion", certificateAssertion(t, jose.RS256, ok, map[string]any{"exp": now.Add(-6 * time.Minute).Unix()}), 401, "invalid_client", 700024},
		{"another client's", certificateAssertion(t, jose.RS256, ok, map[string]any{"iss": agentID, "sub": agentID}), 401, "invalid_client", 700021},
		{"another subject", certificateAssertion(t, jose.RS256, ok, map[string]any{"sub": agentID}), 401, "invalid_client", 50048},
		{"another audience", certificateAssertion(t, jose.RS256, ok, map[string]any{"aud": baseURL + "/" + otherTenant + "/oauth2/v2.0/token"}), 401, "invalid_client", 700023},
		{"the exchange as audience", certificateAssertion(t, jose.RS256, ok, map[string]any{"aud": entratest.TokenExchangeAudience}), 401, "invalid_client", 700023},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.post(t, tenantID, with(w.appForm(t), "client_id", bareID, "client_assertion", c.assertion))
			if c.code != 0 {
				checkRefusal(t, a, c.status, c.error, c.code)
			} else if a.status != c.status {
				t.Errorf("got status %d %s, want %d", a.status, a.raw, c.status)
			}
		})
	}
	// The key of one application is no other's.
	checkRefusal(t, w.post(t, tenantID, with(w.appForm(t), "client_assertion", certificateAssertion(t, jose.RS256, ok, nil))), 401, "invalid_client", 700027)
}

func TestManagedIdentityCredential(t *testing.T) {
	const principal = "eeeeeeee-0000-4000-8000-000000000001"
	w := newWorld(t)
	token := func(id, resource string) string {
		text, err := w.server.ManagedIdentityToken(tenantID, entratest.ManagedIdentity{ClientID: userID, PrincipalID: id}, resource, 0)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	form := with(w.appForm(t), "client_id", chainedID)
	if a := w.post(t, tenantID, with(form, "client_assertion", token(principal, entratest.TokenExchangeAudience))); a.status != http.StatusOK {
		t.Errorf("got status %d %s, want 200", a.status, a.raw)
	}
	for name, c := range map[string]struct {
		assertion string
		code      int
	}{
		"another identity":   {token(userID, entratest.TokenExchangeAudience), 700213},
		"a token for Graph":  {token(principal, graph), 700222}, // a v1 token has another issuer
		"a token for an API": {token(principal, "api://ledger"), 700212},
		"a user's token":     {w.userToken(t, entratest.UserTokenRequest{}), 700229},
	} {
		a := w.post(t, tenantID, with(form, "client_assertion", c.assertion))
		if a.status != 401 || a.code() != c.code {
			t.Errorf("%s: got %d %d, want 401 %d", name, a.status, a.code(), c.code)
		}
	}
}

// A managed identity proves an application that is registered in its own tenant: there,
// and where else that application has a principal.
func TestManagedIdentityOfAnotherTenant(t *testing.T) {
	const principal = "eeeeeeee-0000-4000-8000-000000000001"
	d := directory()
	i := slices.IndexFunc(d.Tenants[0].Applications, func(a entratest.Application) bool { return a.ClientID == chainedID })
	here, there := d.Tenants[0].Applications[i], d.Tenants[0].Applications[i]
	here.MultiTenant = true
	d.Tenants[0].Applications[i] = here
	there.ClientID = bareID[:len(bareID)-1] + "9"
	d.Tenants[1].Resources, d.Tenants[1].Applications = d.Tenants[0].Resources, []entratest.Application{here, there}
	w := newWorldOf(t, d)
	token, err := w.server.ManagedIdentityToken(tenantID, entratest.ManagedIdentity{ClientID: userID, PrincipalID: principal}, entratest.TokenExchangeAudience, 0)
	if err != nil {
		t.Fatal(err)
	}
	form := with(w.appForm(t), "client_id", chainedID, "client_assertion", token)
	for _, tenant := range []string{tenantID, otherTenant} {
		if a := w.post(t, tenant, form); a.status != http.StatusOK {
			t.Errorf("got status %d %s, want 200", a.status, a.raw)
		}
	}
	checkRefusal(t, w.post(t, otherTenant, with(form, "client_id", there.ClientID)), 401, "invalid_client", 700236)
}
