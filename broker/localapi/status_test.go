package localapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
)

// Every refusal, with its code and status on the OAuth door and its status for
// clients of managed identities.
func TestStatuses(t *testing.T) {
	type want struct {
		code     string
		oauth    int
		identity int
	}
	denied := map[policy.Reason]want{
		policy.UnknownAgent:         {"invalid_client", 401, 401},
		policy.AgentMismatch:        {"invalid_client", 401, 401},
		policy.AgentBlocked:         {"unauthorized_client", 400, 403},
		policy.AgentExpired:         {"unauthorized_client", 400, 403},
		policy.OnBehalfOfNotAllowed: {"unauthorized_client", 400, 403},
		policy.IdentityNotAllowed:   {"unauthorized_client", 400, 400},
		policy.IdentityMissing:      {"invalid_request", 400, 400},
		policy.IdentityNotForUsers:  {"unauthorized_client", 400, 403},
		policy.ScopeMissing:         {"invalid_scope", 400, 403},
		policy.ScopeMalformed:       {"invalid_scope", 400, 403},
		policy.ScopeReserved:        {"invalid_scope", 400, 403},
		policy.ScopeMixedResources:  {"invalid_scope", 400, 403},
		policy.ScopeNotAllowed:      {"invalid_scope", 400, 403},
		policy.UserUnverified:       {"invalid_grant", 400, 403},
		policy.UserExpired:          {"invalid_grant", 400, 403},
		policy.UserBlocked:          {"invalid_grant", 400, 403},
		policy.UserTenantNotAllowed: {"invalid_grant", 400, 403},
		policy.UserNotListed:        {"invalid_grant", 400, 403},
		policy.UserIsGuest:          {"invalid_grant", 400, 403},
		policy.UserClientNotAllowed: {"invalid_grant", 400, 403},
		policy.UserScopeMissing:     {"invalid_grant", 400, 403},
		policy.GroupsOverage:        {"invalid_grant", 400, 403},
		policy.UserNotInGroup:       {"invalid_grant", 400, 403},
		policy.UserRoleMissing:      {"invalid_grant", 400, 403},
		policy.UserACRSMissing:      {"invalid_grant", 400, 403},
		policy.UserAMRMissing:       {"invalid_grant", 400, 403},
		policy.RawTokenForbidden:    {"unauthorized_client", 400, 403},
		policy.APIUnknown:           {"unauthorized_client", 400, 403},
		policy.APINotAllowed:        {"unauthorized_client", 400, 403},
		policy.APIMethodNotAllowed:  {"unauthorized_client", 400, 403},
		policy.APIPathNotAllowed:    {"unauthorized_client", 400, 403},
		policy.AboveCeiling:         {"unauthorized_client", 400, 403},
		"user_token_expired":        {"invalid_grant", 400, 403},
	}
	tests := map[error]want{
		&exchange.Error{Reason: exchange.EntraRejected, Code: "invalid_grant"}: {"invalid_grant", 400, 403},
		&exchange.Error{Reason: exchange.EntraThrottled}:                       {"temporarily_unavailable", 429, 429},
		&exchange.Error{Reason: exchange.EntraUnavailable}:                     {"temporarily_unavailable", 503, 503},
		&exchange.Error{Reason: exchange.AssertionUnavailable}:                 {"temporarily_unavailable", 503, 503},
		&exchange.Error{Reason: exchange.Timeout}:                              {"temporarily_unavailable", 503, 503},
		&exchange.Error{Reason: exchange.ReplyMalformed}:                       {"temporarily_unavailable", 503, 503},
		&exchange.Error{Reason: exchange.BadRequest}:                           {"invalid_request", 400, 400},
		&exchange.Error{Reason: exchange.AssertionUnusable}:                    {"server_error", 500, 403},
		&exchange.Error{Reason: exchange.TokenMismatch}:                        {"server_error", 500, 403},
		&exchange.Error{Reason: exchange.Internal}:                             {"server_error", 500, 403},
		&broker.AuditError{Err: errors.New("full")}:                            {"temporarily_unavailable", 503, 503},
		context.Canceled: {"temporarily_unavailable", 503, 503},
		cache.ErrPurged:  {"temporarily_unavailable", 503, 503},
		bad("m", "h"):    {"invalid_request", 400, 400},
	}
	for reason, want := range denied {
		tests[&broker.Denied{Reason: reason}] = want
	}
	for _, reason := range policy.Reasons() {
		// The limit needs the policy: TestAgentsThatAreRefused has it.
		if _, ok := denied[reason]; !ok && reason != policy.OverLimit {
			t.Errorf("reason %s is not in the table", reason)
		}
	}
	for err, want := range tests {
		status, wire := (&Handler{}).describe(err, "id")
		if status != want.oauth || wire.Code != want.code {
			t.Errorf("%+v: got %d %s, want %d %s", err, status, wire.Code, want.oauth, want.code)
		}
		if status = bearable(status, &wire); status != want.identity {
			t.Errorf("%+v: got %d for a managed identity, want %d", err, status, want.identity)
		}
		if waits := status == 429 || status == 503; waits != (wire.RetryAfter > 0) {
			t.Errorf("%+v: got %d and a wait of %s for a managed identity", err, status, wire.RetryAfter)
		}
	}
}

