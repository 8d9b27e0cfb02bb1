package managedidentity

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
)

// maxAnswerBytes bounds an answer of an endpoint.
const maxAnswerBytes = 1 << 20

// call is the HTTP client of one Token. MSAL's errors have whole answers in them,
// and its cache keeps tokens, so it sees no refusal and no token.
type call struct {
	client    *Client
	platform  platform
	transport http.RoundTripper

	asked   int // requests so far
	answer  *answer
	failure *Error
}

// errSeen ends MSAL's part: what happened is in call.failure.
var errSeen = errors.New("managedidentity: the endpoint gave no token")

// ConfigureClient implements MSAL's ClientConfigurer, for Service Fabric: augment
// adds the pinning of the endpoint's certificate.
func (c *call) ConfigureClient(augment func(*http.Client) (*http.Client, error)) error {
	pinned, err := augment(&http.Client{Transport: c.client.pinnable})
	if err != nil {
		return err
	}
	c.transport = pinned.Transport
	return nil
}

// CloseIdleConnections implements MSAL's HTTPClient. None is kept.
func (c *call) CloseIdleConnections() {}

// Do implements MSAL's HTTPClient. It follows no redirect, for which MSAL's own
// policy is a client's CheckRedirect: the request may carry what proves who we are.
func (c *call) Do(req *http.Request) (*http.Response, error) {
	c.asked++
	if c.asked > 1 && !c.platform.challenges || c.asked > 2 {
		c.failure = malformed("MSAL asked " + c.platform.who + " once too often")
		return nil, errSeen
	}
	ctx, cancel := context.WithTimeout(req.Context(), requestLimit)
	defer cancel()
	began := c.client.cfg.Now()
	resp, err := c.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		c.failure = c.unreachable(req.Context(), err)
		return nil, errSeen
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	_ = resp.Body.Close() // after reading, closing cannot lose anything
	challenge := c.platform.challenges && c.asked == 1
	var shown []byte
	switch {
	case err != nil:
		c.failure = c.unreachable(req.Context(), err)
	case len(body) > maxAnswerBytes:
		c.failure = malformed(c.platform.who + " gave more than any token answer is long")
	case challenge && resp.StatusCode == http.StatusUnauthorized: // the way it should be
	case challenge && resp.StatusCode == http.StatusOK:
		c.failure = malformed(c.platform.who + " did not ask who we are before it answered")
	case resp.StatusCode != http.StatusOK:
		c.failure = c.platform.refusal(resp, body, began)
	default:
		c.answer, c.failure = parseAnswer(c.platform, body, began)
		shown = c.answer.shown()
	}
	if c.failure != nil {
		if resp.StatusCode != http.StatusOK {
			c.failure.Status = resp.StatusCode
		}
		return nil, errSeen
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(shown)), int64(len(shown))
	return resp, nil
}

// unusable says why MSAL could not make a client. It looks at the identity's name
// first.
func (c *call) unusable(id ID) *Error {
	if id != (ID{}) {
		return &Error{Problem: Unsupported, Message: c.platform.who + " cannot be asked for an identity by this name", Hint: c.platform.names}
	}
	return &Error{Problem: Malformed, Message: "the environment does not describe " + c.platform.who + " well enough to trust it",
		Hint: "IDENTITY_ENDPOINT must be an https URL, and IDENTITY_SERVER_THUMBPRINT the SHA-1 thumbprint of its certificate, as the platform sets them"}
}

// outcome makes the one result that leaves the package. err is MSAL's, of which
// nothing is shown.
func (c *call) outcome(ctx context.Context, err error) (*answer, *Error) {
	switch {
	case c.failure != nil:
		return nil, c.failure
	case err == nil && c.answer != nil:
		return c.answer, nil
	case ctx.Err() != nil:
		return nil, givenUp(ctx.Err())
	case c.asked == 0:
		return nil, &Error{Problem: Malformed, Message: c.platform.who + " has an address that is not a URL", Hint: "check IDENTITY_ENDPOINT or MSI_ENDPOINT: the platform sets it"}
	case c.platform.challenges && c.answer == nil:
		return nil, &Error{Problem: Refused, Message: "the key file that " + c.platform.who + " named cannot be used",
			Hint: "let the broker's user read /var/opt/azcmagent/tokens: it must be in the group himds"}
	case c.platform.challenges:
		return nil, &Error{Problem: NoIdentity, Message: c.platform.who + " answered with another identity than the one asked for",
			Hint: "agents without user-assigned identities know the machine's own only: leave the name out, or update the agent"}
	}
	return nil, malformed(c.platform.who + " gave a token answer that MSAL could not use")
}
