package localapi_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/exchange/entratest"
)

const (
	tokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	jwtBearer     = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	accessToken   = "urn:ietf:params:oauth:token-type:access_token"
	jwtType       = "urn:ietf:params:oauth:token-type:jwt"
)

// exchanged and asserted are the two ways to ask for a user. pairs come last
// and replace what stands before; "" removes it.
func exchanged(user string, pairs ...string) string {
	return changed(append([]string{"grant_type", tokenExchange, "subject_token", user, "subject_token_type", accessToken, "scope", userRead}, pairs...))
}

func asserted(user string, pairs ...string) string {
	return changed(append([]string{"grant_type", jwtBearer, "assertion", user, "requested_token_use", "on_behalf_of", "scope", userRead}, pairs...))
}

func changed(pairs []string) string {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
		if pairs[i+1] == "" {
			values.Del(pairs[i])
		}
	}
	return values.Encode()
}

func TestOnBehalfOf(t *testing.T) {
	d := open(t, forUsers(""))
	user := d.user(t)
	for name, test := range map[string]struct{ body, issuedType string }{
		"token exchange":         {exchanged(user), accessToken},
		"subject is a JWT":       {exchanged(user, "subject_token_type", jwtType), accessToken},
		"access token wanted":    {exchanged(user, "requested_token_type", accessToken), accessToken},
		"JWT wanted":             {exchanged(user, "requested_token_type", jwtType), jwtType},
		"by name of the client":  {exchanged(user, "client_id", "demo"), accessToken},
		"with its resource":      {exchanged(user, "resource", "https://graph.microsoft.com/"), accessToken},
		"with its audience":      {exchanged(user, "audience", "https://graph.microsoft.com"), accessToken},
		"Entra's own form":       {asserted(user), ""},
		"as MSAL asks":           {asserted(user, "scope", userRead+" offline_access openid profile", "client_id", entratest.DemoClientID), ""},
		"with a needless secret": {asserted(user, "client_secret", "code written for Entra has one"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := d.send(t, http.MethodPost, "/oauth2/token", test.body)
			var answer struct {
				AccessToken string `json:"access_token"`
				TokenType   string `json:"token_type"`
				ExpiresIn   int64  `json:"expires_in"`
				Scope       string `json:"scope"`
				IssuedType  string `json:"issued_token_type"`
			}
			check(t, json.Unmarshal([]byte(got.body), &answer))
			if got.StatusCode != 200 || answer.TokenType != "Bearer" || answer.ExpiresIn < 60 || answer.Scope != userRead || answer.IssuedType != test.issuedType {
				t.Fatalf("got %d %+v, issued type %q wanted", got.StatusCode, answer, test.issuedType)
			}
			if token := d.verify(t, answer.AccessToken); token.Scopes != "User.Read" || token.ObjectID != entratest.DemoUserID || token.Client != entratest.DemoClientID {
				t.Errorf("got a token of %+v", token)
			}
		})
	}
	if got := d.entra.TokenRequests(); got != 1 {
		t.Errorf("Entra was asked %d times, want 1: the answers are the same", got)
	}
}

// Clients that nobody here wrote.
func TestOAuth2OnBehalfOf(t *testing.T) {
	d := open(t, forUsers(""))
	ask := func(user string) (*oauth2.Token, error) {
		cfg := clientcredentials.Config{ClientID: "demo", TokenURL: d.url + "/oauth2/token", Scopes: []string{userRead}, AuthStyle: oauth2.AuthStyleInParams,
			EndpointParams: url.Values{"grant_type": {tokenExchange}, "subject_token": {user}, "subject_token_type": {accessToken}}}
		return cfg.Token(t.Context())
	}
	token, err := ask(d.user(t))
	check(t, err)
	if d.verify(t, token.AccessToken).Scopes != "User.Read" || token.Extra("issued_token_type") != accessToken {
		t.Errorf("got %v, issued type %v", token, token.Extra("issued_token_type"))
	}
	d.entra.SetBehavior(entratest.Behavior{RequireMFA: true})
	_, err = ask(d.user(t))
	refusal, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok || refusal.ErrorCode != "interaction_required" || !strings.Contains(string(refusal.Body), `"claims"`) {
		t.Errorf("got %v, want interaction_required with claims", err)
	}
}

