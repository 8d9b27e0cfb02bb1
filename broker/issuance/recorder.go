package issuance

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/credfree/credfree/broker/recent"
)

// Config is what NewRecorder needs.
type Config struct {
	// Audit receives one line per issuance, whole lines in each Write: those of
	// issuances that end at the same time come in one. Of a Write that failed, the
	// lines count of which no more than the newline is missing. Required.
	Audit io.Writer
	// Format is the shape of the lines; "" is Native.
	Format Format
	// Tracer makes the spans. Nil makes none.
	Tracer trace.Tracer
	// Hits says whether a plain cache hit, of a request in the trace of its context,
	// gets a span: most need none, and most requests are hits. Nil: each does.
	Hits func(context.Context) bool
	// Meter makes the metrics. Nil makes none.
	Meter metric.Meter
	// Logger gets a log record of each issuance, beside the audit line and after
	// it. It must not block. Nil: none.
	Logger log.Logger
	// Memory remembers the issuances for people to look at. Nil: nobody does.
	Memory *recent.Memory
	// NoHits spares plain hits, of which nothing but the token is handed out,
	// their spans: nobody exports them.
	NoHits bool
	// Log is told of failures: of issuances, and of the audit log. Nil: nobody is.
	Log *slog.Logger
}

// Recorder turns records into audit lines, spans and metrics. It is safe for
// concurrent use.
type Recorder struct {
	tracer  trace.Tracer
	traced  bool // the tracer is a real one
	hits    func(context.Context) bool
	audit   *audit
	metrics *metrics
	logger  log.Logger // nil: none
	memory  *recent.Memory
	noHits  bool
	log     *slog.Logger
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
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(cfg.Meter)
	if err != nil {
		return nil, err
	}
	m.auditFailures.Add(context.Background(), 0) // nought is worth seeing: nobody could be alarmed by the first failure else
	return &Recorder{
		tracer: cfg.Tracer, traced: traced, hits: cfg.Hits, audit: newAudit(cfg.Audit, cfg.Format), metrics: m, logger: cfg.Logger, log: cfg.Log, memory: cfg.Memory, noHits: cfg.NoHits,
	}, nil
}

// Remembers reports whether somebody wants Record.Steps.
func (r *Recorder) Remembers() bool { return r.memory != nil }

// Open starts the record's span, for work done under it, and returns the
// context that carries it. Only issuances with such work need Open: the span
// of all others is made when they are closed, with the record's start time. A
// span that is open stays.
func (r *Recorder) Open(ctx context.Context, rec *Record) context.Context {
	rec.opened = true
	return r.open(ctx, rec)
}

func (r *Recorder) open(ctx context.Context, rec *Record) context.Context {
	if rec.span != nil {
		return trace.ContextWithSpan(ctx, rec.span)
	}
	rec.above = trace.SpanContextFromContext(ctx)
	if !r.traced { // it still carries the caller's trace id
		ctx, rec.span = r.tracer.Start(ctx, rec.spanName()) //nolint:spancheck // Close ends it
		return ctx
	}
	rec.options = [2]trace.SpanStartOption{asServer, trace.WithTimestamp(rec.Start)}
	ctx, rec.span = r.tracer.Start(ctx, rec.spanName(), rec.options[:]...) //nolint:spancheck // Close ends it
	return ctx
}

func (r *Record) spanName() string {
	if r.Inspection {
		return "token.inspect"
	}
	return "token.issue"
}

// Link ties the record's open span to work that another issuance started.
func (r *Recorder) Link(rec *Record, other context.Context) {
	if other == nil || rec.span == nil {
		return
	}
	if sc := trace.SpanContextFromContext(other); sc.IsValid() {
		rec.shared = sc
		rec.span.AddLink(trace.Link{SpanContext: sc})
	}
}

