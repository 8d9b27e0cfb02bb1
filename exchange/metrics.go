package exchange

import (
	"context"
	"errors"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// metrics counts requests for tokens. Each label is of a closed set.
type metrics struct {
	duration metric.Float64Histogram
	refusals metric.Int64Counter
}

func newMetrics(meter metric.Meter) (metrics, error) {
	if meter == nil {
		meter = noop.NewMeterProvider().Meter("")
	}
	duration, err1 := meter.Float64Histogram("credfree.exchange.duration", metric.WithUnit("s"),
		metric.WithDescription("Time of one request for a token to Entra or to the machine's endpoint, by leg and by what went wrong."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10))
	refusals, err2 := meter.Int64Counter("credfree.exchange.refusals", metric.WithUnit("{answer}"),
		metric.WithDescription("Entra's refusals, by AADSTS number; other for one that the broker has no hint for."))
	return metrics{duration, refusals}, errors.Join(err1, err2)
}

// sent counts one request.
func (m metrics) sent(ctx context.Context, a *ask, took time.Duration, failure *Error) {
	leg, reason := a.leg, ""
	if a.grant == grantManagedIdentity {
		leg = "machine"
	}
	if failure != nil {
		reason = string(failure.Reason)
		if len(failure.Codes) > 0 {
			code := "other"
			if _, known := hints[failure.Codes[0]]; known {
				code = strconv.Itoa(failure.Codes[0])
			}
			m.refusals.Add(ctx, 1, metric.WithAttributes(attribute.String("code", code)))
		}
	}
	m.duration.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String("leg", leg), attribute.String("reason", reason)))
}
