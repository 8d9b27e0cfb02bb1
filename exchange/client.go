package exchange

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/credfree/credfree/exchange/managedidentity"
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
	// ManagedIdentity asks this machine's endpoint. Nil: identities of that kind
	// are refused.
	ManagedIdentity *managedidentity.Client
	// Legs keeps the tokens of intermediate legs. Nil: nobody does, and each
	// exchange takes all its legs.
	Legs Keeper
	// Tracer makes the spans workload.token, entra.token and
	// managedidentity.token. Nil makes none.
	Tracer trace.Tracer
	// Meter makes the metrics. Nil makes none.
	Meter metric.Meter
	// Now is the wall clock. Nil means time.Now.
	Now func() time.Time
}

// Client talks to one authority. It is safe for concurrent use. Between
// exchanges it keeps no token itself, only how the last ones failed.
type Client struct {
	cfg      Config
	patience *patience
	metrics  metrics
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
	if cfg.Legs == nil {
		cfg.Legs = forgetful{}
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
	metrics, err := newMetrics(cfg.Meter)
	if err != nil {
		problems = append(problems, err)
	}
	return &Client{cfg: cfg, patience: patience, metrics: metrics}, errors.Join(problems...)
}
