package localapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/exchange/entratest"
)

// validation is what /Validate answers, to the last member.
type validation struct {
	Protocol, Token string
	Claims          map[string]any
}

func validationIn(t testing.TB, got answer) validation {
	t.Helper()
	var v validation
	decoder := json.NewDecoder(strings.NewReader(got.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil || got.StatusCode != 200 || got.Header.Get("Content-Type") != "application/json; charset=utf-8" || got.Header.Get(client.IssuanceHeader) == "" {
		t.Fatalf("got %s: %v", got.wire(), err)
	}
	return v
}

func TestValidate(t *testing.T) {
	d := open(t, sidecar("    rawToken: false\n"))
	user := d.bearer(t, entratest.DemoClientID)
	token := strings.TrimPrefix(user[1], "Bearer ")
	// Clients send parameters that mean nothing here.
	for _, path := range []string{"/Validate", "/validate?AgentUserId=x&optionsOverride.Scopes=x&trace=1", "/Validate?identity=demo"} {
		v := validationIn(t, d.send(t, http.MethodGet, path, "", user...))
		if v.Protocol != "Bearer" || v.Token != token || v.Claims["oid"] != entratest.DemoUserID || v.Claims["preferred_username"] != entratest.DemoUserName {
			t.Errorf("%s: got %+v", path, v)
		}
		if exp, ok := v.Claims["exp"].(float64); !ok || exp < float64(time.Now().Unix()) {
			t.Errorf("got exp %v, want the number in the token", v.Claims["exp"])
		}
		if line := d.audited(); !strings.Contains(line, `"event":"token.inspected"`) || !strings.Contains(line, `"door":"auth_sidecar","grant":"inspection"`) || strings.Contains(line, entratest.DemoUserName) {
			t.Errorf("recorded is %s", line)
		}
	}
	blueprint := d.bearer(t, entratest.DemoBlueprintClientID)
	if v := validationIn(t, d.send(t, http.MethodGet, "/Validate?"+asAgent, "", blueprint...)); v.Claims["aud"] != entratest.DemoBlueprintClientID {
		t.Errorf("got %v", v.Claims)
	}
	// A token that is no good: 401 without a body, and why in the challenge.
	for name, test := range map[string]struct {
		path    string
		headers []string
		demand  string
	}{
		"no token":        {"/Validate", nil, "Bearer"},
		"another scheme":  {"/Validate", []string{"Authorization", "PoP " + token}, "Bearer"},
		"no JWT":          {"/Validate", []string{"Authorization", "Bearer x"}, `Bearer error="invalid_token", error_description="`},
		"changed":         {"/Validate", []string{"Authorization", user[1][:len(user[1])-8] + "AAAAAAAA"}, `Bearer error="invalid_token", error_description="`},
		"another app's":   {"/Validate", blueprint, `Bearer error="invalid_token", error_description="`},
		"app's for agent": {"/Validate?" + asAgent, user, `Bearer error="invalid_token", error_description="`},
	} {
		got := d.send(t, http.MethodGet, test.path, "", test.headers...)
		demand := got.Header.Get("WWW-Authenticate")
		if got.StatusCode != 401 || got.body != "" || demand != test.demand && (test.demand == "Bearer" || !strings.HasPrefix(demand, test.demand)) || strings.Count(demand, `"`)%2 != 0 || got.Header.Get(client.IssuanceHeader) == "" {
			t.Errorf("%s: got %s", name, got.wire())
		}
		if line := d.audited(); !strings.Contains(line, `"grant":"inspection"`) || !strings.Contains(line, `"decision":"deny"`) || strings.Contains(line, "eyJ") {
			t.Errorf("%s: recorded is %s", name, line)
		}
	}
	for name, test := range map[string]struct {
		path   string
		status int
		reason string
	}{
		"no such agent": {"/Validate?AgentIdentity=x", 403, "identity_not_allowed"}, "empty": {"/Validate?AgentIdentity=", 400, "bad_request"},
		"both": {"/Validate?identity=demo&" + asAgent, 400, "bad_request"}, "not for users": {"/Validate?identity=robot", 403, "identity_not_for_users"},
	} {
		if p := problemIn(t, d.send(t, http.MethodGet, test.path, "", user...)); p.Status != test.status || p.Reason != test.reason {
			t.Errorf("%s: got %+v", name, p)
		}
	}
	// Without keys nothing is said about the token, and without a record nothing at all.
	d.full.Store(true)
	if p := problemIn(t, d.send(t, http.MethodGet, "/Validate", "", user...)); p.Status != 503 || p.Reason != "audit_unavailable" {
		t.Errorf("without an audit log: got %+v", p)
	}
}

// Whoever is nobody, or not for users, learns nothing about a token.
func TestValidateIsNoOracle(t *testing.T) {
	nobody := open(t, stranger)
	good, garbage := nobody.send(t, http.MethodGet, "/Validate", "", nobody.bearer(t, entratest.DemoClientID)...), nobody.send(t, http.MethodGet, "/Validate", "", "Authorization", "Bearer x")
	if p := problemIn(t, good); p.Status != 401 || p.Reason != "unknown_agent" || p.Code != "invalid_client" {
		t.Errorf("got %+v", p)
	}
	if p := problemIn(t, garbage); p.Reason != "unknown_agent" {
		t.Errorf("got %+v", p)
	}
	d := open(t, thisUser)
	if p := problemIn(t, d.send(t, http.MethodGet, "/Validate", "", d.bearer(t, entratest.DemoClientID)...)); p.Status != 403 || p.Reason != "on_behalf_of_not_allowed" {
		t.Errorf("got %+v", p)
	}
}

// onBehalfOf.scopes is what the auth sidecar calls AzureAd:Scopes. It answers in text.
func TestValidateDemandsScopes(t *testing.T) {
	for demanded, status := range map[string]int{"access_as_user": 200, "access_as_user, admin": 403} {
		d := open(t, func(dir string) string {
			return strings.Replace(sidecar("")(dir), "onBehalfOf: {", "onBehalfOf: {scopes: ["+demanded+"], ", 1)
		})
		token := d.user(t, func(r *entratest.UserTokenRequest) { r.Claims = map[string]any{"scp": "other access_as_user"} })
		got := d.send(t, http.MethodGet, "/Validate", "", "Authorization", "Bearer "+token)
		if got.StatusCode != status {
			t.Errorf("%s: got %s", demanded, got.wire())
		}
		if status == 403 && (!strings.HasPrefix(got.body, "IDW10203: The 'scope' or 'scp' claim does not contain scopes 'access_as_user,admin'") ||
			got.Header.Get("Content-Type") != "text/plain; charset=utf-8" || !strings.Contains(got.body, "agents.demo.onBehalfOf.scopes") || !strings.Contains(d.audited(), "user_scope_missing")) {
			t.Errorf("got %s", got.wire())
		}
	}
}
