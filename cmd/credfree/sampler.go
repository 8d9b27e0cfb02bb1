package main

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// hitsFromEnv says which plain cache hits get a span: those that
// OTEL_TRACES_SAMPLER wants. Nil is all of them. Denials, failures and exchanges
// are what operators look for, and they are rare: each of them gets one.
func hitsFromEnv() func(context.Context) bool {
	switch os.Getenv("OTEL_TRACES_SAMPLER") {
	case "always_off", "parentbased_always_off":
		return func(context.Context) bool { return false }
	case "traceidratio", "parentbased_traceidratio":
		if ratio, err := strconv.ParseFloat(os.Getenv("OTEL_TRACES_SAMPLER_ARG"), 64); err == nil {
			return someHits(ratio)
		}
	}
	return nil
}

// someHits wants a share of the hits: of those in a caller's trace, the ones that
// whoever samples by trace id wants too.
func someHits(ratio float64) func(context.Context) bool {
	byID := sdktrace.TraceIDRatioBased(ratio)
	return func(ctx context.Context) bool {
		if parent := trace.SpanContextFromContext(ctx); parent.IsValid() {
			return byID.ShouldSample(sdktrace.SamplingParameters{TraceID: parent.TraceID()}).Decision == sdktrace.RecordAndSample
		}
		return rand.Float64() < ratio
	}
}

// sampler keeps every span that is made, but those below one that was not: see
// hitsFromEnv. A caller's traceparent can put an issuance into a trace, but its
// sampled flag cannot hide the issuance.
type sampler struct{}

// ShouldSample implements sdktrace.Sampler.
func (sampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	parent := trace.SpanContextFromContext(p.ParentContext)
	result := sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample, Tracestate: parent.TraceState()}
	if parent.IsValid() && !parent.IsRemote() && !parent.IsSampled() {
		result.Decision = sdktrace.Drop
	}
	return result
}

// Description implements sdktrace.Sampler.
func (sampler) Description() string { return "credfree" }
