package main

import (
	"context"
	"os"
	"strconv"
	"sync/atomic"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// outbox is the batch processor of the SDK, between two counters. The SDK drops
// spans that find its queue full and tells nobody; here they are dropped, and
// counted, before. What is full, slow or refused is of no concern to the request
// that a span is about.
type outbox struct {
	sdktrace.SpanProcessor // the SDK's
	exporter               sdktrace.SpanExporter
	complain               func(signal string, err error)

	room    int64
	pending atomic.Int64 // handed to the SDK, and not yet to the exporter

	exported, failed, dropped, exports atomic.Int64
}

func newOutbox(exporter sdktrace.SpanExporter, complain func(string, error)) *outbox {
	o := &outbox{exporter: exporter, complain: complain, room: queueSize("OTEL_BSP_MAX_QUEUE_SIZE", sdktrace.DefaultMaxQueueSize)}
	o.SpanProcessor = sdktrace.NewBatchSpanProcessor(countedSpans{o})
	return o
}

// queueSize is the room of a queue of the SDK's.
func queueSize(variable string, usual int64) int64 {
	if size, err := strconv.ParseInt(os.Getenv(variable), 10, 32); err == nil && size > 0 {
		return size
	}
	return usual
}

// OnEnd implements sdktrace.SpanProcessor.
func (o *outbox) OnEnd(span sdktrace.ReadOnlySpan) {
	if !span.SpanContext().IsSampled() {
		return
	}
	if o.pending.Add(1) > o.room {
		o.pending.Add(-1)
		o.dropped.Add(1)
		return
	}
	o.SpanProcessor.OnEnd(span)
}

// counts says what became of the spans.
func (o *outbox) counts() map[string]int64 {
	if o == nil {
		return map[string]int64{"exported": 0, "failed": 0, "dropped": 0}
	}
	return map[string]int64{"exported": o.exported.Load(), "failed": o.failed.Load(), "dropped": o.dropped.Load()}
}

// failures counts exports that failed.
func (o *outbox) failures() int64 {
	if o == nil {
		return 0
	}
	return o.exports.Load()
}

// countedSpans is the exporter of an outbox. What fails has been counted, and told:
// the SDK need not tell it again.
type countedSpans struct{ *outbox }

// ExportSpans implements sdktrace.SpanExporter.
func (c countedSpans) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	defer c.pending.Add(-int64(len(spans)))
	if err := c.exporter.ExportSpans(ctx, spans); err != nil {
		c.failed.Add(int64(len(spans)))
		c.exports.Add(1)
		c.complain("traces", err)
		return nil //nolint:nilerr // counted
	}
	c.exported.Add(int64(len(spans)))
	return nil
}

// Shutdown implements sdktrace.SpanExporter.
func (c countedSpans) Shutdown(ctx context.Context) error { return c.exporter.Shutdown(ctx) }
