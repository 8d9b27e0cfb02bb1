package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// spanTree is an exporter that draws traces. It keeps the first spans it is
// given, which is all the demo shows.
type spanTree struct {
	mu    sync.Mutex // guards spans
	spans []sdktrace.ReadOnlySpan
}

const mostSpans = 256

// ExportSpans implements sdktrace.SpanExporter.
func (t *spanTree) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spans = append(t.spans, spans[:min(len(spans), mostSpans-len(t.spans))]...)
	return nil
}

// Shutdown implements sdktrace.SpanExporter.
func (t *spanTree) Shutdown(context.Context) error { return nil }

// render draws one trace, parents before children, in order of their start.
func (t *spanTree) render(traceID string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	children := map[trace.SpanID][]sdktrace.ReadOnlySpan{}
	for _, span := range t.spans {
		if span.SpanContext().TraceID().String() == traceID {
			children[span.Parent().SpanID()] = append(children[span.Parent().SpanID()], span)
		}
	}
	var out strings.Builder
	var draw func(parent trace.SpanID, indent string)
	draw = func(parent trace.SpanID, indent string) {
		level := children[parent]
		slices.SortFunc(level, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
		for i, span := range level {
			branch, next := "├─ ", "│  "
			if i == len(level)-1 {
				branch, next = "└─ ", "   "
			}
			took := span.EndTime().Sub(span.StartTime())
			fmt.Fprintf(&out, "  %-24s %7.2f ms  %s\n", indent+branch+span.Name(), float64(took.Microseconds())/1000, summary(span))
			draw(span.SpanContext().SpanID(), indent+next)
		}
	}
	draw(trace.SpanID{}, "")
	return out.String()
}

// told are the attributes that tell the story of a trace, in order.
var told = []attribute.Key{
	"credfree.agent", "credfree.decision", "credfree.cache", "credfree.entra.leg", "credfree.token.kind", "credfree.assertion.subject", "credfree.entra.correlation_id", "http.response.status_code",
}

// summary is what a span says about itself, on one line.
func summary(span sdktrace.ReadOnlySpan) string {
	attributes := attribute.NewSet(span.Attributes()...)
	var words []string
	for _, key := range told {
		if value, ok := attributes.Value(key); ok {
			words = append(words, strings.TrimPrefix(string(key), "credfree.")+"="+value.String())
		}
	}
	return strings.Join(words, " ")
}
