package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutlog"
	otellog "go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
)

// auditExport sends a copy of the audit log where OTEL_LOGS_EXPORTER says, in
// the background. What it loses is counted, and costs no agent anything.
type auditExport struct {
	provider *sdklog.LoggerProvider // nil: nowhere
	counts   *exportCounts
}

// exportCounts are of log records, and of exports that failed. What is neither
// exported, failed nor dropped waits.
type exportCounts struct{ emitted, exported, failed, dropped, exports atomic.Int64 }

// logger is nil when the audit log is not exported.
func (t *telemetry) logger() otellog.Logger {
	if t.logs.provider == nil {
		return nil
	}
	return t.logs.provider.Logger(instrumentationScope)
}

// exportLogs sets the export up, if OTEL_LOGS_EXPORTER asks for it. An endpoint
// alone does not: the log says who did what.
func (t *telemetry) exportLogs(ctx context.Context, res *resource.Resource, complain func(string, error)) error {
	name := os.Getenv("OTEL_LOGS_EXPORTER")
	if name == "" || name == "none" || sdkDisabled() {
		return nil
	}
	exporter, err := logExporter(ctx, name)
	if err != nil {
		return fmt.Errorf("OTEL_LOGS_EXPORTER: %w", err)
	}
	t.exporters["logs"] = name
	counts, room := &exportCounts{}, queueSize("OTEL_BLRP_MAX_QUEUE_SIZE", 2048) // the specification's default
	t.logs = auditExport{counts: counts, provider: sdklog.NewLoggerProvider(sdklog.WithResource(res),
		sdklog.WithProcessor(counted{sdklog.NewBatchProcessor(tallied{exporter, counts, complain}), counts, room}))}
	t.flush = append([]func(context.Context) error{t.logs.provider.Shutdown}, t.flush...)
	return t.observeExport()
}

func logExporter(ctx context.Context, name string) (sdklog.Exporter, error) {
	if name == "console" { // standard output is the audit log's
		return stdoutlog.New(stdoutlog.WithWriter(os.Stderr))
	}
	return autoexport.NewLogExporter(ctx)
}

func (t *telemetry) observeExport() error {
	meter, counts := t.meter(), t.logs.counts
	records, err := meter.Int64ObservableCounter("credfree.audit.exports", metric.WithUnit("{record}"),
		metric.WithDescription("Audit records for OTEL_LOGS_EXPORTER, by outcome; what was emitted and nothing else yet waits, and what found too much waiting was dropped."))
	if err != nil {
		return err
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for outcome, count := range map[string]int64{"emitted": counts.emitted.Load(), "exported": counts.exported.Load(), "failed": counts.failed.Load(), "dropped": counts.dropped.Load()} {
			o.ObserveInt64(records, count, metric.WithAttributes(attribute.String("outcome", outcome)))
		}
		return nil
	}, records)
	return err
}

// counted is the batch processor of the SDK behind a counter. The SDK drops what finds
// its queue full and tells nobody; here it is dropped, and counted, before.
type counted struct {
	sdklog.Processor
	counts *exportCounts
	room   int64
}

func (c counted) OnEmit(ctx context.Context, record *sdklog.Record) error {
	waiting := c.counts.emitted.Add(1) - c.counts.exported.Load() - c.counts.failed.Load() - c.counts.dropped.Load()
	if waiting > c.room {
		c.counts.dropped.Add(1)
		return nil
	}
	return c.Processor.OnEmit(ctx, record)
}

// failures counts exports that failed.
func (a auditExport) failures() int64 {
	if a.counts == nil {
		return 0
	}
	return a.counts.exports.Load()
}

// tallied is an exporter that counts what goes out. What fails has been counted, and
// told: the SDK need not tell it again.
type tallied struct {
	sdklog.Exporter
	counts   *exportCounts
	complain func(signal string, err error)
}

func (c tallied) Export(ctx context.Context, records []sdklog.Record) error {
	if err := c.Exporter.Export(ctx, records); err != nil {
		c.counts.failed.Add(int64(len(records)))
		c.counts.exports.Add(1)
		c.complain("logs", err)
		return nil //nolint:nilerr // counted
	}
	c.counts.exported.Add(int64(len(records)))
	return nil
}
