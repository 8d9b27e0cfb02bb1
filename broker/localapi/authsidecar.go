package localapi

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/client"
)

const doorAuthSidecar = "auth_sidecar"

// The routes of Microsoft's Entra auth sidecar. Their words are taken in any
// case, as there; the name of an API is not.
// https://learn.microsoft.com/entra/msidweb/agent-id-sdk/endpoints
const (
	routeHeader    = "/AuthorizationHeader/"                // on behalf of the user whose token comes along
	routeOwnHeader = "/AuthorizationHeaderUnauthenticated/" // for the agent itself
	routeCall      = "/DownstreamApi/"                      // as routeHeader, and the call is made here
	routeOwnCall   = "/DownstreamApiUnauthenticated/"       // as routeOwnHeader
	routeValidate  = "/Validate"
	routeHealth    = "/healthz"
)

func isCall(route string) bool    { return route == routeCall || route == routeOwnCall }
func isForUser(route string) bool { return route == routeCall || route == routeHeader }

// What an answer with a token tells beside its JSON, which has no room for it.
const (
	expiresHeader     = "Credfree-Expires-On"     // when to ask again at the latest, in Unix seconds
	correlationHeader = "Credfree-Correlation-Id" // client-request-id of the exchange, as in Entra's sign-in log
)

// sidecarRoute finds the route at a path, which has no final slash, and the API
// that it names. It is "" where there is none.
func sidecarRoute(path string) (route, api string) {
	for _, route := range []string{routeValidate, routeHealth} {
		if equalWord(path, route) {
			return route, ""
		}
	}
	for _, route := range []string{routeHeader, routeOwnHeader, routeCall, routeOwnCall} {
		if n := len(route); len(path) > n && equalWord(path[:n], route) && strings.IndexByte(path[n:], '/') < 0 {
			return route, path[n:]
		}
	}
	return "", ""
}

// equalWord compares without regard to the case of ASCII letters: what Unicode
// folds to one of them has more bytes.
func equalWord(s, word string) bool { return len(s) == len(word) && strings.EqualFold(s, word) }

func isSidecarRoute(path string) bool {
	route, _ := sidecarRoute(path)
	return route != ""
}

// authSidecar answers the clients of Microsoft's Entra auth sidecar. What that
// one silently leaves out of a request, so that the answer is a token of another
// identity, is refused here.
func (h *Handler) authSidecar(w http.ResponseWriter, r *http.Request) {
	route, api := sidecarRoute(plainPath(r.URL.Path))
	switch route {
	case routeHeader, routeOwnHeader:
		h.authorizationHeader(w, r, route, api)
	case routeCall, routeOwnCall:
		h.downstreamAPI(w, r, route, api)
	case routeValidate:
		h.validate(w, r)
	case routeHealth:
		writeSidecar(w, r, plainText, []byte("Healthy"))
	}
}

// authorizationHeader hands out a token for an API of the policy.
func (h *Handler) authorizationHeader(w http.ResponseWriter, r *http.Request, route, api string) {
	req, problem := h.sidecarOptions.readRequest(r, h.broker.Rules().Policy, route, api)
	issued, err := h.issue(w, r, req.Request, problem)
	if err != nil {
		h.failSidecar(w, issued, err, req.rule, http.MethodGet)
		return
	}
	header := w.Header()
	header[expiresHeader] = []string{strconv.FormatInt(issued.ExpiresAt.Unix(), 10)}
	if issued.Token.CorrelationID != "" {
		header[correlationHeader] = []string{issued.Token.CorrelationID}
	}
	writeHeaderAnswer(w, issued)
}

// writeHeaderAnswer writes the one member that there is. The token's text needs
// no escaping, see writeToken.
func writeHeaderAnswer(w http.ResponseWriter, issued broker.Issued) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	b := append((*buffer)[:0], `{"authorizationHeader":"Bearer `...)
	b = append(b, issued.Token.Reveal()...) //nolint:forbidigo // it is the answer
	b = append(b, `"}`...)
	*buffer = b
	header := w.Header()
	header["Content-Type"] = sidecarJSON
	header["Content-Length"] = []string{strconv.Itoa(len(b))}
	// The connection is the agent's: when it is gone, so is the reader.
	_, _ = w.Write(b)
	clear(b)
}

// writeSidecar writes what is the same for everybody and holds no token. That
// the broker is healthy says here that it answers; whether it can get tokens is
// for the admin listener to say.
func writeSidecar(w http.ResponseWriter, r *http.Request, contentType []string, body []byte) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writeSidecarError(w, http.StatusMethodNotAllowed, client.Error{Code: invalidRequest, RefusedBy: client.ByBroker,
			Description: "this is read with GET", Hint: "use GET"})
		return
	}
	header := w.Header()
	header["Content-Type"] = contentType
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	// The connection is the agent's: when it is gone, so is the reader.
	_, _ = w.Write(body)
}

var (
	plainText   = []string{"text/plain"}
	sidecarJSON = []string{"application/json; charset=utf-8"}
	problemJSON = []string{"application/problem+json"}
)
