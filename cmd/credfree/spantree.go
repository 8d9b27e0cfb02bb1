package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

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
			fmt.Fprintf(&out, "  %-34s %8.2f ms\n", indent+branch+span.Name(), float64(took.Microseconds())/1000)
			for _, line := range attributeLines(span) {
				fmt.Fprintf(&out, "  %s%s     %s\n", indent, next, line)
			}
			draw(span.SpanContext().SpanID(), indent+next)
		}
	}
	draw(trace.SpanID{}, "")
	return out.String()
}

// attributeLines are the span's own attributes, those that tell the story.
func attributeLines(span sdktrace.ReadOnlySpan) []string {
	var lines []string
	for _, a := range span.Attributes() {
		if strings.HasPrefix(string(a.Key), "credfree.") || a.Key == "http.response.status_code" {
			lines = append(lines, string(a.Key)+" = "+a.Value.String())
		}
	}
	slices.SortFunc(lines, cmp.Compare)
	return lines
}
