package broker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/issuance"
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
	vault     = "https://vault.azure.net/.default"
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

// world is a broker over the emulator, all in process.
type world struct {
	*broker.Broker
	entra *entratest.Server
	file  string // the workload token
	cache *cache.Cache[exchange.Token]
	audit *sink
	spans *tracetest.SpanRecorder
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

func newWorld(t testing.TB, options ...func(*broker.Config)) *world {
	t.Helper()
	dir := t.TempDir()
	issuer, err := entratest.NewIssuer(entratest.IssuerConfig{URL: issuerURL})
	check(t, err)
	entra, err := entratest.New(entratest.Config{
		BaseURL: authority, Directory: entratest.DemoDirectory(issuerURL), HTTPClient: &http.Client{Transport: issuer.RoundTripper()},
	})
	check(t, err)
	w := &world{entra: entra, file: filepath.Join(dir, "workload-token"), audit: &sink{}, spans: tracetest.NewSpanRecorder()}
	text, err := issuer.ServiceAccountToken(entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "demo", Lifetime: 24 * 3600e9})
	check(t, err)
	check(t, os.WriteFile(w.file, []byte(text), 0o600))

	p, err := policy.Parse("credfree.yaml", []byte("version: 1\ntenant: "+entratest.DemoTenantID+"\ncloud: custom\nauthority: "+authority+
		"\nsources: {pod: {file: {path: "+w.file+"}}}\nidentities: {demo: {application: {clientID: "+entratest.DemoClientID+", source: pod}}}\n"+agents))
	check(t, err)
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(w.spans)).Tracer("test")
	client, err := exchange.New(exchange.Config{Authority: authority, Audience: p.Cloud.Audience, Transport: entra.RoundTripper(), Tracer: tracer})
	check(t, err)
	recorder, err := issuance.NewRecorder(issuance.Config{Audit: w.audit, Tracer: tracer})
	check(t, err)
	w.cache, err = cache.New[exchange.Token](cache.Config{})
	check(t, err)
	cfg := broker.Config{
		Policy: p, Sources: map[string]workload.Source{"pod": workload.File{Path: w.file}}, Exchange: client, Cache: w.cache,
		Recorder: recorder, Sockets: map[string]string{"/run/credfree/researcher.sock": "researcher.sock"}, Peer: peerOf,
	}
	for _, option := range options {
		option(&cfg)
	}
	w.Broker, err = broker.New(cfg)
	check(t, err)
	return w
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