// Refresh starts the span of a refresh that no caller waits for: a trace of
// its own, linked to the issuance in ctx. agent is whose token it is; "" for one
// of the broker's own, which no agent gets. clientID is whom Entra knows as its
// owner. The function it returns ends the span, with the reason of a failure or "",
// and is told whether Entra was asked.
func (r *Recorder) Refresh(ctx context.Context, agent, clientID string) (context.Context, func(reason string, asked bool)) {
	cause := trace.LinkFromContext(ctx)
	start := time.Now()
	attributes := []attribute.KeyValue{keyCache.String("refresh")}
	if agent != "" {
		attributes = append(attributes, keyAgent.String(agent))
	}
	if clientID != "" { // a managed identity that is named otherwise has none
		attributes = append(attributes, keyClientID.String(clientID))
	}
	ctx, span := r.tracer.Start(ctx, "token.refresh", //nolint:spancheck // the function returned ends it
		trace.WithNewRoot(), trace.WithLinks(cause), trace.WithAttributes(attributes...))
	return ctx, func(reason string, asked bool) { //nolint:spancheck // see above
		endWith(span, reason)
		r.metrics.refreshed(ctx, agent, reason)
		if r.memory != nil {
			r.memory.AddRefresh(start, time.Since(start), reason, asked)
		}
		if reason != "" {
			r.log.WarnContext(ctx, "a refresh failed; the token at hand serves until it expires", "agent", agent, "client_id", clientID, "reason", reason)
		}
	}
}

// Exchanged counts, for the operators' page, that Entra was asked for a token that there
// was not, from start until now, and why there is none, or "". Nobody may wait for it.
func (r *Recorder) Exchanged(start time.Time, reason string) {
	if r.memory != nil {
		r.memory.AddExchange(start, time.Since(start), reason)
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
	r.metrics.verified(ctx, problem)
}

// Close writes the audit line, ends the span and counts. When the line cannot
// be written the record turns into a failure, and the caller must not hand
// the token out: that is what a non-nil error means. Of a record with BestEffort
// it is counted, and no more.
func (r *Recorder) Close(ctx context.Context, rec *Record) error {
	rec.hideUser()
	if r.spanless(ctx, rec) {
		rec.above = trace.SpanContextFromContext(ctx)
		rec.context = r.untraced(rec.above)
	} else {
		ctx = r.open(ctx, rec) // the metrics' exemplars are to name this span, not the caller's
	}
	end := time.Now()
	err := r.audit.write(rec, end, rec.SpanContext())
	if err != nil {
		r.metrics.auditFailures.Add(ctx, 1)
		if !rec.BestEffort {
			rec.Decision, rec.Reason = Fail, ReasonAudit
			ctx = r.open(ctx, rec)
		}
		r.log.ErrorContext(trace.ContextWithSpanContext(ctx, rec.SpanContext()), "an audit line could not be written",
			"err", err.Error(), "token_withheld", !rec.BestEffort, "agent", rec.Agent, "issuance_id", rec.ID)
		if rec.BestEffort {
			err = nil
		}
	}
	if rec.Decision == Fail && rec.Reason != ReasonAudit {
		r.log.WarnContext(trace.ContextWithSpanContext(ctx, rec.SpanContext()), "an issuance failed", "agent", rec.Agent, "reason", rec.Reason, "identity", rec.Identity, "issuance_id", rec.ID)
	}
	r.export(ctx, rec, end)
	if rec.span != nil {
		rec.finish()
	}
	r.metrics.count(ctx, rec, end.Sub(rec.Start))
	if r.memory != nil {
		rec.remember(r.memory, end)
	}
	return err
}

// spanless reports whether the record needs no span.
func (r *Recorder) spanless(ctx context.Context, rec *Record) bool {
	if rec.span != nil {
		return false
	}
	return !r.traced || rec.Decision == Allow && rec.Cache == Hit && (r.noHits && !rec.Call || r.hits != nil && !r.hits(ctx))
}

// untraced is what a span would have in its place: the caller's own where nobody
// traces, else one of the same trace that is not sampled, so that nothing below it is.
func (r *Recorder) untraced(parent trace.SpanContext) trace.SpanContext {
	if !r.traced || r.noHits {
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
func (r *Record) finish() {
	if r.span.IsRecording() {
		list := attributeLists.Get().(*attributeList)
		r.span.SetAttributes(list.of(r)...) // which copies them
		attributeLists.Put(list)
		if r.Decision == Fail {
			r.span.SetStatus(codes.Error, r.Reason)
		}
	}
	r.span.End()
}

// ReasonAudit is the reason of an issuance whose audit line could not be
// written.
const ReasonAudit = "audit_unavailable"

// AuditError returns why the last audit line could not be written, or nil
// when it could. For readiness.
func (r *Recorder) AuditError() error { return r.audit.lastError() }
