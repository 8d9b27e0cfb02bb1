package spiffe

import (
	"cmp"
	"context"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/credfree/credfree/exchange/workload"
)

const (
	// requestLimit bounds one request. The agent is on this machine.
	requestLimit = 10 * time.Second
	// dialPause stands between two connections in vain.
	dialPause = 200 * time.Millisecond
	// maxAnswerBytes is many times a JWT-SVID.
	maxAnswerBytes = 1 << 20
)

// Source asks the agent for a JWT-SVID (FetchJWTSVID) at each exchange; that it
// is fresh is the agent's concern. The first call makes a connection, which the
// later ones share until Close ends it, and the source with it. It implements workload.Source, is safe for
// concurrent use, and must not be copied.
type Source struct {
	// Socket is where the agent listens: unix:///path, the path alone, or
	// tcp://<loopback address>:<port>. Empty: SPIFFE_ENDPOINT_SOCKET.
	Socket   string
	Audience string // required: that of the cloud's federated credentials
	// SPIFFEID selects one of the identities that the agent has for the broker.
	// Empty: the agent's first.
	SPIFFEID string
	// Getenv reads a variable. Nil: os.Getenv.
	Getenv func(string) string

	mu     sync.Mutex // guards the rest, and is never held across I/O
	client *workloadapi.Client
	closed bool
}

// Assertion implements workload.Source.
func (s *Source) Assertion(ctx context.Context) (workload.Assertion, error) {
	if err := ctx.Err(); err != nil {
		return workload.Assertion{}, givenUp(err)
	}
	if s.Audience == "" {
		return workload.Assertion{}, &workload.Error{Problem: workload.Malformed, Message: "SPIFFE needs to know the audience of the token", Hint: "give the one that the cloud's federated credentials expect"}
	}
	params := jwtsvid.Params{Audience: s.Audience}
	if s.SPIFFEID != "" {
		id, err := spiffeid.FromString(s.SPIFFEID)
		if err != nil {
			return workload.Assertion{}, &workload.Error{Problem: workload.Malformed, Message: quote(s.SPIFFEID) + " is not a SPIFFE ID", Hint: "write spiffe://<trust domain>/<path>", Err: err}
		}
		params.Subject = id
	}
	client, failure := s.connection()
	if failure != nil {
		return workload.Assertion{}, failure
	}
	limited, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	svid, err := client.FetchJWTSVID(limited, params)
	if err != nil && s.over() {
		return workload.Assertion{}, isClosed()
	}
	if err != nil {
		return workload.Assertion{}, explain(ctx, err)
	}
	assertion, err := workload.Parse(svid.Marshal())
	if err == nil && s.SPIFFEID != "" && assertion.Subject != s.SPIFFEID {
		return workload.Assertion{}, &workload.Error{Problem: workload.Malformed, Message: "the SPIFFE agent gave a token of " + quote(assertion.Subject) + ", not of " + quote(s.SPIFFEID), Hint: "check what listens at the socket"}
	}
	return assertion, err
}

// Close ends the connection. An Assertion that is under way, or comes later, fails.
func (s *Source) Close() error {
	s.mu.Lock()
	client := s.client
	s.client, s.closed = nil, true
	s.mu.Unlock()
	if client == nil {
		return nil
	}
	return client.Close()
}

func (s *Source) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func isClosed() *workload.Error {
	return &workload.Error{Problem: workload.Unavailable, Message: "the SPIFFE source was closed: the policy has another now, or the broker ends", Hint: "ask again"}
}

// connection returns the shared client. To make one does no I/O: gRPC dials with
// the first request, and again when the agent has gone and come back.
func (s *Source) connection() (*workloadapi.Client, *workload.Error) {
	address, failure := s.address()
	if failure != nil {
		return nil, failure
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, isClosed()
	}
	if s.client != nil {
		return s.client, nil
	}
	client, err := workloadapi.New(context.Background(), workloadapi.WithAddr(address), workloadapi.WithDialOptions(
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
		// The usual pause grows to two minutes, in which an agent that is back
		// would not be asked.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: dialPause, Multiplier: 1, MaxDelay: dialPause},
			MinConnectTimeout: requestLimit,
		})))
	if err != nil {
		return nil, badSocket(address)
	}
	s.client = client
	return client, nil
}

// address is where the agent is, as a URL.
func (s *Source) address() (string, *workload.Error) {
	getenv := s.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	address := cmp.Or(s.Socket, getenv(workloadapi.SocketEnv))
	if address == "" {
		return "", &workload.Error{Problem: workload.Unavailable, Message: `the variable "` + workloadapi.SocketEnv + `" is not set or empty`,
			Hint: "set it to the agent's socket, such as unix:///run/spire/agent-sockets/spire-agent.sock, or name the socket in the policy"}
	}
	if strings.HasPrefix(address, "/") {
		address = "unix://" + address
	}
	u, err := url.Parse(address)
	if err != nil || workloadapi.ValidateAddress(address) != nil {
		return "", badSocket(address)
	}
	if u.Scheme == "tcp" {
		if host, err := netip.ParseAddr(u.Hostname()); err != nil || !host.Unmap().IsLoopback() {
			return "", &workload.Error{Problem: workload.Malformed, Message: "the SPIFFE agent is at " + quote(address) + ", where others on the network could read the token", Hint: "use the agent of this machine, at a unix socket"}
		}
	}
	return address, nil
}

func badSocket(address string) *workload.Error {
	return &workload.Error{Problem: workload.Malformed, Message: "the SPIFFE agent's socket " + quote(address) + " is not an address", Hint: "write unix:///<path>"}
}

func quote(s string) string { return strconv.QuoteToASCII(s[:min(len(s), 200)]) }
