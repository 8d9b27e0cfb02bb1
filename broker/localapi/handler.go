package localapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

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
	// LegacyMSI answers api-version 2017-09-01 at the App Service endpoint too,
	// for clients that know MSI_ENDPOINT and MSI_SECRET only.
	LegacyMSI bool
	// AuthSidecar opens the door of Microsoft's own sidecar. Its clients send no
	// header that whoever makes an agent fetch a URL could not.
	AuthSidecar bool
	// Sidecar says how that door answers.
	Sidecar SidecarOptions
	// CallThrough says how APIs are called.
	CallThrough CallThrough
}

// Handler serves agents. It has to run in an http.Server whose ConnContext is
// peer.ConnContext: a request without a peer is nobody's.
type Handler struct {
	broker  *broker.Broker
	guard   peer.Guard
	legacy  bool
	sidecar bool
	calls   CallThrough
	demands *demands

	sidecarOptions SidecarOptions
}

// New returns a Handler, or an error without a broker.
func New(cfg Config) (*Handler, error) {
	if cfg.Broker == nil {
		return nil, errors.New("the doors need a broker")
	}
	calls, err := cfg.CallThrough.withDefaults()
	if err != nil {
		return nil, err
	}
	demands, err := newDemands()
	if err != nil {
		return nil, err
	}
	return &Handler{broker: cfg.Broker, guard: peer.Guard{Hosts: cfg.Hosts}, legacy: cfg.LegacyMSI, sidecar: cfg.AuthSidecar, sidecarOptions: cfg.Sidecar, calls: calls, demands: demands}, nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header["Cache-Control"] = noStore
	header["Pragma"] = noCache
	d := doorAt(r.URL)
	if d.name == doorAuthSidecar && !h.sidecar {
		d = noDoor
	}
	if err := h.guard.Check(r); err != nil {
		h.refuseForeign(w, r, d, err)
		return
	}
	d.answer(h, w, r)
}

// door is what stands at a path.
type door struct {
	name   string // as recorded; "" where there is none
	answer func(*Handler, http.ResponseWriter, *http.Request)
	refuse func(http.ResponseWriter, int, client.Error)
}

const (
	metadataPath = "/.well-known/oauth-authorization-server"
	// The older name of the same document (RFC 8414 §5), which some clients look
	// for first, and others alone.
	openIDMetadataPath = "/.well-known/openid-configuration"

	// The real IMDS takes the first word in any case, and the rest as it is.
	imdsRoot = "/metadata"
	imdsPath = "/identity/oauth2/token" // below imdsRoot
)

// doorAt finds the door at a path. What is encoded in another way than it has
// to be is at no door: a path has one spelling, but for its slashes.
func doorAt(u *url.URL) door {
	if _, _, ok := callTarget(u); ok { // what stands below is the API's business
		return door{doorCallThrough, (*Handler).callThrough, writeCallError}
	}
	path := plainPath(u.Path)
	switch {
	case u.RawPath != "":
	case path == client.TokenPath:
		return door{doorOAuth, (*Handler).token, writeError}
	case path == metadataPath, path == openIDMetadataPath:
		return door{doorOAuth, (*Handler).metadata, writeError}
	case path == introspectionPath:
		return door{doorOAuth, (*Handler).introspect, writeError}
	case equalWord(path, openAPIPath): // the auth sidecar has it in any case
		return door{"", (*Handler).openAPI, writeError}
	case entraTenant(path) != "":
		return door{doorOAuth, (*Handler).token, writeError}
	case path == client.ManagedIdentityPath:
		return door{doorManagedIdentity, (*Handler).appService, writeManagedIdentityError}
	case len(path) == len(imdsRoot+imdsPath) && strings.EqualFold(path[:len(imdsRoot)], imdsRoot) && path[len(imdsRoot):] == imdsPath:
		return door{doorManagedIdentity, (*Handler).imds, writeManagedIdentityError}
	case isSidecarRoute(path):
		return door{doorAuthSidecar, (*Handler).authSidecar, writeSidecarError}
	}
	return noDoor
}

var noDoor = door{"", (*Handler).nothing, writeError}

// plainPath takes several slashes in a row for one, and one at the end for
// none: SDKs join the parts of a URL that way, and do not all follow a redirect.
func plainPath(path string) string {
	if strings.Contains(path, "//") {
		path = "/" + strings.Join(strings.FieldsFunc(path, func(c rune) bool { return c == '/' }), "/")
	}
	return strings.TrimSuffix(path, "/")
}

// nothing answers where there is no door. 404 makes some clients of managed
// identities try for half a minute: one with a wrong IDENTITY_ENDPOINT hears 400.
func (h *Handler) nothing(w http.ResponseWriter, r *http.Request) {
	wire := client.Error{Code: "not_found", RefusedBy: client.ByBroker,
		Description: "there is no door at this path", Hint: "ask for tokens with POST " + client.TokenPath}
	if len(r.Header["X-Identity-Header"]) > 0 && r.Method == http.MethodGet && r.URL.RawPath == "" {
		wire.Code, wire.Hint = "invalid_request", "let IDENTITY_ENDPOINT end in "+client.ManagedIdentityPath
		writeManagedIdentityError(w, http.StatusBadRequest, wire)
		return
	}
	writeError(w, http.StatusNotFound, wire)
}

// issue puts a request to the broker, or has recorded what could not be put to
// it: the error is then the problem, or says that it could not be recorded.
func (h *Handler) issue(w http.ResponseWriter, r *http.Request, req broker.Request, problem *badRequest) (issued broker.Issued, err error) {
	ctx := traceContext(r)
	req.Said = said(r)
	if problem == nil {
		issued, err = h.broker.Issue(ctx, req)
	} else {
		issued, err = h.broker.Refuse(ctx, req, problem.reason, problem.hint)
		if _, ok := errors.AsType[*broker.Denied](err); ok {
			err = problem
		}
	}
	w.Header()[client.IssuanceHeader] = []string{issued.ID}
	return issued, err
}

// refuseForeign answers what a browser, a proxy or a rebound DNS name sent.
func (h *Handler) refuseForeign(w http.ResponseWriter, r *http.Request, d door, cause error) {
	problem := &badRequest{status: http.StatusForbidden, code: "access_denied", reason: "foreign_request", message: cause.Error()}
	if refusal, ok := errors.AsType[*peer.Refusal](cause); ok {
		problem.reason, problem.hint = policy.Reason("foreign_"+refusal.Reason), refusal.Hint
	}
	issued, err := h.issue(w, r, broker.Request{Door: d.name}, problem)
	status, wire := h.describe(err, issued.ID)
	d.refuse(w, status, wire)
}

// maxTraceState is how much of a tracestate everybody has to pass on (W3C Trace
// Context §3.3.1.5). It stands in each span, and with more in it a collector would
// refuse the spans of others that are sent at the same time.
const maxTraceState = 512

// traceContext is the request's context with the caller's trace in it (W3C
// Trace Context). A header that makes no sense is as good as none, and so is a
// tracestate that is too long.
func traceContext(r *http.Request) context.Context {
	if _, ok := r.Header["Traceparent"]; !ok {
		return r.Context()
	}
	size := 0
	for _, state := range r.Header["Tracestate"] {
		size += len(state)
	}
	if size > maxTraceState {
		return propagation.TraceContext{}.Extract(r.Context(), propagation.MapCarrier{"traceparent": r.Header.Get("Traceparent")})
	}
	return propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
}
