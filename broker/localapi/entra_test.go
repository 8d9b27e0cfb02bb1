package localapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/credfree/credfree/exchange/entratest"
)

const (
	entraPath     = "/" + entratest.DemoTenantID + "/oauth2/v2.0/token"
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// What code written for Entra sends, with the host changed and nothing else.
func TestEntraTokenEndpoint(t *testing.T) {
	d := open(t, forUsers(""))
	own := []string{"client_id", entratest.DemoClientID, "client_assertion_type", assertionType, "client_assertion", "eyJhbGciOiJub25lIn0.e30."}
	for name, test := range map[string]struct {
		body, scope string
	}{
		"for itself":              {form(append(own, "grant_type", "client_credentials", "scope", graph)...), graph},
		"on behalf of a user":     {asserted(d.user(t), append(own, "scope", userRead+" offline_access openid")...), userRead},
		"with a secret":           {form("client_id", entratest.DemoClientID, "client_secret", "code written for Entra has one", "grant_type", "client_credentials", "scope", graph), graph},
		"client id in upper case": {form("client_id", strings.ToUpper(entratest.DemoClientID), "grant_type", "client_credentials", "scope", graph), graph},
	} {
		for _, path := range []string{entraPath, strings.ToUpper(entraPath[:37]) + entraPath[37:] + "/", "/oauth2/token"} {
			got := d.send(t, http.MethodPost, path, test.body)
			var answer struct {
				AccessToken string `json:"access_token"`
				TokenType   string `json:"token_type"`
				ExpiresIn   int64  `json:"expires_in"`
				Scope       string
			}
			check(t, json.Unmarshal([]byte(got.body), &answer))
			if got.StatusCode != 200 || answer.TokenType != "Bearer" || answer.ExpiresIn < 60 || answer.Scope != test.scope {
				t.Fatalf("%s at %s: got %d %s", name, path, got.StatusCode, got.body)
			}
			if client := d.verify(t, answer.AccessToken).Client; client != entratest.DemoClientID {
				t.Errorf("%s at %s: got a token of %s", name, path, client)
			}
		}
	}
	if audited := d.audited(); strings.Contains(audited, "eyJhbGciOiJub25lIn0") || strings.Count(audited, `"decision":"allow"`) != 12 {
		t.Errorf("audited: %s", audited)
	}
}

// Another tenant's token endpoint is not here, and neither is any other path of
// Entra's.
func TestEntraTenants(t *testing.T) {
	d := open(t, thisUser)
	for path, status := range map[string]int{
		"/common/oauth2/v2.0/token": 400, "/organizations/oauth2/v2.0/token": 400, "/" + entratest.DemoDomain + "/oauth2/v2.0/token": 400, "/" + entratest.DemoClientID + "/oauth2/v2.0/token": 400,
		"/x/oauth2/v2.0/token": 400, "/oauth2/oauth2/v2.0/token": 400, "/oauth2/v2.0/token": 404, "//oauth2/v2.0/token": 404, "/a/b/oauth2/v2.0/token": 404, entraPath + "s": 404,
		"/" + entratest.DemoTenantID + "/oauth2/token": 404, "/" + entratest.DemoTenantID + "/oauth2/v2.0/authorize": 404, "/" + entratest.DemoTenantID + "/oauth2/V2.0/token": 404,
		"/%35" + entraPath[2:]: 404, entraPath: 200,
	} {
		got := d.send(t, http.MethodPost, path, good)
		if got.StatusCode != status {
			t.Errorf("%s: got %d %s, want %d", path, got.StatusCode, got.body, status)
		}
		if status == 400 && (got.error.Code != "invalid_request" || !strings.Contains(got.error.Hint, "as the policy does") || got.error.IssuanceID == "") {
			t.Errorf("%s: got %s", path, got.body)
		}
	}
	if got := strings.Count(d.audited(), `"decision":"allow"`); got != 1 {
		t.Errorf("%d allowed, want 1", got)
	}
}

// A client id selects the identity that has it, among the agent's own.
func TestClientIDSelects(t *testing.T) {
	const vault = "b0b0b0b0-0000-4000-8000-000000000001"
	agents := func(string) string {
		return fmt.Sprintf("  demo:\n    identity: demo\n    identities: [demo, fleet]\n    callers: [{tcp: {uids: [%d]}}]\n    allow: {scopes: [%q]}\n", os.Getuid(), graph)
	}
	d := open(t, agents)
	for id, want := range map[string]struct {
		status int
		client string
	}{
		"":                     {200, entratest.DemoClientID},
		"demo":                 {200, entratest.DemoClientID},
		entratest.DemoClientID: {200, entratest.DemoClientID},
		// Two identities have this one, so the agent's default is meant.
		entratest.DemoAgentIdentityID: {200, entratest.DemoClientID},
		// The emulator knows no such agent, and is asked for it.
		otherAgentID: {400, ""},
		vault:        {401, ""},
	} {
		got := d.send(t, http.MethodPost, "/oauth2/token", form("grant_type", "client_credentials", "scope", graph, "client_id", id))
		if got.StatusCode != want.status {
			t.Errorf("client_id=%s: got %d %s, want %d", id, got.StatusCode, got.body, want.status)
			continue
		}
		if id == otherAgentID && (got.error.RefusedBy != "entra" || !strings.Contains(d.audited(), `"identity":"fleet"`)) {
			t.Errorf("client_id=%s: got %s, want another identity than the default", id, got.body)
		}
		if want.status == 200 {
			var answer struct {
				AccessToken string `json:"access_token"`
			}
			check(t, json.Unmarshal([]byte(got.body), &answer))
			if client := d.verify(t, answer.AccessToken).Client; client != want.client {
				t.Errorf("client_id=%s: got a token of %s, want %s", id, client, want.client)
			}
		}
	}
	got := d.send(t, http.MethodPost, "/oauth2/token", form("grant_type", "client_credentials", "scope", graph, "client_id", otherAgentID, "identity", "demo"))
	if got.StatusCode != 200 {
		t.Errorf("identity goes before client_id: got %d %s", got.StatusCode, got.body)
	}
}
