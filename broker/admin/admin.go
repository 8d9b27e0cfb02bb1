// Package admin owns the HTTP listener for operators: health, readiness,
// metrics and purging.
//
// It hands out nothing that could be spent, but it is for loopback and for no
// browser page all the same: the guard of the agents' doors stands here too.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/credfree/credfree/broker/peer"
)

// Part is one thing that readiness depends on or reports.
type Part struct {
	Name string
	// Check says how the part is, within ctx. Called concurrently.
	Check func(ctx context.Context) PartState
	// ReportOnly parts are shown and do not make the broker unready.
	ReportOnly bool
}

// Config is what New needs.
type Config struct {
	// Parts returns what readiness looks at now. Required; called concurrently.
	Parts   func() []Part
	Metrics http.Handler // required
	Purge   Purger       // required
	Hosts   []string     // host names to accept beside localhost and the loopback addresses
}

// Handler serves operators.
type Handler struct {
	cfg   Config
	guard peer.Guard
	mux   *http.ServeMux
}

// New returns a Handler, or an error when something required is missing.
func New(cfg Config) (*Handler, error) {
	if cfg.Metrics == nil || cfg.Parts == nil || cfg.Purge == nil {
		return nil, errors.New("the admin listener needs parts, metrics and a way to purge")
	}
	h := &Handler{cfg: cfg, guard: peer.Guard{Hosts: cfg.Hosts}, mux: http.NewServeMux()}
	h.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n")) // a reader that is gone is its own fault
	})
	h.mux.HandleFunc("GET /readyz", h.ready)
	h.mux.Handle("GET /metrics", cfg.Metrics)
	h.mux.HandleFunc("POST /purge", h.purge)
	return h, nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if err := h.guard.Check(r); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// State is the answer of /readyz.
type State struct {
	Ready bool                 `json:"ready"`
	Parts map[string]PartState `json:"parts"`
}

// PartState is the state of one part. The zero value is not well.
type PartState struct {
	OK         bool   `json:"ok"`
	Detail     string `json:"detail,omitempty"`
	Error      string `json:"error,omitempty"`
	Hint       string `json:"hint,omitempty"`
	ReportOnly bool   `json:"report_only,omitempty"`
}

// checkTime bounds all checks of one readiness request together.
const checkTime = 2 * time.Second

func (h *Handler) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTime)
	defer cancel()
	parts := h.cfg.Parts()
	state := State{Ready: true, Parts: make(map[string]PartState, len(parts))}
	for _, part := range parts {
		one := part.Check(ctx)
		one.ReportOnly = part.ReportOnly
		state.Ready = state.Ready && (one.OK || part.ReportOnly)
		state.Parts[part.Name] = one
	}
	body, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		http.Error(w, "the state cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if !state.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(append(body, '\n')) // a reader that is gone is its own fault
}
