package admin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/recent"
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
	Resolve Resolver     // required
	Hosts   []string     // host names to accept beside localhost and the loopback addresses
	// Memory is what operators look at. Required.
	Memory *recent.Memory
	// Overview says how the broker is. Required; called concurrently.
	Overview func() Overview
	// UserHash is what stands for a user of whom it is asked, where users are hashed. The
	// error says what to write instead. Nil: users are never hashed. Called concurrently.
	UserHash func(user string) (string, error)
	// Key is what operators present who are neither root nor the broker's own
	// user. Nil: there are no others.
	Key *peer.Keys
	// Version is the program's, for people to see.
	Version string
}

// Handler serves operators.
type Handler struct {
	cfg      Config
	guard    peer.Guard
	mux      *http.ServeMux
	sessions *sessions
	formKey  string        // what the forms of our own pages hold
	done     chan struct{} // closed when the streams have to end
	ending   sync.Once
}

// New returns a Handler, or an error when something required is missing.
func New(cfg Config) (*Handler, error) {
	if cfg.Metrics == nil || cfg.Parts == nil || cfg.Purge == nil || cfg.Resolve == nil || cfg.Memory == nil || cfg.Overview == nil {
		return nil, errors.New("the admin listener needs parts, metrics, a memory, an overview and a way to purge")
	}
	h := &Handler{cfg: cfg, guard: peer.Guard{Hosts: cfg.Hosts}, mux: http.NewServeMux(), sessions: newSessions(), formKey: rand.Text(), done: make(chan struct{})}
	h.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n")) // a reader that is gone is its own fault
	})
	h.mux.HandleFunc("GET /readyz", h.ready)
	h.mux.Handle("GET /metrics", cfg.Metrics)
	h.mux.HandleFunc("POST "+PurgePath, h.purge)
	h.routePages()
	return h, nil
}

// ServeHTTP implements http.Handler. What is for programs alone is answered to
// no browser; the pages are answered to those of the same origin.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	guard := h.guard
	guard.SameOrigin = !forPrograms(r)
	if err := guard.Check(r); err != nil {
		text := err.Error()
		if refusal, ok := errors.AsType[*peer.Refusal](err); ok && refusal.Reason == "fetch_site" && guard.SameOrigin {
			text = "The link that led here is on a page of another origin. Type or paste the address instead."
		}
		http.Error(w, text, http.StatusForbidden)
		return
	}
	h.mux.ServeHTTP(w, r)
}

func forPrograms(r *http.Request) bool {
	switch r.URL.Path {
	case "/healthz", "/readyz", "/metrics":
		return true
	case PurgePath:
		return r.Method == http.MethodPost
	}
	return false
}

// Close ends the streams, which would go on for as long as somebody reads them.
func (h *Handler) Close() { h.ending.Do(func() { close(h.done) }) }

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

// state asks all parts.
func (h *Handler) state(ctx context.Context) State {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	parts := h.cfg.Parts()
	state := State{Ready: true, Parts: make(map[string]PartState, len(parts))}
	for _, part := range parts {
		one := part.Check(ctx)
		one.ReportOnly = part.ReportOnly
		state.Ready = state.Ready && (one.OK || part.ReportOnly)
		state.Parts[part.Name] = one
	}
	return state
}

func (h *Handler) ready(w http.ResponseWriter, r *http.Request) {
	state := h.state(r.Context())
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
