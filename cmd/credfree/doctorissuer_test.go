package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/credfree/credfree/exchange/workload"
)

// issuerServer is an issuer whose documents a test can change.
type issuerServer struct {
	*httptest.Server
	key      *rsa.PrivateKey
	kid      string
	issuer   string         // iss of the token
	metadata map[string]any // nil members are left out
	keys     []any
	answer   map[string]http.HandlerFunc // by path, in place of a document
}

func newIssuerServer(t *testing.T, key *rsa.PrivateKey) *issuerServer {
	t.Helper()
	s := &issuerServer{key: key, kid: "k1", answer: map[string]http.HandlerFunc{}}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	s.issuer = s.URL
	s.metadata = map[string]any{"issuer": s.URL, "jwks_uri": s.URL + "/keys"}
	s.keys = []any{jose.JSONWebKey{Key: key.Public(), KeyID: "k1", Algorithm: "RS256", Use: "sig"}}
	return s
}

func (s *issuerServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, ok := s.answer[r.URL.Path]
	switch {
	case ok:
		answer(w, r)
	case r.URL.Path == "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(s.metadata)
	case r.URL.Path == "/keys":
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": s.keys})
	default:
		w.WriteHeader(http.StatusTeapot)
	}
}

// token is a workload token of the issuer.
func (s *issuerServer) token(t *testing.T) workload.Assertion {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: s.key, KeyID: s.kid}}, nil)
	check(t, err)
	raw, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": s.issuer, "sub": "s", "aud": "api://AzureADTokenExchange", "exp": time.Now().Add(time.Hour).Unix(),
	}).Serialize()
	check(t, err)
	assertion, err := workload.Parse(raw)
	check(t, err)
	return assertion
}

func TestDoctorIssuer(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	others := func(n int) []any {
		keys := make([]any, n)
		for i := range keys {
			keys[i] = jose.JSONWebKey{Key: stranger.Public(), KeyID: fmt.Sprint("other-", i)}
		}
		return keys
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(code)
		}
	}
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s) }
	}
	for name, test := range map[string]struct {
		change func(*issuerServer)
		state  stepState
		says   string
	}{
		"well":                          {func(*issuerServer) {}, stepOK, "(1 key); the signature verifies"},
		"well, among keys of all kinds": {func(s *issuerServer) { s.keys = append([]any{"odd", 7, map[string]any{"kid": 1}}, s.keys...) }, stepOK, "(4 keys)"},
		"well, with a slash on both sides": {func(s *issuerServer) { s.issuer += "/"; s.metadata["issuer"] = s.issuer },
			stepOK, "the signature verifies"},
		"a slash in the token":          {func(s *issuerServer) { s.issuer += "/" }, stepFailed, "a slash at the end counts"},
		"a slash in the document":       {func(s *issuerServer) { s.metadata["issuer"] = s.issuer + "/" }, stepFailed, "a slash at the end counts"},
		"another issuer":                {func(s *issuerServer) { s.metadata["issuer"] = "https://other.example" }, stepFailed, `that of "https://other.example"`},
		"no issuer":                     {func(s *issuerServer) { delete(s.metadata, "issuer") }, stepFailed, `that of ""`},
		"no document":                   {func(s *issuerServer) { s.issuer += "/none" }, stepFailed, "status 418"},
		"a document for insiders":       {func(s *issuerServer) { s.answer[discoveryPath] = status(403) }, stepFailed, "without authentication"},
		"an outage":                     {func(s *issuerServer) { s.answer[discoveryPath] = status(503) }, stepWarning, "outage"},
		"a redirect":                    {func(s *issuerServer) { s.answer[discoveryPath] = status(307) }, stepWarning, "nobody promises that Entra follows"},
		"no JSON":                       {func(s *issuerServer) { s.answer[discoveryPath] = text("<html>") }, stepFailed, "discovery document is not JSON"},
		"a huge document":               {func(s *issuerServer) { s.answer[discoveryPath] = text(strings.Repeat(" ", 1<<20+1)) }, stepWarning, "larger than 1 MiB"},
		"keys without TLS":              {func(s *issuerServer) { s.metadata["jwks_uri"] = "http://keys.example" }, stepFailed, "jwks_uri"},
		"no place for keys":             {func(s *issuerServer) { delete(s.metadata, "jwks_uri") }, stepFailed, "jwks_uri"},
		"keys in another place":         {func(s *issuerServer) { s.answer["/keys"] = status(404) }, stepFailed, "key set came with status 404"},
		"keys that cannot be reached":   {func(s *issuerServer) { s.metadata["jwks_uri"] = "https://127.0.0.1:1/" }, stepWarning, "key set cannot be read from here"},
		"keys that are no JSON":         {func(s *issuerServer) { s.answer["/keys"] = text("[]") }, stepFailed, "key set is not JSON"},
		"no keys":                       {func(s *issuerServer) { s.keys = nil }, stepFailed, `"k1" of the token is not in`},
		"other keys":                    {func(s *issuerServer) { s.keys = others(3) }, stepFailed, `"k1" of the token is not in`},
		"a key that did not sign":       {func(s *issuerServer) { s.keys = []any{jose.JSONWebKey{Key: stranger.Public(), KeyID: "k1"}} }, stepFailed, "does not verify"},
		"a key on a curve":              {func(s *issuerServer) { s.keys = []any{jose.JSONWebKey{Key: curve.Public(), KeyID: "k1"}} }, stepFailed, "not an RSA key"},
		"a key that cannot be read":     {func(s *issuerServer) { s.keys = []any{map[string]any{"kid": "k1", "kty": "RSA"}} }, stepFailed, "not an RSA key"},
		"a token that names no key":     {func(s *issuerServer) { s.kid = "" }, stepWarning, "write kid"},
		"a hundred keys":                {func(s *issuerServer) { s.keys = append(others(99), s.keys...) }, stepOK, "(100 keys)"},
		"too many keys, ours first":     {func(s *issuerServer) { s.keys = append(s.keys, others(100)...) }, stepWarning, "first 100 keys"},
		"too many keys, ours last":      {func(s *issuerServer) { s.keys = append(others(100), s.keys...) }, stepFailed, "is number 101"},
		"an issuer that does not exist": {func(s *issuerServer) { s.issuer = "https://127.0.0.1:1" }, stepWarning, "over the Internet"},
		"an issuer that is no URL":      {func(s *issuerServer) { s.issuer = "http://cluster.example" }, stepSkipped, "not an https URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newIssuerServer(t, key)
			test.change(s)
			d := doctor{outside: s.Client().Transport}
			got := d.issuer(t.Context(), s.token(t))
			if said := got.Detail + "\n" + got.Hint; got.State != test.state || !strings.Contains(said, test.says) {
				t.Errorf("got %s: %s; want %s and %q", got.State, said, test.state, test.says)
			}
			if got.State == stepFailed && got.Hint == "" {
				t.Error("it failed, and has no hint")
			}
		})
	}
}

// A certificate that nobody here knows says nothing about Entra.
func TestDoctorIssuerIsNotTrusted(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	s := newIssuerServer(t, key)
	d := doctor{outside: &http.Transport{}}
	if got := d.issuer(t.Context(), s.token(t)); got.State != stepWarning || !strings.Contains(got.Detail, "certificate") {
		t.Errorf("got %+v, want a warning about the certificate", got)
	}
}
