package entratest_test

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/exchange/entratest"
)

func TestAppTokenV1(t *testing.T) {
	w := newWorld(t)
	a := w.post(t, tenantID, with(w.appForm(t), "scope", graphDefault+" openid offline_access profile"))
	if a.status != http.StatusOK {
		t.Fatalf("got status %d %s, want 200", a.status, a.raw)
	}
	header, claims := w.decode(t, a.text("access_token"), 1)
	if got := header.ExtraHeaders["x5t"]; got != header.KeyID {
		t.Errorf("got x5t %v, want the key id %s", got, header.KeyID)
	}
	want := map[string]any{
		"aud": graph, "iss": "https://sts.windows.net/" + tenantID + "/", "idp": "https://sts.windows.net/" + tenantID + "/",
		"appid": agentID, "appidacr": "2", "idtyp": "app", "roles": []any{"User.Read.All"}, "tid": tenantID, "ver": "1.0",
	}
	checkClaims(t, claims, want, "azp", "azpacr", "scp", "upn", "name")
	if claims["oid"] != claims["sub"] || claims["oid"] == "" {
		t.Errorf("got oid %v and sub %v, want the same", claims["oid"], claims["sub"])
	}
	again := w.post(t, tenantID, w.appForm(t))
	if _, c := w.decode(t, again.text("access_token"), 1); c["oid"] != claims["oid"] || c["uti"] == claims["uti"] {
		t.Errorf("got oid %v and uti %v at the second request, want oid %v and another uti", c["oid"], c["uti"], claims["oid"])
	}
}

func TestAppTokenV2(t *testing.T) {
	w := newWorld(t)
	for _, scope := range []string{ledgerDefault, ledgerID + "/.default", "API://Ledger//.default"} {
		a := w.post(t, "contoso.EXAMPLE", with(w.appForm(t), "scope", scope))
		if a.status != http.StatusOK {
			t.Fatalf("%s: got status %d %s, want 200", scope, a.status, a.raw)
		}
		header, claims := w.decode(t, a.text("access_token"), 2)
		if header.ExtraHeaders["x5t"] != nil {
			t.Errorf("got x5t in a v2 token, want none")
		}
		checkClaims(t, claims, map[string]any{
			"aud": ledgerID, "iss": baseURL + "/" + tenantID + "/v2.0", "azp": agentID, "azpacr": "2",
			"idtyp": "app", "roles": []any{"Run"}, "tid": tenantID, "ver": "2.0",
		}, "appid", "appidacr", "scp", "idp")
	}
}

func checkClaims(t *testing.T, got, want map[string]any, absent ...string) {
	t.Helper()
	for name, value := range want {
		if diff := cmp.Diff(value, got[name]); diff != "" {
			t.Errorf("claim %s (-want +got):\n%s", name, diff)
		}
	}
	for _, name := range []string{"iat", "nbf", "exp", "aio", "rh", "uti", "xms_ftd", "oid", "sub"} {
		if got[name] == nil {
			t.Errorf("got no claim %s, want one", name)
		}
	}
	for _, name := range absent {
		if got[name] != nil {
			t.Errorf("got claim %s %v, want none", name, got[name])
		}
	}
}

func TestAudienceIsAsRequestedInV1(t *testing.T) {
	w := newWorld(t)
	for scope, want := range map[string]string{
		"https://management.azure.com/.default":         "https://management.azure.com",
		"https://management.azure.com//.default":        "https://management.azure.com/",
		"797f4846-ba00-4fd7-ba43-dac1f8f63013/.default": "797f4846-ba00-4fd7-ba43-dac1f8f63013",
	} {
		a := w.post(t, tenantID, with(w.appForm(t), "scope", scope))
		if _, claims := w.decode(t, a.text("access_token"), 1); claims["aud"] != want {
			t.Errorf("%s: got aud %v, want %s", scope, claims["aud"], want)
		}
	}
}

