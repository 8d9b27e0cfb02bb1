package exchange_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/managedidentity"
)

// Whatever somebody in Entra's place answers, another's token is withheld.
func TestAnothersTokenIsWithheld(t *testing.T) {
	const app, tenant, other = entratest.DemoClientID, entratest.DemoTenantID, "11111111-1111-4111-8111-111111111111"
	own := map[string]any{"aud": "https://graph.microsoft.com", "appid": app, "tid": tenant}
	users := map[string]any{"aud": "https://graph.microsoft.com", "appid": app, "tid": tenant, "oid": entratest.DemoUserID, "scp": "User.Read", "idtyp": "user"}
	for name, test := range map[string]struct {
		base    map[string]any
		changes map[string]any
		want    string
	}{
		"own":                          {own, nil, ""},
		"of another client":            {own, map[string]any{"appid": other}, "another client"},
		"of no client":                 {own, map[string]any{"appid": nil}, "another client"},
		"of another tenant":            {own, map[string]any{"tid": other}, "another tenant"},
		"for another resource":         {own, map[string]any{"aud": "https://vault.azure.net"}, "another resource"},
		"for a look-alike":             {own, map[string]any{"aud": "https://graph.microsoft.com.evil.example"}, "another resource"},
		"for nobody":                   {own, map[string]any{"aud": nil}, "another resource"},
		"for the exchange":             {own, map[string]any{"aud": entratest.TokenExchangeResourceID}, "token exchange"},
		"by the resource's id":         {own, map[string]any{"aud": "00000003-0000-0000-c000-000000000000"}, ""},
		"with a slash":                 {own, map[string]any{"aud": "https://graph.microsoft.com/"}, ""},
		"a user's by its type":         {own, map[string]any{"idtyp": "user"}, "of kind user"},
		"a user's by its scopes":       {own, map[string]any{"scp": "User.Read"}, "of kind user"},
		"an agent's, without scopes":   {own, map[string]any{"scp": "/", "idtyp": "app"}, ""},
		"user's":                       {users, nil, ""},
		"user's, but the app's":        {users, map[string]any{"scp": nil, "idtyp": "app"}, "of kind app"},
		"user's, but of another":       {users, map[string]any{"oid": other}, "another user"},
		"user's, but of nobody":        {users, map[string]any{"oid": nil}, "another user"},
		"user's, without what we want": {users, map[string]any{"scp": "Mail.Read"}, "lacks a scope"},
		"user's, with more":            {users, map[string]any{"scp": "Mail.Read user.read"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEntra(t)
			claims := map[string]any{}
			maps.Copy(claims, test.base)
			maps.Copy(claims, test.changes)
			text, err := json.Marshal(claims)
			if err != nil {
				t.Fatal(err)
			}
			req := exchange.Request{Scopes: []string{graph}}
			if _, ok := test.base["oid"]; ok {
				req = exchange.Request{Scopes: []string{userRead}, User: e.userToken(t, app)}
			}
			e.sent.answer = respond(200, "application/json", `{"token_type":"Bearer","expires_in":3599,"access_token":"`+encode(`{}`)+"."+encode(string(text))+`.sig"}`)
			token, err := e.client.Token(t.Context(), e.app, req)
			if test.want == "" {
				if err != nil {
					t.Errorf("got %v, want the token", err)
				}
				return
			}
			if got := asError(t, err); got.Reason != exchange.TokenMismatch || !strings.Contains(got.Message, test.want) || token.Len() != 0 {
				t.Errorf("got %s %q and %d bytes, want %s with %q and none", got.Reason, got.Message, token.Len(), exchange.TokenMismatch, test.want)
			}
		})
	}
}

