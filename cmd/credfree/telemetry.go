package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
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
	metrics http.Handler               // the Prometheus form
	hits    func(context.Context) bool // which plain hits get spans; nil: all
	outbox  *outbox                    // nil when spans are not exported
	lost    atomic.Int64               // exports of metrics that failed
	pushes  bool                       // metrics go to a collector, too
	ending  atomic.Bool                // shutdown has begun
	logs    auditExport
	sampler string // of hits, as OTEL_TRACES_SAMPLER has it
	noHits  bool   // nobody wants the spans of plain cache hits
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
	t := &telemetry{tracers: noop.NewTracerProvider(), exporters: map[string]string{"traces": "none", "metrics": "prometheus", "logs": "none"}}
	quietOthers(log)
	// A lost export is worth a line, and never the text of what was exported.
	complain := func(signal string, err error) {
		log.Warn("telemetry could not be exported; see OTEL_EXPORTER_* and the collector", "signal", signal, "why", whyNot(err))
	}
	// Spans and audit records are counted where they are exported. What the SDK still
	// tells is about metrics, if there is anything to export at all.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		if t.ending.Load() && errors.Is(err, context.Canceled) {
			return // the end breaks a push off, and pushes once more
		}
		if !t.pushes {
			log.Warn("OpenTelemetry: something is wrong", "hint", "look at the OTEL_* variables")
			return
		}
		t.lost.Add(1)
		complain("metrics", err)
	}))
	var understood bool
	if t.sampler, t.hits, understood = samplerFromEnv(); !understood {
		log.Warn("OTEL_TRACES_SAMPLER or its OTEL_TRACES_SAMPLER_ARG is not understood: all issuances have spans", "hint", "use one of "+strings.Join(samplers, ", ")+"; a ratio is a number from 0 to 1")
	}
	attributes := append(podFromEnv(), attribute.String("service.name", "credfree"), attribute.String("service.version", buildVersion()))
	res, err := resource.New(ctx, resource.WithAttributes(attributes...), resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	if res, err = withInstance(res); err != nil {
		return nil, err
	}
	if err := t.traces(ctx, res, complain, processors); err != nil {
		return nil, err
	}
	if err := t.meterProvider(ctx, res); err != nil {
		return nil, err
	}
	if err := t.exportLogs(ctx, res, complain); err != nil {
		return nil, err
	}
	return t, t.observe()
}

// podFromEnv is where the broker runs, of the variables that Kubernetes sets by
// its downward API. OTEL_RESOURCE_ATTRIBUTES may say otherwise.
func podFromEnv() []attribute.KeyValue {
	var known []attribute.KeyValue
	for variable, key := range map[string]attribute.Key{
		"POD_NAME": "k8s.pod.name", "POD_UID": "k8s.pod.uid", "POD_NAMESPACE": "k8s.namespace.name", "NODE_NAME": "k8s.node.name",
		"POD_SERVICE_ACCOUNT": "k8s.serviceaccount.name",
	} {
		if value := os.Getenv(variable); value != "" {
			known = append(known, key.String(value))
		}
	}
	return known
}

// withInstance tells the brokers of several pods apart, for back ends that look at
// nothing else (service.instance.id, as OpenTelemetry makes it up in Kubernetes).
func withInstance(res *resource.Resource) (*resource.Resource, error) {
	value := func(key attribute.Key) string {
		v, _ := res.Set().Value(key)
		return v.AsString()
	}
	namespace, pod, container := value("k8s.namespace.name"), value("k8s.pod.name"), value("k8s.container.name")
	if value("service.instance.id") != "" || namespace == "" || pod == "" {
		return res, nil
	}
	if container == "" {
		container = "credfree"
	}
	return resource.Merge(res, resource.NewSchemaless(attribute.String("service.instance.id", namespace+"."+pod+"."+container)))
}

func sdkDisabled() bool { return strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") }

func (t *telemetry) traces(ctx context.Context, res *resource.Resource, complain func(string, error), processors []sdktrace.SpanProcessor) error {
	if sdkDisabled() {
		return nil
	}
	exporter, err := spanExporter(ctx)
	if err != nil {
		return fmt.Errorf("OTEL_TRACES_EXPORTER: %w", err)
	}
	providerOptions := []sdktrace.TracerProviderOption{sdktrace.WithResource(res), sdktrace.WithSampler(sampler{})}
	if exporter != nil {
		t.outbox = newOutbox(exporter, complain)
		providerOptions = append(providerOptions, sdktrace.WithSpanProcessor(t.outbox))
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
	pushed, err := pushReader(ctx)
	if err != nil {
		return fmt.Errorf("OTEL_METRICS_EXPORTER: %w", err)
	}
	if pushed != nil {
		options = append(options, sdkmetric.WithReader(pushed))
		t.pushes = true
		t.exporters["metrics"] += "," + exporterName("OTEL_METRICS_EXPORTER")
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

// pushReader pushes metrics where OTEL_* say so, and is nil when they do not: a
// reader that nobody reads would cost every request its share.
func pushReader(ctx context.Context) (sdkmetric.Reader, error) {
	exporter := os.Getenv("OTEL_METRICS_EXPORTER")
	named := exporter != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") != ""
	switch {
	case sdkDisabled() || !named:
		return nil, nil
	case exporter == "console": // standard output is the audit log's
		console, err := stdoutmetric.New(stdoutmetric.WithWriter(os.Stderr))
		return sdkmetric.NewPeriodicReader(console), err
	}
	reader, err := autoexport.NewMetricReader(ctx)
	if err != nil || autoexport.IsNoneMetricReader(reader) {
		return nil, err
	}
	return reader, nil
}

// observe publishes what became of the telemetry itself.
func (t *telemetry) observe() error {
	meter := t.meter()
	_, err1 := meter.Int64ObservableCounter("credfree.telemetry.spans", metric.WithUnit("{span}"), metric.WithDescription("Spans by what became of them: exported, failed, or dropped because the queue was full."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			for outcome, count := range t.outbox.counts() {
				o.Observe(count, metric.WithAttributes(attribute.String("outcome", outcome)))
			}
			return nil
		}))
	_, err2 := meter.Int64ObservableCounter("credfree.telemetry.export.failures", metric.WithUnit("{export}"), metric.WithDescription("Exports that failed, by signal."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(t.outbox.failures(), metric.WithAttributes(attribute.String("signal", "traces")))
			o.Observe(t.lost.Load(), metric.WithAttributes(attribute.String("signal", "metrics")))
			o.Observe(t.logs.failures(), metric.WithAttributes(attribute.String("signal", "logs")))
			return nil
		}))
	return errors.Join(err1, err2)
}

// shutdown flushes everything within ctx.
func (t *telemetry) shutdown(ctx context.Context) error {
	t.ending.Store(true)
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

// Time for the end: for requests under way, and for telemetry.
const (
	drainTime    = 5 * time.Second
	shutdownTime = 3 * time.Second
)
