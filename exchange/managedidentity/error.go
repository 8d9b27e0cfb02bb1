package managedidentity

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"time"
)

// Problem says in one word why there is no token. The set is closed.
type Problem string

// The problems of a managed identity.
const (
	NoEndpoint  Problem = "no_endpoint" // nothing answers at the Instance Metadata Service's address
	NoIdentity  Problem = "no_identity" // the identity is not assigned here
	Throttled   Problem = "throttled"   // asked too often
	Unavailable Problem = "unavailable" // starting, being updated, or broken
	Timeout     Problem = "timeout"     // no answer in time
	Refused     Problem = "refused"     // it says no
	Malformed   Problem = "malformed"   // an answer, or an environment, that cannot be used
	Unsupported Problem = "unsupported" // this kind of endpoint does not know that kind of name
)

// Temporary reports whether waiting can help without anybody editing anything.
func (p Problem) Temporary() bool {
	return p == Throttled || p == Unavailable || p == Timeout
}

// Error says why there is no token and what to change. It holds nothing of an
// answer but its status.
type Error struct {
	Problem    Problem
	Status     int // HTTP status of the answer; 0 without one, or when it was 200
	Message    string
	Hint       string
	RetryAfter time.Duration // how long the endpoint asks to wait, an hour at most; 0 when it does not say
	Err        error         // cause, of the network; for logs
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func malformed(message string) *Error {
	return &Error{Problem: Malformed, Message: message, Hint: "something else may be answering in the endpoint's place: check the variables that name it, and what intercepts the request"}
}

func givenUp(err error) *Error {
	return &Error{Problem: Timeout, Message: "asking for a managed identity's token was given up", Hint: "the caller went away first; ask again", Err: err}
}

// over is why the caller is gone, or nil. The network may notice that the deadline
// has passed before the context's own timer does.
func over(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// unreachable says why there was no whole answer. Of net/http's own errors nothing
// is repeated: they quote the URL, and of a malformed answer a part. ctx is
// the caller's.
func (c *call) unreachable(ctx context.Context, err error) *Error {
	who := c.platform.who
	var (
		certificate *tls.CertificateVerificationError
		operation   *net.OpError
		system      *os.SyscallError
		cause       error
	)
	if errors.As(err, &system) {
		cause = system.Err
	}
	dialing := errors.As(err, &operation) && operation.Op == "dial"
	timedOut := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case over(ctx) != nil:
		return givenUp(over(ctx))
	case dialing && c.platform.starting:
		return &Error{Problem: NoEndpoint, Message: "this machine has no managed identity endpoint: nothing answers at 169.254.169.254", Hint: c.platform.address, Err: cause}
	case dialing:
		return &Error{Problem: Unavailable, Message: who + " cannot be reached", Hint: c.platform.address, Err: cause}
	case timedOut:
		return &Error{Problem: Timeout, Message: who + " did not answer within " + requestLimit.String(), Hint: "it may be starting or busy; ask again", Err: context.DeadlineExceeded}
	case errors.As(err, &certificate):
		return &Error{Problem: Unavailable, Message: who + " has a certificate that is not trusted", Hint: c.platform.address, Err: certificate.Err}
	}
	return &Error{Problem: Unavailable, Message: who + " did not give a whole HTTP answer", Hint: c.platform.address, Err: cause}
}
