package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/credfree/credfree/broker/admin"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/workload"
)

// parts are what /readyz looks at. A broker without a workload token or an
// audit log cannot serve; one that does not reach Entra still can, from its
// cache.
func (s *service) parts() []admin.Part {
	parts := []admin.Part{
		{Name: "policy", Check: s.policyState},
		{Name: "audit", Check: s.auditState},
		{Name: "entra", Check: s.entraState, ReportOnly: true},
	}
	for name, source := range s.sources {
		parts = append(parts, admin.Part{Name: "source " + name, Check: s.sourceState(source)})
	}
	if s.keys.Len() > 0 {
		parts = append(parts, admin.Part{Name: "keys", Check: s.keysState})
	}
	return parts
}

func (s *service) policyState(context.Context) admin.PartState {
	p := s.cfg.policy
	return admin.PartState{OK: true, Detail: fmt.Sprintf("revision %s, %d agents, %d warnings", p.Revision, len(p.Agents), len(p.Warnings))}
}

func (s *service) auditState(context.Context) admin.PartState {
	if err := s.recorder.AuditError(); err != nil {
		return admin.PartState{Error: err.Error(), Hint: "make the audit log writable: until then there are no tokens"}
	}
	return admin.PartState{OK: true}
}

func (s *service) entraState(context.Context) admin.PartState {
	at, err := s.broker.LastExchange()
	if at.IsZero() {
		return admin.PartState{OK: true, Detail: "not asked yet"}
	}
	when := "last asked at " + at.UTC().Format(time.RFC3339)
	if failure, ok := errors.AsType[*exchange.Error](err); ok {
		return admin.PartState{Detail: when, Error: failure.Message, Hint: failure.Hint}
	}
	return admin.PartState{OK: true, Detail: when}
}

func (s *service) sourceState(source *watched) func(context.Context) admin.PartState {
	return func(ctx context.Context) admin.PartState {
		until, err := source.state(ctx)
		if problem, ok := errors.AsType[*workload.Error](err); ok {
			return admin.PartState{Error: problem.Message, Hint: problem.Hint}
		}
		if err != nil {
			return admin.PartState{Error: err.Error()}
		}
		if !time.Now().Before(until) {
			return admin.PartState{Error: "the last workload token has expired", Hint: "the next exchange asks for another"}
		}
		return admin.PartState{OK: true, Detail: "valid until " + until.UTC().Format(time.RFC3339)}
	}
}

func (s *service) keysState(context.Context) admin.PartState {
	if problems := s.keys.Problems(); len(problems) > 0 {
		return admin.PartState{Error: errors.Join(problems...).Error(), Hint: "until then its agents are unknown callers"}
	}
	return admin.PartState{OK: true}
}

// observe publishes the state of the cache and of the workload tokens.
func (s *service) observe() error {
	meter := s.cfg.telemetry.meter()
	entries, err1 := meter.Int64ObservableGauge("credfree.cache.entries", metric.WithUnit("{token}"), metric.WithDescription("Tokens in the cache."))
	size, err2 := meter.Int64ObservableGauge("credfree.cache.size", metric.WithUnit("By"), metric.WithDescription("Memory the cached tokens take."))
	evicted, err3 := meter.Int64ObservableCounter("credfree.cache.evictions", metric.WithUnit("{token}"), metric.WithDescription("Tokens dropped for lack of room."))
	held, err4 := meter.Int64ObservableGauge("credfree.exchange.holds", metric.WithUnit("{hold}"), metric.WithDescription("Clients for which nothing is sent to Entra now, by reason."))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		stats := s.cache.Stats()
		o.ObserveInt64(entries, int64(stats.Entries))
		o.ObserveInt64(size, stats.Bytes)
		o.ObserveInt64(evicted, int64(stats.Evicted))
		holds := map[exchange.HoldKind]int64{exchange.Throttled: 0, exchange.BreakerOpen: 0}
		for _, hold := range s.exchange.Holds() {
			holds[hold.Kind]++
		}
		for kind, count := range holds {
			o.ObserveInt64(held, count, metric.WithAttributes(attribute.String("kind", string(kind))))
		}
		return nil
	}, entries, size, evicted, held)
	return err
}
