package spiffe_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	workloadpb "github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/workload"
	"github.com/credfree/credfree/exchange/workload/spiffe"
)

// Each token is a new one, over the one connection.
func TestTokensAreFresh(t *testing.T) {
	agent := newAgent(t, "RS256")
	source := agent.source(t)
	issued := 0
	agent.answers(func(context.Context, string) (*workloadpb.JWTSVIDResponse, error) {
		issued++ // no two at once here
		token, err := agent.issuer.WorkloadToken(entratest.Workload{Parameters: map[string]string{"path": "first"}, Lifetime: time.Duration(issued) * time.Minute})
		return one(trustDomain+"first", token), err
	})
	var last time.Time
	for range 3 {
		a, err := source.Assertion(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Check(entratest.TokenExchangeAudience, time.Now()); err != nil {
			t.Errorf("got %v, want a token that Entra could accept", err)
		}
		if !a.ExpiresAt.After(last) {
			t.Errorf("got a token until %s after one until %s, want a new one", a.ExpiresAt, last)
		}
		last = a.ExpiresAt
	}
	if requests, conns := agent.counts(); requests != 3 || conns != 1 {
		t.Errorf("got %d requests over %d connections, want 3 over 1", requests, conns)
	}
}

func TestOneConnectionForAll(t *testing.T) {
	agent := newAgent(t, "RS256")
	source := agent.source(t)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if _, err := source.Assertion(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if requests, conns := agent.counts(); requests != 16 || conns != 1 {
		t.Errorf("got %d requests over %d connections, want 16 over 1", requests, conns)
	}
}

// What is closed makes no connection again, which nobody would close; and who was
// waiting for the agent hears why there is no token.
func TestClosedSource(t *testing.T) {
	agent := newAgent(t, "RS256")
	source := agent.source(t)
	wantSubject(t, source, "first")
	asked := make(chan struct{})
	agent.answers(func(ctx context.Context, _ string) (*workloadpb.JWTSVIDResponse, error) {
		close(asked)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		_, err := source.Assertion(t.Context())
		wantError(t, err, workload.Unavailable, "was closed")
	})
	<-asked
	for range 2 {
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	}
	waiting.Wait()
	agent.answers(nil)
	for range 2 {
		_, err := source.Assertion(t.Context())
		wantError(t, err, workload.Unavailable, "was closed")
	}
	if requests, conns := agent.counts(); requests != 2 || conns != 1 {
		t.Errorf("got %d requests over %d connections, want 2 over 1", requests, conns)
	}
	never := &spiffe.Source{Socket: "unix://" + agent.socket, Audience: entratest.TokenExchangeAudience}
	if err := never.Close(); err != nil {
		t.Error(err)
	}
	_, err := never.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "was closed")
}

func TestIdentityIsChosen(t *testing.T) {
	agent := newAgent(t, "RS256")
	source := agent.source(t)
	source.SPIFFEID = trustDomain + "second"
	wantSubject(t, source, "second")
	source.SPIFFEID = trustDomain + "third"
	_, err := source.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "spire-server entry create")
	source.SPIFFEID = "demo.example/second"
	_, err = source.Assertion(t.Context())
	wantError(t, err, workload.Malformed, "is not a SPIFFE ID")
	source.SPIFFEID = trustDomain + "second"
	agent.answers(func(context.Context, string) (*workloadpb.JWTSVIDResponse, error) {
		token, err := agent.issuer.WorkloadToken(entratest.Workload{Parameters: map[string]string{"path": "first"}})
		return one(source.SPIFFEID, token), err
	})
	_, err = source.Assertion(t.Context())
	wantError(t, err, workload.Malformed, `gave a token of "spiffe://demo.example/first"`)
}

// SPIRE signs with an elliptic curve unless it is told otherwise.
func TestKeyOfTheServer(t *testing.T) {
	a, err := newAgent(t, "ES256").source(t).Assertion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, a.Check(entratest.TokenExchangeAudience, time.Now()), workload.WrongAlgorithm, `jwt_key_type = "rsa-2048"`)
}

