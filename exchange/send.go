package exchange

import (
	"context"
	"slices"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	"go.opentelemetry.io/otel/trace"
)

// send makes one attempt of an ask.
func (c *Client) send(ctx context.Context, a *ask, p proof, try attempt) (Token, *Error) {
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	ctx, span := c.cfg.Tracer.Start(ctx, a.spanName(), trace.WithSpanKind(trace.SpanKindInternal))
	defer span.End()
	call := newCall(ctx, c, a)
	if try.correlationID != "" {
		call.correlationID = try.correlationID
	}
	began := time.Now()
	token, failure := call.run(ctx, p)
	c.metrics.sent(ctx, a, time.Since(began), failure)
	span.SetAttributes(call.attributes(try)...)
	if failure != nil {
		endWithError(span, failure)
		return Token{}, failure
	}
	return token, nil
}

func (a *ask) spanName() string {
	if a.grant == grantManagedIdentity {
		return "managedidentity.token"
	}
	return "entra.token"
}

// run gets the answer and makes it a token. An answer that MSAL would not have,
// such as a token with less than five minutes to live, is judged by us alone.
func (c *call) run(ctx context.Context, p proof) (Token, *Error) {
	if c.ask.grant == grantManagedIdentity {
		return c.managedIdentity(ctx)
	}
	var err error
	if c.ask.grant == grantRefreshToken {
		err = c.refresh(ctx, p)
	} else {
		err = c.msal(ctx, p)
	}
	if c.answer == nil || c.failure != nil {
		return Token{}, c.explain(ctx, err, p)
	}
	token, failure := c.token()
	if failure != nil {
		return Token{}, c.explain(ctx, failure, p)
	}
	return token, nil
}

// msal runs the grant through a fresh MSAL client, which forms the request.
func (c *call) msal(ctx context.Context, p proof) error {
	a := c.ask
	credential := confidential.NewCredFromAssertionCallback(
		func(context.Context, confidential.AssertionRequestOptions) (string, error) {
			return p.assertion.Reveal(), nil
		})
	client, err := confidential.New(c.authority(), a.client, credential,
		confidential.WithHTTPClient(c),
		confidential.WithClientCapabilities(a.capabilities),
		// The authority is configured, not discovered; with discovery on, MSAL
		// asks login.microsoftonline.com about every private host.
		confidential.WithInstanceDiscovery(false),
		// MSAL_FORCE_REGION in the environment would reroute every request.
		confidential.WithAzureRegion("DisableMsalForceRegion"))
	if err != nil {
		return err
	}
	scopes := slices.Clone(a.scopes) // MSAL appends to the slice it is given
	switch a.grant {
	case grantOnBehalfOf:
		var options []confidential.AcquireOnBehalfOfOption
		if a.claims != "" {
			options = append(options, confidential.WithClaims(a.claims))
		}
		_, err = client.AcquireTokenOnBehalfOf(ctx, a.user.Token.Reveal(), scopes, options...)
	case grantUserFIC:
		options := []confidential.AcquireByUserFICOption{a.agentUser.option()}
		if a.claims != "" {
			options = append(options, confidential.WithClaims(a.claims))
		}
		_, err = client.AcquireTokenByUserFederatedIdentityCredential(ctx, scopes, p.user.Reveal(), options...)
	default:
		var options []confidential.AcquireByCredentialOption
		if a.claims != "" {
			options = append(options, confidential.WithClaims(a.claims))
		}
		if a.path != "" {
			options = append(options, confidential.WithFMIPath(a.path))
		}
		_, err = client.AcquireTokenByCredential(ctx, scopes, options...)
	}
	return err
}

func (u AgentUser) option() confidential.AcquireByUserFICOption {
	if u.ObjectID != "" {
		return confidential.WithUserObjectID(u.ObjectID)
	}
	return confidential.WithUserFICUsername(u.Username)
}