func TestClientOnBehalfOf(t *testing.T) {
	d := open(t, forUsers(""))
	asker, err := client.New(client.Config{Socket: d.socket})
	check(t, err)
	token, err := asker.Token(t.Context(), client.TokenRequest{Scope: userRead, UserToken: d.user(t)})
	check(t, err)
	if d.verify(t, token.AccessToken).ObjectID != entratest.DemoUserID {
		t.Error("got a token of somebody else")
	}
}

// Requests that cannot be meant.
func TestGrantRequests(t *testing.T) {
	d := open(t, forUsers(""))
	user := d.user(t)
	for name, test := range map[string]struct{ body, code, says string }{
		"no subject":              {exchanged(""), "invalid_request", "subject_token"},
		"no type of the subject":  {exchanged(user, "subject_token_type", ""), "invalid_request", accessToken},
		"subject is an id token":  {exchanged(user, "subject_token_type", "urn:ietf:params:oauth:token-type:id_token"), "invalid_request", accessToken},
		"subject is a refresh":    {exchanged(user, "subject_token_type", "urn:ietf:params:oauth:token-type:refresh_token"), "invalid_request", accessToken},
		"an actor":                {exchanged(user, "actor_token", user, "actor_token_type", accessToken), "invalid_request", "actor"},
		"an actor's type alone":   {exchanged(user, "actor_token_type", accessToken), "invalid_request", "actor"},
		"SAML wanted":             {exchanged(user, "requested_token_type", "urn:ietf:params:oauth:token-type:saml2"), "invalid_request", "requested_token_type"},
		"a use that is not known": {asserted(user, "requested_token_use", "logon_cert"), "invalid_request", "requested_token_use=on_behalf_of"},
		"no use":                  {asserted(user, "requested_token_use", ""), "invalid_request", "requested_token_use=on_behalf_of"},
		"no assertion":            {asserted(""), "invalid_request", "assertion"},
		"no scope":                {exchanged(user, "scope", ""), "invalid_scope", "scope"},
		"sign-in scopes alone":    {asserted(user, "scope", "openid offline_access"), "invalid_scope", "sign-in"},
		"a reserved scope":        {exchanged(user, "scope", "api://AzureADTokenExchange/.default"), "invalid_scope", "keeps them"},
		"the agent's own scope":   {exchanged(user, "scope", graph), "invalid_scope", "agents.demo.onBehalfOf.allow.scopes"},
		"a scope of another":      {exchanged(user, "resource", "https://vault.azure.net"), "invalid_target", "resource"},
	} {
		t.Run(name, func(t *testing.T) {
			got := d.send(t, http.MethodPost, "/oauth2/token", test.body)
			if got.StatusCode != 400 || got.error.Code != test.code || !strings.Contains(got.body, test.says) || got.error.Hint == "" {
				t.Errorf("got %d %s, want 400 %s that says %q", got.StatusCode, got.body, test.code, test.says)
			}
		})
	}
	if got := d.entra.TokenRequests(); got != 0 {
		t.Errorf("Entra was asked %d times", got)
	}
}

