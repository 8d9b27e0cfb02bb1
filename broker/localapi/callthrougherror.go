package localapi

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
)

// Reasons of calls that came to nothing, beside those of the issuance.
const (
	reasonAPIUnreachable policy.Reason = "api_unreachable"
	reasonAPITimeout     policy.Reason = "api_timeout"
	reasonTooLarge       policy.Reason = "too_large"
)

// unmetChallenge is a claims challenge of an API that no token could be had for.
type unmetChallenge struct {
	claims string
	err    error
}

func (u *unmetChallenge) Error() string { return u.err.Error() }
func (u *unmetChallenge) Unwrap() error { return u.err }

// fail answers a call that came to nothing.
func (c *call) fail(err error) {
	err = c.explain(err)
	status, wire := c.describe(err, c.issued.ID)
	if unmet, ok := errors.AsType[*unmetChallenge](err); ok && wire.RefusedBy == client.ByEntra && wire.Claims == "" {
		wire.Claims = unmet.claims
	}
	status = callStatus(status, &wire)
	header := c.w.Header()
	header[client.IssuanceHeader] = []string{c.issued.ID}
	if wire.Claims != "" {
		challenge(c.w, c.broker.Rules().Policy.Cloud.Authority, c.issued, wire.Claims)
	}
	writeCallError(c.w, status, wire)
}

// callStatus turns a status of the OAuth door into one that SDKs of APIs
// understand. They retry 408, 409, 429 and 5xx, so what is final is 403; what a
// token with certain claims would change is 401, with the challenge.
func callStatus(status int, wire *client.Error) int {
	switch {
	case wire.RefusedBy == client.ByEntra && wire.Claims != "":
		return http.StatusUnauthorized
	case wire.Reason == string(policy.APIUnknown):
		wire.Code = "not_found"
		return http.StatusNotFound
	case wire.Reason == string(policy.IdentityMissing):
		return http.StatusBadRequest
	case status == http.StatusInternalServerError, status == http.StatusBadRequest && wire.RefusedBy != client.ByBroker:
		return http.StatusForbidden
	}
	return status
}

// explain says what went wrong with a call, without a word of the transport's
// errors: they hold addresses, and what an API has sent.
func (c *call) explain(err error) error {
	var problem *badRequest
	var tooLarge *http.MaxBytesError
	var agent *agentError
	var denied *broker.Denied
	var failure *exchange.Error
	var audit *broker.AuditError
	var cut *revoked
	switch {
	case errors.As(context.Cause(c.in.Context()), &cut):
		return cut.explain()
	case errors.As(err, &problem), errors.As(err, &denied), errors.As(err, &failure), errors.As(err, &audit):
		return err
	case errors.As(err, &tooLarge):
		return bodyTooLarge(tooLarge.Limit)
	case errors.Is(context.Cause(c.in.Context()), errIdle):
		return &badRequest{status: http.StatusGatewayTimeout, code: string(reasonAPITimeout), reason: reasonAPITimeout,
			message: "nothing moved between the agent and the API for " + c.calls.Idle.String(), hint: "ask the API for less, or for a stream"}
	case errors.As(err, &agent):
		return bad("the request was cut off", "send the whole body")
	case c.issued.API.Name == "", c.in.Context().Err() != nil:
		return err // there was no call, or nobody waits for it
	}
	return c.unreachable(err)
}

// unreachable says why an API did not answer.
func (c *call) unreachable(err error) *badRequest {
	name := c.issued.API.Name
	p := &badRequest{status: http.StatusBadGateway, code: string(reasonAPIUnreachable), reason: reasonAPIUnreachable,
		message: "the API " + name + " cannot be reached: ", hint: "check apis." + name + ".baseURL, and the way from the broker to it"}
	var certificate *tls.CertificateVerificationError
	var unknown *net.DNSError
	var timeout net.Error
	var dial *net.OpError
	switch {
	case errors.As(err, &certificate):
		p.message += "its certificate is not trusted"
		p.hint = "the operator has to add the certificate's authority to those of the broker, or correct apis." + name + ".baseURL"
	case errors.As(err, &unknown):
		p.message += "its name cannot be resolved"
	case errors.As(err, &timeout) && timeout.Timeout():
		p.status, p.code, p.reason = http.StatusGatewayTimeout, string(reasonAPITimeout), reasonAPITimeout
		p.message += "it does not answer in time"
	case errors.As(err, &dial) && dial.Op == "dial":
		p.message += "nobody answers at its address"
	default:
		p.message += "the connection broke"
	}
	return p
}

func bodyTooLarge(limit int64) *badRequest {
	return &badRequest{status: http.StatusRequestEntityTooLarge, reason: reasonTooLarge,
		message: "the request is larger than " + strconv.FormatInt(limit, 10) + " bytes", hint: "send less at once"}
}

// reasonOf is the reason of an error of explain, for a span.
func reasonOf(err error) string {
	if problem, ok := errors.AsType[*badRequest](err); ok {
		return string(problem.reason)
	}
	if denied, ok := errors.AsType[*broker.Denied](err); ok {
		return string(denied.Reason)
	}
	return broker.ReasonCallerGone
}

// callError is an error in the words of Microsoft Graph and of the SDKs of
// language models: both read code and message.
type callError struct {
	Code          string `json:"code"`
	Message       string `json:"message"`
	Reason        string `json:"reason,omitempty"`
	RefusedBy     string `json:"refused_by,omitempty"`
	Rule          string `json:"rule,omitempty"`
	Hint          string `json:"hint,omitempty"`
	Claims        string `json:"claims,omitempty"`
	Suberror      string `json:"suberror,omitempty"`
	Codes         []int  `json:"error_codes,omitempty"`
	CorrelationID string `json:"correlation_id,omitempty"`
	IssuanceID    string `json:"issuance_id,omitempty"`
}

// writeCallError writes an error of the call-through door. All that helps is in
// its message too, which is what the SDKs show.
func writeCallError(w http.ResponseWriter, status int, wire client.Error) {
	if status == http.StatusUnauthorized && len(w.Header()["Www-Authenticate"]) == 0 {
		w.Header().Set("WWW-Authenticate", `Bearer realm="credfree"`)
	}
	setRetryAfter(w, wire.RetryAfter)
	e := callError{
		Code: wire.Code, Message: wire.Description, Reason: wire.Reason, RefusedBy: wire.RefusedBy, Rule: wire.Rule, Hint: wire.Hint,
		Claims: wire.Claims, Suberror: wire.Suberror, Codes: wire.Codes, CorrelationID: wire.CorrelationID, IssuanceID: wire.IssuanceID,
	}
	if wire.Hint != "" && !strings.HasSuffix(e.Message, wire.Hint) {
		e.Message += ": " + wire.Hint
	}
	writeJSON(w, status, map[string]callError{"error": e})
}