func TestSuccessBody(t *testing.T) {
	w := newWorld(t)
	a := w.post(t, tenantID, with(w.appForm(t), "client_info", "1"))
	_, claims := w.decode(t, a.text("access_token"), 1)
	left, _ := a.body["expires_in"].(float64)
	exp, _ := claims["exp"].(float64)
	iat, _ := claims["iat"].(float64) // five minutes in the past
	if d := exp - (iat + 300) - left; d < 0 || d > 3 {
		t.Errorf("got expires_in %v, %v seconds off exp, want about the same", left, d)
	}
	if left < 3599-5 || left > 5400 {
		t.Errorf("got expires_in %v, want 60 to 90 minutes", left)
	}
	var names []string
	unknown := 0
	for name := range a.body {
		if strings.HasPrefix(name, "x_unknown_") {
			unknown++
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"access_token", "expires_in", "ext_expires_in", "token_type"}, names); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if unknown != 1 {
		t.Errorf("got %d unknown members, want 1", unknown)
	}
	if a.text("token_type") != "Bearer" {
		t.Errorf("got token_type %q, want Bearer", a.text("token_type"))
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store, no-cache", "Pragma": "no-cache", "Expires": "-1",
		"Content-Type": "application/json; charset=utf-8", "X-Content-Type-Options": "nosniff",
		"Client-Request-Id": "",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("got header %s %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"X-Ms-Request-Id", "X-Ms-Ests-Server", "Set-Cookie", "Strict-Transport-Security", "P3p"} {
		if a.header.Get(name) == "" {
			t.Errorf("got no header %s, want one", name)
		}
	}
}

func TestErrorBody(t *testing.T) {
	w := newWorld(t)
	const correlation = "0f6c0f1d-6f5a-4a51-9c25-0d6f8f0f8f0f"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, baseURL+"/"+tenantID+"/oauth2/v2.0/token",
		strings.NewReader(with(w.appForm(t), "client_id", userID).Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	req.Header.Set("client-request-id", correlation)
	req.Header.Set("return-client-request-id", "true")
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body struct {
		Error, Error_Description, Timestamp, Trace_ID, Correlation_ID, Error_URI string
		Error_Codes                                                              []int
	}
	decodeJSON(t, resp.Body, &body)
	stamp, err := time.Parse("2006-01-02 15:04:05Z", body.Timestamp)
	if err != nil || time.Since(stamp) > time.Minute {
		t.Errorf("got timestamp %q, want now", body.Timestamp)
	}
	if got := resp.Header.Get("x-ms-request-id"); got != body.Trace_ID || got == "" {
		t.Errorf("got x-ms-request-id %q and trace_id %q, want the same", got, body.Trace_ID)
	}
	if got := resp.Header.Get("client-request-id"); got != correlation || body.Correlation_ID != correlation {
		t.Errorf("got client-request-id %q and correlation_id %q, want %s", got, body.Correlation_ID, correlation)
	}
	if want := baseURL + "/error?code=700016"; body.Error_URI != want {
		t.Errorf("got error_uri %q, want %q", body.Error_URI, want)
	}
	tail := " Trace ID: " + body.Trace_ID + " Correlation ID: " + correlation + " Timestamp: " + body.Timestamp
	if !strings.HasPrefix(body.Error_Description, "AADSTS700016: Application with identifier '"+userID+"'") || !strings.HasSuffix(body.Error_Description, tail) {
		t.Errorf("got error_description %q, want AADSTS700016 … %q", body.Error_Description, tail)
	}
	rec := w.server.Requests()
	if last := rec[len(rec)-1]; last.CorrelationID != correlation || last.Error != "unauthorized_client" || !slices.Equal(last.Codes, []int{700016}) || last.Status != 400 {
		t.Errorf("got record %+v, want the refusal", last)
	}
}

func TestRequestsHoldNoTokens(t *testing.T) {
	w := newWorld(t)
	form := w.userForm(t)
	token := form.Get("client_assertion")
	w.post(t, tenantID, form)
	w.post(t, tenantID, with(form, "client_id", token))
	w.post(t, tenantID, with(form, "grant_type", token))
	w.post(t, tenantID, with(form, "scope", token))
	w.post(t, token, form)
	w.get(t, "/"+token+"/discovery/keys?t="+token)
	if got := w.server.TokenRequests(); got != 5 {
		t.Errorf("got %d token requests, want 5", got)
	}
	signature := token[strings.LastIndexByte(token, '.'):]
	for _, r := range w.server.Requests() {
		for _, s := range []string{r.Method, r.Path, r.Tenant, r.Grant, r.ClientID, r.Scope, r.CorrelationID, r.Error} {
			if strings.Contains(s, signature) || strings.Contains(s, "eyJ") {
				t.Errorf("got a token in the record %+v, want none", r)
			}
		}
	}
}

func TestRotatedKeysStayPublished(t *testing.T) {
	w := newWorld(t)
	before := w.post(t, tenantID, w.appForm(t)).text("access_token")
	w.server.RotateKeys()
	w.issuer.RotateKeys()
	a := w.post(t, tenantID, w.appForm(t))
	if a.status != http.StatusOK {
		t.Fatalf("got status %d %s after the issuer rotated its key, want 200", a.status, a.raw)
	}
	old, _ := w.decode(t, before, 1)
	fresh, _ := w.decode(t, a.text("access_token"), 1)
	if old.KeyID == fresh.KeyID {
		t.Errorf("got the same key id %s after the rotation, want another", old.KeyID)
	}
}

func TestUserTokens(t *testing.T) {
	w := newWorld(t)
	_, claims := w.decode(t, w.userToken(t, entratest.UserTokenRequest{User: "ADA@contoso.example", Scopes: []string{"a", "b"}, Roles: []string{"Analyst"}}), 2)
	checkClaims(t, claims, map[string]any{
		"aud": agentID, "azp": frontendID, "azpacr": "1", "scp": "a b", "idtyp": "user", "oid": userID, "ver": "2.0", "name": "Ada",
		"preferred_username": "Ada@contoso.example", "acct": 0.0, "roles": []any{"Analyst"},
		"groups": []any{"dddddddd-0000-4000-8000-000000000000", "dddddddd-0000-4000-8000-000000000000"},
	}, "appid", "upn", "_claim_names")
	_, claims = w.decode(t, w.userToken(t, entratest.UserTokenRequest{User: guestUser, Audience: "api://agent", Version: 1}), 1)
	checkClaims(t, claims, map[string]any{
		"aud": "api://agent", "appid": frontendID, "appidacr": "1", "scp": "access_as_user", "acct": 1.0, "ver": "1.0",
		"upn": "eve_fabrikam.example#EXT#@contoso.example", "_claim_names": map[string]any{"groups": "src1"},
	}, "azp", "groups", "preferred_username")
	if claims["idp"] == claims["iss"] {
		t.Errorf("got idp %v for a guest, want another tenant's", claims["idp"])
	}
	_, claims = w.decode(t, w.userToken(t, entratest.UserTokenRequest{Claims: map[string]any{"tid": "elsewhere", "scp": nil}}), 2)
	checkClaims(t, claims, map[string]any{"tid": "elsewhere"}, "scp")
	for _, bad := range []entratest.UserTokenRequest{
		{User: userID, Audience: agentID}, // two tenants
		{Tenant: "nowhere.example", User: userID, Audience: agentID},
		{Tenant: tenantID, User: "nobody", Audience: agentID},
		{Tenant: tenantID, User: userID, Audience: "api://nothing"},
		{Tenant: tenantID, User: userID, Audience: agentID, Client: "front end"},
		{Tenant: tenantID, User: userID, Audience: agentID, Version: 3},
	} {
		if token, err := w.server.UserToken(bad); err == nil || token != "" {
			t.Errorf("%+v: got no error, want one", bad)
		}
	}
}

func TestOnBehalfOf(t *testing.T) {
	w := newWorld(t)
	a := w.post(t, tenantID, with(w.userForm(t), "client_info", "1"))
	if a.status != http.StatusOK {
		t.Fatalf("got status %d %s, want 200", a.status, a.raw)
	}
	_, claims := w.decode(t, a.text("access_token"), 1)
	checkClaims(t, claims, map[string]any{
		"aud": graph, "appid": agentID, "appidacr": "2", "scp": "User.Read", "idtyp": "user", "oid": userID, "upn": "Ada@contoso.example",
	}, "roles")
	if claims["sub"] == claims["oid"] {
		t.Errorf("got sub %v, want a pairwise one", claims["sub"])
	}
	if got, want := a.text("scope"), "User.Read openid profile"; got != want {
		t.Errorf("got scope %q, want %q", got, want)
	}
	if _, id := w.decode(t, a.text("id_token"), 2); id["aud"] != agentID || id["oid"] != userID {
		t.Errorf("got id token %v, want Ada's for the agent", id)
	}
	if a.text("refresh_token") == "" {
		t.Error("got no refresh token, want one for offline_access")
	}
	info, err := base64.RawURLEncoding.DecodeString(a.text("client_info"))
	if want := `{"uid":"` + userID + `","utid":"` + tenantID + `"}`; err != nil || string(info) != want {
		t.Errorf("got client_info %s, want %s", info, want)
	}
}

func TestOnBehalfOfScopes(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ asked, scp, echo string }{
		{graphDefault, "User.Read Mail.Read", graphDefault + " " + graph + "/User.Read " + graph + "/Mail.Read"},
		{graph + "/mail.read", "Mail.Read", graph + "/mail.read"},
		{"mail.read User.Read openid", "Mail.Read User.Read", "mail.read User.Read openid"},
		{ledgerDefault, "run", ledgerDefault + " api://ledger/run"},
	} {
		a := w.post(t, tenantID, with(w.userForm(t), "scope", c.asked))
		version := 1
		if strings.HasPrefix(c.asked, "api://ledger") {
			version = 2
		}
		_, claims := w.decode(t, a.text("access_token"), version)
		if claims["scp"] != c.scp || a.text("scope") != c.echo {
			t.Errorf("%s: got scp %v and scope %q, want %q and %q", c.asked, claims["scp"], a.text("scope"), c.scp, c.echo)
		}
		for _, name := range []string{"refresh_token", "client_info"} {
			if a.body[name] != nil {
				t.Errorf("%s: got %s without asking, want none", c.asked, name)
			}
		}
	}
}
