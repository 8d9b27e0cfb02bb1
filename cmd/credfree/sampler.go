package main

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// samplers are those of OTEL_TRACES_SAMPLER.
var samplers = []string{"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"}

// samplerFromEnv is the sampler that OTEL_TRACES_SAMPLER asks for, with its ratio, and
// whether it is understood.
func samplerFromEnv() (string, bool) {
	name, ratio := os.Getenv("OTEL_TRACES_SAMPLER"), os.Getenv("OTEL_TRACES_SAMPLER_ARG")
	switch {
	case name == "":
		return "always_on", true
	case !slices.Contains(samplers, name):
		return "", false
	case !strings.HasSuffix(name, "traceidratio") || ratio == "":
		return name, true
	}
	share, err := strconv.ParseFloat(ratio, 64)
	return name + " " + ratio, err == nil && share >= 0 && share <= 1
}

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
