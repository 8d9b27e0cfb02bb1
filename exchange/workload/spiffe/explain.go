package spiffe

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/credfree/credfree/exchange/workload"
)

// hints says what to change, by the code that the agent or gRPC answered with.
// What the agent wrote beside it is not shown.
var hints = map[codes.Code]struct {
	problem workload.Problem
	message string
	hint    string
}{
	codes.Unavailable: {workload.Unavailable, "no SPIFFE agent answers at the socket",
		"check that the agent runs, that its socket is mounted into the broker's container, and that the broker's user may write to it"},
	// An entry takes seconds to reach the agent.
	codes.PermissionDenied: {workload.Unavailable, "the SPIFFE agent has no identity for the broker",
		"register one whose selectors fit the broker's process (spire-server entry create), and check the SPIFFE ID asked for"},
	codes.InvalidArgument: {workload.Malformed, "the SPIFFE agent does not accept the request",
		"check the SPIFFE ID: it must be of a registered identity"},
	codes.Unimplemented: {workload.Malformed, "what listens at the socket is not a SPIFFE Workload API",
		"name the socket of the Workload API, not the one for administration"},
	codes.ResourceExhausted: {workload.Malformed, "the SPIFFE agent gave more than any token answer is long",
		"check what listens at the socket"},
	codes.DeadlineExceeded: {workload.Unavailable, "the SPIFFE agent did not answer within " + requestLimit.String(),
		"it may be waiting for its server; ask again"},
}

// explain says why there is no token. ctx is the caller's.
func explain(ctx context.Context, err error) error {
	if err := over(ctx); err != nil {
		return givenUp(err)
	}
	answered, ok := status.FromError(err)
	if !ok { // the answer was whole, and go-spiffe could not use what was in it
		return &workload.Error{Problem: workload.Malformed, Message: "the SPIFFE agent gave something that is not a valid JWT-SVID for this audience",
			Hint: "it may have expired: check the clocks of this machine and the SPIFFE server, and the life of its tokens"}
	}
	said, ok := hints[answered.Code()]
	if !ok {
		said.problem, said.message = workload.Unavailable, "the SPIFFE agent answered with the code "+answered.Code().String()
		said.hint = "read the agent's log"
	}
	return &workload.Error{Problem: said.problem, Message: said.message, Hint: said.hint}
}

// over is why the caller is gone, or nil. The agent may say that the deadline has
// passed before the context's own timer does.
func over(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

func givenUp(err error) *workload.Error {
	return &workload.Error{Problem: workload.Unavailable, Message: "getting the workload token was given up", Hint: "the caller went away first; ask again", Err: err}
}
