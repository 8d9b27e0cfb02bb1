package exchange

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
)

// maxAnswerBytes bounds an answer of the token endpoint. The largest real
// tokens, with hundreds of groups, stay below a tenth of it.
const maxAnswerBytes = 1 << 20

// call is the HTTP client of one exchange, made for one token request. MSAL
// asks it for the OpenID metadata, which it answers from memory, and for one
// POST to the token endpoint, which it sends once.
type call struct {
	client        *Client
	ask           *ask   // whose grant is the only one that may leave
	tenant        string // in lower case
	correlationID string

	sent      bool
	status    int
	requestID string // x-ms-request-id
	answer    *answer
	failure   *Error
}

func newCall(ctx context.Context, c *Client, a *ask) *call {
	return &call{client: c, ask: a, tenant: strings.ToLower(a.tenant), correlationID: correlationID(ctx)}
}

// correlationID is the trace id written as a GUID, so that the trace of an
// issuance is found in Entra's sign-in log by its correlation id.
func correlationID(ctx context.Context) string {
	if id := trace.SpanContextFromContext(ctx).TraceID(); id.IsValid() {
		return uuid.UUID(id).String()
	}
	return uuid.NewString()
}

func (c *call) authority() string { return c.client.cfg.Authority + "/" + c.tenant }

func (c *call) tokenURL() string { return c.authority() + "/oauth2/v2.0/token" }

// CloseIdleConnections implements MSAL's HTTPClient. The transport is shared
// and outlives the call.
func (c *call) CloseIdleConnections() {}

// Do implements MSAL's HTTPClient. Every error it returns for a request that
// was answered is an *Error, kept in c.failure: MSAL puts bodies, tokens
// included, into the errors it makes of answers, so it sees only good ones.
func (c *call) Do(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodGet && strings.HasSuffix(req.URL.Path, "/v2.0/.well-known/openid-configuration") {
		return c.metadata(req)
	}
	if err := c.vet(req); err != nil {
		c.failure = &Error{Reason: Internal, Message: err.Error(), Err: err}
		return nil, c.failure
	}
	c.sent = true
	req.Header.Set("client-request-id", c.correlationID)
	req.Header.Set("return-client-request-id", "true")
	resp, err := c.client.cfg.Transport.RoundTrip(req)
	if err != nil {
		c.failure = unreachable(req.Context(), err)
		return nil, c.failure
	}
	body, err := c.read(req.Context(), resp)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	return resp, nil
}

// vet lets only the one request out that this call was made for. The grant is
// compared because a protocol library that refreshes a user's token with the
// application's own grant would turn the one into the other.
func (c *call) vet(req *http.Request) error {
	if c.sent {
		return errors.New("a second request in one exchange")
	}
	if req.Method != http.MethodPost || req.URL.String() != c.tokenURL() || req.GetBody == nil {
		return errors.New("a request to another place than the token endpoint")
	}
	body, err := req.GetBody()
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(body, maxAnswerBytes))
	if err != nil {
		return err
	}
	form, err := url.ParseQuery(string(text))
	if err != nil {
		return errors.New("a token request that is not a form")
	}
	if got := form["grant_type"]; len(got) != 1 || got[0] != c.ask.grant {
		return fmt.Errorf("a token request with another grant than %s", c.ask.grant)
	}
	return nil
}

// metadata answers what MSAL asks before each first request of a client.
func (c *call) metadata(req *http.Request) (*http.Response, error) {
	body, err := json.Marshal(map[string]string{
		"authorization_endpoint": c.authority() + "/oauth2/v2.0/authorize",
		"token_endpoint":         c.tokenURL(),
		"issuer":                 c.authority() + "/v2.0",
	})
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Request: req,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}, nil
}

// read takes the answer in, or says in c.failure why it is none.
func (c *call) read(ctx context.Context, resp *http.Response) ([]byte, error) {
	c.status = resp.StatusCode
	c.requestID = headerWord(resp.Header.Get("x-ms-request-id"))
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	// The connection is only worth keeping when the body was read to its end.
	closeErr := resp.Body.Close()
	switch {
	case err != nil || closeErr != nil:
		c.failure = unreachable(ctx, errors.Join(err, closeErr))
	case len(body) > maxAnswerBytes:
		c.failure = malformed("the answer is larger than any token answer")
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		c.failure = malformed("the answer is a redirect, and an assertion is not posted to another place")
	case resp.StatusCode != http.StatusOK:
		c.failure = refusal(resp, body, c.client.cfg.Now())
	default:
		c.answer, c.failure = parseAnswer(body)
	}
	if c.failure != nil {
		return nil, c.failure
	}
	return body, nil
}

// explain makes the one error that leaves the package. MSAL's own errors are
// dropped: some of them print what the server answered.
func (c *call) explain(ctx context.Context, err error, p proof) *Error {
	failure := c.failure
	switch {
	case failure == nil && ctx.Err() != nil:
		failure = unreachable(ctx, ctx.Err())
	case failure == nil && errors.As(err, &failure):
	case failure == nil && c.answer != nil:
		failure = malformed("the answer could not be used as a token answer")
	case failure == nil:
		failure = &Error{Reason: Internal, Message: "the token request could not be made", Hint: "check the authority, the tenant and the client id"}
	}
	failure.Status, failure.CorrelationID, failure.RequestID = c.status, c.correlationID, c.requestID
	if failure.Hint == "" {
		failure.Hint = hint(failure.Codes, c.ask, p, c.client.cfg.Audience)
	}
	c.failure = failure
	return failure
}

// headerWord bounds a header that will be recorded.
func headerWord(s string) string {
	if len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return s
}
