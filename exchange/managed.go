package exchange

import (
	"context"
	"errors"

	"github.com/credfree/credfree/exchange/managedidentity"
)

// managedIdentity asks the machine's own endpoint.
func (c *call) managedIdentity(ctx context.Context) (Token, *Error) {
	got, err := c.client.cfg.ManagedIdentity.Token(ctx, c.ask.managed, resourceOf(c.ask.scopes[0]))
	if err != nil {
		failure := fromManagedIdentity(ctx, err)
		c.failure, c.status = failure, failure.Status
		return Token{}, failure
	}
	c.answer = &answer{AccessToken: got.Reveal(), ExpiresIn: seconds(got.Lifetime), RefreshIn: seconds(got.RefreshIn)}
	token, failure := c.token()
	if failure != nil {
		c.failure = failure
		return Token{}, failure
	}
	token.CorrelationID = "" // nothing was sent under it
	return token, nil
}

// fromManagedIdentity turns an endpoint's error into an exchange error.
func fromManagedIdentity(ctx context.Context, err error) *Error {
	said, ok := errors.AsType[*managedidentity.Error](err)
	if !ok {
		return unreachable(ctx, err)
	}
	e := &Error{Status: said.Status, Message: said.Message, Hint: said.Hint, RetryAfter: said.RetryAfter, Err: said.Err,
		machine: said.Problem != managedidentity.Unsupported}
	switch said.Problem {
	case managedidentity.Throttled:
		e.Reason = EntraThrottled
	case managedidentity.Unavailable:
		e.Reason = EntraUnavailable
	case managedidentity.Timeout:
		e.Reason = Timeout
	case managedidentity.Malformed:
		e.Reason = ReplyMalformed
	case managedidentity.NoEndpoint, managedidentity.NoIdentity, managedidentity.Refused, managedidentity.Unsupported:
		e.Reason = AssertionUnusable
	default:
		e.Reason = Internal
	}
	return e
}
