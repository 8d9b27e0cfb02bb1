package entratest_test

import (
	"context"
	"net/http"
	"net/url"
	"testing"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"

	"github.com/credfree/credfree/exchange/entratest"
)

// msalClient is Microsoft's own library as the application "agent".
func msalClient(t *testing.T, w *world, discovery bool) confidential.Client {
	t.Helper()
	cred := confidential.NewCredFromAssertionCallback(func(context.Context, confidential.AssertionRequestOptions) (string, error) {
		return w.issuer.ServiceAccountToken(entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "billing"})
	})
	client, err := confidential.New(baseURL+"/"+tenantID, agentID, cred,
		confidential.WithInstanceDiscovery(discovery), confidential.WithHTTPClient(w.client))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestMSALAppToken(t *testing.T) {
	w := newWorld(t)
	client := msalClient(t, w, false)
	for range 2 {
		result, err := client.AcquireTokenByCredential(t.Context(), []string{graphDefault})
		if err != nil {
			t.Fatal(err)
		}
		if _, claims := w.decode(t, result.AccessToken, 1); claims["appid"] != agentID || claims["idtyp"] != "app" {
			t.Errorf("got claims %v, want an app-only token of the agent", claims)
		}
	}
	if got := w.server.TokenRequests(); got != 1 {
		t.Errorf("got %d token requests for two acquisitions, want 1 and a cache hit", got)
	}
	var paths []string
	for _, r := range w.server.Requests() {
		paths = append(paths, r.Path)
	}
	if want := "/" + tenantID + "/v2.0/.well-known/openid-configuration"; paths[0] != want {
		t.Errorf("got first request %s, want %s", paths[0], want)
	}
}

func TestMSALOnBehalfOf(t *testing.T) {
	w := newWorld(t)
	client := msalClient(t, w, false)
	assertion := w.userToken(t, entratest.UserTokenRequest{})
	for _, scopes := range [][]string{{"User.Read"}, {graph + "/Mail.Read"}, {ledgerDefault}} {
		result, err := client.AcquireTokenOnBehalfOf(t.Context(), assertion, scopes)
		if err != nil {
			t.Fatalf("%v: %v", scopes, err)
		}
		if result.Account.HomeAccountID != userID+"."+tenantID {
			t.Errorf("%v: got account %q, want Ada's", scopes, result.Account.HomeAccountID)
		}
		if len(result.DeclinedScopes) > 0 {
			t.Errorf("%v: got declined scopes %v, want none", scopes, result.DeclinedScopes)
		}
	}
}

// TestInstanceDiscovery asks the way MSAL does for a host it does not know.
func TestInstanceDiscovery(t *testing.T) {
	w := newWorld(t)
	for host, status := range map[string]int{"login.entra.example": 200, "login.windows.net": 200, "evil.example": 400} {
		endpoint := "https://" + host + "/" + tenantID + "/oauth2/v2.0/authorize"
		a := w.get(t, "/common/discovery/instance?api-version=1.1&authorization_endpoint="+url.QueryEscape(endpoint))
		if a.status != status {
			t.Errorf("%s: got status %d, want %d", host, a.status, status)
			continue
		}
		if status == http.StatusOK && a.text("tenant_discovery_endpoint") != "https://"+host+"/"+tenantID+"/v2.0/.well-known/openid-configuration" {
			t.Errorf("%s: got tenant_discovery_endpoint %q", host, a.text("tenant_discovery_endpoint"))
		}
		if status != http.StatusOK && a.text("error") != "invalid_instance" {
			t.Errorf("%s: got error %q, want invalid_instance", host, a.text("error"))
		}
	}
}

func TestMetadata(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ path, issuer, token, keys string }{
		{"/" + tenantID + "/v2.0", baseURL + "/" + tenantID + "/v2.0", baseURL + "/" + tenantID + "/oauth2/v2.0/token", baseURL + "/" + tenantID + "/discovery/v2.0/keys"},
		{"/CONTOSO.example/v2.0", baseURL + "/" + tenantID + "/v2.0", baseURL + "/" + tenantID + "/oauth2/v2.0/token", baseURL + "/" + tenantID + "/discovery/v2.0/keys"},
		{"/" + tenantID, "https://sts.windows.net/" + tenantID + "/", baseURL + "/" + tenantID + "/oauth2/token", baseURL + "/" + tenantID + "/discovery/keys"},
		{"/common/v2.0", baseURL + "/{tenantid}/v2.0", baseURL + "/common/oauth2/v2.0/token", baseURL + "/common/discovery/v2.0/keys"},
	} {
		a := w.get(t, c.path+"/.well-known/openid-configuration?")
		if a.status != 200 || a.text("issuer") != c.issuer || a.text("token_endpoint") != c.token || a.text("jwks_uri") != c.keys {
			t.Errorf("%s: got %d issuer %q, token_endpoint %q, jwks_uri %q, want %q, %q, %q",
				c.path, a.status, a.text("issuer"), a.text("token_endpoint"), a.text("jwks_uri"), c.issuer, c.token, c.keys)
		}
	}
	checkRefusal(t, w.get(t, "/nowhere.example/v2.0/.well-known/openid-configuration"), 400, "invalid_request", 90002)
	for _, path := range []string{"/", "/" + tenantID, "/" + tenantID + "/oauth2/token", "/" + tenantID + "//discovery/keys"} {
		if a := w.get(t, path); a.status != http.StatusNotFound {
			t.Errorf("%s: got status %d, want 404", path, a.status)
		}
	}
}
