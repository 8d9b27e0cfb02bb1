package localapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/exchange/entratest"
)

// A client library that nobody here wrote.
func TestOAuth2ClientCredentials(t *testing.T) {
	d := open(t, thisUser)
	cfg := clientcredentials.Config{ClientID: "demo", ClientSecret: "libraries insist on one", TokenURL: d.url + "/oauth2/token", Scopes: []string{graph}}
	for name, style := range map[string]oauth2.AuthStyle{"detected": oauth2.AuthStyleAutoDetect, "header": oauth2.AuthStyleInHeader, "form": oauth2.AuthStyleInParams} {
		t.Run(name, func(t *testing.T) {
			cfg.AuthStyle = style
			token, err := cfg.Token(t.Context())
			check(t, err)
			if !token.Valid() || token.Type() != "Bearer" || time.Until(token.Expiry) < time.Hour-time.Minute {
				t.Errorf("got type %s, expiry %s", token.Type(), token.Expiry)
			}
			d.verify(t, token.AccessToken)
		})
	}
}

func TestUnixSocket(t *testing.T) {
	d := open(t, thisUser)
	asker, err := client.New(client.Config{Socket: d.socket})
	check(t, err)
	token, err := asker.Token(t.Context(), client.TokenRequest{Scope: graph, Agent: "demo"})
	check(t, err)
	d.verify(t, token.AccessToken)
	if token.IssuanceID == "" || token.Scope != graph || token.ExpiresIn < 3000 {
		t.Errorf("got issuance %q, scope %q, expires_in %d", token.IssuanceID, token.Scope, token.ExpiresIn)
	}
}

func TestAnotherUsersSocketIsRefused(t *testing.T) {
	d := open(t, stranger)
	for name, cfg := range map[string]client.Config{"unix": {Socket: d.socket}, "tcp": {URL: d.url}} {
		asker, err := client.New(cfg)
		check(t, err)
		_, err = asker.Token(t.Context(), client.TokenRequest{Scope: graph})
		var refusal *client.Error
		if !errors.As(err, &refusal) || refusal.Status != 401 || refusal.Code != "invalid_client" || refusal.Hint == "" || refusal.RefusedBy != client.ByPolicy {
			t.Errorf("%s: got %#v, want 401 invalid_client with a hint", name, err)
		}
	}
}

// Every way to present a key, and what comes of a wrong one.
func TestKeys(t *testing.T) {
	d := open(t, keyHolder)
	keyFile := filepath.Join(filepath.Dir(d.file), "key")
	asker, err := client.New(client.Config{URL: d.url, KeyFile: keyFile})
	check(t, err)
	_, err = asker.Token(t.Context(), client.TokenRequest{Scope: graph})
	check(t, err)
	basic := func(user, password string) []string {
		req := &http.Request{Header: http.Header{}}
		req.SetBasicAuth(user, password)
		return []string{"Authorization", req.Header.Get("Authorization")}
	}
	for name, test := range map[string]struct {
		headers []string
		extra   string
		status  int
	}{
		"bearer":                {[]string{"Authorization", "Bearer " + keyText}, "", 200},
		"bearer in lower case":  {[]string{"Authorization", "bearer " + keyText}, "", 200},
		"basic":                 {basic("demo", keyText), "", 200},
		"basic by client id":    {basic(entratest.DemoClientID, keyText), "", 200},
		"form":                  {nil, "&" + form("client_id", "demo", "client_secret", keyText), 200},
		"identity header":       {[]string{"X-IDENTITY-HEADER", keyText}, "", 200},
		"none":                  {nil, "", 401},
		"wrong":                 {[]string{"Authorization", "Bearer " + keyText + "x"}, "", 401},
		"empty":                 {basic("demo", ""), "", 401},
		"another agent's name":  {basic("other", keyText), "", 401},
		"twice":                 {basic("demo", keyText), "&" + form("client_secret", keyText), 400},
		"two names":             {basic("demo", keyText), "&" + form("client_id", "other"), 400},
		"unknown scheme":        {[]string{"Authorization", "Negotiate abc"}, "", 400},
		"garbled basic":         {[]string{"Authorization", "Basic !!!"}, "", 400},
		"key of another length": {[]string{"Authorization", "Bearer k"}, "", 401},
	} {
		t.Run(name, func(t *testing.T) {
			got := d.send(t, http.MethodPost, "/oauth2/token", good+test.extra, test.headers...)
			if got.StatusCode != test.status {
				t.Errorf("got %d %s, want %d", got.StatusCode, got.body, test.status)
			}
			if got.StatusCode == 401 && got.Header.Get("WWW-Authenticate") == "" {
				t.Error("a 401 without WWW-Authenticate")
			}
			if strings.Contains(got.body, keyText) {
				t.Errorf("the key comes back: %s", got.body)
			}
		})
	}
}

