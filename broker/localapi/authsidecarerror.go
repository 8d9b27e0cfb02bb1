package localapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/policy"
)

// failSidecar answers a request that came to nothing. rule is what an override
// would have gone against, if it was one; allow is the method of the route.
func (h *Handler) failSidecar(w http.ResponseWriter, issued broker.Issued, err error, rule, allow string) {
	status, wire := h.describe(err, issued.ID)
	if unmet, ok := errors.AsType[*unmetChallenge](err); ok && wire.RefusedBy == client.ByEntra && wire.Claims == "" {
		wire.Claims = unmet.claims
	}
	if wire.Reason == reasonOverride {
		wire.Rule = rule
	}
	status = sidecarStatus(status, &wire)
	switch {
	case status == http.StatusMethodNotAllowed:
		w.Header().Set("Allow", allow)
	case wire.Claims != "":
		challenge(w, h.broker.Rules().Policy.Cloud.Authority, issued, wire.Claims)
	case status == http.StatusUnauthorized && isOfUserToken(wire.Reason):
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	}
	writeSidecarError(w, status, wire)
}

// sidecarStatus turns a status of the OAuth door into that of the auth sidecar:
// 401 for what Entra refuses and for a user's token that is not good, 400 for
// what makes no sense, an unknown API included. It is not copied where it makes
// clients do the wrong thing: throttling and outages are 429 and 503 there is a
// time for, not 401; and what is final is 403, not 500, which they retry.
func sidecarStatus(status int, wire *client.Error) int {
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		wire.RetryAfter = max(wire.RetryAfter, time.Second)
		return status
	case status == http.StatusInternalServerError:
		return http.StatusForbidden
	case status != http.StatusBadRequest:
		return status
	case wire.RefusedBy == client.ByEntra:
		return http.StatusUnauthorized
	case wire.RefusedBy != client.ByPolicy:
		return status
	case slices.Contains(senseless, policy.Reason(wire.Reason)):
		return status
	case isOfUserToken(wire.Reason):
		return http.StatusUnauthorized
	}
	return http.StatusForbidden
}

// senseless are the denials that are about the request, whoever sent it.
var senseless = []policy.Reason{policy.IdentityMissing, policy.APIUnknown, policy.ScopeMissing, policy.ScopeMalformed, policy.ScopeMixedResources}

// isOfUserToken reports whether another token of the same user can help.
func isOfUserToken(reason string) bool {
	return reason != string(reasonNoUserToken) && strings.HasPrefix(reason, "user_token_") || reason == string(policy.UserExpired)
}

// problemDetails is an error in the form of RFC 9457. Its further members are
// those of the OAuth door, but for the description, which is the detail.
type problemDetails struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	client.Error
}

// writeSidecarError writes an error of the auth sidecar. All that helps is in
// its detail too, which is what the samples of its clients show. The Microsoft 365
// Agents SDK shows the title alone: it has the reason, and the rule of the policy.
func writeSidecarError(w http.ResponseWriter, status int, wire client.Error) {
	header := w.Header()
	if status == http.StatusUnauthorized && len(header["Www-Authenticate"]) == 0 {
		header.Set("WWW-Authenticate", "Bearer")
	}
	setRetryAfter(w, wire.RetryAfter)
	p := problemDetails{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: wire.Description, Error: wire}
	p.Description = ""
	if wire.Reason != "" {
		p.Type = "urn:credfree:problem:" + wire.Reason
		p.Title += ": " + wire.Reason
		if wire.Rule != "" {
			p.Title += " (" + wire.Rule + ")"
		}
	}
	if wire.Hint != "" && !strings.HasSuffix(p.Detail, wire.Hint) {
		p.Detail += ": " + wire.Hint
	}
	body, err := json.Marshal(p)
	if err != nil { // strings and numbers always encode
		status, body = http.StatusInternalServerError, []byte(`{"title":"Internal Server Error","status":500}`)
	}
	header["Content-Type"] = problemJSON
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	// The connection is the agent's: when it is gone, so is the reader.
	_, _ = w.Write(body)
}
