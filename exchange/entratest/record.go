package entratest

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	maxRequests    = 10_000
	maxRecordedLen = 512
)

// Request is the record of one request. It never holds a token, an assertion
// or a secret: values that look like one are replaced.
type Request struct {
	// Time is when the request arrived, on the server's clock.
	Time   time.Time
	Method string
	Path   string
	// Tenant is the GUID when the tenant is known, else what was sent.
	Tenant   string
	Grant    string
	ClientID string
	Scope    string
	// CorrelationID is the client-request-id that was sent, or the one the
	// server chose.
	CorrelationID string
	// TraceID is the x-ms-request-id of the answer.
	TraceID string
	Status  int
	// Error is the OAuth error, Codes the AADSTS numbers. Both are empty when a
	// Behavior answered instead of the token endpoint.
	Error string
	Codes []int
}

func (s *Server) newRequest(r *http.Request) *Request {
	// Some libraries send it in the URL.
	correlation := canonicalGUID(cmp.Or(r.Header.Get("Client-Request-Id"), r.URL.Query().Get("client-request-id")))
	if correlation == "" {
		correlation = uuid.NewString()
	}
	return &Request{
		Time:          s.now(),
		Method:        recordable(r.Method),
		Path:          recordable(r.URL.Path),
		CorrelationID: correlation,
		TraceID:       uuid.NewString(),
	}
}

// recordable is what may be kept of something a client sent. A client that
// mixes up its parameters may send a token as a scope or a path.
func recordable(s string) string {
	if looksSecret(s) {
		return "[redacted]"
	}
	if len(s) > maxRecordedLen {
		return strings.ToValidUTF8(s[:maxRecordedLen], "") + "…"
	}
	return s
}

// looksSecret finds compact JWTs: every JSON object starts with {" and so every
// header with eyJ. Refresh tokens have a beginning of their own.
func looksSecret(s string) bool {
	return strings.Contains(s, "eyJ") || strings.Contains(s, refreshTokenPrefix)
}

// recorder is a ring of the newest requests.
type recorder struct {
	mu   sync.Mutex // guards the fields below
	ring []Request
	next int // where the next one goes once the ring is full
}

func (c *recorder) add(r Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ring) < maxRequests {
		c.ring = append(c.ring, r)
		return
	}
	c.ring[c.next] = r
	c.next = (c.next + 1) % maxRequests
}

func (c *recorder) all() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Concat(c.ring[c.next:], c.ring[:c.next])
}