// Whatever Entra asks for, no client of managed identities waits long; and what
// they retry for is what can mend itself.
func TestBearable(t *testing.T) {
	patient := []int{http.StatusTooManyRequests, http.StatusServiceUnavailable}
	for status := 400; status < 600; status++ {
		for _, asked := range []time.Duration{0, time.Second, 3 * time.Second, time.Hour} {
			for _, by := range []string{client.ByPolicy, client.ByBroker, client.ByEntra} {
				wire := client.Error{RefusedBy: by, RetryAfter: asked}
				got := bearable(status, &wire)
				if got >= 500 && got != 503 || got == 429 && status != 429 {
					t.Errorf("%d by %s becomes %d", status, by, got)
				}
				if slices.Contains(patient, got) && (wire.RetryAfter < time.Second || wire.RetryAfter > 5*time.Second) {
					t.Errorf("%d that asks for %s becomes a wait of %s", status, asked, wire.RetryAfter)
				}
			}
		}
	}
	wire := client.Error{RetryAfter: time.Minute}
	if bearable(http.StatusServiceUnavailable, &wire); wire.RetryAfter != 2*time.Second {
		t.Errorf("an outage is a wait of %s, want 2s", wire.RetryAfter)
	}
}

// Clients of managed identities take some words for the absence of an endpoint,
// and go on to ask elsewhere.
func TestWordsToAvoid(t *testing.T) {
	recorder := httptest.NewRecorder()
	writeManagedIdentityError(recorder, 503, client.Error{Code: "x", Description: `dial "h": network is unreachable`, Hint: "it timed out", IssuanceID: "the-id", CorrelationID: "the-other"})
	body := recorder.Body.String()
	if strings.Contains(body, "unreachable") || strings.Contains(body, "timed out") {
		t.Errorf("got %s", body)
	}
	if want := "dial 'h': network is not reachable: it took too long (issuance the-id, correlation the-other)"; strings.Count(body, want) != 2 {
		t.Errorf("got %s, want %q as message and as description", body, want)
	}
}

// A challenge that is too large for a header is in the body alone.
func TestChallengeIsBounded(t *testing.T) {
	issued := broker.Issued{Tenant: "the-tenant", ClientID: "the-client"}
	for size, want := range map[int]bool{2: true, maxClaimsBytes: true, maxClaimsBytes + 1: false} {
		recorder := httptest.NewRecorder()
		challenge(recorder, "https://login.example", issued, strings.Repeat("c", size))
		if got := recorder.Header().Get("WWW-Authenticate"); strings.Contains(got, "insufficient_claims") != want {
			t.Errorf("%d bytes: got %.100s", size, got)
		}
	}
}