// What is wrong with the user, or with the user's token.
func TestUsersThatAreRefused(t *testing.T) {
	type option = func(*entratest.UserTokenRequest)
	change := func(o option) []option { return []option{o} }
	d := open(t, forUsers(""))
	for reason, options := range map[string][]option{
		"user_token_expired":        change(func(r *entratest.UserTokenRequest) { r.Lifetime = -3600e9 }),
		"user_token_wrong_audience": change(func(r *entratest.UserTokenRequest) { r.Audience = "https://graph.microsoft.com" }),
		"user_token_id_token":       change(func(r *entratest.UserTokenRequest) { r.IDToken, r.Client = true, entratest.DemoClientID }),
		"user_client_not_allowed":   change(func(r *entratest.UserTokenRequest) { r.Client = entratest.DemoClientID }),
		"user_is_guest":             change(func(r *entratest.UserTokenRequest) { r.Claims = map[string]any{"acct": 1} }),
		"user_token_malformed":      nil,
	} {
		t.Run(reason, func(t *testing.T) {
			user := "x.y"
			if options != nil {
				user = d.user(t, options...)
			}
			// RFC 8693 §2.2.2 and RFC 7523 §3.1 differ in the word.
			for body, code := range map[string]string{exchanged(user): "invalid_request", asserted(user): "invalid_grant"} {
				got := d.send(t, http.MethodPost, "/oauth2/token", body)
				if got.StatusCode != 400 || got.error.Code != code || got.error.Reason != reason || got.error.RefusedBy != client.ByPolicy {
					t.Errorf("got %d %s, want 400 %s for %s", got.StatusCode, got.body, code, reason)
				}
				if got.error.Hint == "" || got.error.Rule == "" {
					t.Errorf("got %s, want a hint and a rule", got.body)
				}
			}
		})
	}
	if got := d.entra.TokenRequests(); got != 0 {
		t.Errorf("Entra was asked %d times", got)
	}
}

// What is wrong with the agent.
func TestAgentsThatAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		agents     func(string) string
		body       func(user string) string
		status     int
		code, says string
		retryAfter string
	}{
		"for no user":       {thisUser, func(u string) string { return exchanged(u) }, 400, "unauthorized_client", "agents.demo.onBehalfOf", ""},
		"blocked":           {forUsers("    blocked: true\n"), func(string) string { return good }, 400, "unauthorized_client", "agents.demo.blocked", ""},
		"expired":           {forUsers("    expires: 2020-01-01\n"), func(string) string { return good }, 400, "unauthorized_client", "2020-01-01", ""},
		"token stays":       {forUsers("    rawToken: false\n"), func(string) string { return good }, 400, "unauthorized_client", "call the API through the broker", ""},
		"user token stays":  {forUsers("    rawToken: false\n"), func(u string) string { return asserted(u) }, 400, "unauthorized_client", "call the API through the broker", ""},
		"not for users":     {forUsers("    identities: [demo, robot]\n"), func(u string) string { return exchanged(u, "identity", "robot") }, 400, "unauthorized_client", "identities.robot", ""},
		"over the limit":    {forUsers("    limits: {perMinute: 1}\n"), func(string) string { return good }, 429, "temporarily_unavailable", "agents.demo.limits.perMinute", "60"},
		"over for users":    {forUsers("    limits: {onBehalfOf: {perMinute: 1}, perMinute: 100}\n"), func(u string) string { return exchanged(u) }, 429, "temporarily_unavailable", "onBehalfOf.perMinute", "60"},
		"over a wide limit": {forUsers("    limits: {perMinute: 2}\n"), func(string) string { return good + "&scope_=" }, 429, "temporarily_unavailable", "perMinute", "30"},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, test.agents)
			body := test.body(d.user(t))
			if test.status == 429 { // use the limit up
				for range 2 {
					d.send(t, http.MethodPost, "/oauth2/token", body)
				}
			}
			got := d.send(t, http.MethodPost, "/oauth2/token", body)
			if got.StatusCode != test.status || got.error.Code != test.code || !strings.Contains(got.body, test.says) || got.error.RefusedBy != client.ByPolicy {
				t.Errorf("got %d %s, want %d %s that says %q", got.StatusCode, got.body, test.status, test.code, test.says)
			}
			if after := got.Header.Get("Retry-After"); after != test.retryAfter {
				t.Errorf("got Retry-After %q, want %q", after, test.retryAfter)
			}
		})
	}
}

