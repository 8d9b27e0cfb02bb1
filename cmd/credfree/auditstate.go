package main

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/metric"

	"github.com/credfree/credfree/broker/admin"
)

// auditState is not well while no audit line can be written. Where the policy
// asks for best effort only, that takes nobody out of service.
func (s *service) auditState(context.Context) admin.PartState {
	state := admin.PartState{}
	if s.cfg.auditDetail != nil {
		state.Detail = s.cfg.auditDetail()
	}
	bestEffort := s.inForce().Policy.Recording.BestEffort
	if bestEffort {
		state.Detail = join(state.Detail, "best effort: tokens go out without a line when none can be written")
	}
	err := s.recorder.AuditError()
	switch {
	case err == nil:
		state.OK = true
	case bestEffort:
		state.Error, state.Hint = err.Error(), "make the audit log writable: until then tokens go out unrecorded"
	default:
		state.Error, state.Hint = err.Error(), "make the audit log writable: until then there are no tokens"
	}
	return state
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// observeAudit publishes whether audit lines are required, and whether there
// are any.
func (s *service) observeAudit() error {
	meter := s.cfg.telemetry.meter()
	required, err1 := meter.Int64ObservableGauge("credfree.audit.required", metric.WithDescription("1 when there is no token without an audit line, 0 with audit: best-effort."))
	writable, err2 := meter.Int64ObservableGauge("credfree.audit.writable", metric.WithDescription("1 when audit lines can be written, else 0."))
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(required, oneIf(!s.inForce().Policy.Recording.BestEffort))
		o.ObserveInt64(writable, oneIf(s.recorder.AuditError() == nil))
		return nil
	}, required, writable)
	return err
}

func oneIf(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}
