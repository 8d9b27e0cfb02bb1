package entratest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/exchange/entratest"
)

func TestConditionalAccess(t *testing.T) {
	type policy = entratest.ConditionalAccessPolicy
	all := []string{"All"}
	for _, c := range []struct {
		name   string
		policy policy
		want   string // of app, user, agent, agent user, T1: 0 allowed, b blocked, m MFA
	}{
		{"block people", policy{Users: all, Resources: all, Grant: "block"}, "0b000"},
		{"MFA of people", policy{Users: all, Resources: all, Grant: "mfa"}, "0m000"},
		{"a user by name", policy{Users: []string{"ADA@contoso.example"}, Resources: []string{graph}, Grant: "mfa"}, "0m000"},
		{"a user by group", policy{Users: []string{"dddddddd-0000-4000-8000-000000000000"}, Resources: all, Grant: "block"}, "0b000"},
		{"another user", policy{Users: []string{guestUser}, Resources: all, Grant: "block"}, "00000"},
		{"another resource", policy{Users: all, Resources: []string{"api://ledger"}, Grant: "block"}, "00000"},
		{"block applications", policy{Applications: all, Resources: all, Grant: "block"}, "b0000"},
		{"an application", policy{Applications: []string{agentID}, Resources: []string{graph}, Grant: "block"}, "b0000"},
		{"block agents", policy{Agents: all, Resources: all, Grant: "block"}, "00b00"},
		{"an agent", policy{Agents: []string{childID}, Resources: all, Grant: "block"}, "00b00"},
		{"a blueprint's agents", policy{Agents: []string{blueprintID}, Resources: all, Grant: "block"}, "00b00"},
		{"another agent", policy{Agents: []string{siblingID}, Resources: all, Grant: "block"}, "00000"},
		{"block agent users", policy{AgentUsers: true, Resources: all, Grant: "block"}, "000b0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := agentDirectory()
			c.policy.Name = "p"
			d.Tenants[0].ConditionalAccess = []policy{c.policy}
			w := newWorldOf(t, d)
			got := ""
			for _, form := range []url.Values{w.appForm(t), w.userForm(t), w.agentForm(t), w.userFICForm(t), w.leg1(t, childID)} {
				a := w.post(t, tenantID, form)
				switch a.code() {
				case 0:
					got += "0"
				case 53003:
					got += "b"
				case 50076:
					got += "m"
				}
				if a.code() != 0 && !strings.Contains(a.text("claims"), `"capolids"`) {
					t.Errorf("got claims %q, want the policy's", a.text("claims"))
				}
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if c.policy.Grant == "mfa" {
				mfa := with(w.userForm(t), "assertion", w.userToken(t, entratest.UserTokenRequest{MFA: true}))
				if a := w.post(t, tenantID, mfa); a.status != http.StatusOK {
					t.Errorf("got status %d after MFA, want 200", a.status)
				}
				// What the user did to sign in is known to the refresh token.
				if a := w.post(t, tenantID, w.refreshForm(t, mfa)); a.status != http.StatusOK {
					t.Errorf("got status %d for the refresh token after MFA, want 200", a.status)
				}
			}
		})
	}
}

func TestUserAssignment(t *testing.T) {
	const group = "dddddddd-0000-4000-8000-000000000000"
	for name, c := range map[string]struct {
		assigned []string
		groups   []entratest.Group
		code     int
	}{
		"nobody":       {nil, nil, 50105},
		"another user": {[]string{guestUser}, nil, 50105},
		"by id":        {[]string{strings.ToUpper(userID)}, nil, 0},
		"by name":      {[]string{"ada@CONTOSO.example"}, nil, 0},
		"by group":     {[]string{group}, nil, 0},
		// Membership in the assigned group must be direct.
		"by a group of the group": {[]string{ledgerID}, []entratest.Group{{ObjectID: group, MemberOf: []string{ledgerID}}}, 50105},
	} {
		d := directory()
		home := &d.Tenants[0]
		home.Groups = c.groups
		for i := range home.Resources {
			if home.Resources[i].ClientID == ledgerID {
				home.Resources[i].AssignmentRequired, home.Resources[i].Assigned = true, c.assigned
			}
		}
		w := newWorldOf(t, d)
		a := w.post(t, tenantID, with(w.userForm(t), "scope", "api://ledger/run"))
		if a.code() != c.code {
			t.Errorf("%s: got code %d, want %d", name, a.code(), c.code)
		}
	}
}

