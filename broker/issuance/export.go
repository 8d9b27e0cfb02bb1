package issuance

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/trace"
)

// export emits the record as a log record, an event with the attributes of the
// span. It is correlated with the span, whether that is sampled or not.
func (r *Recorder) export(ctx context.Context, rec *Record, end time.Time) {
	if r.logger == nil {
		return
	}
	var out log.Record
	out.SetEventName(rec.event())
	out.SetBody(attribute.StringValue(rec.event()))
	out.SetTimestamp(rec.Start)
	out.SetObservedTimestamp(end)
	severity := log.SeverityInfo
	switch rec.Decision {
	case Allow:
	case Deny:
		severity = log.SeverityWarn
	case Fail:
		severity = log.SeverityError
	}
	out.SetSeverity(severity)
	out.SetSeverityText(severity.String())
	out.AddAttributes(new(attributeList).of(rec)...)
	r.logger.Emit(trace.ContextWithSpanContext(ctx, rec.SpanContext()), out)
}
