package exchange

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/exchange/workload"
)

// Reason says in one word why an exchange failed. The set is closed, so that
// it can be a metric label.
type Reason string

// The reasons of a failed exchange.
const (
	AssertionUnavailable Reason = "assertion_unavailable" // no workload token now; it may come
	AssertionUnusable    Reason = "assertion_unusable"    // a workload token that Entra would refuse
	EntraRejected        Reason = "entra_rejected"        // Entra said no
	EntraThrottled       Reason = "entra_throttled"       // Entra said later
	EntraUnavailable     Reason = "entra_unavailable"     // no answer, or an outage
	Timeout              Reason = "timeout"               // no answer in time
	ReplyMalformed       Reason = "reply_malformed"       // an answer that is no token answer
	TokenMismatch        Reason = "token_mismatch"        // a token of another kind than asked for
	BadRequest           Reason = "bad_request"           // never sent: it could not be meant
	Internal             Reason = "internal"              // ours
)

// Error says why an exchange failed and what to change. It never holds a body,
// a token or an assertion; the public claims of the workload token may appear
// in Hint.
type Error struct {
	Reason        Reason
	Code          string        // OAuth error code of Entra's answer; "" without one
	Suberror      string        // Entra's suberror; "" without one
	Codes         []int         // AADSTS numbers; diagnostics, not for decisions
	Status        int           // HTTP status of Entra's answer; 0 without one
	Message       string        // what happened, in our words
	Hint          string        // what to change
	Claims        string        // claims challenge (JSON) that the user has to satisfy; "" without one
	RetryAfter    time.Duration // how long Entra or the platform asks to wait, or nothing is sent for this tenant and client; 0 when nobody said
	CorrelationID string        // client-request-id sent
	RequestID     string        // x-ms-request-id received
	HeldBack      bool          // nothing was sent: this is what was answered before
	Err           error         // cause, of the network or the file system; for logs

	machine bool // the machine's own endpoint was asked, and not Entra
}

// Asked reports whether a request was sent, whatever became of it.
func (e *Error) Asked() bool {
	switch e.Reason {
	case AssertionUnavailable, AssertionUnusable, BadRequest:
		return e.machine && !e.HeldBack
	case EntraRejected, EntraThrottled, EntraUnavailable, Timeout, ReplyMalformed, TokenMismatch, Internal:
	}
	return !e.HeldBack
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether the same request can succeed later without
// anybody editing anything.
func (e *Error) Temporary() bool {
	switch e.Reason {
	case AssertionUnavailable, EntraThrottled, EntraUnavailable, Timeout, ReplyMalformed:
		return true
	case AssertionUnusable, EntraRejected, TokenMismatch, BadRequest, Internal:
		return false
	}
	return false
}

func malformed(what string) *Error {
	return &Error{Reason: ReplyMalformed, Message: "Entra's reply is malformed: " + what,
		Hint: "something between the broker and the authority may be answering in its place: check cloud, authority and the proxy settings"}
}

// unreachable explains a request that got no answer.
func unreachable(ctx context.Context, err error) *Error {
	var netErr net.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return &Error{Reason: Timeout, Message: "the exchange was given up", Err: err}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return &Error{Reason: Timeout, Message: "Entra did not answer in time", Err: err,
			Hint: "check the network path to the authority; the broker asks again by itself, within seconds"}
	case errors.As(err, &certificate):
		return &Error{Reason: EntraUnavailable, Message: "the authority's certificate is not trusted: " + certificate.Err.Error(), Err: err,
			Hint: "for a custom cloud set caFile; else check what intercepts TLS between the broker and the authority"}
	}
	return &Error{Reason: EntraUnavailable, Message: "Entra cannot be reached: " + err.Error(), Err: err,
		Hint: "check DNS, egress rules and proxy settings from the broker to the authority"}
}

// fromWorkload turns a source's error into an exchange error.
func fromWorkload(err error) *Error {
	var w *workload.Error
	if !errors.As(err, &w) {
		return &Error{Reason: AssertionUnavailable, Message: "there is no workload token", Err: err}
	}
	e := &Error{Reason: AssertionUnusable, Message: w.Message, Hint: w.Hint, RetryAfter: w.RetryAfter, Err: w.Err}
	if w.Problem.Temporary() {
		e.Reason = AssertionUnavailable
	}
	return e
}

// endWithError marks a span with the closed reason. RecordError is not used:
// it would export the text of an error whole.
func endWithError(span trace.Span, e *Error) {
	span.SetAttributes(attribute.String("error.type", string(e.Reason)))
	span.SetStatus(codes.Error, string(e.Reason))
}
