package broker_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/secret"
	"github.com/credfree/credfree/exchange/usertoken"
	"github.com/credfree/credfree/exchange/workload"
)

const (
	authority = "https://login.entra.test"
	issuerURL = "https://cluster.test/oidc"
	graph     = "https://graph.microsoft.com/.default"
	vault     = "https://vault.azure.net/.default"
	machineID = "99999999-0000-4000-8000-000000000001"
)

// The agents of the tests. Researcher and twin may have the same.
const agents = `
agents:
  researcher:
    owner: research@demo.example
    identity: demo
    callers: [{socket: researcher.sock, uids: [10001]}, {tcp: {uids: [10001]}}]
    allow: {scopes: [` + graph + `, ` + vault + `]}
  twin:
    identity: demo
    callers: [{tcp: {uids: [10002]}}]
    allow: {scopes: [` + graph + `]}
`

// issuerKey spares each test the time to make one.
var issuerKey = sync.OnceValue(func() crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// world is a broker over the emulator, all in process.
type world struct {
	*broker.Broker
	rules    broker.Rules
	entra    *entratest.Server
	issuer   *entratest.Issuer
	file     string // the workload token
	cache    *cache.Cache[exchange.Token]
	audit    *sink
	spans    *tracetest.SpanRecorder
	tracer   trace.Tracer
	recorder *issuance.Recorder
}

type peerKey struct{}

// as is a context of a connection from the process with this uid, over TCP.
func as(t testing.TB, uid uint32) context.Context {
	return context.WithValue(t.Context(), peerKey{}, peer.Peer{Network: "tcp", UID: uid, Known: true})
}

func onSocket(t testing.TB, path string, uid uint32) context.Context {
	return context.WithValue(t.Context(), peerKey{}, peer.Peer{Network: "unix", Socket: path, UID: uid, Known: true})
}

func peerOf(ctx context.Context) (peer.Peer, error) {
	p, ok := ctx.Value(peerKey{}).(peer.Peer)
	if !ok {
		return peer.Peer{}, errors.New("no connection")
	}
	return p, nil
}

func newWorld(t testing.TB, options ...func(*broker.Config, *broker.Rules)) *world {
	t.Helper()
	return newWorldOf(t, func(*entratest.Directory) {}, options...)
}

// newWorldOf is newWorld with another directory.
func newWorldOf(t testing.TB, change func(*entratest.Directory), options ...func(*broker.Config, *broker.Rules)) *world {
	t.Helper()
	directory := entratest.DemoDirectory(issuerURL)
	change(&directory)
	dir := t.TempDir()
	issuer, err := entratest.NewIssuer(entratest.IssuerConfig{URL: issuerURL, Key: issuerKey()})
	check(t, err)
	entra, err := entratest.New(entratest.Config{
		BaseURL: authority, Directory: directory, HTTPClient: &http.Client{Transport: issuer.RoundTripper()},
	})
	check(t, err)
	w := &world{entra: entra, file: filepath.Join(dir, "workload-token"), audit: &sink{}, spans: tracetest.NewSpanRecorder()}
	text, err := issuer.ServiceAccountToken(entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "demo", Lifetime: 24 * 3600e9})
	check(t, err)
	check(t, os.WriteFile(w.file, []byte(text), 0o600))

	p := w.policy(t, agents)
	w.issuer = issuer
	w.tracer = sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()), sdktrace.WithSpanProcessor(w.spans)).Tracer("test")
	w.cache, err = cache.New[exchange.Token](cache.Config{})
	check(t, err)
	t.Cleanup(func() { check(t, w.cache.Close(context.WithoutCancel(t.Context()))) })
	w.recorder, err = issuance.NewRecorder(issuance.Config{Audit: w.audit, Tracer: w.tracer})
	check(t, err)
	client, err := exchange.New(exchange.Config{Authority: authority, Audience: p.Cloud.Audience, Transport: entra.RoundTripper(), Tracer: w.tracer, Legs: broker.Legs(w.cache, w.recorder)})
	check(t, err)
	cfg := broker.Config{Cache: w.cache, Recorder: w.recorder, Peer: peerOf}
	users, err := usertoken.New(usertoken.Config{Authority: authority, Transport: entra.RoundTripper(), Tracer: w.tracer})
	check(t, err)
	t.Cleanup(users.Close)
	rules := broker.Rules{
		Users: users, Graph: serving{entra.API()},
		Policy: p, Sources: map[string]workload.Source{"pod": workload.File{Path: w.file}}, Exchange: client,
		Sockets: map[string]string{"/run/credfree/researcher.sock": "researcher.sock"},
	}
	for _, option := range options {
		option(&cfg, &rules)
	}
	w.rules = rules
	w.Broker, err = broker.New(cfg, rules)
	check(t, err)
	t.Cleanup(func() { check(t, w.Close(context.WithoutCancel(t.Context()))) })
	return w
}

