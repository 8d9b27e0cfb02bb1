package main

import (
	"os"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// sampler keeps every issuance that is not a plain cache hit: denials, failures
// and exchanges are what operators look for, and they are rare. Hits follow
// OTEL_TRACES_SAMPLER. A caller's traceparent can put an issuance into a
// trace, but its sampled flag cannot hide the issuance.
type sampler struct{ hits sdktrace.Sampler }

func samplerFromEnv() sdktrace.Sampler {
	hits := sdktrace.AlwaysSample()
	switch os.Getenv("OTEL_TRACES_SAMPLER") {
	case "always_off", "parentbased_always_off":
		hits = sdktrace.NeverSample()
	case "traceidratio", "parentbased_traceidratio":
		if ratio, err := strconv.ParseFloat(os.Getenv("OTEL_TRACES_SAMPLER_ARG"), 64); err == nil {
			hits = sdktrace.TraceIDRatioBased(ratio)
		}
	}
	return sampler{hits: hits}
}

// ShouldSample implements sdktrace.Sampler.
func (s sampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	parent := trace.SpanContextFromContext(p.ParentContext)
	keep := sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample, Tracestate: parent.TraceState()}
	if parent.IsValid() && !parent.IsRemote() {
		if !parent.IsSampled() {
			keep.Decision = sdktrace.Drop
		}
		return keep
	}
	hit, allowed := false, false
	for _, a := range p.Attributes {
		switch a.Key {
		case "credfree.cache":
			hit = a.Value == attribute.StringValue("hit")
		case "credfree.decision":
			allowed = a.Value == attribute.StringValue("allow")
		}
	}
	if hit && allowed {
		return s.hits.ShouldSample(p)
	}
	return keep
}

// Description implements sdktrace.Sampler.
func (s sampler) Description() string { return "credfree{hits:" + s.hits.Description() + "}" }
