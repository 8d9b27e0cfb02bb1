package main

import (
	"context"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/credfree/credfree/broker/recent"
)

// spanKeeper remembers the spans of work below issuances, for the operators'
// page. Those of the issuances themselves are made from their records: cache
// hits have many, and nothing below them.
type spanKeeper struct{ memory *recent.Memory }

// OnStart implements sdktrace.SpanProcessor.
func (spanKeeper) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor.
func (k spanKeeper) OnEnd(span sdktrace.ReadOnlySpan) {
	if span.Name() == "token.issue" || span.Name() == "token.inspect" {
		return
	}
	sc := span.SpanContext()
	kept := recent.Span{
		TraceID: recent.TraceID(sc.TraceID()), SpanID: recent.SpanID(sc.SpanID()), Parent: recent.SpanID(span.Parent().SpanID()),
		Name: span.Name(), Start: span.StartTime(), Took: span.EndTime().Sub(span.StartTime()),
	}
	failure := ""
	for _, a := range span.Attributes() {
		if a.Key == "error.type" {
			failure = a.Value.String()
		}
		if shown(a.Key) {
			kept.Attributes = append(kept.Attributes, recent.Attribute{Key: string(a.Key), Value: a.Value.String()})
		}
	}
	if status := span.Status(); status.Code == codes.Error {
		kept.Error = failure
		if kept.Error == "" {
			kept.Error = "failed"
		}
	}
	for _, link := range span.Links() {
		kept.Links = append(kept.Links, recent.Link{TraceID: recent.TraceID(link.SpanContext.TraceID()), SpanID: recent.SpanID(link.SpanContext.SpanID())})
	}
	k.memory.AddSpan(kept)
}

// shown are our own attributes, and a few of others: a URL may hold a query.
func shown(key attribute.Key) bool {
	return strings.HasPrefix(string(key), "credfree.") ||
		slices.Contains([]attribute.Key{"azure.service.request.id", "error.type", "http.request.method", "http.request.resend_count", "http.response.status_code", "server.address"}, key)
}

// Shutdown implements sdktrace.SpanProcessor.
func (spanKeeper) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (spanKeeper) ForceFlush(context.Context) error { return nil }
