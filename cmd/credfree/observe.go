package main

import (
	"context"
	"errors"
	"runtime"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/exchange"
)

// observed is a metric that is read when somebody asks for it.
type observed struct {
	name, unit, about string
	counter           bool // it only grows; else it is a gauge
	read              func(ctx context.Context, set func(value float64, labels ...attribute.KeyValue))
}

// observe publishes the state of the cache, of Entra and of the policy. Each
// label is of a closed set, or a name in the policy.
func (s *service) observe() error {
	meter := s.cfg.telemetry.meter()
	var problems []error
	for _, o := range append(s.observedTokens(), s.observedPolicy()...) {
		callback := func(ctx context.Context, to metric.Float64Observer) error {
			o.read(ctx, func(value float64, labels ...attribute.KeyValue) { to.Observe(value, metric.WithAttributes(labels...)) })
			return nil
		}
		var err error
		if o.counter {
			_, err = meter.Float64ObservableCounter(o.name, metric.WithUnit(o.unit), metric.WithDescription(o.about), metric.WithFloat64Callback(callback))
		} else {
			_, err = meter.Float64ObservableGauge(o.name, metric.WithUnit(o.unit), metric.WithDescription(o.about), metric.WithFloat64Callback(callback))
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

type setter = func(value float64, labels ...attribute.KeyValue)

// observedTokens are those of the cache, of the sources and of Entra.
func (s *service) observedTokens() []observed {
	return []observed{
		{name: "credfree.cache.entries", unit: "{token}", about: "Tokens in the cache.",
			read: func(_ context.Context, set setter) { set(float64(s.cache.Stats().Entries)) }},
		{name: "credfree.cache.size", unit: "By", about: "Memory the cached tokens take.",
			read: func(_ context.Context, set setter) { set(float64(s.cache.Stats().Bytes)) }},
		{name: "credfree.cache.in_flight", unit: "{exchange}", about: "Exchanges under way.",
			read: func(_ context.Context, set setter) { set(float64(s.cache.Stats().InFlight)) }},
		{name: "credfree.cache.removals", unit: "{token}", counter: true, about: "Tokens that left the cache, by cause: evicted for lack of room, expired, or purged.",
			read: func(_ context.Context, set setter) {
				stats := s.cache.Stats()
				set(float64(stats.Evicted), attribute.String("cause", "evicted"))
				set(float64(stats.Expired), attribute.String("cause", "expired"))
				set(float64(stats.Purged), attribute.String("cause", "purged"))
			}},
		{name: "credfree.token.time_to_expiry", unit: "s", about: "Time until the first of an agent's cached tokens expires, of those that are refreshed.",
			read: func(_ context.Context, set setter) {
				for agent, left := range s.cache.TimeLeft() {
					set(left.Seconds(), attribute.String("agent", agent))
				}
			}},
		{name: "credfree.workload.time_to_expiry", unit: "s", about: "Time until a source's last workload token expires, zero or below when it has; kind is file, which the platform keeps fresh, and which has zero without a token that can be used, or asked, which is asked at each exchange.",
			read: func(ctx context.Context, set setter) {
				for name, source := range s.inForce().sources {
					if until := source.lastExpiry(ctx); !until.IsZero() {
						kind := "asked"
						if source.fresh {
							kind = "file"
						}
						set(time.Until(until).Seconds(), attribute.String("source", name), attribute.String("kind", kind))
					}
				}
			}},
		{name: "credfree.exchange.holds", unit: "{hold}", about: "Clients for which nothing, or nothing for some scopes, is sent to Entra now: throttled, or after failures (breaker).",
			read: func(_ context.Context, set setter) {
				holds := map[exchange.HoldKind]int{exchange.Throttled: 0, exchange.BreakerOpen: 0}
				for _, hold := range s.inForce().Exchange.Holds() {
					holds[hold.Kind]++
				}
				for kind, count := range holds {
					set(float64(count), attribute.String("kind", string(kind)))
				}
			}},
		{name: "credfree.connections.refused", unit: "{connection}", counter: true, about: "Connections closed as they came, because their caller had too many.",
			read: func(_ context.Context, set setter) { set(float64(peer.Refused())) }},
		{name: "credfree.user.key_fetches", unit: "{fetch}", counter: true, about: "Fetches of the keys that sign users' tokens, by outcome.",
			read: func(_ context.Context, set setter) {
				fetches := s.inForce().Users.Fetches()
				set(float64(fetches.Done), attribute.String("outcome", "done"))
				set(float64(fetches.Failed), attribute.String("outcome", "failed"))
			}},
	}
}

// observedPolicy are those of the policy and of the build.
func (s *service) observedPolicy() []observed {
	return []observed{
		{name: "credfree.policy.info", about: "1, with the revision of the policy in force.",
			read: func(_ context.Context, set setter) {
				set(1, attribute.String("revision", s.inForce().Policy.Revision))
			}},
		{name: "credfree.policy.age", unit: "s", about: "Time since the policy was put in force.",
			read: func(_ context.Context, set setter) { set(time.Since(s.inForce().since).Seconds()) }},
		{name: "credfree.policy.last_success.timestamp", unit: "s", about: "When a policy was last put in force, in Unix time.",
			read: func(_ context.Context, set setter) { set(float64(s.inForce().since.UnixMilli()) / 1000) }},
		{name: "credfree.policy.reloads", unit: "{reload}", counter: true, about: "Attempts to put a changed policy file in force, by outcome.",
			read: func(_ context.Context, set setter) {
				s.mu.Lock()
				defer s.mu.Unlock()
				for _, outcome := range []string{reloadApplied, reloadRefused} {
					set(float64(s.reload.count[outcome]), attribute.String("outcome", outcome))
				}
			}},
		{name: "credfree.policy.in_force", about: "1 when the policy file on the disk is in force, else 0.",
			read: func(_ context.Context, set setter) {
				s.mu.Lock()
				defer s.mu.Unlock()
				current := 1.0
				if s.reload.failed != nil {
					current = 0
				}
				set(current)
			}},
		{name: "credfree.agent.time_to_expiry", unit: "s", about: "Time until an agent's last day ends, of agents that have one; below zero when it has.",
			read: func(_ context.Context, set setter) {
				for name, agent := range s.inForce().Policy.Agents {
					if !agent.Expires.IsZero() {
						set(time.Until(agent.Expires).Seconds(), attribute.String("agent", name))
					}
				}
			}},
		{name: "credfree.build.info", about: "1, with the version of the broker and of Go.",
			read: func(_ context.Context, set setter) {
				set(1, attribute.String("version", buildVersion()), attribute.String("go", runtime.Version()))
			}},
	}
}