// A key is the same whether the client encodes it as RFC 6749 §2.3.1 says, or
// sends it as it is, like curl.
func TestBasicKeysEncodedAndNot(t *testing.T) {
	d := open(t, keyHolder)
	keyFile := filepath.Join(filepath.Dir(d.file), "key")
	for _, key := range []string{
		"Zz5+mH+8l1o/9yQ0Xv7sRw3kTn2uBc4dEf6gHi8jKlA=", // openssl rand -base64 32
		"a percent % that is no encoding", "one-hundred-%25-sure", "slash/plus+colon:equals=", "0123456789abcdef",
	} {
		check(t, os.WriteFile(keyFile, []byte(key), 0o600))
		raw := key
		if strings.Contains(key, "%25") {
			raw = "" // what is an encoding when it is read is taken for one
		}
		for name, sent := range map[string]string{"as it is": raw, "encoded": strings.ReplaceAll(url.QueryEscape(key), "+", "%20")} {
			if sent == "" {
				continue
			}
			req := &http.Request{Header: http.Header{}}
			req.SetBasicAuth("demo", sent)
			if got := d.send(t, http.MethodPost, "/oauth2/token", good, "Authorization", req.Header.Get("Authorization")); got.StatusCode != 200 {
				t.Errorf("%s, %s: got %d %s, want 200", key, name, got.StatusCode, got.body)
			}
		}
	}
}

