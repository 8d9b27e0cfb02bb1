package localapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/workload"
)

const (
	authority = "https://login.entra.test"
	issuerURL = "https://cluster.test/oidc"
	graph     = "https://graph.microsoft.com/.default"
	keyText   = "a-key-of-sufficient-length"
)

// door is a broker behind real sockets: TCP for this user's processes and for
// the holder of a key, and a unix socket.
type door struct {
	url    string // over TCP
	socket string
	entra  *entratest.Server
	file   string      // the workload token
	full   atomic.Bool // the audit log's disk
}

// Write is the audit log.
func (d *door) Write(line []byte) (int, error) {
	if d.full.Load() {
		return 0, errors.New("no space left on device")
	}
	return len(line), nil
}

func open(t testing.TB, agents func(dir string) string) *door {
	t.Helper()
	dir := t.TempDir()
	d := &door{socket: filepath.Join(dir, "s", "agent.sock"), file: filepath.Join(dir, "workload-token")}
	issuer, err := entratest.NewIssuer(entratest.IssuerConfig{URL: issuerURL})
	check(t, err)
	d.entra, err = entratest.New(entratest.Config{BaseURL: authority, Directory: entratest.DemoDirectory(issuerURL),
		HTTPClient: &http.Client{Transport: issuer.RoundTripper()}})
	check(t, err)
	text, err := issuer.ServiceAccountToken(entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "demo"})
	check(t, err)
	check(t, os.WriteFile(d.file, []byte(text), 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "key"), []byte(keyText+"\n"), 0o600))
	p, err := policy.Parse("credfree.yaml", []byte("version: 1\ntenant: "+entratest.DemoTenantID+"\ncloud: custom\nauthority: "+authority+
		"\nsources: {pod: {file: {path: "+d.file+"}}}\nidentities: {demo: {application: {clientID: "+entratest.DemoClientID+", source: pod}}}\nagents:\n"+agents(dir)))
	check(t, err)
	transport, err := exchange.New(exchange.Config{Authority: authority, Audience: p.Cloud.Audience, Transport: d.entra.RoundTripper()})
	check(t, err)
	recorder, err := issuance.NewRecorder(issuance.Config{Audit: d})
	check(t, err)
	tokens, err := cache.New[exchange.Token](cache.Config{})
	check(t, err)
	b, err := broker.New(broker.Config{Cache: tokens, Recorder: recorder}, broker.Rules{
		Policy: p, Sources: map[string]workload.Source{"pod": workload.File{Path: d.file}}, Exchange: transport,
		Keys: peer.NewKeys(p.KeyFiles()), Sockets: map[string]string{d.socket: "agent.sock"}})
	check(t, err)
	handler, err := localapi.New(localapi.Config{Broker: b})
	check(t, err)
	d.serve(t, handler)
	t.Cleanup(func() { check(t, tokens.Close(context.WithoutCancel(t.Context()))) })
	return d
}

func (d *door) serve(t testing.TB, handler http.Handler) {
	t.Helper()
	server := &http.Server{Handler: handler, ConnContext: peer.ConnContext, ReadHeaderTimeout: 5 * time.Second}
	tcp, err := peer.ListenLoopback("127.0.0.1:0")
	check(t, err)
	unix, err := peer.ListenUnix(d.socket)
	check(t, err)
	d.url = "http://" + tcp.Addr().String()
	for _, listener := range []net.Listener{tcp, unix} {
		go func() {
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		}()
	}
	t.Cleanup(func() { check(t, server.Close()) })
}

// thisUser is one agent, demo: any process of this user, by socket and TCP.
func thisUser(string) string {
	return fmt.Sprintf("  demo:\n    identity: demo\n    callers: [{tcp: {uids: [%d]}}, {socket: agent.sock, uids: [%d]}]\n    allow: {scopes: [%q]}\n",
		os.Getuid(), os.Getuid(), graph)
}

// keyHolder is one agent, demo, told apart by its key.
func keyHolder(dir string) string {
	return fmt.Sprintf("  demo:\n    identity: demo\n    callers: [{tcp: {keyFile: %s}}]\n    allow: {scopes: [%q]}\n", filepath.Join(dir, "key"), graph)
}

// stranger is an agent that nobody here is.
func stranger(string) string {
	return fmt.Sprintf("  other:\n    identity: demo\n    callers: [{tcp: {uids: [%d]}}, {socket: agent.sock, uids: [%d]}]\n    allow: {scopes: [%q]}\n",
		os.Getuid()+1, os.Getuid()+1, graph)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// answer is a response with its body read.
type answer struct {
	*http.Response
	body  string
	error client.Error
}

// send sends a request over TCP, built by hand to the last header.
func (d *door) send(t testing.TB, method, path, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.url+path, strings.NewReader(body))
	check(t, err)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	check(t, err)
	text, err := io.ReadAll(resp.Body)
	check(t, err)
	check(t, resp.Body.Close())
	a := answer{Response: resp, body: string(text)}
	if strings.HasPrefix(a.body, "{") {
		check(t, json.Unmarshal(text, &a.error))
	}
	return a
}