func TestContinuousAccess(t *testing.T) {
	const cp1 = `{"access_token":{"xms_cc":{"values":["CP1"]}}}`
	d := agentDirectory()
	for i := range d.Tenants[0].Resources {
		d.Tenants[0].Resources[i].ContinuousAccess = d.Tenants[0].Resources[i].ClientID != assignedID
	}
	w := newWorldOf(t, d)
	for _, c := range []struct {
		name     string
		form     url.Values
		min, max time.Duration
		capable  bool
	}{
		{"application for Graph", with(w.appForm(t), "claims", cp1), 24*time.Hour - time.Minute, 24 * time.Hour, true},
		{"application for another API", with(w.appForm(t), "claims", cp1, "scope", ledgerDefault), 59 * time.Minute, 90 * time.Minute, true},
		{"an API without it", with(w.appForm(t), "claims", cp1, "scope", agentID+"/.default"), 59 * time.Minute, 90 * time.Minute, false},
		{"application without cp1", with(w.appForm(t), "claims", `{"access_token":{"xms_cc":{"values":["other"]}}}`), 59 * time.Minute, 90 * time.Minute, false},
		{"agent for Graph", with(w.agentForm(t), "claims", cp1), 59 * time.Minute, 90 * time.Minute, true},
		{"user", with(w.userForm(t), "claims", cp1), 20*time.Hour - time.Minute, 28 * time.Hour, true},
		{"user without claims", w.userForm(t), 59 * time.Minute, 90 * time.Minute, false},
		{"agent user", with(w.userFICForm(t), "claims", cp1), 20*time.Hour - time.Minute, 28 * time.Hour, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.post(t, tenantID, c.form)
			in, _ := a.body["expires_in"].(float64)
			if d := time.Duration(in) * time.Second; d < c.min || d > c.max {
				t.Errorf("got expires_in %v, want %v to %v", d, c.min, c.max)
			}
			refresh, _ := a.body["refresh_in"].(float64)
			if (c.min > 2*time.Hour) != (refresh > 0) || refresh > in*0.51 {
				t.Errorf("got refresh_in %v of %v, want half for long-lived tokens and else none", refresh, in)
			}
			_, claims := unverified(t, a.text("access_token"))
			if got := asJSON(t, claims["xms_cc"]); (got == `["CP1"]`) != c.capable {
				t.Errorf("got xms_cc %s, want the capability: %t", got, c.capable)
			}
		})
	}
}

func TestClaimsRequests(t *testing.T) {
	w := newWorld(t)
	// nbf: the token must say that it was issued since, although tokens are
	// dated back.
	since := time.Now().Add(-2 * time.Second).Unix()
	request := `{"access_token":{"nbf":{"essential":true,"value":"` + asJSON(t, since) + `"}}}`
	for _, form := range []url.Values{w.appForm(t), w.userForm(t)} {
		_, claims := unverified(t, w.post(t, tenantID, with(form, "claims", request)).text("access_token"))
		if got, _ := claims["nbf"].(float64); int64(got) < since {
			t.Errorf("got nbf %v, want at least %d", got, since)
		}
	}
	// acrs: only who has done more than a password gets an authentication context.
	request = `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`
	a := w.post(t, tenantID, with(w.userForm(t), "claims", request))
	checkRefusal(t, a, 400, "interaction_required", 50076)
	var got, want any
	if json.Unmarshal([]byte(a.text("claims")), &got) != nil || json.Unmarshal([]byte(request), &want) != nil || asJSON(t, got) != asJSON(t, want) {
		t.Errorf("got claims %q, want %s", a.text("claims"), request)
	}
	mfa := with(w.userForm(t), "claims", request, "assertion", w.userToken(t, entratest.UserTokenRequest{MFA: true}))
	if _, claims := unverified(t, w.post(t, tenantID, mfa).text("access_token")); asJSON(t, claims["acrs"]) != `["c1"]` {
		t.Errorf("got acrs %v, want c1", claims["acrs"])
	}
	for _, odd := range []string{`{}`, `{"access_token":null}`, `{"access_token":5}`, `{"access_token":{"nbf":null,"acrs":[],"xms_cc":{"values":"CP1"}}}`, `{"id_token":{"x":null}}`} {
		if a := w.post(t, tenantID, with(w.appForm(t), "claims", odd)); a.status != http.StatusOK {
			t.Errorf("%s: got status %d, want 200", odd, a.status)
		}
	}
	for _, bad := range []string{`[]`, `null`, `{`, `"x"`} {
		checkRefusal(t, w.post(t, tenantID, with(w.appForm(t), "claims", bad)), 400, "invalid_request", 90023)
	}
}

