package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
)

// The codes of RFC 6749 §5.2 and RFC 8707 §2, and what OAuth says for later.
const (
	invalidRequest         = "invalid_request"
	invalidClient          = "invalid_client"
	invalidGrant           = "invalid_grant"
	invalidScope           = "invalid_scope"
	invalidTarget          = "invalid_target"
	unauthorizedClient     = "unauthorized_client"
	temporarilyUnavailable = "temporarily_unavailable"
	serverError            = "server_error"
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

func (b *badRequest) Error() string { return b.message }

// describe turns an error of issue into a status and an RFC 6749 §5.2 error.
// Clients retry 5xx and 429, so these stand for what can change by itself and
// for nothing else.
func (h *Handler) describe(err error, issuanceID string) (int, client.Error) {
	wire := client.Error{IssuanceID: issuanceID, RefusedBy: client.ByBroker}
	var problem *badRequest
	var denied *broker.Denied
	var failure *exchange.Error
	var audit *broker.AuditError
	switch {
	case errors.As(err, &problem):
		wire.Code, wire.Reason, wire.Description, wire.Hint = problem.code, string(problem.reason), problem.message, problem.hint
		if wire.Code == "" {
			wire.Code = invalidRequest
		}
		return problem.status, wire
	case errors.As(err, &denied):
		return h.describeDenial(denied, wire)
	case errors.As(err, &failure):
		return describeExchange(failure, wire)
	case errors.As(err, &audit):
		wire.Code, wire.Reason = temporarilyUnavailable, "audit_unavailable"
		wire.Description = "the issuance cannot be recorded, so there is no token"
		wire.Hint = "the operator has to make the audit log writable: check its disk and permissions"
		return http.StatusServiceUnavailable, wire
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		wire.Code, wire.Reason, wire.Description = temporarilyUnavailable, broker.ReasonCallerGone, "the request ended before the token came"
		return http.StatusServiceUnavailable, wire
	}
	wire.Code, wire.Description = temporarilyUnavailable, "the token was revoked or the broker is stopping; ask again"
	return http.StatusServiceUnavailable, wire
}

// describeDenial says what the policy answered. All of it is final but a limit,
// which is 429 as when Entra throttles.
func (h *Handler) describeDenial(denied *broker.Denied, wire client.Error) (int, client.Error) {
	wire.RefusedBy, wire.Reason, wire.Rule, wire.Hint = client.ByPolicy, string(denied.Reason), denied.Rule, denied.Hint
	wire.Description = denied.Error()
	wire.Code = codeOf(denied.Reason)
	switch {
	case denied.Reason == policy.OverLimit:
		wire.RetryAfter = h.nextTurn(denied)
		return http.StatusTooManyRequests, wire
	case wire.Code == invalidClient:
		return http.StatusUnauthorized, wire
	}
	return http.StatusBadRequest, wire
}

// nextTurn is how long an agent that is over its limit waits for one more
// request, if it asks for nothing in between.
func (h *Handler) nextTurn(denied *broker.Denied) time.Duration {
	agent := h.broker.Rules().Policy.Agents[denied.Agent]
	if agent == nil { // of a policy that was replaced meanwhile
		return time.Minute
	}
	perMinute := agent.Limits.PerMinute
	if strings.HasSuffix(denied.Rule, ".onBehalfOf.perMinute") {
		perMinute = agent.Limits.OnBehalfOfPerMinute
	}
	return time.Minute / time.Duration(max(1, perMinute))
}

// codeOf is the OAuth error code of a denial. What is wrong with a user, or with
// the user's token, is wrong with the grant (RFC 6749 §5.2, RFC 7523 §3.1).
func codeOf(reason policy.Reason) string {
	switch reason {
	case policy.UnknownAgent, policy.AgentMismatch:
		return invalidClient
	case policy.AgentExpired, policy.AgentBlocked, policy.OnBehalfOfNotAllowed,
		policy.IdentityNotAllowed, policy.IdentityNotForUsers, policy.RawTokenForbidden,
		policy.APIUnknown, policy.APINotAllowed, policy.APIMethodNotAllowed, policy.APIPathNotAllowed,
		policy.AboveCeiling:
		return unauthorizedClient
	case policy.OverLimit:
		return temporarilyUnavailable
	case policy.ScopeMissing, policy.ScopeMalformed, policy.ScopeReserved, policy.ScopeMixedResources, policy.ScopeNotAllowed:
		return invalidScope
	case policy.UserUnverified, policy.UserExpired, policy.UserBlocked, policy.UserTenantNotAllowed, policy.UserNotListed, policy.UserIsGuest,
		policy.UserClientNotAllowed, policy.UserScopeMissing, policy.GroupsOverage, policy.UserNotInGroup, policy.UserRoleMissing,
		policy.UserACRSMissing, policy.UserAMRMissing:
		return invalidGrant
	case policy.IdentityMissing:
		return invalidRequest
	}
	if strings.HasPrefix(string(reason), "user_token_") {
		return invalidGrant
	}
	return invalidRequest
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
		wire.Code, wire.RefusedBy, wire.RetryAfter = temporarilyUnavailable, client.ByEntra, failure.RetryAfter
		return http.StatusTooManyRequests, wire
	case exchange.AssertionUnavailable, exchange.EntraUnavailable, exchange.Timeout, exchange.ReplyMalformed:
		wire.Code, wire.RetryAfter = temporarilyUnavailable, failure.RetryAfter
		return http.StatusServiceUnavailable, wire
	case exchange.BadRequest:
		wire.Code = invalidRequest
		return http.StatusBadRequest, wire
	case exchange.AssertionUnusable, exchange.TokenMismatch, exchange.Internal:
	}
	wire.Code = serverError
	return http.StatusInternalServerError, wire
}

// writeError writes an error of the OAuth door with the headers that go with its
// status.
func writeError(w http.ResponseWriter, status int, wire client.Error) {
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="credfree"`)
	}
	setRetryAfter(w, wire.RetryAfter)
	// RFC 6749 §5.2 keeps quotes and backslashes out of descriptions.
	wire.Description = strings.NewReplacer(`"`, "'", `\`, "/").Replace(wire.Description)
	writeJSON(w, status, wire)
}

func setRetryAfter(w http.ResponseWriter, wait time.Duration) {
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
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