func form(pairs ...string) string {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Add(pairs[i], pairs[i+1])
	}
	return values.Encode()
}

var good = form("grant_type", "client_credentials", "scope", graph)

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

// verify checks the token against the keys the emulator publishes.
func (d *door) verify(t *testing.T, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, authority+"/"+entratest.DemoTenantID+"/discovery/v2.0/keys", nil)
	check(t, err)
	resp, err := d.entra.RoundTripper().RoundTrip(req)
	check(t, err)
	var keys jose.JSONWebKeySet
	check(t, json.NewDecoder(resp.Body).Decode(&keys))
	check(t, resp.Body.Close())
	parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.RS256})
	check(t, err)
	var claims jwt.Claims
	check(t, parsed.Claims(keys, &claims))
	check(t, claims.ValidateWithLeeway(jwt.Expected{AnyAudience: jwt.Audience{"https://graph.microsoft.com"}, Time: time.Now()}, time.Minute))
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

func TestBadRequests(t *testing.T) {
	d := open(t, thisUser)
	for name, test := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		code               string
		says               string
	}{
		"browser":             {"POST", "/oauth2/token", good, []string{"Origin", "http://127.0.0.1:7400"}, 403, "access_denied", ""},
		"null origin":         {"POST", "/oauth2/token", good, []string{"Origin", "null"}, 403, "access_denied", ""},
		"cross-site fetch":    {"POST", "/oauth2/token", good, []string{"Sec-Fetch-Site", "cross-site"}, 403, "access_denied", ""},
		"rebound name":        {"POST", "/oauth2/token", good, []string{"Host", "evil.example"}, 403, "access_denied", ""},
		"look-alike name":     {"POST", "/oauth2/token", good, []string{"Host", "localhost.evil.example"}, 403, "access_denied", ""},
		"through a proxy":     {"POST", "/oauth2/token", good, []string{"X-Forwarded-For", "10.0.0.1"}, 403, "access_denied", ""},
		"metadata rebound":    {"GET", "/.well-known/oauth-authorization-server", "", []string{"Host", "evil.example"}, 403, "access_denied", ""},
		"GET":                 {"GET", "/oauth2/token", "", nil, 405, "invalid_request", "POST"},
		"PUT":                 {"PUT", "/oauth2/token", good, nil, 405, "invalid_request", "POST"},
		"unknown path":        {"POST", "/token", good, nil, 404, "not_found", "/oauth2/token"},
		"double slash":        {"POST", "//oauth2/token", good, nil, 404, "not_found", "/oauth2/token"},
		"query":               {"POST", "/oauth2/token?scope=x", good, nil, 400, "invalid_request", "body"},
		"JSON":                {"POST", "/oauth2/token", "{}", []string{"Content-Type", "application/json"}, 415, "invalid_request", "x-www-form-urlencoded"},
		"no type":             {"POST", "/oauth2/token", good, []string{"Content-Type", ""}, 415, "invalid_request", ""},
		"one megabyte":        {"POST", "/oauth2/token", strings.Repeat("a", 1<<20), nil, 413, "invalid_request", "64 KiB"},
		"broken encoding":     {"POST", "/oauth2/token", "grant_type=%zz", nil, 400, "invalid_request", "encod"},
		"twice":               {"POST", "/oauth2/token", good + "&scope=x", nil, 400, "invalid_request", "once"},
		"many parameters":     {"POST", "/oauth2/token", manyParameters(), nil, 400, "invalid_request", "many"},
		"no grant":            {"POST", "/oauth2/token", form("scope", graph), nil, 400, "invalid_request", "grant_type"},
		"unknown grant":       {"POST", "/oauth2/token", form("grant_type", "password", "scope", graph), nil, 400, "unsupported_grant_type", "client_credentials"},
		"claims not JSON":     {"POST", "/oauth2/token", good + "&claims=x", nil, 400, "invalid_request", "claims"},
		"claims null":         {"POST", "/oauth2/token", good + "&claims=null", nil, 400, "invalid_request", "claims"},
		"no scope":            {"POST", "/oauth2/token", form("grant_type", "client_credentials"), nil, 400, "invalid_scope", "scope"},
		"scope not granted":   {"POST", "/oauth2/token", form("grant_type", "client_credentials", "scope", "https://vault.azure.net/.default"), nil, 400, "invalid_scope", "agents.demo.allow.scopes"},
		"smuggled scope":      {"POST", "/oauth2/token", form("grant_type", "client_credentials", "scope", graph+" https://vault.azure.net/.default"), nil, 400, "invalid_scope", ""},
		"another's name":      {"POST", "/oauth2/token", good + "&client_id=admin", nil, 401, "invalid_client", ""},
		"identity not one's":  {"POST", "/oauth2/token", good + "&identity=admin", nil, 400, "unauthorized_client", "identity"},
		"unlisted scope name": {"POST", "/oauth2/token", form("grant_type", "client_credentials", "scope", "User.Read"), nil, 400, "invalid_scope", ""},
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

// What goes wrong behind the broker, as the agent sees it: retry what can
// change by itself, and nothing else.
func TestFailuresBehind(t *testing.T) {
	for name, test := range map[string]struct {
		behavior entratest.Behavior
		break_   func(t *testing.T, d *door)
		status   int
		code     string
		by       string
		check    func(t *testing.T, got answer)
	}{
		"throttled": {behavior: entratest.Behavior{Status: 429, RetryAfter: "7"}, status: 429, code: "temporarily_unavailable", by: client.ByEntra,
			check: func(t *testing.T, got answer) {
				if after := got.Header.Get("Retry-After"); after != "7" {
					t.Errorf("got Retry-After %q, want 7", after)
				}
			}},
		"outage":     {behavior: entratest.Behavior{Status: 503}, status: 503, code: "temporarily_unavailable", by: client.ByBroker},
		"truncated":  {behavior: entratest.Behavior{Truncate: true}, status: 503, code: "temporarily_unavailable", by: client.ByBroker},
		"huge":       {behavior: entratest.Behavior{Huge: true}, status: 503, code: "temporarily_unavailable", by: client.ByBroker},
		"redirect":   {behavior: entratest.Behavior{Redirect: "https://evil.example/"}, status: 503, code: "temporarily_unavailable", by: client.ByBroker},
		"wrong kind": {behavior: entratest.Behavior{WrongGrant: true}, status: 500, code: "server_error", by: client.ByBroker},
		"refused": {behavior: entratest.Behavior{Code: 700016}, status: 400, code: "unauthorized_client", by: client.ByEntra,
			check: func(t *testing.T, got answer) {
				if len(got.error.Codes) != 1 || got.error.Codes[0] != 700016 || got.error.CorrelationID == "" {
					t.Errorf("got codes %v, correlation id %q", got.error.Codes, got.error.CorrelationID)
				}
			}},
		"conditional access": {behavior: entratest.Behavior{Code: 53003}, status: 400, code: "access_denied", by: client.ByEntra,
			check: func(t *testing.T, got answer) {
				if got.error.Claims == "" || got.error.Suberror == "" {
					t.Errorf("got claims %q, suberror %q", got.error.Claims, got.error.Suberror)
				}
			}},
		"no workload token": {break_: func(t *testing.T, d *door) { check(t, os.Remove(d.file)) }, status: 503, code: "temporarily_unavailable", by: client.ByBroker},
		"garbled workload token": {break_: func(t *testing.T, d *door) { check(t, os.WriteFile(d.file, []byte("x"), 0o600)) },
			status: 500, code: "server_error", by: client.ByBroker},
		"audit log full": {break_: func(_ *testing.T, d *door) { d.full.Store(true) }, status: 503, code: "temporarily_unavailable", by: client.ByBroker},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, thisUser)
			d.entra.SetBehavior(test.behavior)
			if test.break_ != nil {
				test.break_(t, d)
			}
			got := d.send(t, http.MethodPost, "/oauth2/token", good)
			if got.StatusCode != test.status || got.error.Code != test.code || got.error.RefusedBy != test.by {
				t.Fatalf("got %d %s, want %d %s by %s", got.StatusCode, got.body, test.status, test.code, test.by)
			}
			if got.error.Hint == "" || got.error.IssuanceID == "" {
				t.Errorf("got %s, want a hint and an issuance id", got.body)
			}
			if test.check != nil {
				test.check(t, got)
			}
		})
	}
}

func TestMetadata(t *testing.T) {
	d := open(t, thisUser)
	got := d.send(t, http.MethodGet, "/.well-known/oauth-authorization-server", "")
	var metadata struct {
		Issuer        string   `json:"issuer"`
		TokenEndpoint string   `json:"token_endpoint"`
		Grants        []string `json:"grant_types_supported"`
	}
	check(t, json.Unmarshal([]byte(got.body), &metadata))
	if metadata.Issuer != d.url || metadata.TokenEndpoint != d.url+"/oauth2/token" || len(metadata.Grants) != 1 {
		t.Errorf("got %s", got.body)
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
