package localapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/secret"
)

// validate tells what the user's token says that comes along, once it is
// verified. Beside the token, only the identity is read whose application it has
// to be for: AgentIdentity, or identity with its name. Clients send further
// parameters, which mean nothing here, nor to the auth sidecar.
//
// It is the form of RFC 6750 §3.1 that a token is no good in: 401 without a body.
// Anything else that is wrong is a problem, as at every route.
func (h *Handler) validate(w http.ResponseWriter, r *http.Request) {
	req, problem := readValidation(r, h.broker.Rules().Policy)
	found, err := h.inspect(w, r, req, problem)
	if err == nil {
		writeValidation(w, req.UserToken, found)
		return
	}
	denied, _ := errors.AsType[*broker.Denied](err)
	switch {
	case errors.Is(err, errNoBearer):
		refuseToken(w, "Bearer")
	case denied != nil && denied.Reason == policy.UserScopeMissing:
		h.refuseScopes(w, denied)
	case denied != nil && isOfUserToken(string(denied.Reason)):
		refuseToken(w, `Bearer error="invalid_token", error_description="`+quotable.Replace(denied.Hint)+`"`)
	default:
		h.failSidecar(w, broker.Issued{ID: found.ID}, err, "", http.MethodGet)
	}
}

// errNoBearer is the problem of a request without a user's token.
var errNoBearer = &badRequest{status: http.StatusUnauthorized, reason: reasonNoUserToken, message: "the user's token is missing", hint: "send it as Authorization: Bearer"}

func readValidation(r *http.Request, p *policy.Policy) (broker.Request, *badRequest) {
	req := sidecarRequest{Request: broker.Request{Door: doorAuthSidecar, Scoped: true}}
	if r.Method != http.MethodGet {
		return req.Request, &badRequest{status: http.StatusMethodNotAllowed, reason: reasonBadRequest, message: "tokens are validated with GET", hint: "use GET"}
	}
	q := sidecarQuery{}
	problem := eachParameter(r.URL.RawQuery, func(name, value string) *badRequest {
		if !equalWord(name, agentIdentity) && !equalWord(name, byName) {
			return nil
		}
		return q.add(name, value, routeValidate)
	})
	if problem != nil {
		return req.Request, problem
	}
	if _, problem = req.readIdentity(q, p); problem != nil {
		return req.Request, problem
	}
	if req.Key, problem = sidecarKey(r); problem != nil {
		return req.Request, problem
	}
	user, problem := userBearer(r)
	if problem != nil {
		if problem.reason == reasonNoUserToken {
			problem = errNoBearer
		}
		return req.Request, problem
	}
	req.UserToken = secret.New(user)
	return req.Request, nil
}

// inspect is issue for what issues nothing.
func (h *Handler) inspect(w http.ResponseWriter, r *http.Request, req broker.Request, problem *badRequest) (found broker.Inspection, err error) {
	if problem != nil {
		req.Grant = broker.GrantInspection
		issued, err := h.issue(w, r, req, problem)
		return broker.Inspection{ID: issued.ID}, err
	}
	found, err = h.broker.Inspect(traceContext(r), req)
	w.Header()[client.IssuanceHeader] = []string{found.ID}
	return found, err
}

// refuseToken answers 401 as the auth sidecar does.
func refuseToken(w http.ResponseWriter, challenge string) {
	w.Header().Set("WWW-Authenticate", challenge)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusUnauthorized)
}

// quotable keeps a text inside a quoted string, and in what RFC 6750 §3 allows.
var quotable = strings.NewReplacer(`"`, "'", `\`, "/", "\n", " ", "\r", " ")

// refuseScopes says which scopes are missing, in the words and the plain text of
// the auth sidecar.
func (h *Handler) refuseScopes(w http.ResponseWriter, denied *broker.Denied) {
	demanded := ""
	if agent := h.broker.Rules().Policy.Agents[denied.Agent]; agent != nil && agent.OnBehalfOf != nil {
		demanded = strings.Join(agent.OnBehalfOf.RequiredScopes, ",")
	}
	text := "IDW10203: The 'scope' or 'scp' claim does not contain scopes '" + demanded + "' or was not found. " + denied.Error() + "\n"
	header := w.Header()
	header["Content-Type"] = []string{"text/plain; charset=utf-8"}
	header["Content-Length"] = []string{strconv.Itoa(len(text))}
	w.WriteHeader(http.StatusForbidden)
	// The connection is the agent's: when it is gone, so is the reader.
	_, _ = w.Write([]byte(text)) //nolint:gosec // it is plain text, and browsers are refused
}

// writeValidation writes what a token says, beside the token, as it came.
func writeValidation(w http.ResponseWriter, token secret.Text, found broker.Inspection) {
	body, err := json.Marshal(struct {
		Protocol string          `json:"protocol"`
		Token    string          `json:"token"`
		Claims   json.RawMessage `json:"claims"`
	}{"Bearer", token.Reveal(), json.RawMessage(found.Claims.Reveal())}) //nolint:forbidigo // it is the answer
	if err != nil { // the verifier has read the claims
		writeSidecarError(w, http.StatusInternalServerError, client.Error{Code: serverError, IssuanceID: found.ID, RefusedBy: client.ByBroker,
			Description: "the claims of the token cannot be written", Hint: "pass an access token exactly as Entra has issued it"})
		return
	}
	header := w.Header()
	header["Content-Type"] = sidecarJSON
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	// The connection is the agent's: when it is gone, so is the reader.
	_, _ = w.Write(body)
	clear(body)
}