func TestBadRequests(t *testing.T) {
	d := open(t, thisUser)
	for name, test := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		code               string
		says               string
	}{
		"browser":               {"POST", "/oauth2/token", good, []string{"Origin", "http://127.0.0.1:7400"}, 403, "access_denied", "foreign_origin"},
		"null origin":           {"POST", "/oauth2/token", good, []string{"Origin", "null"}, 403, "access_denied", "foreign_origin"},
		"cross-site fetch":      {"POST", "/oauth2/token", good, []string{"Sec-Fetch-Site", "cross-site"}, 403, "access_denied", "foreign_fetch_site"},
		"rebound name":          {"POST", "/oauth2/token", good, []string{"Host", "evil.example"}, 403, "access_denied", "foreign_host"},
		"look-alike name":       {"POST", "/oauth2/token", good, []string{"Host", "localhost.evil.example"}, 403, "access_denied", "foreign_host"},
		"through a proxy":       {"POST", "/oauth2/token", good, []string{"X-Forwarded-For", "10.0.0.1"}, 403, "access_denied", "foreign_forwarded"},
		"metadata rebound":      {"GET", "/.well-known/oauth-authorization-server", "", []string{"Host", "evil.example"}, 403, "access_denied", "foreign_host"},
		"GET":                   {"GET", "/oauth2/token", "", nil, 405, "invalid_request", "POST"},
		"PUT":                   {"PUT", "/oauth2/token", good, nil, 405, "invalid_request", "POST"},
		"unknown path":          {"POST", "/token", good, nil, 404, "not_found", "/oauth2/token"},
		"query":                 {"POST", "/oauth2/token?scope=x", good, nil, 400, "invalid_request", "body"},
		"JSON":                  {"POST", "/oauth2/token", "{}", []string{"Content-Type", "application/json"}, 415, "invalid_request", "x-www-form-urlencoded"},
		"no type":               {"POST", "/oauth2/token", good, []string{"Content-Type", ""}, 415, "invalid_request", ""},
		"one megabyte":          {"POST", "/oauth2/token", strings.Repeat("a", 1<<20), nil, 413, "invalid_request", "64 KiB"},
		"broken encoding":       {"POST", "/oauth2/token", "grant_type=%zz", nil, 400, "invalid_request", "encod"},
		"twice":                 {"POST", "/oauth2/token", good + "&scope=x", nil, 400, "invalid_request", "once"},
		"many parameters":       {"POST", "/oauth2/token", manyParameters(), nil, 400, "invalid_request", "many"},
		"no grant":              {"POST", "/oauth2/token", form("scope", graph), nil, 400, "invalid_request", "grant_type"},
		"unknown grant":         {"POST", "/oauth2/token", form("grant_type", "password", "scope", graph), nil, 400, "unsupported_grant_type", "client_credentials"},
		"claims not JSON":       {"POST", "/oauth2/token", good + "&claims=x", nil, 400, "invalid_request", "claims"},
		"claims null":           {"POST", "/oauth2/token", good + "&claims=null", nil, 400, "invalid_request", "claims"},
		"no scope":              {"POST", "/oauth2/token", form("grant_type", "client_credentials"), nil, 400, "invalid_scope", "scope"},
		"scope not granted":     {"POST", "/oauth2/token", form("grant_type", "client_credentials", "scope", "https://vault.azure.net/.default"), nil, 400, "invalid_scope", "agents.demo.allow.scopes"},
		"smuggled scope":        {"POST", "/oauth2/token", form("grant_type", "client_credentials", "scope", graph+" https://vault.azure.net/.default"), nil, 400, "invalid_scope", ""},
		"a user's token beside": {"POST", "/oauth2/token", good + "&subject_token=x", nil, 400, "invalid_request", "token-exchange"},
		"an assertion beside":   {"POST", "/oauth2/token", good + "&assertion=x", nil, 400, "invalid_request", "token-exchange"},
		"another's name":        {"POST", "/oauth2/token", good + "&client_id=admin", nil, 401, "invalid_client", ""},
		"identity not one's":    {"POST", "/oauth2/token", good + "&identity=admin", nil, 400, "unauthorized_client", "identity"},
		"unlisted scope name":   {"POST", "/oauth2/token", form("grant_type", "client_credentials", "scope", "User.Read"), nil, 400, "invalid_scope", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := d.send(t, test.method, test.path, test.body, test.headers...)
			if got.StatusCode != test.status || got.error.Code != test.code {
				t.Fatalf("got %d %s, want %d %s", got.StatusCode, got.body, test.status, test.code)
			}
			if !strings.Contains(got.body, test.says) || got.error.Hint == "" || got.error.Description == "" {
				t.Errorf("got %s, want a description, a hint, and %q", got.body, test.says)
			}
			if strings.ContainsAny(got.error.Description, `"\`) {
				t.Errorf("error_description holds what RFC 6749 keeps out: %s", got.error.Description)
			}
			if got.Header.Get("Cache-Control") != "no-store" || got.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("got headers %v", got.Header)
			}
			if test.status != 404 {
				if id := got.Header.Get(client.IssuanceHeader); id == "" || id != got.error.IssuanceID {
					t.Errorf("got issuance ids %q and %q", id, got.error.IssuanceID)
				}
			}
		})
	}
	if got := d.entra.TokenRequests(); got != 0 {
		t.Errorf("Entra was asked %d times", got)
	}
}

func manyParameters() string {
	var pairs []string
	for i := range 100 {
		pairs = append(pairs, fmt.Sprintf("p%d", i), "v")
	}
	return good + "&" + form(pairs...)
}

func TestMetadata(t *testing.T) {
	d := open(t, thisUser)
	got := d.send(t, http.MethodGet, "/.well-known/oauth-authorization-server", "")
	var metadata map[string]any
	check(t, json.Unmarshal([]byte(got.body), &metadata))
	want := map[string]any{
		"issuer": d.url, "token_endpoint": d.url + "/oauth2/token", "response_types_supported": []any{},
		"grant_types_supported":                 []any{"client_credentials", tokenExchange, jwtBearer},
		"token_endpoint_auth_methods_supported": []any{"none", "client_secret_basic", "client_secret_post"},
		"introspection_endpoint":                d.url + "/oauth2/introspect", "introspection_endpoint_auth_methods_supported": []any{"none", "client_secret_basic", "client_secret_post"},
		"claims_parameter_supported": true, "resource_parameter_supported": true,
	}
	if diff := cmp.Diff(want, metadata); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	if other := d.send(t, http.MethodGet, "/.well-known/openid-configuration", ""); other.body != got.body {
		t.Errorf("the document's other name has %s", other.body)
	}
	if got := d.send(t, http.MethodPost, "/.well-known/oauth-authorization-server", ""); got.StatusCode != 405 {
		t.Errorf("POST: got %d, want 405", got.StatusCode)
	}
}

// A hostile trace header never breaks a request.
func TestHostileTraceHeaders(t *testing.T) {
	d := open(t, thisUser)
	for _, header := range []string{"", "x", "00-0-0-0", "00-" + strings.Repeat("0", 32) + "-" + strings.Repeat("0", 16) + "-00", strings.Repeat("a", 8000),
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"} {
		if got := d.send(t, http.MethodPost, "/oauth2/token", good, "traceparent", header, "tracestate", strings.Repeat("k=v,", 100)); got.StatusCode != 200 {
			t.Errorf("traceparent %.60q: got %d %s", header, got.StatusCode, got.body)
		}
	}
}
