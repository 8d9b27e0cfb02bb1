package entratest_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/exchange/entratest"
)

func listen(t *testing.T, cfg entratest.HostConfig) *entratest.Host {
	t.Helper()
	h, err := entratest.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return h
}

func demoForm(t *testing.T, h *entratest.Host) url.Values {
	t.Helper()
	token, err := h.Issuer.ServiceAccountToken(entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "demo", Pod: "demo-0", Node: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	return url.Values{
		"grant_type":            {"client_credentials"},
		"client_id":             {entratest.DemoClientID},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {token},
		"scope":                 {graphDefault},
	}
}

func TestHostServesTheDemoDirectory(t *testing.T) {
	h := listen(t, entratest.HostConfig{TokenLifetime: 10 * time.Minute})
	client := h.Client()
	defer client.CloseIdleConnections()
	resp, err := client.PostForm(h.URL+"/"+entratest.DemoTenantID+"/oauth2/v2.0/token", demoForm(t, h))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body map[string]any
	decodeJSON(t, resp.Body, &body)
	if resp.StatusCode != http.StatusOK || body["expires_in"] != 599.0 {
		t.Errorf("got status %d, body %v, want 200 and ten minutes", resp.StatusCode, body)
	}
	for _, user := range []string{entratest.DemoUserID, entratest.DemoUserName} {
		if _, err := h.Server.UserToken(entratest.UserTokenRequest{User: user, Audience: entratest.DemoClientID, Client: entratest.DemoFrontendClientID}); err != nil {
			t.Errorf("got %v, want a token for %s", err, user)
		}
	}
}

func TestHostRefusesOtherInterfaces(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.com:0", "127.0.0.1"} {
		for _, cfg := range []entratest.HostConfig{{Addr: addr}, {IssuerAddr: addr}} {
			h, err := entratest.Listen(cfg)
			if err == nil {
				_ = h.Close()
				t.Errorf("%+v: got a host, want an error", cfg)
			} else if addr == "0.0.0.0:0" && !strings.Contains(err.Error(), "not loopback") {
				t.Errorf("%+v: got error %q, want it to say that the address is not loopback", cfg, err)
			}
		}
	}
}

func TestHostReportsABadDirectory(t *testing.T) {
	_, err := entratest.Listen(entratest.HostConfig{Directory: func(string) entratest.Directory { return entratest.Directory{} }})
	if err == nil || !strings.Contains(err.Error(), "no tenant") {
		t.Errorf("got %v, want an error about the directory", err)
	}
}

