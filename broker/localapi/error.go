package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
)

// badRequest is a request that makes no sense, whoever sent it.
type badRequest struct {
	status  int
	code    string // OAuth error; "" for invalid_request
	reason  policy.Reason
	message string
	hint    string
}

const reasonBadRequest policy.Reason = "bad_request"

func bad(message, hint string) *badRequest {
	return &badRequest{status: http.StatusBadRequest, reason: reasonBadRequest, message: message, hint: hint}
}

func (b *badRequest) render(wire client.Error) (int, client.Error) {
	wire.Code, wire.Description, wire.RefusedBy = b.code, b.message, client.ByBroker
	if wire.Code == "" {
		wire.Code = "invalid_request"
	}
	return b.status, wire
}

// describe turns an error of Broker.Issue into a status and an RFC 6749 §5.2
// error. Clients retry 5xx and 429, so these stand for what can change by
// itself and for nothing else.
func describe(err error, issuanceID string) (int, client.Error) {
	var denied *broker.Denied
	var failure *exchange.Error
	var audit *broker.AuditError
	wire := client.Error{IssuanceID: issuanceID, RefusedBy: client.ByBroker}
	switch {
	case errors.As(err, &denied):
		wire.RefusedBy, wire.Reason, wire.Rule, wire.Hint = client.ByPolicy, string(denied.Reason), denied.Rule, denied.Hint
		wire.Description = denied.Error()
		wire.Code = codeOf(denied.Reason)
		if wire.Code == "invalid_client" {
			return http.StatusUnauthorized, wire
		}
		return http.StatusBadRequest, wire
	case errors.As(err, &failure):
		return describeExchange(failure, wire)
	case errors.As(err, &audit):
		wire.Code, wire.Reason = "temporarily_unavailable", "audit_unavailable"
		wire.Description = "the issuance cannot be recorded, so there is no token"
		wire.Hint = "the operator has to make the audit log writable: check its disk and permissions"
		return http.StatusServiceUnavailable, wire
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		wire.Code, wire.Reason, wire.Description = "temporarily_unavailable", broker.ReasonCallerGone, "the request ended before the token came"
		return http.StatusServiceUnavailable, wire
	}
	wire.Code, wire.Description = "temporarily_unavailable", "the token was revoked or the broker is stopping; ask again"
	return http.StatusServiceUnavailable, wire
}

func codeOf(reason policy.Reason) string {
	switch reason {
	case policy.UnknownAgent, policy.AgentMismatch:
		return "invalid_client"
	case policy.AgentExpired, policy.IdentityNotAllowed:
		return "unauthorized_client"
	case policy.ScopeMissing, policy.ScopeMalformed, policy.ScopeMixedResources, policy.ScopeNotAllowed:
		return "invalid_scope"
	case policy.IdentityMissing, reasonBadRequest:
		return "invalid_request"
	}
	return "invalid_request"
}

// describeExchange says what Entra, or the way to it, answered. A refusal by
// Entra keeps its own error code but not its status: 401 would tell the agent
// that its own credentials failed.
func describeExchange(failure *exchange.Error, wire client.Error) (int, client.Error) {
	wire.Reason, wire.Description, wire.Hint = string(failure.Reason), failure.Message, failure.Hint
	wire.CorrelationID, wire.Claims, wire.Suberror, wire.Codes = failure.CorrelationID, failure.Claims, failure.Suberror, failure.Codes
	switch failure.Reason {
	case exchange.EntraRejected:
		wire.Code, wire.RefusedBy = failure.Code, client.ByEntra
		return http.StatusBadRequest, wire
	case exchange.EntraThrottled:
		wire.Code, wire.RefusedBy, wire.RetryAfter = "temporarily_unavailable", client.ByEntra, failure.RetryAfter
		return http.StatusTooManyRequests, wire
	case exchange.AssertionUnavailable, exchange.EntraUnavailable, exchange.Timeout, exchange.ReplyMalformed:
		wire.Code, wire.RetryAfter = "temporarily_unavailable", failure.RetryAfter
		return http.StatusServiceUnavailable, wire
	case exchange.BadRequest:
		wire.Code = "invalid_request"
		return http.StatusBadRequest, wire
	case exchange.AssertionUnusable, exchange.TokenMismatch, exchange.Internal:
	}
	wire.Code = "server_error"
	return http.StatusInternalServerError, wire
}

// writeError writes an error with the headers that go with its status.
func writeError(w http.ResponseWriter, status int, wire client.Error) {
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="credfree"`)
	}
	if wire.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wire.RetryAfter.Seconds()))))
	}
	// RFC 6749 §5.2 keeps quotes and backslashes out of descriptions.
	wire.Description = strings.NewReplacer(`"`, "'", `\`, "/").Replace(wire.Description)
	writeJSON(w, status, wire)
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil { // strings and numbers always encode
		status, body = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	header := w.Header()
	header["Content-Type"] = jsonType
	header.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	// The connection is the agent's: when it is gone, so is the reader.
	_, _ = w.Write(append(body, '\n'))
}
