package exchange

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/credfree/credfree/exchange/workload"
)

// Config is what New needs.
type Config struct {
	// Authority is the https origin of the token service, such as
	// https://login.microsoftonline.com. Required; no path, no query.
	Authority string
	// Audience is what the token service expects workload tokens to be meant
	// for, such as api://AzureADTokenExchange. Required.
	Audience string
	// Transport carries the requests. It is called directly, so redirects are
	// never followed. Required.
	Transport http.RoundTripper
	// Tracer makes the spans workload.token and entra.token. Nil makes none.
	Tracer trace.Tracer
	// Now is the wall clock. Nil means time.Now.
	Now func() time.Time
}

// Client talks to one authority. It is safe for concurrent use. Between
// exchanges it keeps no token, only how the last ones failed.
type Client struct {
	cfg      Config
	patience *patience
}

// New returns a Client or all problems of cfg, joined.
func New(cfg Config) (*Client, error) {
	var problems []error
	if u, err := url.Parse(cfg.Authority); err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		problems = append(problems, fmt.Errorf("authority %q is not an https origin like https://login.microsoftonline.com", cfg.Authority))
	}
	if cfg.Audience == "" {
		problems = append(problems, errors.New("the audience of workload tokens is missing"))
	}
	if cfg.Transport == nil {
		problems = append(problems, errors.New("the transport is missing"))
	}
	if cfg.Tracer == nil {
		cfg.Tracer = noop.NewTracerProvider().Tracer("")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	patience, err := newPatience()
	if err != nil {
		problems = append(problems, err)
	}
	return &Client{cfg: cfg, patience: patience}, errors.Join(problems...)
}

// Application is an Entra application registration (or user-assigned managed
// identity) that trusts Source through a federated identity credential.
type Application struct {
	Tenant   string // GUID or verified domain
	ClientID string // GUID
	Source   workload.Source
}

// Request names the token wanted. All scopes belong to one resource.
type Request struct {
	Scopes []string // each without white space; at least one
	Claims string   // claims request to satisfy, a JSON object; "" for none
}

var (
	guid   = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	domain = regexp.MustCompile(`^([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]{2,63}$`)
)

// check refuses what must never become part of a URL or of a form. MSAL Go
// would send a tenant such as "../x", a scope list that is empty (its cache
// then matches any token) and one scope that smuggles a second behind a space.
func (app Application) check(req Request) error {
	if !guid.MatchString(app.Tenant) && !domain.MatchString(app.Tenant) {
		return &Error{Reason: BadRequest, Message: fmt.Sprintf("tenant %.80q is neither a GUID nor a domain", app.Tenant), Hint: "name the tenant by its GUID"}
	}
	if !guid.MatchString(app.ClientID) {
		return &Error{Reason: BadRequest, Message: fmt.Sprintf("client id %.80q is not a GUID", app.ClientID), Hint: "use the application (client) id"}
	}
	if len(req.Scopes) == 0 {
		return &Error{Reason: BadRequest, Message: "no scope was requested", Hint: "name one, like https://graph.microsoft.com/.default"}
	}
	for _, scope := range req.Scopes {
		if scope == "" || strings.ContainsFunc(scope, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return &Error{Reason: BadRequest, Message: fmt.Sprintf("scope %.80q is empty or has white space or unprintable characters in it", scope), Hint: "pass each scope as its own element"}
		}
	}
	return nil
}

// AppToken exchanges the application's workload token for an access token of
// the application itself (client credentials grant with a client assertion,
// RFC 7523 §2.2). It repeats the exchange where that can help and ctx has time
// for it, and answers at once, with what Entra said before, where asking could
// not help. Errors are of type *Error.
func (c *Client) AppToken(ctx context.Context, app Application, req Request) (Token, error) {
	if err := app.check(req); err != nil {
		return Token{}, err
	}
	token, failure := c.exchange(ctx, app, req)
	if failure != nil {
		return Token{}, failure
	}
	return token, nil
}

// assertion fetches the workload token and checks what can be checked here.
func (c *Client) assertion(ctx context.Context, source workload.Source) (workload.Assertion, *Error) {
	ctx, span := c.cfg.Tracer.Start(ctx, "workload.token")
	defer span.End()
	assertion, err := source.Assertion(ctx)
	if err == nil {
		span.SetAttributes(assertionAttributes(assertion, c.cfg.Now())...)
		err = assertion.Check(c.cfg.Audience, c.cfg.Now())
	}
	if err != nil {
		failure := fromWorkload(err)
		endWithError(span, failure)
		return workload.Assertion{}, failure
	}
	return assertion, nil
}
