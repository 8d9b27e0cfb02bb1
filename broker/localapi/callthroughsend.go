package localapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/broker/client"
)

// RoundTrip implements http.RoundTripper for the proxy. It calls the API, and
// once more when the API asks for a token with certain claims: the fresh token
// has them. An agent that sends claims of its own answers challenges itself.
func (c *call) RoundTrip(out *http.Request) (*http.Response, error) {
	resp, err := c.send(out, 0)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || c.req.Claims != "" {
		return resp, err
	}
	asked := challengeIn(resp.Header["Www-Authenticate"])
	claims := bothClaims(c.began, asked)
	if asked == "" || claims == c.began { // it is no challenge, or one that no token meets
		c.demands.forget(c.demand)
		return resp, nil
	}
	if c.replay {
		discard(resp.Body)
	}
	issued, err := c.meet(claims)
	if !c.replay {
		// The agent hears of the challenge, met or not. Where it is met, the token
		// that was challenged is in use no more, and the request can come again.
		return resp, nil
	}
	if c.issued = issued; err != nil {
		return nil, &unmetChallenge{claims: claims, err: err}
	}
	return c.send(out, 1)
}

// discard reads what is left of a small body, so that its connection is used
// again.
func discard(body io.ReadCloser) {
	// The body is of no use, and neither is what goes wrong with it.
	_, _ = io.CopyN(io.Discard, body, 64<<10)
	_ = body.Close()
}

// send sends the request with the token, in a span of its own below that of the
// issuance. resend is how often it was sent before.
func (c *call) send(out *http.Request, resend int) (*http.Response, error) {
	var problem *badRequest
	if c.target, problem = targetOf(c.issued.API, c.escaped, out.URL); problem != nil {
		return nil, problem
	}
	if scope, _, _ := strings.Cut(c.issued.Scope, " "); resourceOf(scope) != resourceOf(c.issued.API.Scopes[0]) {
		return nil, notOfAPI() // the API has become another since the scopes were read
	}
	c.span.End()
	began := time.Now()
	ctx := c.open(c.issued.Span, out, resend, began)
	// The proxy's own context would pass the API's interim answers on, unfiltered.
	attempt := out.Clone(ctx)
	attempt.URL, attempt.Host, attempt.Trailer = c.target, c.target.Host, nil
	attempt.Header["Authorization"] = []string{"Bearer " + c.issued.Token.Reveal()}
	c.askPlainly(attempt)
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(attempt.Header))
	if c.body != nil {
		attempt.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(c.body)), nil }
		attempt.Body = io.NopCloser(bytes.NewReader(c.body))
	}
	resp, err := c.calls.Transport.RoundTrip(attempt)
	c.count(ctx, resp, time.Since(began))
	if failed := err != nil || resp.StatusCode >= http.StatusBadRequest; failed && !c.span.SpanContext().IsSampled() {
		c.open(c.issued.Span.WithTraceFlags(trace.FlagsSampled), out, resend, began) // failures are kept, whatever the sampler
	}
	if err != nil {
		err = c.explain(err)
		c.span.SetAttributes(attribute.String("error.type", reasonOf(err)))
		c.span.SetStatus(codes.Error, reasonOf(err))
		return nil, err
	}
	c.watch.touch()
	c.span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	if resp.StatusCode >= http.StatusBadRequest {
		c.span.SetStatus(codes.Error, "")
	}
	return resp, nil
}

// open starts the span of an attempt below another, and returns its context.
func (c *call) open(above trace.SpanContext, out *http.Request, resend int, began time.Time) (ctx context.Context) {
	ctx = trace.ContextWithSpanContext(c.in.Context(), above)
	ctx, c.span = c.calls.Tracer.Start(ctx, "api.call", trace.WithTimestamp(began), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes( //nolint:spancheck // callThrough ends it, or the next attempt
		attribute.String("http.request.method", spanMethod(out.Method)), attribute.String("server.address", c.target.Hostname()),
		attribute.String("credfree.api", c.issued.API.Name), attribute.String("credfree.issuance.id", c.issued.ID)))
	if resend > 0 {
		c.span.SetAttributes(attribute.Int("http.request.resend_count", resend))
	}
	return ctx
}

// end ends the span of the last attempt, and says on it when a reload cut the call.
func (c *call) end() {
	if cut, ok := errors.AsType[*revoked](context.Cause(c.in.Context())); ok {
		reason := reasonOf(cut.explain())
		c.span.SetAttributes(attribute.String("error.type", reason))
		c.span.SetStatus(codes.Error, reason)
	}
	c.span.End()
}

// count counts an attempt. The API is one of the policy's.
func (c *call) count(ctx context.Context, resp *http.Response, took time.Duration) {
	status := "error"
	if resp != nil {
		status = strconv.Itoa(resp.StatusCode/100) + "xx"
	}
	c.calls.duration.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String("api", c.issued.API.Name), attribute.String("status", status)))
}

// spanMethod keeps what agents make up out of the traces.
func spanMethod(method string) string {
	switch method {
	case http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPatch, http.MethodPost, http.MethodPut:
		return method
	}
	return "_OTHER"
}

// suppressed are the headers of an answer that the agent does not get: what
// would make a client keep state about this address as if it were the API's.
var suppressed = []string{"Set-Cookie", "Set-Cookie2", "Alt-Svc", "Strict-Transport-Security", "Public-Key-Pins", "Clear-Site-Data", "Proxy-Authenticate", "Proxy-Authentication-Info"}

// admit makes the API's answer fit for the agent.
func (c *call) admit(resp *http.Response) error {
	for _, name := range c.kept(resp.Header) {
		delete(resp.Header, name)
	}
	if len(resp.Trailer) > 0 {
		delete(resp.Header, "Content-Length") // HTTP/2 has both; before HTTP/2, trailers need chunks
	}
	for _, name := range locationHeaders {
		for i, location := range resp.Header[name] {
			resp.Header[name][i] = localOf(c.issued.API, c.target, c.here(), location)
		}
	}
	header := c.w.Header()
	if len(resp.Header["Cache-Control"]) > 0 { // the API knows better
		delete(header, "Cache-Control")
		delete(header, "Pragma")
	}
	header[client.IssuanceHeader] = []string{c.issued.ID}
	body := &apiBody{ReadCloser: resp.Body, watch: c.watch, end: func() {
		for _, name := range c.kept(resp.Trailer) {
			resp.Trailer[name] = nil // it may have been announced
		}
	}}
	if conn, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body, c.watch.switched = &apiConn{apiBody: body, Writer: conn}, true
		return nil
	}
	resp.Body = body
	return c.linkBack(resp)
}

// kept names what the agent does not get of a header or a trailer. An API that
// repeats the token in one does not hand it out by that.
func (c *call) kept(header http.Header) (names []string) {
	token := c.issued.Token.Reveal() // compared, so that it does not leave
	for name, values := range header {
		if slices.Contains(suppressed, name) || strings.HasPrefix(name, "Credfree-") || strings.HasPrefix(name, "Access-Control-") ||
			slices.ContainsFunc(values, func(value string) bool { return strings.Contains(value, token) }) {
			names = append(names, name)
		}
	}
	return names
}
