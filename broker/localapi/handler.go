package localapi

import (
	"context"
	"errors"
	"net/http"

	"go.opentelemetry.io/otel/propagation"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/policy"
)

// Config is what New needs.
type Config struct {
	Broker *broker.Broker // required
	Hosts  []string       // host names to accept beside localhost and the loopback addresses
}

// Handler serves agents. It has to run in an http.Server whose ConnContext is
// peer.ConnContext: a request without a peer is nobody's.
type Handler struct {
	broker *broker.Broker
	guard  peer.Guard
}

// New returns a Handler, or an error without a broker.
func New(cfg Config) (*Handler, error) {
	if cfg.Broker == nil {
		return nil, errors.New("the doors need a broker")
	}
	return &Handler{broker: cfg.Broker, guard: peer.Guard{Hosts: cfg.Hosts}}, nil
}

const metadataPath = "/.well-known/oauth-authorization-server"

// ServeHTTP implements http.Handler. Paths are compared as they are: no
// redirect tells a client to ask elsewhere.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header["Cache-Control"] = noStore
	header["Pragma"] = noCache
	if err := h.guard.Check(r); err != nil {
		h.refuseForeign(w, r, err)
		return
	}
	switch r.URL.Path {
	case client.TokenPath:
		h.token(w, r)
	case metadataPath:
		h.metadata(w, r)
	default:
		writeError(w, http.StatusNotFound, client.Error{Code: "not_found", RefusedBy: client.ByBroker,
			Description: "there is no door at this path", Hint: "ask for tokens with POST " + client.TokenPath})
	}
}

// refuseForeign answers what a browser, a proxy or a rebound DNS name sent.
func (h *Handler) refuseForeign(w http.ResponseWriter, r *http.Request, cause error) {
	reason, hint := policy.Reason("foreign_request"), ""
	if refusal, ok := errors.AsType[*peer.Refusal](cause); ok {
		reason, hint = policy.Reason("foreign_"+refusal.Reason), refusal.Hint
	}
	issued, err := h.broker.Refuse(traceContext(r), broker.Request{Door: doorOf(r)}, reason, hint)
	w.Header().Set(client.IssuanceHeader, issued.ID)
	status, wire := describe(err, issued.ID)
	if _, ok := errors.AsType[*broker.Denied](err); ok {
		status, wire.Code, wire.Description = http.StatusForbidden, "access_denied", cause.Error()
	}
	writeError(w, status, wire)
}

func doorOf(r *http.Request) string {
	switch r.URL.Path {
	case client.TokenPath, metadataPath:
		return doorOAuth
	}
	return ""
}

// traceContext is the request's context with the caller's trace in it (W3C
// Trace Context). A header that makes no sense is as good as none.
func traceContext(r *http.Request) context.Context {
	if _, ok := r.Header["Traceparent"]; !ok {
		return r.Context()
	}
	return propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
}
