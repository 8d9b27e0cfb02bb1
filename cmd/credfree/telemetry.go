package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

const instrumentationScope = "github.com/credfree/credfree"

// telemetry is the OpenTelemetry SDK, set up by the standard OTEL_* variables.
type telemetry struct {
	tracers trace.TracerProvider
	meters  metric.MeterProvider
	metrics http.Handler // the Prometheus form
	logs    auditExport
	noHits  bool // nobody wants the spans of plain cache hits
	// exporters are their names by signal, for the log.
	exporters map[string]string
	flush     []func(context.Context) error
}

// tracer is nil when spans go nowhere, which spares the hit path their making.
func (t *telemetry) tracer() trace.Tracer {
	if _, none := t.tracers.(noop.TracerProvider); none {
		return nil
	}
	return t.tracers.Tracer(instrumentationScope)
}

func (t *telemetry) meter() metric.Meter { return t.meters.Meter(instrumentationScope) }

// newTelemetry exports spans where OTEL_* say so, or nowhere, and to the
// processors given; metrics to /metrics and, if OTEL_* say so, over OTLP too.
func newTelemetry(ctx context.Context, log *slog.Logger, processors ...sdktrace.SpanProcessor) (*telemetry, error) {
	// A lost export is worth a line, and never the text of what was exported.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {
		log.Warn("telemetry could not be exported; see OTEL_EXPORTER_* and the collector")
	}))
	res, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "credfree"), attribute.String("service.version", buildVersion())), resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	t := &telemetry{tracers: noop.NewTracerProvider(), exporters: map[string]string{"traces": "none", "metrics": "prometheus", "logs": "none"}}
	if err := t.traces(ctx, res, processors); err != nil {
		return nil, err
	}
	if err := t.meterProvider(ctx, res); err != nil {
		return nil, err
	}
	return t, t.exportLogs(ctx, res)
}

func (t *telemetry) traces(ctx context.Context, res *resource.Resource, processors []sdktrace.SpanProcessor) error {
	if os.Getenv("OTEL_SDK_DISABLED") == "true" {
		return nil
	}
	var options []autoexport.SpanOption
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
		options = append(options, autoexport.WithFallbackSpanExporter(noSpans))
	}
	exporter, err := autoexport.NewSpanExporter(ctx, options...)
	if err != nil {
		return fmt.Errorf("OTEL_TRACES_EXPORTER: %w", err)
	}
	providerOptions := []sdktrace.TracerProviderOption{sdktrace.WithResource(res), sdktrace.WithSampler(samplerFromEnv())}
	if _, none := exporter.(nowhere); !none && !autoexport.IsNoneSpanExporter(exporter) {
		providerOptions = append(providerOptions, sdktrace.WithBatcher(exporter))
		t.exporters["traces"] = exporterName("OTEL_TRACES_EXPORTER")
	} else if len(processors) == 0 {
		return nil
	} else {
		// The page makes the spans of hits from their records.
		t.noHits = !slices.ContainsFunc(processors, func(p sdktrace.SpanProcessor) bool { _, local := p.(spanKeeper); return !local })
	}
	for _, processor := range processors {
		providerOptions = append(providerOptions, sdktrace.WithSpanProcessor(processor))
	}
	provider := sdktrace.NewTracerProvider(providerOptions...)
	t.tracers = provider
	t.flush = append(t.flush, provider.Shutdown)
	return nil
}

func (t *telemetry) meterProvider(ctx context.Context, res *resource.Resource) error {
	registry := prometheus.NewRegistry()
	reader, err := otelprom.New(otelprom.WithRegisterer(registry), otelprom.WithoutScopeInfo())
	if err != nil {
		return err
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithReader(reader)}
	var readerOptions []autoexport.MetricOption
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") == "" {
		readerOptions = append(readerOptions, autoexport.WithFallbackMetricReader(func(context.Context) (sdkmetric.Reader, error) {
			return sdkmetric.NewManualReader(), nil
		}))
	}
	pushed, err := autoexport.NewMetricReader(ctx, readerOptions...)
	if err != nil {
		return fmt.Errorf("OTEL_METRICS_EXPORTER: %w", err)
	}
	if !autoexport.IsNoneMetricReader(pushed) {
		options = append(options, sdkmetric.WithReader(pushed))
		if name := exporterName("OTEL_METRICS_EXPORTER"); os.Getenv("OTEL_METRICS_EXPORTER") != "" || len(readerOptions) == 0 {
			t.exporters["metrics"] += "," + name
		}
	}
	provider := sdkmetric.NewMeterProvider(options...)
	t.meters = provider
	t.metrics = promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
	t.flush = append(t.flush, provider.Shutdown)
	return nil
}

// exporterName is the name in a variable, or what stands for it when an endpoint
// alone is given. Names that are not known have been refused before.
func exporterName(variable string) string {
	if name := os.Getenv(variable); name != "" {
		return name
	}
	return "otlp"
}

// shutdown flushes everything within ctx.
func (t *telemetry) shutdown(ctx context.Context) error {
	var problems []error
	for _, flush := range t.flush {
		problems = append(problems, flush(ctx))
	}
	return errors.Join(problems...)
}

// instrument gives the requests to Entra their own spans and metrics. Nothing
// of the caller's trace or baggage is sent: Entra gets a correlation id.
func (t *telemetry) instrument(base http.RoundTripper) http.RoundTripper {
	return otelhttp.NewTransport(base,
		otelhttp.WithTracerProvider(t.tracers), otelhttp.WithMeterProvider(t.meters),
		otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator()))
}

// nowhere is where spans go when no variable says otherwise.
type nowhere struct{}

func noSpans(context.Context) (sdktrace.SpanExporter, error) { return nowhere{}, nil }

func (nowhere) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (nowhere) Shutdown(context.Context) error                             { return nil }

// Time for the end: for requests under way, and for telemetry.
const (
	drainTime    = 5 * time.Second
	shutdownTime = 3 * time.Second
)
