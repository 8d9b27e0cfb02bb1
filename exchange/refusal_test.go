package exchange_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
)

// TestEveryRefusal meets every refusal that the emulator knows, one by one: its
// code, its claims, whether it passes by itself, and what to change.
func TestEveryRefusal(t *testing.T) {
	rows := map[int]struct {
		code, suberror string
		claims         bool
	}{
		28002:   {"invalid_scope", "", false},
		28003:   {"invalid_scope", "", false},
		50001:   {"invalid_resource", "", false},
		50013:   {"invalid_grant", "", false},
		50027:   {"invalid_request", "", false},
		50033:   {"temporarily_unavailable", "", false},
		50034:   {"invalid_grant", "", false},
		50048:   {"invalid_client", "", false},
		50049:   {"invalid_instance", "", false},
		50057:   {"invalid_grant", "", false},
		50076:   {"interaction_required", "basic_action", true},
		50079:   {"interaction_required", "basic_action", true},
		50105:   {"invalid_grant", "", false},
		50158:   {"interaction_required", "", true},
		50166:   {"invalid_request", "", false},
		50173:   {"invalid_grant", "bad_token", false},
		50194:   {"invalid_request", "", false},
		50196:   {"invalid_grant", "", false},
		53000:   {"interaction_required", "message_only", true},
		53001:   {"interaction_required", "message_only", true},
		53002:   {"interaction_required", "message_only", true},
		53003:   {"access_denied", "message_only", true},
		65001:   {"invalid_grant", "consent_required", false},
		65004:   {"access_denied", "", false},
		70000:   {"invalid_grant", "client_mismatch", false},
		70003:   {"unsupported_grant_type", "", false},
		70008:   {"invalid_grant", "bad_token", false},
		70011:   {"invalid_scope", "", false},
		70021:   {"invalid_request", "", false},
		70025:   {"invalid_client", "", false},
		70043:   {"invalid_grant", "bad_token", false},
		82001:   {"unauthorized_client", "", false},
		82014:   {"invalid_request", "", false},
		90002:   {"invalid_request", "", false},
		90006:   {"temporarily_unavailable", "", false},
		90012:   {"temporarily_unavailable", "", false},
		90014:   {"invalid_request", "", false},
		90023:   {"invalid_request", "", false},
		90024:   {"temporarily_unavailable", "", false},
		90033:   {"temporarily_unavailable", "", false},
		90055:   {"temporarily_unavailable", "", false},
		90094:   {"invalid_grant", "consent_required", false},
		100007:  {"invalid_request", "", false},
		240002:  {"invalid_request", "", false},
		500011:  {"invalid_resource", "", false},
		500131:  {"invalid_grant", "", false},
		500133:  {"invalid_grant", "", false},
		501051:  {"invalid_grant", "", false},
		530032:  {"invalid_grant", "message_only", false},
		530035:  {"invalid_grant", "message_only", false},
		700005:  {"invalid_grant", "", false},
		700016:  {"unauthorized_client", "", false},
		700021:  {"invalid_client", "", false},
		700022:  {"invalid_scope", "", false},
		700023:  {"invalid_client", "", false},
		700024:  {"invalid_client", "", false},
		700025:  {"invalid_client", "", false},
		700027:  {"invalid_client", "", false},
		700082:  {"invalid_grant", "bad_token", false},
		700211:  {"invalid_client", "", false},
		700212:  {"invalid_client", "", false},
		700213:  {"invalid_client", "", false},
		700222:  {"invalid_client", "", false},
		700223:  {"invalid_request", "", false},
		700229:  {"invalid_client", "", false},
		700236:  {"invalid_client", "", false},
		700238:  {"invalid_client", "", false},
		900023:  {"invalid_request", "", false},
		900144:  {"invalid_request", "", false},
		900561:  {"invalid_request", "", false},
		1000502: {"invalid_client", "", false},
		1002012: {"invalid_scope", "", false},
		5002738: {"invalid_request", "", false},
		7000112: {"unauthorized_client", "", false},
		7000114: {"unauthorized_client", "", false},
		7000214: {"invalid_client", "", false},
		7000215: {"invalid_client", "", false},
		7000218: {"invalid_client", "", false},
		7000222: {"invalid_client", "", false},
		7000229: {"invalid_client", "", false},
		7000274: {"invalid_client", "", false},
		7000277: {"invalid_client", "", false},
		7002137: {"invalid_client", "", false},
		7002138: {"invalid_client", "", false},
		7002381: {"invalid_client", "", false},
		9000411: {"invalid_request", "", false},
		9001023: {"invalid_request", "", false},
		9002313: {"invalid_grant", "", false},
	}
	if got, want := slices.Sorted(maps.Keys(rows)), entratest.Codes(); !slices.Equal(got, want) {
		t.Errorf("the table has %v, and the emulator answers with %v", got, want)
	}
	passing := map[int]exchange.Reason{
		50196: exchange.EntraThrottled, 90055: exchange.EntraThrottled,
		50033: exchange.EntraUnavailable, 90006: exchange.EntraUnavailable, 90012: exchange.EntraUnavailable, 90024: exchange.EntraUnavailable, 90033: exchange.EntraUnavailable,
	}
	for number, want := range rows {
		inTime(t, func(t *testing.T, e *entra) {
			e.server.SetBehavior(entratest.Behavior{Code: number})
			_, err := e.client.Token(t.Context(), e.app, exchange.Request{Scopes: []string{userRead}, User: e.userToken(t, entratest.DemoClientID)})
			got := asError(t, err)
			if got.Code != want.code || got.Suberror != want.suberror || !slices.Equal(got.Codes, []int{number}) || (got.Claims != "") != want.claims {
				t.Errorf("%d: got %s %s %v, claims %q, want %s %s, claims: %t", number, got.Code, got.Suberror, got.Codes, got.Claims, want.code, want.suberror, want.claims)
			}
			reason, passes := passing[number]
			if !passes {
				reason = exchange.EntraRejected
			}
			if got.Reason != reason || got.Temporary() != passes {
				t.Errorf("%d: got %s, temporary: %t, want %s", number, got.Reason, got.Temporary(), reason)
			}
			if len(got.Hint) < 20 || strings.Contains(got.Hint, "{") {
				t.Errorf("%d: got hint %q", number, got.Hint)
			}
			if got.CorrelationID == "" || got.RequestID == "" {
				t.Errorf("%d: got correlation id %q and request id %q", number, got.CorrelationID, got.RequestID)
			}
		})
	}
}
