package main

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// uploads is a client of a collector that keeps what it gets, off the wire.
type uploads struct{ got []*tracepb.ResourceSpans }

func (*uploads) Start(context.Context) error { return nil }
func (*uploads) Stop(context.Context) error  { return nil }
func (u *uploads) UploadTraces(_ context.Context, spans []*tracepb.ResourceSpans) error {
	text, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	var got tracepb.TracesData
	if err := proto.Unmarshal(text, &got); err != nil {
		return err
	}
	u.got = append(u.got, got.ResourceSpans...)
	return nil
}

// Whatever spans are exported, a collector gets what it would get of the SDK.
func TestSpansAreEncodedAsTheSDKDoes(t *testing.T) {
	for seed := range uint64(500) {
		d := &dice{rand.New(rand.NewPCG(seed, 0))}
		recorder := tracetest.NewSpanRecorder()
		provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder), sdktrace.WithResource(resource.NewWithAttributes(d.text(), d.attributes()...)))
		for range 1 + d.IntN(4) {
			d.span(provider)
		}
		var want, got uploads
		theirs, err := otlptrace.New(t.Context(), &want)
		check(t, err)
		ours, err := newOTLPSpans(t.Context(), &got)
		check(t, err)
		for range 2 { // the second time in the memory of the first
			check(t, theirs.ExportSpans(t.Context(), recorder.Ended()))
			check(t, ours.ExportSpans(t.Context(), recorder.Ended()))
		}
		if a, b := sorted(want.got), sorted(got.got); !proto.Equal(a, b) {
			t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, prototext.Format(b), prototext.Format(a))
		}
	}
}

// What is large is sent in parts that a collector takes, and none of it is missing.
func TestLargeSpansAreSentInParts(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	for range 512 {
		_, span := provider.Tracer("x").Start(t.Context(), "x")
		span.SetAttributes(attribute.String("x", strings.Repeat("x", 12<<10)))
		span.End()
	}
	var got uploads
	ours, err := newOTLPSpans(t.Context(), &got)
	check(t, err)
	check(t, ours.ExportSpans(t.Context(), recorder.Ended()))
	ids := map[string]bool{}
	for _, part := range got.got {
		if size := proto.Size(part); size > 2<<20 {
			t.Errorf("a part has %d bytes", size)
		}
		for _, scope := range part.ScopeSpans {
			for _, span := range scope.Spans {
				ids[string(span.SpanId)] = true
			}
		}
	}
	if len(ids) != 512 || len(got.got) < 4 {
		t.Errorf("got %d spans in %d parts", len(ids), len(got.got))
	}
}

// sorted puts scopes in order: the SDK has them in none.
func sorted(all []*tracepb.ResourceSpans) *tracepb.TracesData {
	for _, r := range all {
		slices.SortFunc(r.ScopeSpans, func(a, b *tracepb.ScopeSpans) int {
			return cmp.Compare(a.GetScope().GetName()+" "+a.GetScope().GetVersion(), b.GetScope().GetName()+" "+b.GetScope().GetVersion())
		})
	}
	return &tracepb.TracesData{ResourceSpans: all}
}

// dice make spans as ours are, and now and then one with something else.
type dice struct{ *rand.Rand }

func (d dice) text() string {
	return []string{"", "a", "b", "größer", strings.Repeat("long", 100), "\x00"}[d.IntN(6)]
}

func (d dice) span(provider trace.TracerProvider) {
	tracer := provider.Tracer([]string{"", "one", "two"}[d.IntN(3)], trace.WithInstrumentationVersion([]string{"", "v1"}[d.IntN(2)]))
	other := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{3}, TraceFlags: trace.FlagsSampled, Remote: d.IntN(2) == 0})
	ctx := context.Background()
	switch d.IntN(3) {
	case 0:
		ctx = trace.ContextWithSpanContext(ctx, other)
	case 1:
		state, _ := trace.ParseTraceState("a=1,b=2") // none, if that were wrong
		ctx = trace.ContextWithSpanContext(ctx, other.WithTraceState(state))
	}
	_, span := tracer.Start(ctx, d.text(), trace.WithSpanKind(trace.SpanKind(d.IntN(6))))
	span.SetAttributes(d.attributes()...)
	if d.IntN(2) == 0 {
		span.AddLink(trace.Link{SpanContext: other})
	}
	span.SetStatus(codes.Code(d.IntN(3)), d.text())
	switch d.IntN(40) {
	case 0:
		span.AddEvent("happened")
	case 1:
		span.AddLink(trace.Link{SpanContext: other, Attributes: d.attributes()})
	case 2:
		span.SetAttributes(attribute.Float64("float", 1.5), attribute.Int64Slice("numbers", []int64{1}))
	}
	span.End()
}

func (d dice) attributes() []attribute.KeyValue {
	var all []attribute.KeyValue
	for range d.IntN(7) {
		switch key := attribute.Key(d.text()); d.IntN(4) {
		case 0:
			all = append(all, key.String(d.text()))
		case 1:
			all = append(all, key.Bool(d.IntN(2) == 0))
		case 2:
			all = append(all, key.Int64(int64(d.Uint64())>>d.IntN(64)))
		case 3:
			all = append(all, key.StringSlice([]string{d.text(), d.text(), d.text()}[:d.IntN(4)]))
		}
	}
	return all
}

// One span that is not UTF-8 does not cost the others.
func TestSpansThatAreNotUTF8(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")
	for _, text := range []string{"whole", "\xff" + strings.Repeat("x", 300)} {
		_, span := tracer.Start(t.Context(), text, trace.WithAttributes(attribute.String("a", text)))
		span.End()
	}
	var got uploads
	exporter, err := newOTLPSpans(t.Context(), &got)
	check(t, err)
	check(t, exporter.ExportSpans(t.Context(), recorder.Ended()))
	spans := got.got[0].GetScopeSpans()[0].GetSpans()
	if len(spans) != 2 || spans[0].GetName() != "whole" || !strings.HasPrefix(spans[1].GetAttributes()[0].GetValue().GetStringValue(), "\uFFFDx") {
		t.Errorf("got %v", spans)
	}
}