// A caller that declares capabilities of its own gets the token that it would get
// without, at every door that takes claims.
func TestCapabilitiesOfCallers(t *testing.T) {
	capabilities := url.QueryEscape(`{"access_token":{"xms_cc":{"values":["cp1"]}}}`)
	d, _ := openCalls(t, caller, answering(200, "ok"))
	plain := d.send(t, http.MethodPost, "/oauth2/token", good)
	var lifetime struct {
		Seconds int `json:"expires_in"`
	}
	check(t, json.Unmarshal([]byte(plain.body), &lifetime))
	if plain.StatusCode != 200 || lifetime.Seconds > 2*3600 {
		t.Fatalf("got %d %s", plain.StatusCode, plain.body)
	}
	d.audited()
	for name, got := range map[string]answer{
		"oauth":            d.send(t, http.MethodPost, "/oauth2/token", good+"&claims="+capabilities),
		"Entra's address":  d.send(t, http.MethodPost, "/"+entratest.DemoTenantID+"/oauth2/v2.0/token", good+"&claims="+capabilities),
		"managed identity": d.send(t, http.MethodGet, appService+"&claims="+capabilities, "", asAppService...),
		"auth sidecar":     d.send(t, http.MethodGet, "/AuthorizationHeaderUnauthenticated/tools?claims="+capabilities, ""),
		"call-through":     d.call(t, http.MethodGet, "tools/x", "", "Credfree-Claims", `{"access_token":{"xms_cc":{"values":["cp1"]}}}`),
	} {
		if got.StatusCode != 200 {
			t.Errorf("%s: got %s", name, got.wire())
		}
	}
	if lines := d.audited(); strings.Count(lines, `"cache":"hit"`) != 5 {
		t.Errorf("recorded %s, want five hits of the plain token", lines)
	}
}

// A claims challenge reaches whoever signs the user in, and what comes of it
// reaches Entra.
func TestClaimsChallenge(t *testing.T) {
	d := open(t, forUsers(""))
	d.entra.SetBehavior(entratest.Behavior{RequireMFA: true})
	for name, body := range map[string]string{"exchange": exchanged(d.user(t)), "Entra's form": asserted(d.user(t))} {
		got := d.send(t, http.MethodPost, "/oauth2/token", body)
		want := fmt.Sprintf(`Bearer realm="", authorization_uri="%s/%s/oauth2/v2.0/authorize", client_id="%s", error="insufficient_claims", claims="%s"`,
			authority, entratest.DemoTenantID, entratest.DemoClientID, base64.StdEncoding.EncodeToString([]byte(got.error.Claims)))
		if got.StatusCode != 400 || got.error.Code != "interaction_required" || !json.Valid([]byte(got.error.Claims)) || got.error.Suberror == "" || got.error.CorrelationID == "" {
			t.Errorf("%s: got %d %s", name, got.StatusCode, got.body)
		}
		if header := got.Header.Get("WWW-Authenticate"); header != want {
			t.Errorf("%s: got WWW-Authenticate %s\nwant %s", name, header, want)
		}
	}
	stronger := d.user(t, func(r *entratest.UserTokenRequest) { r.MFA = true })
	got := d.send(t, http.MethodPost, "/oauth2/token", exchanged(stronger, "claims", `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`))
	var token client.Token
	check(t, json.Unmarshal([]byte(got.body), &token))
	if contexts := d.verify(t, token.AccessToken).Contexts; len(contexts) != 1 || contexts[0] != "c1" {
		t.Errorf("got a token that satisfies %v, want c1", contexts)
	}
	if got := d.send(t, http.MethodPost, "/oauth2/token", exchanged("x.y.z")); got.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("a denial is answered with a challenge: %v", got.Header)
	}
}

// A user in many groups has a token of some 30 KiB.
func TestLargeUserToken(t *testing.T) {
	d := open(t, forUsers(""))
	groups := make([]string, 550)
	for i := range groups {
		groups[i] = fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
	}
	user := d.user(t, func(r *entratest.UserTokenRequest) { r.Claims = map[string]any{"groups": groups} })
	if len(user) < 28<<10 {
		t.Fatalf("the token has %d bytes only", len(user))
	}
	if got := d.send(t, http.MethodPost, "/oauth2/token", exchanged(user)); got.StatusCode != 200 {
		t.Errorf("got %d %s", got.StatusCode, got.body)
	}
}
