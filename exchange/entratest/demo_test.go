package entratest_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/credfree/credfree/exchange/entratest"
)

// TestDemoAgent goes through the legs of Agent ID with the constants that
// documentation and examples use.
func TestDemoAgent(t *testing.T) {
	w := newWorldOf(t, entratest.DemoDirectory(issuerURL))
	workload, err := w.issuer.ServiceAccountToken(entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(client, assertion, scope string, more ...string) string {
		t.Helper()
		a := w.post(t, entratest.DemoDomain, with(url.Values{
			"grant_type": {"client_credentials"}, "client_id": {client}, "scope": {scope},
			"client_assertion_type": {assertionType}, "client_assertion": {assertion},
		}, more...))
		if a.status != http.StatusOK {
			t.Fatalf("%s %s: got status %d %s, want 200", client, scope, a.status, a.raw)
		}
		return a.text("access_token")
	}
	t1 := ask(entratest.DemoBlueprintClientID, workload, exchange, "fmi_path", entratest.DemoAgentIdentityID)
	t2 := ask(entratest.DemoAgentIdentityID, t1, exchange)
	_, claims := unverified(t, ask(entratest.DemoAgentIdentityID, t1, graphDefault))
	checkClaims(t, claims, map[string]any{"oid": entratest.DemoAgentIdentityID, "roles": []any{"User.Read.All"}})
	_, claims = unverified(t, ask(entratest.DemoAgentIdentityID, t1, graphDefault, "grant_type", "user_fic",
		"user_federated_identity_credential", t2, "username", entratest.DemoAgentUserName))
	checkClaims(t, claims, map[string]any{"oid": entratest.DemoAgentUserID, "scp": "User.Read Mail.Read", "xms_par_app_azp": entratest.DemoBlueprintClientID})
}