// policy is that of the world with other agents.
func (w *world) policy(t testing.TB, agents string) *policy.Policy {
	t.Helper()
	return w.policyUnder(t, nil, agents)
}

// policyUnder is policy under a ceiling; nil for none.
func (w *world) policyUnder(t testing.TB, ceiling *policy.Ceiling, agents string) *policy.Policy {
	t.Helper()
	const ids = "blueprintID: " + entratest.DemoBlueprintClientID + ", agentID: " + entratest.DemoAgentIdentityID + ", source: pod"
	p, err := policy.ParseWith("credfree.yaml", []byte("version: 1\ntenant: "+entratest.DemoTenantID+"\ncloud: custom\nauthority: "+authority+
		"\nsources: {pod: {file: {path: "+w.file+"}}}\nidentities:\n  demo: {application: {clientID: "+entratest.DemoClientID+", source: pod}}\n"+
		"  agent: {agent: {"+ids+"}}\n  agent-user: {agentUser: {"+ids+", username: "+entratest.DemoAgentUserName+"}}\n"+
		"  machine: {managedIdentity: {clientID: "+machineID+"}}\n"+agents), policy.Options{Ceiling: ceiling})
	check(t, err)
	return p
}

// use puts other agents in force.
func (w *world) use(t testing.TB, agents string) {
	t.Helper()
	rules := w.rules
	rules.Policy = w.policy(t, agents)
	check(t, w.Use(rules))
}

// purge purges what is selected.
func (w *world) purge(t testing.TB, selected broker.Selection) {
	t.Helper()
	_, _, err := w.Purge(selected)
	check(t, err)
}

// serving is a handler as a transport.
type serving struct{ http.Handler }

func (s serving) RoundTrip(req *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	s.ServeHTTP(recorder, req)
	return recorder.Result(), nil
}

// userToken is a user's access token from the front end.
func (w *world) userToken(t testing.TB, change func(*entratest.UserTokenRequest)) secret.Text {
	t.Helper()
	req := entratest.UserTokenRequest{User: entratest.DemoUserName, Audience: entratest.DemoClientID, Client: entratest.DemoFrontendClientID}
	if change != nil {
		change(&req)
	}
	text, err := w.entra.UserToken(req)
	check(t, err)
	return secret.New(text)
}

// actFor asks for a token on behalf of the user of a token.
func (w *world) actFor(ctx context.Context, user secret.Text, scope string) (broker.Issued, error) {
	return w.Issue(ctx, broker.Request{Door: "oauth", Grant: "urn:ietf:params:oauth:grant-type:token-exchange", Scope: scope, OnBehalfOf: true, UserToken: user})
}

// denial returns the reason of a denial, and fails the test without one.
func denial(t testing.TB, err error) *broker.Denied {
	t.Helper()
	denied, ok := errors.AsType[*broker.Denied](err)
	if !ok {
		t.Fatalf("got %v, want a denial", err)
	}
	return denied
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) ask(ctx context.Context, scope string) (broker.Issued, error) {
	return w.Issue(ctx, broker.Request{Door: "oauth", Grant: "client_credentials", Scope: scope})
}

// sink is an audit log in memory that can be made to fail.
type sink struct {
	mu   sync.Mutex // guards the rest
	text bytes.Buffer
	err  error
}

func (s *sink) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	return s.text.Write(line)
}

func (s *sink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// lines returns the audit lines, decoded.
func (s *sink) lines(t testing.TB) []map[string]any {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []map[string]any
	for line := range strings.Lines(s.text.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("audit line %q: %v", line, err)
		}
		lines = append(lines, fields)
	}
	return lines
}

// last returns the newest audit line.
func (s *sink) last(t testing.TB) map[string]any {
	t.Helper()
	lines := s.lines(t)
	if len(lines) == 0 {
		t.Fatal("the audit log is empty")
	}
	return lines[len(lines)-1]
}