const gitHub = "https://token.actions.githubusercontent.com"

func TestFlexibleCredentials(t *testing.T) {
	issuer, err := entratest.NewIssuer(entratest.IssuerConfig{URL: gitHub, Key: sharedKey()})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		expression, subject string
		workflow            any
		code                int
	}{
		{"claims['sub'] eq 'repo:a/b:ref:refs/heads/main'", "repo:a/b:ref:refs/heads/main", nil, 0},
		{"claims['sub'] eq 'repo:a/b:*'", "repo:a/b:ref:refs/heads/main", nil, 700213},
		{"claims['sub'] eq 'repo:a/b:*'", "repo:a/b:*", nil, 0},
		{"claims['sub'] matches 'repo:a/*:ref:refs/heads/*'", "repo:a/b:ref:refs/heads/main", nil, 0},
		{"claims['sub'] matches 'repo:a/*:ref:refs/heads/*'", "repo:ab/c:ref:refs/heads/main", nil, 700213},
		{"claims['sub'] matches 'repo:a/*'", "xrepo:a/b", nil, 700213},
		{"claims['sub'] matches 'repo:a/?'", "repo:a/é", nil, 0},
		{"claims['sub'] matches 'repo:a/?'", "repo:a/bc", nil, 700213},
		{"claims['sub'] matches 'Repo:*'", "repo:a", nil, 700213},
		{"claims['sub'] eq 'it''s'", "it's", nil, 0},
		{"claims['sub'] matches '*' and claims['job_workflow_ref'] eq 'w'", "x", "w", 0},
		{"claims['sub'] matches '*' and claims['job_workflow_ref'] eq 'w'", "x", "v", 700213},
		{"claims['sub'] matches '*' and claims['job_workflow_ref'] eq 'w'", "x", nil, 700213},
		{"claims['sub'] matches '*' and claims['job_workflow_ref'] matches '*'", "x", []string{"w"}, 700213},
	} {
		d := directory()
		d.Tenants[0].Applications[2].FederatedCredentials = []entratest.FederatedCredential{{
			Issuer: gitHub, Audience: entratest.TokenExchangeAudience,
			ClaimsMatchingExpression: &entratest.ClaimsMatchingExpression{Value: c.expression, LanguageVersion: 1},
		}}
		server, err := entratest.New(entratest.Config{BaseURL: baseURL, Directory: d, HTTPClient: &http.Client{Transport: issuer.RoundTripper()}})
		if err != nil {
			t.Fatalf("%s: %v", c.expression, err)
		}
		w := &world{server: server, issuer: issuer, client: &http.Client{Transport: server.RoundTripper()}}
		a := w.post(t, tenantID, with(w.appForm(t), "client_id", bareID,
			"client_assertion", w.workload(t, map[string]any{"iss": gitHub, "sub": c.subject, "job_workflow_ref": c.workflow})))
		if a.code() != c.code || (c.code == 0) != (a.status == http.StatusOK) {
			t.Errorf("%s with %q, %v: got %d %d, want code %d", c.expression, c.subject, c.workflow, a.status, a.code(), c.code)
		}
	}
}