// A platform that answers with another identity's token than was named, by whatever
// name a token can tell, is not believed.
func TestAnotherManagedIdentitysTokenIsWithheld(t *testing.T) {
	const client, object, other = entratest.DemoClientID, "aaaaaaaa-0000-4000-8000-000000000001", "11111111-1111-4111-8111-111111111111"
	for name, test := range map[string]struct {
		id     managedidentity.ID
		claims map[string]any
		want   string
	}{
		"by object id":                   {managedidentity.ID{ObjectID: object}, map[string]any{"oid": object}, ""},
		"by object id, in capitals":      {managedidentity.ID{ObjectID: object}, map[string]any{"oid": strings.ToUpper(object)}, ""},
		"by object id, another's":        {managedidentity.ID{ObjectID: object}, map[string]any{"oid": other}, "another identity"},
		"by object id, without":          {managedidentity.ID{ObjectID: object}, map[string]any{"oid": nil}, "another identity"},
		"by client id":                   {managedidentity.ID{ClientID: client}, map[string]any{"oid": other}, ""},
		"by client id, another's":        {managedidentity.ID{ClientID: client}, map[string]any{"appid": other}, "another client"},
		"the machine's, whoever's it is": {managedidentity.ID{}, map[string]any{"oid": other, "appid": other}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			claims := map[string]any{"aud": "https://graph.microsoft.com", "appid": client, "tid": entratest.DemoTenantID, "oid": object, "idtyp": "app"}
			maps.Copy(claims, test.claims)
			text, err := json.Marshal(claims)
			must(t, err)
			machine, err := managedidentity.New(managedidentity.Config{Transport: roundTripper(
				respond(200, "application/json", `{"token_type":"Bearer","expires_in":"3599","access_token":"`+encode(`{}`)+"."+encode(string(text))+`.sig"}`))})
			must(t, err)
			e := newEntra(t, func(cfg *exchange.Config) { cfg.ManagedIdentity = machine })
			token, err := e.client.Token(t.Context(), exchange.ManagedIdentity{ID: test.id, Tenant: entratest.DemoTenantID}, exchange.Request{Scopes: []string{graph}})
			if test.want == "" {
				must(t, err)
			} else if got := asError(t, err); got.Reason != exchange.TokenMismatch || !strings.Contains(got.Message, test.want) || token.Len() != 0 {
				t.Errorf("got %s %q and %d bytes, want %s with %q and none", got.Reason, got.Message, token.Len(), exchange.TokenMismatch, test.want)
			}
		})
	}
}

// A blueprint's token that stands for another agent is not used.
func TestAnothersLegIsNotUsed(t *testing.T) {
	e := newEntra(t)
	claims := `{"aud":"` + entratest.TokenExchangeResourceID + `","azp":"` + entratest.DemoBlueprintClientID + `","tid":"` + entratest.DemoTenantID + `","sub":"/eid1/c/pub/t/x/a/y/11111111-1111-4111-8111-111111111111"}`
	e.sent.answer = respond(200, "application/json", `{"token_type":"Bearer","expires_in":3599,"access_token":"`+encode(`{}`)+"."+encode(claims)+`.sig"}`)
	_, err := e.client.Token(t.Context(), e.agent(), exchange.Request{Scopes: []string{graph}})
	if got := asError(t, err); got.Reason != exchange.TokenMismatch || !strings.Contains(got.Message, "another agent identity") || e.count() != 1 {
		t.Errorf("got %s %q after %d requests, want %s after 1", got.Reason, got.Message, e.count(), exchange.TokenMismatch)
	}
}

// MSAL gives up a user's token that has less than five minutes to live.
func TestShortLivedUserTokens(t *testing.T) {
	e := newEntra(t)
	e.server.SetBehavior(entratest.Behavior{Lifetime: time.Minute})
	token, err := e.client.Token(t.Context(), e.app, exchange.Request{Scopes: []string{userRead}, User: e.userToken(t, entratest.DemoClientID)})
	if err != nil || token.Lifetime > time.Minute {
		t.Errorf("got error %v and lifetime %s, want the token of a minute", err, token.Lifetime)
	}
}