func TestPauseAndResume(t *testing.T) {
	h := listen(t, entratest.HostConfig{})
	client := h.Client()
	defer client.CloseIdleConnections()
	get := func() error {
		resp, err := client.Get(h.URL + "/" + entratest.DemoTenantID + "/v2.0/.well-known/openid-configuration")
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	for range 2 {
		if err := get(); err != nil {
			t.Fatalf("got %v while running, want an answer", err)
		}
		if err := h.Pause(); err != nil {
			t.Fatal(err)
		}
		if err := get(); err == nil {
			t.Fatal("got an answer while paused, want an error")
		}
		if resp, err := client.Get(h.IssuerURL + "/openid/v1/jwks"); err != nil {
			t.Fatalf("got %v from the issuer while paused, want an answer", err)
		} else {
			resp.Body.Close()
		}
		for range 2 {
			if err := h.Resume(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestCloseEndsHangingRequests(t *testing.T) {
	// The server looks at its clock when a request arrives.
	arrived := make(chan struct{}, 100)
	h, err := entratest.Listen(entratest.HostConfig{Now: func() time.Time {
		select {
		case arrived <- struct{}{}:
		default:
		}
		return time.Now()
	}})
	if err != nil {
		t.Fatal(err)
	}
	h.Server.SetBehavior(entratest.Behavior{Hang: true})
	client, form := h.Client(), demoForm(t, h)
	client.Timeout = 0
	for len(arrived) > 0 {
		<-arrived
	}
	done := make(chan error)
	go func() {
		resp, err := client.PostForm(h.URL+"/"+entratest.DemoTenantID+"/oauth2/v2.0/token", form)
		if err == nil {
			resp.Body.Close()
		}
		done <- err
	}()
	<-arrived
	if err := h.Close(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if err := <-done; err == nil {
		t.Error("got an answer from a closed host, want an error")
	}
	if err := h.Close(); err != nil {
		t.Errorf("got %v from a second Close, want nil", err)
	}
}

// TestCAOnlyVouchesForLoopback protects whoever adds it to a trust store.
func TestCAOnlyVouchesForLoopback(t *testing.T) {
	h := listen(t, entratest.HostConfig{})
	block, rest := pem.Decode(h.CA)
	if block == nil || len(rest) != 0 {
		t.Fatalf("got CA %q, want one PEM block", h.CA)
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !ca.PermittedDNSDomainsCritical || len(ca.PermittedIPRanges) != 2 || len(ca.PermittedDNSDomains) != 1 || !ca.MaxPathLenZero {
		t.Errorf("got name constraints %v %v, want loopback only", ca.PermittedDNSDomains, ca.PermittedIPRanges)
	}
}

func TestIssuerDocuments(t *testing.T) {
	w := newWorld(t)
	client := &http.Client{Transport: w.issuer.RoundTripper()}
	resp, err := client.Get(issuerURL + ".well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var doc struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	decodeJSON(t, resp.Body, &doc)
	if doc.Issuer != issuerURL || doc.Keys != issuerURL+"openid/v1/jwks" {
		t.Errorf("got issuer %q and jwks_uri %q, want %q and its path", doc.Issuer, doc.Keys, issuerURL)
	}
	if _, err := client.Get("https://elsewhere.example/"); err == nil {
		t.Error("got an answer for another origin, want an error")
	}
	for _, bad := range []string{"", "http://plain.example", "https://", "https://x.example/?q", "https://u@x.example"} {
		if _, err := entratest.NewIssuer(entratest.IssuerConfig{URL: bad}); err == nil {
			t.Errorf("%q: got an issuer, want an error", bad)
		}
	}
}

func TestServiceAccountToken(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	issuer, err := entratest.NewIssuer(entratest.IssuerConfig{URL: issuerURL, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	token, err := issuer.ServiceAccountToken(entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "demo", Pod: "demo-0", Node: "node-1", Lifetime: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	header, claims := unverified(t, token)
	if len(header) != 2 || header["alg"] != "RS256" || header["kid"] == "" {
		t.Errorf("got header %v, want alg and kid only", header)
	}
	bound, _ := claims["kubernetes.io"].(map[string]any)
	for _, kind := range []string{"pod", "node", "serviceaccount"} {
		ref, _ := bound[kind].(map[string]any)
		if ref["name"] == nil || ref["uid"] == nil {
			t.Errorf("got %s %v, want name and uid", kind, bound[kind])
		}
	}
	if claims["jti"] == nil || bound["namespace"] != "agents" {
		t.Errorf("got jti %v and namespace %v, want both", claims["jti"], bound["namespace"])
	}
	delete(claims, "jti")
	delete(claims, "kubernetes.io")
	want := map[string]any{
		"aud": []any{entratest.TokenExchangeAudience}, "iss": issuerURL, "sub": "system:serviceaccount:agents:demo",
		"iat": float64(now.Unix()), "nbf": float64(now.Unix()), "exp": float64(now.Add(10 * time.Minute).Unix()),
	}
	if got, wanted := asJSON(t, claims), asJSON(t, want); got != wanted {
		t.Errorf("got claims %s, want %s", got, wanted)
	}
	if _, err := issuer.ServiceAccountToken(entratest.ServiceAccountToken{Namespace: "agents"}); err == nil {
		t.Error("got a token without a service account, want an error")
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func unverified(t *testing.T, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	for i, v := range []*map[string]any{&header, &claims} {
		decodeJSON(t, base64Reader(parts[i]), v)
	}
	return header, claims
}
