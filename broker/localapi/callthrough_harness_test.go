package localapi_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/credfree/credfree/broker/localapi"
)

// api is a downstream API on real TLS sockets: tools.example.com, with HTTP/2.
type api struct {
	*httptest.Server
	calls atomic.Int64

	mu   sync.Mutex // guards last
	last *http.Request
}

// request is the last request that came in.
func (a *api) request() *http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// openCalls is a broker beside an API. handler makes the API once the broker is
// there.
func openCalls(t testing.TB, agents func(dir string) string, handler func(d *door) http.Handler, options ...func(*localapi.Config)) (*door, *api) {
	t.Helper()
	a := &api{}
	var serve atomic.Pointer[http.Handler]
	a.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.calls.Add(1)
		a.mu.Lock()
		a.last = r.Clone(context.WithoutCancel(r.Context()))
		a.mu.Unlock()
		(*serve.Load()).ServeHTTP(w, r)
	}))
	a.EnableHTTP2 = true
	a.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshakes that end because of its certificate
	a.StartTLS()
	t.Cleanup(a.Close)
	d := open(t, agents, append([]func(*localapi.Config){func(cfg *localapi.Config) {
		cfg.CallThrough.Transport = a.transport(a.Certificate())
	}}, options...)...)
	h := handler(d)
	serve.Store(&h)
	return d, a
}

// transport is the one that brokers have, with a world of one machine.
func (a *api) transport(roots ...*x509.Certificate) *http.Transport {
	pool := x509.NewCertPool()
	for _, root := range roots {
		pool.AddCert(root)
	}
	transport := localapi.APITransport(pool, nil)
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, a.Listener.Addr().String())
	}
	return transport
}

// caller is thisUser with the right to call.
func caller(dir string) string {
	return strings.Replace(thisUser(dir), "allow: {", "allow: {apis: [tools, ruled, linked], ", 1)
}

// keyCaller is keyHolder with the right to call.
func keyCaller(dir string) string {
	return strings.Replace(keyHolder(dir), "allow: {", "allow: {apis: [tools], ", 1)
}

// sealed is caller for users too, whose tokens never leave the broker.
func sealed(dir string) string {
	return strings.Replace(forUsers("    rawToken: false\n")(dir), "scopes: ["+userRead, "apis: [users], scopes: ["+userRead, 1)
}

// answering is an API that answers everything in one way.
func answering(status int, body string, headers ...string) func(*door) http.Handler {
	return func(*door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(headers); i += 2 {
				w.Header().Add(headers[i], headers[i+1])
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body) // the agent may be gone
		})
	}
}

// emulated is the API of the emulator, which validates tokens.
func emulated(d *door) http.Handler { return d.entra.API() }

// refusal is what the door says when it refuses.
type refusal struct {
	Error struct {
		Code, Message, Reason, Rule, Hint, Claims string
		RefusedBy                                 string `json:"refused_by"`
		CorrelationID                             string `json:"correlation_id"`
		IssuanceID                                string `json:"issuance_id"`
	}
}

func refusalOf(t testing.TB, got answer) refusal {
	t.Helper()
	var r refusal
	if err := json.Unmarshal([]byte(got.body), &r); err != nil || r.Error.Code == "" || r.Error.Message == "" {
		t.Errorf("got %d %q, want an error in JSON (%v)", got.StatusCode, got.body, err)
	}
	return r
}

// request is a request to the door, built by hand to the last header.
func (d *door) request(t testing.TB, method, path string, body io.Reader, headers ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.url+"/call/"+path, body)
	check(t, err)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	return req
}

// do sends a request, follows nothing and unpacks nothing.
func do(t testing.TB, req *http.Request) *http.Response {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	resp, err := transport.RoundTrip(req)
	check(t, err)
	t.Cleanup(func() { check(t, resp.Body.Close()) })
	return resp
}

// call sends a request and reads the whole answer.
func (d *door) call(t testing.TB, method, path, body string, headers ...string) answer {
	t.Helper()
	resp := do(t, d.request(t, method, path, strings.NewReader(body), headers...))
	text, err := io.ReadAll(resp.Body)
	check(t, err)
	return answer{Response: resp, body: string(text)}
}
