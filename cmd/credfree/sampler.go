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
// which plain cache hits it wants a span for; nil is all of them. Denials, failures and
// exchanges are what operators look for, and they are rare: each of them gets one. A
// sampler that is not understood wants all.
func samplerFromEnv() (name string, hits func(context.Context) bool, understood bool) {
	name, ratio := os.Getenv("OTEL_TRACES_SAMPLER"), os.Getenv("OTEL_TRACES_SAMPLER_ARG")
	switch {
	case name == "":
		return "always_on", nil, true
	case !slices.Contains(samplers, name):
		return "always_on", nil, false
	case strings.HasSuffix(name, "always_off"):
		return name, func(context.Context) bool { return false }, true
	case !strings.HasSuffix(name, "traceidratio") || ratio == "":
		return name, nil, true
	}
	share, err := strconv.ParseFloat(ratio, 64)
	if err != nil || !(share >= 0 && share <= 1) { // it may be no number at all
		return "always_on", nil, false
	}
	return name + " " + ratio, someHits(share), true
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
// samplerFromEnv. A caller's traceparent can put an issuance into a trace, but its
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
