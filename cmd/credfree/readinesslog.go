package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/credfree/credfree/broker/admin"
)

// readinessInterval is how often the parts of readiness are looked at for the
// log. Probes look at them too.
const readinessInterval = 10 * time.Second

// readinessLog logs each change of a part, once each way.
type readinessLog struct {
	log    *slog.Logger
	failed map[string]bool // by the name of the part
	ready  bool
	began  bool
}

// watchReadiness logs changes until ctx ends.
func watchReadiness(ctx context.Context, log *slog.Logger, parts func() []admin.Part) {
	w := readinessLog{log: everyTime(log), failed: map[string]bool{}}
	ticker := time.NewTicker(readinessInterval)
	defer ticker.Stop()
	for {
		w.look(ctx, parts())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (w *readinessLog) look(ctx context.Context, parts []admin.Part) {
	ready, failed := true, map[string]bool{}
	for _, part := range parts {
		state := part.Check(ctx)
		if ctx.Err() != nil { // a check that was cut off says nothing
			return
		}
		ready = ready && (state.OK || part.ReportOnly)
		if !state.OK {
			failed[part.Name] = true
		}
		switch {
		case !w.began && part.ReportOnly && part.Name != auditPart: // the start says so itself
		case !state.OK && !w.failed[part.Name]:
			w.log.Warn("a part of readiness is not well", "part", part.Name, "err", state.Error, "hint", state.Hint, "report_only", part.ReportOnly)
		case state.OK && w.failed[part.Name]:
			w.log.Info("a part of readiness is well again", "part", part.Name, "detail", state.Detail)
		}
	}
	if w.began && ready != w.ready || !w.began && !ready {
		if ready {
			w.log.Info("the broker is ready again")
		} else {
			w.log.Warn("the broker is not ready")
		}
	}
	w.began, w.ready, w.failed = true, ready, failed
}