func TestSockets(t *testing.T) {
	agent := newAgent(t, "RS256")
	variables := map[string]string{}
	getenv := func(name string) string { return variables[name] }
	for name, source := range map[string]*spiffe.Source{
		"a URL":      {Socket: "unix://" + agent.socket},
		"a path":     {Socket: agent.socket},
		"a variable": {},
	} {
		variables["SPIFFE_ENDPOINT_SOCKET"] = "unix://" + noSocket
		if source.Socket == "" {
			variables["SPIFFE_ENDPOINT_SOCKET"] = "unix://" + agent.socket
		}
		source.Audience, source.Getenv = entratest.TokenExchangeAudience, getenv
		if _, err := closed(t, source).Assertion(t.Context()); err != nil {
			t.Errorf("%s: got %v, want a token", name, err)
		}
	}
	clear(variables)
	for socket, test := range map[string]struct {
		problem workload.Problem
		says    string
	}{
		"":                            {workload.Unavailable, "SPIFFE_ENDPOINT_SOCKET"},
		"agent.sock":                  {workload.Malformed, "is not an address"},
		"https://agent.test":          {workload.Malformed, "is not an address"},
		"unix://%zz":                  {workload.Malformed, "is not an address"},
		"tcp://agent.test:8081":       {workload.Malformed, "is not an address"},
		"tcp://127.0.0.1":             {workload.Malformed, "is not an address"},
		"tcp://10.0.0.7:8081":         {workload.Malformed, "others on the network"},
		"tcp://127.0.0.1:1":           {workload.Unavailable, "no SPIFFE agent answers"},
		"unix://" + noSocket:          {workload.Unavailable, "no SPIFFE agent answers"},
		strings.Repeat("x", 1<<10):    {workload.Malformed, "is not an address"},
		"unix://" + noSocket + "\x00": {workload.Malformed, "is not an address"},
	} {
		source := closed(t, &spiffe.Source{Socket: socket, Audience: entratest.TokenExchangeAudience, Getenv: getenv})
		_, err := source.Assertion(t.Context())
		wantError(t, err, test.problem, test.says)
	}
	_, err := closed(t, &spiffe.Source{Socket: agent.socket}).Assertion(t.Context())
	wantError(t, err, workload.Malformed, "audience")
}

// An agent that goes away and comes back is asked again soon, however often it
// was not there.
func TestAgentThatRestarts(t *testing.T) {
	agent := newAgent(t, "RS256")
	source := agent.source(t)
	wantSubject(t, source, "first")
	agent.stop()
	_, err := source.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "no SPIFFE agent answers")

	agent.hangUp(true)
	agent.start(t)
	began := time.Now()
	for _, conns := agent.counts(); conns < 4; _, conns = agent.counts() {
		_, err := source.Assertion(t.Context())
		wantError(t, err, workload.Unavailable, "no SPIFFE agent answers")
	}
	agent.hangUp(false)
	for {
		if _, err = source.Assertion(t.Context()); err == nil {
			break
		}
		wantError(t, err, workload.Unavailable, "no SPIFFE agent answers")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s for three connections in vain and a good one, want about one second", took)
	}
}

func TestAgentsThatMisbehave(t *testing.T) {
	agent := newAgent(t, "RS256")
	source := agent.source(t)
	failing := func(code codes.Code) func(context.Context, string) (*workloadpb.JWTSVIDResponse, error) {
		return func(context.Context, string) (*workloadpb.JWTSVIDResponse, error) {
			return nil, status.Error(code, said)
		}
	}
	giving := func(text string) func(context.Context, string) (*workloadpb.JWTSVIDResponse, error) {
		return func(context.Context, string) (*workloadpb.JWTSVIDResponse, error) {
			return one(trustDomain+"first", text), nil
		}
	}
	expired, err := agent.issuer.WorkloadToken(entratest.Workload{Lifetime: -time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	other, err := agent.issuer.WorkloadToken(entratest.Workload{Audience: "other"})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		answer  func(context.Context, string) (*workloadpb.JWTSVIDResponse, error)
		problem workload.Problem
		says    string
	}{
		"not registered":  {failing(codes.PermissionDenied), workload.Unavailable, "no identity for the broker"},
		"not accepted":    {failing(codes.InvalidArgument), workload.Malformed, "does not accept"},
		"another service": {failing(codes.Unimplemented), workload.Malformed, "not a SPIFFE Workload API"},
		"not ready":       {failing(codes.Unavailable), workload.Unavailable, "no SPIFFE agent answers"},
		"waiting":         {failing(codes.DeadlineExceeded), workload.Unavailable, "did not answer"},
		"something else":  {failing(codes.Internal), workload.Unavailable, "the code Internal"},
		"none": {func(context.Context, string) (*workloadpb.JWTSVIDResponse, error) {
			return &workloadpb.JWTSVIDResponse{}, nil
		}, workload.Malformed, "not a valid JWT-SVID"},
		"no token":          {giving(said), workload.Malformed, "not a valid JWT-SVID"},
		"expired":           {giving(expired), workload.Malformed, "clocks"},
		"for others":        {giving(other), workload.Malformed, "for this audience"},
		"more than a token": {giving(strings.Repeat(said, 100_000)), workload.Malformed, "more than any token answer"},
	} {
		t.Run(name, func(t *testing.T) {
			agent.answers(test.answer)
			_, err := source.Assertion(t.Context())
			wantError(t, err, test.problem, test.says)
		})
	}
}

func TestTheCallersTimeCounts(t *testing.T) {
	agent := newAgent(t, "RS256")
	source := agent.source(t)
	agent.answers(func(ctx context.Context, _ string) (*workloadpb.JWTSVIDResponse, error) {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := source.Assertion(ctx)
	wantError(t, err, workload.Unavailable, "given up")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error among its causes", err)
	}
	<-ctx.Done()
	before, _ := agent.counts()
	_, err = source.Assertion(ctx)
	wantError(t, err, workload.Unavailable, "given up")
	if after, _ := agent.counts(); after != before {
		t.Errorf("got %d requests for nobody, want none", after-before)
	}
}
