package spiffe_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	workloadpb "github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/workload"
	"github.com/credfree/credfree/exchange/workload/spiffe"
)

const (
	trustDomain = "spiffe://demo.example/"
	// said stands for what an agent writes into its answers. It must never be in
	// an error.
	said = "hunter2-hunter2-hunter2"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// agent is a Workload API with the identities "first" and "second".
type agent struct {
	workloadpb.UnimplementedSpiffeWorkloadAPIServer

	issuer *entratest.Issuer
	socket string // path
	server *grpc.Server

	mu       sync.Mutex // guards the rest
	answer   func(ctx context.Context, token string) (*workloadpb.JWTSVIDResponse, error)
	requests int
	conns    int
	hangsUp  bool // on whoever connects
}

// newAgent makes an agent whose keys are of an algorithm, and starts it.
func newAgent(t *testing.T, algorithm string) *agent {
	t.Helper()
	cfg := entratest.IssuerConfig{Platform: entratest.SPIFFE, Algorithms: []string{algorithm}}
	var err error
	if algorithm == "RS256" {
		cfg.Key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		cfg.Key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{socket: filepath.Join(t.TempDir(), "agent.sock")}
	if a.issuer, err = entratest.NewIssuer(cfg); err != nil {
		t.Fatal(err)
	}
	a.start(t)
	t.Cleanup(a.stop)
	return a
}

func (a *agent) start(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	workloadpb.RegisterSpiffeWorkloadAPIServer(server, a)
	a.server = server
	go func() { _ = server.Serve(counting{listener, a}) }() // ends with stop, which waits for it
}

func (a *agent) stop() { a.server.Stop() }

// counting counts the connections of an agent.
type counting struct {
	net.Listener
	agent *agent
}

func (c counting) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c.agent.mu.Lock()
		c.agent.conns++
		hangUp := c.agent.hangsUp
		c.agent.mu.Unlock()
		if !hangUp {
			return conn, nil
		}
		conn.Close()
	}
}

func (a *agent) hangUp(yes bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hangsUp = yes
}

func (a *agent) answers(f func(ctx context.Context, token string) (*workloadpb.JWTSVIDResponse, error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = f
}

func (a *agent) counts() (requests, conns int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests, a.conns
}

// FetchJWTSVID insists on what the standard does: the header that browsers cannot
// be made to send, and an identity that is registered.
func (a *agent) FetchJWTSVID(ctx context.Context, req *workloadpb.JWTSVIDRequest) (*workloadpb.JWTSVIDResponse, error) {
	a.mu.Lock()
	a.requests++
	answer := a.answer
	a.mu.Unlock()
	header, _ := metadata.FromIncomingContext(ctx)
	if !slices.Equal(header.Get("workload.spiffe.io"), []string{"true"}) {
		return nil, status.Error(codes.InvalidArgument, "security header missing from request")
	}
	path := "first"
	if req.GetSpiffeId() != "" {
		path = strings.TrimPrefix(req.GetSpiffeId(), trustDomain)
	}
	if path != "first" && path != "second" || len(req.GetAudience()) != 1 {
		return nil, status.Error(codes.PermissionDenied, "no identity issued for "+said)
	}
	token, err := a.issuer.WorkloadToken(entratest.Workload{Parameters: map[string]string{"path": path}, Audience: req.GetAudience()[0]})
	if err != nil {
		return nil, status.Error(codes.Internal, "the token cannot be signed")
	}
	if answer != nil {
		return answer(ctx, token)
	}
	return one(trustDomain+path, token), nil
}

func one(id, token string) *workloadpb.JWTSVIDResponse {
	return &workloadpb.JWTSVIDResponse{Svids: []*workloadpb.JWTSVID{{SpiffeId: id, Svid: token}}}
}

// source is a source of the agent's tokens that is closed in the end.
func (a *agent) source(t *testing.T) *spiffe.Source {
	t.Helper()
	return closed(t, &spiffe.Source{Socket: "unix://" + a.socket, Audience: entratest.TokenExchangeAudience})
}

func closed(t *testing.T, source *spiffe.Source) *spiffe.Source {
	t.Helper()
	t.Cleanup(func() {
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	})
	return source
}

func wantSubject(t *testing.T, source *spiffe.Source, want string) {
	t.Helper()
	a, err := source.Assertion(t.Context())
	if err != nil {
		t.Fatalf("got %v, want a token of %s", err, want)
	}
	if a.Subject != trustDomain+want {
		t.Errorf("got a token of %q, want %s", a.Subject, want)
	}
}

func wantError(t *testing.T, err error, problem workload.Problem, says string) {
	t.Helper()
	got, ok := errors.AsType[*workload.Error](err)
	if !ok {
		t.Fatalf("got %v, want %s", err, problem)
	}
	if got.Problem != problem || got.Hint == "" || !strings.Contains(got.Message+" "+got.Hint, says) {
		t.Errorf("got %s: %s (hint: %s), want %s and %q", got.Problem, got.Message, got.Hint, problem, says)
	}
	text := got.Message + got.Hint
	for cause := got.Err; cause != nil; cause = errors.Unwrap(cause) {
		text += cause.Error()
	}
	if strings.Contains(text, said) {
		t.Errorf("the error shows what the agent wrote: %s", text)
	}
}

var noSocket = filepath.Join(os.TempDir(), "credfree-test-no-such-agent.sock")
