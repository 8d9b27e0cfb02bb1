package entratest_test

import (
	"strings"
	"testing"

	"github.com/credfree/credfree/exchange/entratest"
)

// Refusals that a request cannot bring about, or not a simple one: each with
// the status, code, suberror and claims that Entra sends.
func TestForcedRefusals(t *testing.T) {
	w := newWorld(t)
	for code, want := range map[int]struct {
		status          int
		oauth, suberror string
		claims          bool
	}{
		28002:   {400, "invalid_scope", "", false},
		28003:   {400, "invalid_scope", "", false},
		50033:   {503, "temporarily_unavailable", "", false},
		50076:   {400, "interaction_required", "basic_action", true},
		50079:   {400, "interaction_required", "basic_action", true},
		50158:   {400, "interaction_required", "", true},
		50196:   {400, "invalid_grant", "", false},
		53000:   {400, "interaction_required", "message_only", true},
		53001:   {400, "interaction_required", "message_only", true},
		53002:   {400, "interaction_required", "message_only", true},
		53003:   {400, "access_denied", "message_only", true},
		530032:  {400, "invalid_grant", "message_only", false},
		530035:  {400, "invalid_grant", "message_only", false},
		65001:   {400, "invalid_grant", "consent_required", false},
		65004:   {400, "access_denied", "", false},
		70008:   {400, "invalid_grant", "bad_token", false},
		70021:   {400, "invalid_request", "", false},
		70043:   {400, "invalid_grant", "bad_token", false},
		700082:  {400, "invalid_grant", "bad_token", false},
		700223:  {400, "invalid_request", "", false},
		700238:  {401, "invalid_client", "", false},
		7000274: {401, "invalid_client", "", false},
		7000277: {401, "invalid_client", "", false},
		7002381: {401, "invalid_client", "", false},
		90006:   {503, "temporarily_unavailable", "", false},
		90012:   {503, "temporarily_unavailable", "", false},
		90024:   {503, "temporarily_unavailable", "", false},
		90033:   {503, "temporarily_unavailable", "", false},
		90055:   {429, "temporarily_unavailable", "", false},
		90094:   {400, "invalid_grant", "consent_required", false},
		100007:  {400, "invalid_request", "", false},
	} {
		w.server.SetBehavior(entratest.Behavior{Code: code})
		got := w.post(t, tenantID, w.appForm(t))
		if got.status != want.status || got.text("error") != want.oauth || got.text("suberror") != want.suberror || got.code() != code {
			t.Errorf("%d: got %d %s %s %d, want %d %s %s", code, got.status, got.text("error"), got.text("suberror"), got.code(), want.status, want.oauth, want.suberror)
		}
		if claims := got.text("claims"); (claims != "") != want.claims {
			t.Errorf("%d: got claims %q", code, claims)
		}
		if text := got.text("error_description"); strings.Contains(text, "%!") || !strings.HasPrefix(text, "AADSTS") || !strings.Contains(text, "Trace ID: ") {
			t.Errorf("%d: got description %q", code, text)
		}
	}
}

func TestPublicClientsAndDisabledResources(t *testing.T) {
	d := directory()
	for i, app := range d.Tenants[0].Applications {
		d.Tenants[0].Applications[i].Public = app.ClientID == agentID
	}
	if got := newWorldOf(t, d).post(t, tenantID, newWorldOf(t, d).appForm(t)); got.status != 401 || got.code() != 700025 {
		t.Errorf("a public client with a credential: got %d %d, want 401 700025", got.status, got.code())
	}
	d = directory()
	for i := range d.Tenants[0].Resources {
		d.Tenants[0].Resources[i].Disabled = true
	}
	w := newWorldOf(t, d)
	if got := w.post(t, tenantID, w.appForm(t)); got.status != 400 || got.text("error") != "invalid_resource" || got.code() != 50001 {
		t.Errorf("a disabled resource: got %d %s %d, want 400 invalid_resource 50001", got.status, got.text("error"), got.code())
	}
}
