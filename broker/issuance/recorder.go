package issuance

import (
	"context"
	"errors"
	"io"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// Config is what NewRecorder needs.
type Config struct {
	// Audit receives one line per issuance, each in one Write. Required.
	Audit io.Writer
	// Tracer makes the spans. Nil makes none.
	Tracer trace.Tracer
	// Hits says whether a plain cache hit, of a request in the trace of its context,
	// gets a span: most need none, and most requests are hits. Nil: each does.
	Hits func(context.Context) bool
	// Meter makes the metrics. Nil makes none.
	Meter metric.Meter
}

// Recorder turns records into audit lines, spans and metrics. It is safe for
// concurrent use.
type Recorder struct {
	tracer  trace.Tracer
	traced  bool // the tracer is a real one
	hits    func(context.Context) bool
	audit   *audit
	metrics *metrics
}

// NewRecorder returns a Recorder, or an error when cfg has no audit sink or
// the meter refuses an instrument.
func NewRecorder(cfg Config) (*Recorder, error) {
	if cfg.Audit == nil {
		return nil, errors.New("issuances need an audit sink")
	}
	traced := cfg.Tracer != nil
	if !traced {
		cfg.Tracer = tracenoop.NewTracerProvider().Tracer("")
	}
	if cfg.Meter == nil {
		cfg.Meter = metricnoop.NewMeterProvider().Meter("")
	}
	m, err := newMetrics(cfg.Meter)
	if err != nil {
		return nil, err
	}
	m.auditFailures.Add(context.Background(), 0) // nought is worth seeing: nobody could be alarmed by the first failure else
	return &Recorder{tracer: cfg.Tracer, traced: traced, hits: cfg.Hits, audit: &audit{sink: cfg.Audit}, metrics: m}, nil
}

// Open starts the record's span, for work done under it, and returns the
// context that carries it. Only issuances with such work need Open: the span
// of all others is made when they are closed, with the record's start time. A
// span that is open stays.
func (r *Recorder) Open(ctx context.Context, rec *Record) context.Context {
	if rec.span != nil {
		return trace.ContextWithSpan(ctx, rec.span)
	}
	if !r.traced { // it still carries the caller's trace id
		ctx, rec.span = r.tracer.Start(ctx, "token.issue") //nolint:spancheck // Close ends it
		return ctx
	}
	ctx, rec.span = r.tracer.Start(ctx, "token.issue", asServer, trace.WithTimestamp(rec.Start)) //nolint:spancheck // Close ends it
	return ctx
}

// Link ties the record's open span to work that another issuance started.
func (r *Recorder) Link(rec *Record, other context.Context) {
	if other == nil || rec.span == nil {
		return
	}
	if sc := trace.SpanContextFromContext(other); sc.IsValid() {
		rec.span.AddLink(trace.Link{SpanContext: sc})
	}
}

// Refresh starts the span of a refresh that no caller waits for: a trace of
// its own, linked to the issuance in ctx. The function it returns ends the
// span, with the reason of a failure or "".
func (r *Recorder) Refresh(ctx context.Context, agent string) (context.Context, func(reason string)) {
	cause := trace.LinkFromContext(ctx)
	ctx, span := r.tracer.Start(ctx, "token.refresh", //nolint:spancheck // the function returned ends it
		trace.WithNewRoot(), trace.WithLinks(cause),
		trace.WithAttributes(keyAgent.String(agent), keyCache.String("refresh")))
	return ctx, func(reason string) { //nolint:spancheck // see above
		endWith(span, reason)
		r.metrics.refreshed(ctx, agent, reason)
	}
}

// Work starts a span for work of the broker's own under the record's. The
// function it returns ends the span, with the reason of a failure or "".
func (r *Recorder) Work(ctx context.Context, rec *Record, name string) (context.Context, func(reason string)) {
	ctx, span := r.tracer.Start(r.Open(ctx, rec), name)       //nolint:spancheck // the function returned ends it
	return ctx, func(reason string) { endWith(span, reason) } //nolint:spancheck // see above
}

func endWith(span trace.Span, reason string) {
	if reason != "" {
		span.SetAttributes(keyErrorType.String(reason))
		span.SetStatus(codes.Error, reason)
	}
	span.End()
}

// Verified counts a user's token that was verified. problem is what is wrong with
// it, of a closed set, or "".
func (r *Recorder) Verified(ctx context.Context, problem string) {
	r.metrics.verifications.Add(ctx, 1, metric.WithAttributes(attribute.String("problem", problem)))
}

// Close writes the audit line, ends the span and counts. When the line cannot
// be written the record turns into a failure, and the caller must not hand
// the token out: that is what a non-nil error means.
func (r *Recorder) Close(ctx context.Context, rec *Record) error {
	if r.spanless(ctx, rec) {
		rec.context = r.untraced(ctx)
	} else {
		ctx = r.Open(ctx, rec) // the metrics' exemplars are to name this span, not the caller's
	}
	end := time.Now()
	err := r.audit.write(rec, end, rec.SpanContext())
	if err != nil {
		rec.Decision, rec.Reason = Fail, ReasonAudit
		ctx = r.Open(ctx, rec)
		r.metrics.auditFailures.Add(ctx, 1)
	}
	if rec.span != nil {
		rec.finish(end)
	}
	r.metrics.count(ctx, rec, end.Sub(rec.Start))
	return err
}

// spanless reports whether the record needs no span.
func (r *Recorder) spanless(ctx context.Context, rec *Record) bool {
	if rec.span != nil {
		return false
	}
	return !r.traced || rec.Decision == Allow && rec.Cache == Hit && r.hits != nil && !r.hits(ctx)
}

// untraced is what a span would have in its place: the caller's own where nobody
// traces, else one of the same trace that is not sampled, so that nothing below it is.
func (r *Recorder) untraced(ctx context.Context) trace.SpanContext {
	parent := trace.SpanContextFromContext(ctx)
	if !r.traced {
		return parent
	}
	id := trace.SpanContextConfig{TraceID: parent.TraceID(), TraceState: parent.TraceState()}
	if !parent.IsValid() {
		id.TraceID = random()
	}
	fresh := random()
	copy(id.SpanID[:], fresh[:])
	return trace.NewSpanContext(id)
}

// finish ends the record's span.
func (r *Record) finish(end time.Time) {
	if r.span.IsRecording() {
		r.span.SetAttributes(r.attributes()...)
		if r.Decision == Fail {
			r.span.SetStatus(codes.Error, r.Reason)
		}
	}
	r.span.End(trace.WithTimestamp(end))
}

// ReasonAudit is the reason of an issuance whose audit line could not be
// written.
const ReasonAudit = "audit_unavailable"

// AuditError returns why the last audit line could not be written, or nil
// when it could. For readiness.
func (r *Recorder) AuditError() error { return r.audit.lastError() }
