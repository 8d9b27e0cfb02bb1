package entratest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Behavior makes the token endpoint hostile. It never touches discovery
// documents or keys. The zero value is well-behaved. Fields combine; when
// several decide the answer, the order is Hang, Delay, Redirect, Status or
// Body, then a served answer that the rest deforms.
type Behavior struct {
	// Hang never answers: the request ends when the client gives up.
	Hang bool
	// Delay waits before anything else happens, or until the client gives up.
	Delay time.Duration
	// Redirect answers 307 with this Location. A client that follows it posts
	// its assertion to whoever is there.
	Redirect string
	// Status answers with this HTTP status and serves nothing. 0 is off.
	Status int
	// RetryAfter is the Retry-After header sent with Status: seconds or an HTTP date.
	RetryAfter string
	// Body is sent with Status, or with 200 when Status is 0: an HTML page,
	// half a JSON document. Text that begins with { is sent as JSON.
	Body string

	// Code refuses requests that would have succeeded with this AADSTS error,
	// in its usual shape: 53003 with claims, 50196, 90055… A number this
	// package does not know is answered 400 invalid_request.
	Code int
	// RequireMFA refuses user flows with 50076, interaction_required and a
	// claims challenge, unless the user's token says amr "mfa"
	// (UserTokenRequest.MFA). Agent users, who could not, are not asked.
	RequireMFA bool
	// PropagationDelay acts as if the federated credentials had just been
	// made: for this long after SetBehavior, valid assertions are refused with
	// 70021, except for every third, because replicas catch up one by one.
	PropagationDelay time.Duration
	// LoopLimit answers the requests after this many identical ones within five
	// minutes as a client loop: 429 for app-only requests, 50196 for user flows.
	LoopLimit int
	// ClockSkew puts the server's clock ahead (or behind, when negative).
	ClockSkew time.Duration

	// Lifetime overrides the lifetime of the tokens.
	Lifetime time.Duration
	// RefreshIn adds refresh_in to the answers.
	RefreshIn time.Duration
	// ExpiresInAsString sends the numbers of the answer as JSON strings.
	ExpiresInAsString bool
	// AllConsentedScopes puts every consented scope of the resource into a
	// user's token although the request named fewer.
	AllConsentedScopes bool
	// DelegatedInstead answers app-only requests with a user's token (scp,
	// idtyp=user, no roles). The client must notice.
	DelegatedInstead bool
	// WrongGrant is DelegatedInstead, and the same the other way round: user
	// flows are answered with an app-only token.
	WrongGrant bool
	// Truncate cuts the JSON answer in half, and the Content-Length with it.
	Truncate bool
	// Huge pads the answer to more than eight megabytes.
	Huge bool
}

const (
	loopWindow   = 5 * time.Minute
	maxLoopKeys  = 10_000
	hugePadding  = 8 << 20
	retryOnLoops = "60"
)

// hostility is a Behavior in force and what it has seen so far.
type hostility struct {
	Behavior
	since     time.Time
	federated atomic.Int64
	loops     loops
}

// SetBehavior replaces the hostility of the token endpoint for the requests
// that arrive from now on.
func (s *Server) SetBehavior(b Behavior) {
	s.hostility.Store(&hostility{Behavior: b, since: s.cfg.Now()})
}

// intercept answers in place of the token endpoint, or says that it does not.
func (h *hostility) intercept(ctx context.Context) (reply, bool) {
	if h.Hang {
		<-ctx.Done()
		return reply{status: http.StatusServiceUnavailable}, true
	}
	if h.Delay > 0 {
		timer := time.NewTimer(h.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return reply{status: http.StatusServiceUnavailable}, true
		}
	}
	rep := reply{status: h.Status, header: http.Header{}, body: []byte(h.Body)}
	switch {
	case h.Redirect != "":
		rep.status = http.StatusTemporaryRedirect
		rep.header.Set("Location", h.Redirect)
		return rep, true
	case h.Status == 0 && h.Body == "":
		return reply{}, false
	case h.Status == 0:
		rep.status = http.StatusOK
	}
	if h.RetryAfter != "" {
		rep.header.Set("Retry-After", h.RetryAfter)
	}
	rep.header.Set("Content-Type", "text/html; charset=utf-8")
	if strings.HasPrefix(h.Body, "{") {
		rep.header.Set("Content-Type", "application/json; charset=utf-8")
	}
	return h.deform(rep), true
}

// deform damages a finished answer.
func (h *hostility) deform(rep reply) reply {
	if h.Huge {
		padding := bytes.Repeat([]byte(" "), hugePadding)
		rep.body = append(padding, rep.body...)
	}
	if h.Truncate {
		rep.body = rep.body[:len(rep.body)/2]
	}
	return rep
}

// propagating says whether this valid assertion meets a replica that does not
// know its federated credential yet.
func (h *hostility) propagating(now time.Time) bool {
	if h.PropagationDelay <= 0 || now.Sub(h.since) >= h.PropagationDelay {
		return false
	}
	return h.federated.Add(1)%3 != 0
}

// loops counts identical requests. The counts of a window are dropped together,
// which is coarse, and bounded.
type loops struct {
	mu     sync.Mutex // guards the fields below
	start  time.Time
	counts map[[sha256.Size]byte]int
}

// seen counts one more request with these parts and returns how many there were.
func (l *loops) seen(now time.Time, parts ...string) int {
	key := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts == nil || now.Sub(l.start) >= loopWindow || len(l.counts) >= maxLoopKeys {
		l.start, l.counts = now, map[[sha256.Size]byte]int{}
	}
	l.counts[key]++
	return l.counts[key]
}
