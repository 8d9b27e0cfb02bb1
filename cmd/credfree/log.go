package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"runtime"
	"strings"

	"github.com/urfave/cli/v2"
	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/broker/policy"
)

func logFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "log-level", Usage: "log what is at least as grave as `LEVEL`: debug, info, warn or error", Value: "info", EnvVars: []string{"CREDFREE_LOG_LEVEL"}},
		&cli.BoolFlag{Name: "verbose", Usage: "the same as --log-level debug"},
	}
}

func logLevel(c *cli.Context) (slog.Level, error) {
	if c.Bool("verbose") {
		if c.IsSet("log-level") && c.String("log-level") != "debug" {
			return 0, fail(exitUsage, errors.New("--verbose and --log-level say different things"), "keep one of the two")
		}
		return slog.LevelDebug, nil
	}
	switch text := c.String("log-level"); text {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	default:
		return 0, fail(exitUsage, fmt.Errorf("there is no log level %q", text), "use --log-level debug, info, warn or error")
	}
}

// newLogger writes text for people and JSON for everything else. Warnings and
// errors that repeat are written once a minute; flush writes how many were left
// out since.
func newLogger(w io.Writer, level slog.Level) (log *slog.Logger, flush func()) {
	options := &slog.HandlerOptions{Level: level}
	out := &logOutput{to: w, late: lateLine}
	var handler slog.Handler = slog.NewJSONHandler(out, options)
	if isTerminal(w) {
		handler = slog.NewTextHandler(out, options)
	}
	quiet := newRepeats(traced{handler})
	log = slog.New(quiet)
	out.again = func(lost int) { log.Warn("standard error did not take what was logged", "lines_lost", lost) }
	return log, quiet.flush
}

// traced adds the ids of the request that a line belongs to.
type traced struct{ slog.Handler }

func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }
func (h traced) WithGroup(name string) slog.Handler       { return traced{h.Handler.WithGroup(name)} }

// logStart says, in one line, what this run is made of. Nothing of it is secret:
// files are named, and not read.
func (s *service) logStart(c *cli.Context, audit *auditLog, level slog.Level) {
	p := s.inForce().Policy
	sources := map[string]int{}
	for _, source := range p.Sources {
		sources[strings.ToLower(sourceKind(source))]++
	}
	limited, forUsers := 0, 0
	for _, agent := range p.Agents {
		if agent.Limits.PerMinute > 0 || agent.Limits.OnBehalfOfPerMinute > 0 {
			limited++
		}
		if agent.OnBehalfOf != nil {
			forUsers++
		}
	}
	doors := []string{"oauth", "managed_identity", "call_through"}
	if s.cfg.authSidecar {
		doors = append(doors, "auth_sidecar")
	}
	mode, required, users := "enforce", "required", "plain"
	if p.Audit {
		mode = "audit"
	}
	if p.Recording.BestEffort {
		required = "best-effort"
	}
	if p.Recording.HashedUsers {
		users = "hashed"
	}
	chain := "off"
	if audit.chain != nil {
		chain = "sha256"
		if audit.keyed {
			chain = "hmac"
		}
	}
	s.cfg.log.Info("ready", "agents", s.agentsAddr(), "admin", s.adminAddr(), "version", buildVersion(), "sockets", p.Sockets(), "doors", doors, "hosts", append([]string{}, s.cfg.hosts...),
		"policy", p.Revision, "policy_file", c.String("config"), "mode", mode, "strict", p.Strict, "agents_count", len(p.Agents), "agents_for_users", forUsers, "agents_limited", limited,
		"tenant", p.Tenant, "authority", p.Cloud.Authority, "sources", sources,
		"processors", runtime.GOMAXPROCS(0), "audit", audit.describe(), "audit_lines", required, "audit_chain", chain, "users", users, "exporters", s.cfg.telemetry.exporters, "sampler", s.cfg.telemetry.sampler, "log_level", strings.ToLower(level.String()))
}

// sourceKind is the word that the policy has for a kind of source.
func sourceKind(source policy.Source) string {
	v := reflect.ValueOf(source)
	for i := range v.NumField() {
		if !v.Field(i).IsNil() {
			return v.Type().Field(i).Name
		}
	}
	return "none"
}
