package main

import (
	"context"
	"errors"
	"os"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// spanExporter is the one that OTEL_TRACES_EXPORTER names; nil when no variable
// asks for any.
func spanExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	switch name := os.Getenv("OTEL_TRACES_EXPORTER"); {
	case name == "console": // standard output is the audit log's
		return stdouttrace.New(stdouttrace.WithWriter(os.Stderr))
	case name != "" && name != "otlp":
		exporter, err := autoexport.NewSpanExporter(ctx)
		if err != nil || autoexport.IsNoneSpanExporter(exporter) {
			return nil, err
		}
		return exporter, nil
	case name == "" && os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "":
		return nil, nil
	}
	protocol := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if protocol == "" {
		protocol = os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	switch protocol {
	case "", "http/protobuf":
		return newOTLPSpans(ctx, otlptracehttp.NewClient())
	case "grpc":
		return newOTLPSpans(ctx, otlptracegrpc.NewClient())
	}
	return nil, errors.New("OTEL_EXPORTER_OTLP_PROTOCOL has to be http/protobuf or grpc")
}

// otlpSpans exports spans by the clients of the SDK, and encodes them itself:
// with a span to each request, the objects that the SDK makes of one cost more
// than answering it. What is encoded goes into a message as a field that the
// message does not know, and is written as it is. A batch with a span that is
// unlike ours is left to the SDK.
type otlpSpans struct {
	*otlptrace.Exporter
	client otlptrace.Client
	scopes []scopeSpans // their memory is used again
}

// scopeSpans are the encoded spans of one scope.
type scopeSpans struct {
	instrumentation.Scope
	spans []byte
}

func newOTLPSpans(ctx context.Context, client otlptrace.Client) (*otlpSpans, error) {
	exporter, err := otlptrace.New(ctx, client)
	return &otlpSpans{Exporter: exporter, client: client}, err
}

// maxUpload is about how much is sent at once: collectors refuse what is larger than
// 4 MiB, with all that is in it.
const maxUpload = 1 << 20

// ExportSpans implements sdktrace.SpanExporter, which is not called again before
// it returns.
func (o *otlpSpans) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	var problems []error
	for len(spans) > 0 {
		batch, n, err := o.encode(spans)
		if err != nil {
			return errors.Join(append(problems, o.Exporter.ExportSpans(ctx, spans))...)
		}
		encoded := &tracepb.ResourceSpans{}
		encoded.ProtoReflect().SetUnknown(batch)
		problems = append(problems, o.client.UploadTraces(ctx, []*tracepb.ResourceSpans{encoded}))
		spans = spans[n:]
	}
	return errors.Join(problems...)
}

// encode returns the first n spans as a ResourceSpans: all, or as many as are about
// maxUpload.
func (o *otlpSpans) encode(spans []sdktrace.ReadOnlySpan) (batch []byte, n int, err error) {
	for i := range o.scopes {
		o.scopes[i].spans = o.scopes[i].spans[:0]
	}
	of, size := spans[0].Resource(), 0
	var one []byte
	for ; n < len(spans) && size < maxUpload; n++ {
		span := spans[n]
		if one, err = appendSpan(one[:0], span); err != nil || span.Resource() != of {
			return nil, 0, errors.Join(err, errUnusual)
		}
		scope := o.scope(span.InstrumentationScope())
		scope.spans = appendBytes(scope.spans, fieldSpan, one)
		size += len(one)
	}
	described, err := appendAttributes(nil, fieldResourceAttribute, of.Attributes())
	batch = appendBytes(make([]byte, 0, size+size/8+1024), fieldResource, described)
	for i := range o.scopes {
		if s := &o.scopes[i]; len(s.spans) > 0 {
			batch = s.append(batch)
		}
	}
	return appendText(batch, fieldSchema, of.SchemaURL()), n, err
}

// scope returns where the spans of a scope are collected. There are few.
func (o *otlpSpans) scope(of instrumentation.Scope) *scopeSpans {
	for i := range o.scopes {
		if o.scopes[i].Scope == of {
			return &o.scopes[i]
		}
	}
	o.scopes = append(o.scopes, scopeSpans{Scope: of})
	return &o.scopes[len(o.scopes)-1]
}
