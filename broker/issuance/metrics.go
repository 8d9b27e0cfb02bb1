package issuance

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics counts issuances. Every label is from a closed set or from the
// policy; scopes and users are never labels.
type metrics struct {
	requests      metric.Int64Counter
	duration      metric.Float64Histogram
	auditFailures metric.Int64Counter
	refreshes     metric.Int64Counter
	age           metric.Float64Histogram
	verifications metric.Int64Counter

	sets sync.Map // of labels to *options; bounded by the labels' sets
}

type labels struct {
	agent, door, grant, reason string
	decision                   Decision
	cache                      Cache
}

type options struct {
	add    []metric.AddOption
	record []metric.RecordOption
}

func newMetrics(meter metric.Meter) (*metrics, error) {
	requests, err1 := meter.Int64Counter("credfree.token.requests",
		metric.WithUnit("{request}"), metric.WithDescription("Token requests answered, by outcome."))
	duration, err2 := meter.Float64Histogram("credfree.token.duration",
		metric.WithUnit("s"), metric.WithDescription("Time from request to answer."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10))
	failures, err3 := meter.Int64Counter("credfree.audit.failures",
		metric.WithUnit("{line}"), metric.WithDescription("Audit lines that could not be written."))
	refreshes, err4 := meter.Int64Counter("credfree.token.refreshes",
		metric.WithUnit("{refresh}"), metric.WithDescription("Background refreshes ended, by outcome."))
	age, err5 := meter.Float64Histogram("credfree.token.age",
		metric.WithUnit("s"), metric.WithDescription("Age of the tokens handed out."),
		metric.WithExplicitBucketBoundaries(1, 60, 300, 900, 1800, 2700, 3600, 7200, 14400, 43200, 86400))
	verifications, err6 := meter.Int64Counter("credfree.user.verifications",
		metric.WithUnit("{token}"), metric.WithDescription("Users' tokens verified, by what is wrong with them."))
	return &metrics{requests: requests, duration: duration, auditFailures: failures, refreshes: refreshes, age: age, verifications: verifications},
		errors.Join(err1, err2, err3, err4, err5, err6)
}

func (m *metrics) refreshed(ctx context.Context, agent, reason string) {
	m.refreshes.Add(ctx, 1, metric.WithAttributes(attribute.String("agent", agent), attribute.String("reason", reason)))
}

func (m *metrics) count(ctx context.Context, rec *Record, took time.Duration) {
	key := labels{rec.Agent, rec.Door, rec.Grant, rec.Reason, rec.Decision, rec.Cache}
	found, ok := m.sets.Load(key)
	if !ok {
		found, _ = m.sets.LoadOrStore(key, key.options())
	}
	o := found.(*options)
	m.requests.Add(ctx, 1, o.add...)
	m.duration.Record(ctx, took.Seconds(), o.record...)
	if !rec.ExpiresAt.IsZero() && rec.Decision == Allow {
		m.age.Record(ctx, rec.Age.Seconds())
	}
}

func (l labels) options() *options {
	all := metric.WithAttributeSet(attribute.NewSet(
		attribute.String("agent", l.agent), attribute.String("door", l.door), attribute.String("grant", l.grant),
		attribute.String("decision", string(l.decision)), attribute.String("reason", l.reason), attribute.String("cache", string(l.cache))))
	some := metric.WithAttributeSet(attribute.NewSet(
		attribute.String("door", l.door), attribute.String("decision", string(l.decision)), attribute.String("cache", string(l.cache))))
	return &options{add: []metric.AddOption{all}, record: []metric.RecordOption{some}}
}
