package exchange

import (
	"context"
	"errors"
	"slices"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/exchange/workload"
)

// appToken runs the client credentials grant once, through a fresh MSAL client.
func (c *Client) appToken(ctx context.Context, app Application, req Request, assertion workload.Assertion, try attempt) (Token, *Error) {
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	ctx, span := c.cfg.Tracer.Start(ctx, "entra.token", trace.WithSpanKind(trace.SpanKindInternal))
	defer span.End()
	call := newCall(ctx, c, app, grantClientCredentials)
	if try.correlationID != "" {
		call.correlationID = try.correlationID
	}
	token, err := c.clientCredentials(ctx, call, app, req, assertion)
	span.SetAttributes(call.attributes(app, req, try)...)
	if err != nil {
		failure := call.explain(ctx, err, hintFacts{assertion: assertion, app: app, request: req, audience: c.cfg.Audience})
		endWithError(span, failure)
		return Token{}, failure
	}
	return token, nil
}

func (c *Client) clientCredentials(ctx context.Context, call *call, app Application, req Request, assertion workload.Assertion) (Token, error) {
	credential := confidential.NewCredFromAssertionCallback(
		func(context.Context, confidential.AssertionRequestOptions) (string, error) {
			return assertion.Reveal(), nil
		})
	client, err := confidential.New(call.authority(), app.ClientID, credential,
		confidential.WithHTTPClient(call),
		// The authority is configured, not discovered; with discovery on, MSAL
		// asks login.microsoftonline.com about every private host.
		confidential.WithInstanceDiscovery(false),
		// MSAL_FORCE_REGION in the environment would reroute every request.
		confidential.WithAzureRegion("DisableMsalForceRegion"))
	if err != nil {
		return Token{}, err
	}
	var options []confidential.AcquireByCredentialOption
	if req.Claims != "" {
		options = append(options, confidential.WithClaims(req.Claims))
	}
	// MSAL appends to the slice it is given.
	result, err := client.AcquireTokenByCredential(ctx, slices.Clone(req.Scopes), options...)
	if err != nil {
		return Token{}, err
	}
	if call.answer == nil || result.AccessToken != call.answer.AccessToken {
		return Token{}, errors.New("the token did not come from this exchange")
	}
	return call.token(app, AppOnly)
}
