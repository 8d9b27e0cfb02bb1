package issuance

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics counts issuances. Every label is from a closed set or from the
// policy; scopes and users are never labels.
type metrics struct {
	duration      metric.Float64Histogram
	auditFailures metric.Int64Counter
	refreshes     metric.Int64Counter
	age           metric.Float64Histogram
	verifications metric.Int64Counter

	mu       sync.RWMutex // guards the rest
	series   map[labels]*series
	problems map[string][]metric.AddOption // of verifications
}

type labels struct {
	agent, door, grant, reason string
	decision                   Decision
	cache                      Cache
}

// series counts the requests of one set of labels, for the meter to ask: there is
// one more with each request, and the SDK's own counter takes half a microsecond.
type series struct {
	requests atomic.Int64
	labels   metric.ObserveOption
	record   []metric.RecordOption
}

func newMetrics(meter metric.Meter) (*metrics, error) {
	m := &metrics{series: map[labels]*series{}, problems: map[string][]metric.AddOption{}}
	requests, err1 := meter.Int64ObservableCounter("credfree.token.requests",
		metric.WithUnit("{request}"), metric.WithDescription("Token requests answered, by outcome."))
	_, err0 := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		m.observe(o, requests)
		return nil
	}, requests)
	var err2, err3, err4, err5, err6 error
	m.duration, err2 = meter.Float64Histogram("credfree.token.duration",
		metric.WithUnit("s"), metric.WithDescription("Time from request to answer."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10))
	m.auditFailures, err3 = meter.Int64Counter("credfree.audit.failures",
		metric.WithUnit("{line}"), metric.WithDescription("Audit lines that could not be written."))
	m.refreshes, err4 = meter.Int64Counter("credfree.token.refreshes",
		metric.WithUnit("{refresh}"), metric.WithDescription("Background refreshes ended, by outcome."))
	m.age, err5 = meter.Float64Histogram("credfree.token.age",
		metric.WithUnit("s"), metric.WithDescription("Age of the tokens handed out."),
		metric.WithExplicitBucketBoundaries(1, 60, 300, 900, 1800, 2700, 3600, 7200, 14400, 43200, 86400))
	m.verifications, err6 = meter.Int64Counter("credfree.user.verifications",
		metric.WithUnit("{token}"), metric.WithDescription("Users' tokens verified, by what is wrong with them."))
	return m, errors.Join(err0, err1, err2, err3, err4, err5, err6)
}

func (m *metrics) refreshed(ctx context.Context, agent, reason string) {
	m.refreshes.Add(ctx, 1, metric.WithAttributes(attribute.String("agent", agent), attribute.String("reason", reason)))
}

// verified makes the options of each problem once, for they are dearer than counting.
func (m *metrics) verified(ctx context.Context, problem string) {
	m.mu.RLock()
	options := m.problems[problem]
	m.mu.RUnlock()
	if options == nil {
		options = []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(attribute.String("problem", problem)))}
		m.mu.Lock()
		m.problems[problem] = options
		m.mu.Unlock()
	}
	m.verifications.Add(ctx, 1, options...)
}

func (m *metrics) count(ctx context.Context, rec *Record, took time.Duration) {
	s := m.of(labels{rec.Agent, rec.Door, rec.Grant, rec.Reason, rec.Decision, rec.Cache})
	s.requests.Add(1)
	m.duration.Record(ctx, took.Seconds(), s.record...)
	if !rec.ExpiresAt.IsZero() && rec.Decision == Allow && !rec.Inspection {
		m.age.Record(ctx, rec.Age.Seconds())
	}
}

// of returns the series of the labels. There are as many as the sets that the
// labels are from allow.
func (m *metrics) of(l labels) *series {
	m.mu.RLock()
	s, ok := m.series[l]
	m.mu.RUnlock()
	if ok {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok = m.series[l]; !ok {
		s = l.series()
		m.series[l] = s
	}
	return s
}

func (m *metrics) observe(o metric.Observer, requests metric.Int64Observable) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, s := range m.series {
		o.ObserveInt64(requests, s.requests.Load(), s.labels)
	}
}

func (l labels) series() *series {
	all := metric.WithAttributeSet(attribute.NewSet(
		attribute.String("agent", l.agent), attribute.String("door", l.door), attribute.String("grant", l.grant),
		attribute.String("decision", string(l.decision)), attribute.String("reason", l.reason), attribute.String("cache", string(l.cache))))
	some := metric.WithAttributeSet(attribute.NewSet(
		attribute.String("door", l.door), attribute.String("decision", string(l.decision)), attribute.String("cache", string(l.cache))))
	return &series{labels: all, record: []metric.RecordOption{some}}
}
