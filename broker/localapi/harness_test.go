package localapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/broker/recent"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/usertoken"
	"github.com/credfree/credfree/exchange/workload"
)

const (
	authority = "https://login.entra.test"
	issuerURL = "https://cluster.test/oidc"
	graph     = "https://graph.microsoft.com/.default"
	userRead  = "https://graph.microsoft.com/User.Read"
	keyText   = "a-key-of-sufficient-length"
)

// door is a broker behind real sockets: TCP for this user's processes and for
// the holder of a key, and a unix socket.
type door struct {
	url     string // over TCP
	socket  string
	handler http.Handler
	entra   *entratest.Server
	file    string      // the workload token
	full    atomic.Bool // the audit log's disk

	mu  sync.Mutex // guards log
	log strings.Builder
}

// Write is the audit log.
func (d *door) Write(line []byte) (int, error) {
	if d.full.Load() {
		return 0, errors.New("no space left on device")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.Write(line)
}

// audited is what the audit log holds, since it was last looked at.
func (d *door) audited() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.log.Reset()
	return d.log.String()
}

// The identities of the policy: each kind once, and a fleet.
const (
	otherAgentID = "a9e41d00-0000-4000-8000-0000000000ff"
	vmObjectID   = "0b1ec700-0000-4000-8000-000000000001"

	identities = `
identities:
  demo:  {application: {clientID: ` + entratest.DemoClientID + `, source: pod}}
  fleet: {agent: {blueprintID: ` + entratest.DemoBlueprintClientID + `, agentIDs: [` + entratest.DemoAgentIdentityID + `, ` + otherAgentID + `], source: pod}}
  robot: {agentUser: {blueprintID: ` + entratest.DemoBlueprintClientID + `, agentID: ` + entratest.DemoAgentIdentityID + `, userID: ` + entratest.DemoAgentUserID + `, source: pod}}
  vm:    {managedIdentity: {objectID: ` + vmObjectID + `}}
apis:
  graph: {baseURL: https://graph.microsoft.com/v1.0, scopes: [` + graph + `]}
  tools: {baseURL: https://tools.example.com, scopes: [` + graph + `]}
  ruled: {baseURL: https://tools.example.com/base/v1, scopes: [` + graph + `], methods: [GET, POST], paths: [/, /a, /b/*]}
  users: {baseURL: https://tools.example.com/v1.0, scopes: [` + userRead + `]}
  linked: {baseURL: https://tools.example.com/base/v1, scopes: [` + graph + `], rewriteLinks: true}
`
)

func open(t testing.TB, agents func(dir string) string, options ...func(*localapi.Config)) *door {
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
	p := d.policy(t, agents(dir))
	transport, err := exchange.New(exchange.Config{Authority: authority, Audience: p.Cloud.Audience, Transport: d.entra.RoundTripper()})
	check(t, err)
	users, err := usertoken.New(usertoken.Config{Authority: authority, Transport: d.entra.RoundTripper()})
	check(t, err)
	t.Cleanup(users.Close)
	recorder, err := issuance.NewRecorder(issuance.Config{Audit: d, Memory: recent.New(time.Now())})
	check(t, err)
	tokens, err := cache.New[exchange.Token](cache.Config{})
	check(t, err)
	b, err := broker.New(broker.Config{Cache: tokens, Recorder: recorder}, broker.Rules{
		Policy: p, Sources: map[string]workload.Source{"pod": workload.File{Path: d.file}}, Exchange: transport, Users: users,
		Keys: peer.NewKeys(p.KeyFiles()), Sockets: map[string]string{d.socket: "agent.sock"}})
	check(t, err)
	cfg := localapi.Config{Broker: b, AuthSidecar: true}
	for _, option := range options {
		option(&cfg)
	}
	handler, err := localapi.New(cfg)
	check(t, err)
	d.serve(t, &http.Server{Handler: handler, ConnContext: peer.ConnContext, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 32 << 10, DisableGeneralOptionsHandler: true})
	t.Cleanup(func() { check(t, tokens.Close(context.WithoutCancel(t.Context()))) })
	return d
}

// policy is that of the broker, with other agents.
func (d *door) policy(t testing.TB, agents string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("credfree.yaml", []byte("version: 1\ntenant: "+entratest.DemoTenantID+"\ncloud: custom\nauthority: "+authority+
		"\nsources: {pod: {file: {path: "+d.file+"}}}"+identities+"agents:\n"+agents))
	check(t, err)
	return p
}

func (d *door) serve(t testing.TB, server *http.Server) {
	t.Helper()
	d.handler, server.ErrorLog = server.Handler, log.New(complaints{t}, "", 0)
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

// complaints fail the test: a server has none about a handler that behaves.
type complaints struct{ testing.TB }

func (c complaints) Write(line []byte) (int, error) {
	c.Errorf("the server complains: %s", line)
	return len(line), nil
}

// thisUser is one agent, demo: any process of this user, by socket and TCP.
func thisUser(string) string {
	return fmt.Sprintf("  demo:\n    identity: demo\n    callers: [{tcp: {uids: [%d]}}, {socket: agent.sock, uids: [%d]}]\n    allow: {scopes: [%q]}\n",
		os.Getuid(), os.Getuid(), graph)
}

// forUsers is thisUser, who may act for users too. more stands at its end.
func forUsers(more string) func(string) string {
	return func(dir string) string {
		return thisUser(dir) + "    onBehalfOf: {allow: {scopes: [" + userRead + "]}, clients: [" + entratest.DemoFrontendClientID + "]}\n" + more
	}
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
	if resp.StatusCode >= 400 && strings.HasPrefix(a.body, "{") {
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

// claims are those of an issued token that tell whose it is.
type claims struct {
	Audience string   `json:"aud"`
	Client   string   `json:"appid"`
	ObjectID string   `json:"oid"`
	Scopes   string   `json:"scp"`
	Contexts []string `json:"acrs"`
}

// verify checks the token against the keys the emulator publishes.
func (d *door) verify(t testing.TB, text string) claims {
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
	var standard jwt.Claims
	var own claims
	check(t, parsed.Claims(keys, &standard, &own))
	check(t, standard.ValidateWithLeeway(jwt.Expected{AnyAudience: jwt.Audience{"https://graph.microsoft.com"}, Time: time.Now()}, time.Minute))
	return own
}

// user is a token of the demo's user, for the demo's application.
func (d *door) user(t testing.TB, options ...func(*entratest.UserTokenRequest)) string {
	t.Helper()
	req := entratest.UserTokenRequest{User: entratest.DemoUserName, Audience: entratest.DemoClientID, Client: entratest.DemoFrontendClientID}
	for _, option := range options {
		option(&req)
	}
	token, err := d.entra.UserToken(req)
	check(t, err)
	return token
}
