package entratest_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/exchange/entratest"
)

// refreshForm redeems the refresh token that the answer to form has.
func (w *world) refreshForm(t testing.TB, form url.Values) url.Values {
	t.Helper()
	a := w.post(t, tenantID, form)
	if a.text("refresh_token") == "" {
		t.Fatalf("got %d %s, want a refresh token", a.status, a.raw)
	}
	return url.Values{
		"grant_type": {"refresh_token"}, "client_id": form["client_id"], "client_assertion_type": {assertionType},
		"client_assertion": form["client_assertion"], "refresh_token": {a.text("refresh_token")},
	}
}

func TestRefreshTokenRotatesAndStaysValid(t *testing.T) {
	w := newWorld(t)
	form := w.refreshForm(t, w.userForm(t))
	first := w.post(t, tenantID, form)
	if first.status != http.StatusOK {
		t.Fatalf("got status %d %s, want 200", first.status, first.raw)
	}
	if _, claims := w.decode(t, first.text("access_token"), 1); claims["oid"] != userID || claims["scp"] != "User.Read" || claims["appid"] != agentID {
		t.Errorf("got claims %v, want Ada's with the scope of before", claims)
	}
	next := first.text("refresh_token")
	if next == "" || next == form.Get("refresh_token") {
		t.Errorf("got refresh token %q, want another one", next)
	}
	for _, rt := range []string{form.Get("refresh_token"), next} {
		// A refresh token is not bound to a resource.
		a := w.post(t, tenantID, with(form, "refresh_token", rt, "scope", "api://ledger/run openid", "client_info", "1"))
		if a.status != http.StatusOK || a.text("id_token") == "" || a.text("client_info") == "" {
			t.Fatalf("got status %d %s, want 200 with id_token and client_info", a.status, a.raw)
		}
		if _, claims := w.decode(t, a.text("access_token"), 2); claims["scp"] != "run" {
			t.Errorf("got scp %v, want run", claims["scp"])
		}
	}
}

func TestRefreshTokenRefusals(t *testing.T) {
	d := agentDirectory()
	d.Tenants[0].Applications[5].ClientSecrets = []entratest.ClientSecret{{Value: "s3cret"}} // the blueprint
	d.Tenants[0].Applications[2].ClientSecrets = []entratest.ClientSecret{{Value: "s3cret"}} // "bare"
	d.Tenants[1].Applications = append(d.Tenants[1].Applications, d.Tenants[0].Applications[0])
	w := newWorldOf(t, d)
	form := w.refreshForm(t, w.userForm(t))
	agent := w.refreshForm(t, w.userFICForm(t))
	rt := form.Get("refresh_token")
	for _, c := range []struct {
		name   string
		tenant string
		form   url.Values
		status int
		error  string
		code   int
	}{
		{"none", tenantID, with(form, "refresh_token", ""), 400, "invalid_request", 900144},
		{"garbled", tenantID, with(form, "refresh_token", "hunter2"), 400, "invalid_grant", 9002313},
		{"tampered", tenantID, with(form, "refresh_token", rt[:len(rt)-8]+"AAAAAAAA"), 400, "invalid_grant", 9002313},
		{"truncated", tenantID, with(form, "refresh_token", rt[:12]), 400, "invalid_grant", 9002313},
		{"an access token", tenantID, with(form, "refresh_token", w.userToken(t, entratest.UserTokenRequest{})), 400, "invalid_grant", 9002313},
		{"no credential", tenantID, with(form, "client_assertion", ""), 401, "invalid_client", 7000218},
		{"another client", tenantID, with(form, "client_id", bareID, "client_assertion", "", "client_secret", "s3cret"), 400, "invalid_grant", 70000},
		{"another tenant", otherTenant, form, 400, "invalid_grant", 700005},
		{"no consent", tenantID, with(form, "scope", "Mail.Send"), 400, "invalid_grant", 65001},
		{"agent without T1", tenantID, with(agent, "client_assertion", w.workloadToken(t)), 401, "invalid_client", 700211},
		{"the blueprint with the agent's", tenantID, with(agent, "client_id", blueprintID, "client_assertion", w.workloadToken(t)), 400, "invalid_grant", 70000},
		{"a sibling with the agent's", tenantID, with(agent, "client_id", siblingID, "client_assertion", w.t1(t, tenantID, siblingID)), 400, "invalid_grant", 70000},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkRefusal(t, w.post(t, c.tenant, c.form), c.status, c.error, c.code)
		})
	}
}

func TestRevokedSessions(t *testing.T) {
	w := newWorld(t)
	old := w.refreshForm(t, w.userForm(t))
	if err := w.server.RevokeSignInSessions(tenantID, "ada@contoso.example"); err != nil {
		t.Fatal(err)
	}
	checkRefusal(t, w.post(t, tenantID, old), 400, "invalid_grant", 50173)
	if a := w.post(t, tenantID, w.refreshForm(t, w.userForm(t))); a.status != http.StatusOK {
		t.Errorf("got status %d for a session after the revocation, want 200", a.status)
	}
	if err := w.server.RevokeSignInSessions(tenantID, "nobody"); err == nil {
		t.Error("got no error for an unknown user, want one")
	}
}

func TestRefreshTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		form := w.refreshForm(t, w.userForm(t))
		fresh := func() url.Values { return with(form, "client_assertion", w.workloadToken(t)) }
		time.Sleep(89 * 24 * time.Hour)
		a := w.post(t, tenantID, fresh())
		if a.status != http.StatusOK {
			t.Fatalf("got status %d %s after 89 days, want 200", a.status, a.raw)
		}
		time.Sleep(24 * time.Hour)
		checkRefusal(t, w.post(t, tenantID, fresh()), 400, "invalid_grant", 700082)
		if a := w.post(t, tenantID, with(fresh(), "refresh_token", a.text("refresh_token"))); a.status != http.StatusOK {
			t.Errorf("got status %d for the newer token, want 200", a.status)
		}
	})
}

func TestRefreshTokensAreNotRecorded(t *testing.T) {
	w := newWorld(t)
	form := w.refreshForm(t, w.userForm(t))
	w.post(t, tenantID, with(form, "client_id", form.Get("refresh_token"), "scope", form.Get("refresh_token")))
	for _, r := range w.server.Requests() {
		if strings.Contains(r.ClientID+r.Scope, form.Get("refresh_token")[:40]) {
			t.Errorf("got a refresh token in the record %+v, want none", r)
		}
	}
}
