package entratest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// PlatformBehavior makes a PlatformEndpoint hostile. The zero value is
// well-behaved. When several fields decide, the order is Hang, Delay, Status or
// Body, then a served answer that Truncate damages.
type PlatformBehavior struct {
	// Hang never answers: the request ends when the client gives up.
	Hang bool
	// Delay waits before anything else happens, or until the client gives up.
	Delay time.Duration
	// Status answers with this HTTP status and hands out nothing. IMDS is known
	// for 404, 410, 429 and 500 while it starts. 0 is off.
	Status int
	// RetryAfter is the Retry-After header sent with Status.
	RetryAfter string
	// Body is sent with Status, or with 200 when Status is 0. Text that begins
	// with { is sent as JSON.
	Body string
	// Truncate cuts answers in half, and the Content-Length with them.
	Truncate bool
}

// PlatformRequest is the record of one request to a PlatformEndpoint. It never
// holds a token or the secret of the endpoint.
type PlatformRequest struct {
	Time   time.Time
	Method string
	Path   string
	// Audience is the audience or resource that was asked for.
	Audience string
	// Identity is what selected one of several identities: a client id, a
	// service account, a role.
	Identity string
	Status   int
	// Error is the endpoint's error code. Empty when a PlatformBehavior answered.
	Error string
}

// PlatformEndpoint hands out workload tokens the way one platform does. It is
// an http.Handler, safe for concurrent use, and starts nothing in the
// background. Tests serve it with httptest or ListenLoopback, or call it in
// process with RoundTripper.
type PlatformEndpoint struct {
	secret      string
	serve       func(r *http.Request, rec *PlatformRequest) reply
	environment func(e *PlatformEndpoint, baseURL string) map[string]string
	now         func() time.Time

	behavior atomic.Pointer[PlatformBehavior]
	mu       sync.Mutex // guards requests
	requests []PlatformRequest
}

// newPlatformEndpoint makes an endpoint. An empty secret becomes a random one.
func newPlatformEndpoint(secret string, now func() time.Time) *PlatformEndpoint {
	if secret == "" {
		secret = randomText(24)
	}
	e := &PlatformEndpoint{secret: secret, now: now}
	e.behavior.Store(&PlatformBehavior{})
	return e
}

// SetBehavior replaces the hostility for the requests that arrive from now on.
func (e *PlatformEndpoint) SetBehavior(b PlatformBehavior) { e.behavior.Store(&b) }

// Secret is what callers must present where the platform asks for something:
// IDENTITY_HEADER, ACTIONS_ID_TOKEN_REQUEST_TOKEN, a Kubernetes or Vault token.
func (e *PlatformEndpoint) Secret() string { return e.secret }

// Environment returns the variables the platform sets for its workloads, when
// the endpoint is served at baseURL, such as "http://127.0.0.1:41741". It is
// empty for platforms that are found at a well-known address.
func (e *PlatformEndpoint) Environment(baseURL string) map[string]string {
	if e.environment == nil {
		return map[string]string{}
	}
	return e.environment(e, strings.TrimSuffix(baseURL, "/"))
}

// Requests returns what was asked, newest last. Only the last 10,000 are kept.
func (e *PlatformEndpoint) Requests() []PlatformRequest {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]PlatformRequest(nil), e.requests...)
}

// RoundTripper calls the endpoint in process as if it were served at origin,
// such as "http://169.254.169.254".
func (e *PlatformEndpoint) RoundTripper(origin string) http.RoundTripper {
	return inProcess{origin: strings.ToLower(strings.TrimSuffix(origin, "/")), handler: e}
}

// ServeHTTP answers as the platform does, or as PlatformBehavior says.
func (e *PlatformEndpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := PlatformRequest{Time: e.now(), Method: r.Method, Path: r.URL.Path}
	behavior := e.behavior.Load()
	if behavior.Hang || behavior.Delay > 0 {
		// net/http notices that a client is gone only once the body was read. What
		// is cut off here is too long for every platform.
		body, _ := io.ReadAll(io.LimitReader(r.Body, maxForm+1))
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	rep, done := behavior.intercept(r.Context())
	if !done {
		rep = e.serve(r, &rec)
	}
	if behavior.Truncate {
		rep.body = rep.body[:len(rep.body)/2]
	}
	rec.Status = rep.status
	e.record(rec)

	maps.Copy(w.Header(), rep.header)
	w.Header().Set("Content-Length", strconv.Itoa(len(rep.body)))
	w.WriteHeader(rep.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(rep.body) // the client may be gone, which is its right
	}
}

// intercept answers in place of the platform, or says that it does not.
func (b *PlatformBehavior) intercept(ctx context.Context) (reply, bool) {
	if b.Hang {
		<-ctx.Done()
		return reply{status: http.StatusServiceUnavailable}, true
	}
	if b.Delay > 0 {
		timer := time.NewTimer(b.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return reply{status: http.StatusServiceUnavailable}, true
		}
	}
	if b.Status == 0 && b.Body == "" {
		return reply{}, false
	}
	rep := reply{status: b.Status, header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}, body: []byte(b.Body)}
	if b.Status == 0 {
		rep.status = http.StatusOK
	}
	if strings.HasPrefix(b.Body, "{") {
		rep.header.Set("Content-Type", "application/json; charset=utf-8")
	}
	if b.RetryAfter != "" {
		rep.header.Set("Retry-After", b.RetryAfter)
	}
	return rep, true
}

// record keeps what is not secret. Clients that mix up their parameters may send
// the secret as a resource or in a path.
func (e *PlatformEndpoint) record(rec PlatformRequest) {
	for _, field := range []*string{&rec.Method, &rec.Path, &rec.Audience, &rec.Identity} {
		if strings.Contains(*field, e.secret) {
			*field = "[redacted]"
		}
		*field = recordable(*field)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.requests) >= maxRequests {
		e.requests = e.requests[1:]
	}
	e.requests = append(e.requests, rec)
}

// knows compares a presented secret without telling how much of it was right.
func (e *PlatformEndpoint) knows(presented string) bool {
	got, want := sha256.Sum256([]byte(presented)), sha256.Sum256([]byte(e.secret))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// bearer says whether the request carries the secret as a bearer token. The
// scheme is not case-sensitive, and GitHub's own client writes it in lower case.
func (e *PlatformEndpoint) bearer(r *http.Request) bool {
	scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer") && e.knows(strings.TrimSpace(credentials))
}

// jsonReply is an answer with a JSON document.
func jsonReply(status int, doc any) reply {
	body, err := json.Marshal(doc)
	if err != nil {
		return reply{status: http.StatusInternalServerError}
	}
	return reply{status: status, header: http.Header{
		"Content-Type":  {"application/json; charset=utf-8"},
		"Cache-Control": {"no-store"},
	}, body: body}
}

func textReply(status int, text string) reply {
	return reply{status: status, header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, body: []byte(text)}
}

func notAllowed(method string) reply {
	return reply{status: http.StatusMethodNotAllowed, header: http.Header{"Allow": {method}}}
}

// correlationID is the client's own id for the request, or a new one.
func correlationID(r *http.Request) string {
	if id := canonicalGUID(r.Header.Get("X-Ms-Client-Request-Id")); id != "" {
		return id
	}
	return uuid.NewString()
}
