package managedidentity

import (
	"context"

	"github.com/credfree/credfree/exchange/workload"
)

// Source is a managed identity as a source of workload tokens: an application
// with a federated identity credential for it needs no other proof. It implements
// workload.Source, and asks the endpoint at each exchange. Entra takes the token
// of a user-assigned identity of the application's own tenant; another managed
// identity cannot be proved with it. See
// https://learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity.
type Source struct {
	Client   *Client // required
	ID       ID      // zero: the system-assigned identity, or the only one
	Audience string  // required: that of the cloud's federated credentials
}

// Assertion implements workload.Source. The cause of its errors is an *Error.
func (s Source) Assertion(ctx context.Context) (workload.Assertion, error) {
	if s.Client == nil || s.Audience == "" {
		return workload.Assertion{}, &workload.Error{Problem: workload.Malformed, Message: "the managed identity needs to know the audience of the token", Hint: "give the one that the cloud's federated credentials expect"}
	}
	got, failure := s.Client.ask(ctx, s.ID, s.Audience)
	if failure == nil {
		return workload.Parse(got.token)
	}
	problem := workload.Denied
	switch failure.Problem {
	case Throttled, Unavailable, Timeout:
		problem = workload.Unavailable
	case Malformed, Unsupported:
		problem = workload.Malformed
	case NoEndpoint, NoIdentity, Refused:
	}
	return workload.Assertion{}, &workload.Error{Problem: problem, Message: failure.Message, Hint: failure.Hint, RetryAfter: failure.RetryAfter, Err: failure}
}
