package usertoken_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/usertoken"
)

const (
	guest  = "bob@fabrikam.example"
	member = "Ada@contoso.example"
	busy   = "carol@contoso.example"
	secret = "a secret of the front end"
)

func group(i int) string { return fmt.Sprintf("dddddddd-0000-4000-8000-%012x", i) }

func groups(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = group(i)
	}
	return all
}

// newEntra is the emulator with two APIs of ours, one of which wants v1 tokens, and
// another tenant with users of its own.
func newEntra(t testing.TB) *entratest.Server {
	t.Helper()
	home := entratest.Tenant{
		ID: tenant,
		Resources: []entratest.Resource{
			{ClientID: apiV1, Name: "ledger", IdentifierURIs: []string{"https://ledger.example", "api://" + apiV1}, TokenVersion: 1, AppRoles: []string{"Run"}},
			{ClientID: "00000003-0000-0000-c000-000000000000", Name: "Microsoft Graph", IdentifierURIs: []string{"https://graph.microsoft.com"}, TokenVersion: 1},
		},
		Applications: []entratest.Application{
			{ClientID: apiV2, Name: "agent", IdentifierURIs: []string{"api://" + apiV2}},
			{ClientID: frontend, Name: "front end", ClientSecrets: []entratest.ClientSecret{{Value: secret}}},
		},
		Users: []entratest.User{
			{ObjectID: userID, UserPrincipalName: member, DisplayName: "Ada Lovelace", Groups: groups(2)},
			{ObjectID: "cccccccc-0000-4000-8000-00000000000d", UserPrincipalName: guest, Guest: true},
			{ObjectID: "cccccccc-0000-4000-8000-00000000000e", UserPrincipalName: busy, Groups: groups(201)},
		},
	}
	away := entratest.Tenant{
		ID:           otherTenant,
		Applications: []entratest.Application{{ClientID: apiV2, Name: "agent"}},
		Users:        []entratest.User{{ObjectID: userID, UserPrincipalName: "eve@fabrikam.example"}},
	}
	server, err := entratest.New(entratest.Config{BaseURL: authority, Directory: entratest.Directory{Tenants: []entratest.Tenant{home, away}}})
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// userToken signs a token of the home tenant, for the API with v2 tokens unless req says
// otherwise.
func userToken(t testing.TB, server *entratest.Server, req entratest.UserTokenRequest) string {
	t.Helper()
	if req.Tenant == "" {
		req.Tenant = tenant
	}
	if req.User == "" {
		req.User = member
	}
	if req.Audience == "" {
		req.Audience = apiV2
	}
	if req.Client == "" && !req.IDToken {
		req.Client = frontend
	}
	raw, err := server.UserToken(req)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// appToken asks for an application's token as the front end.
func appToken(t testing.TB, server *entratest.Server) string {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {frontend}, "client_secret": {secret}, "scope": {"https://ledger.example/.default"}}
	client := http.Client{Transport: server.RoundTripper()}
	resp, err := client.PostForm(authority+"/"+tenant+"/oauth2/v2.0/token", form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
		Description string `json:"error_description"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("no token: %v %s", err, answer.Description)
	}
	return answer.AccessToken
}

func TestUser(t *testing.T) {
	server := newEntra(t)
	v := newVerifier(t, server.RoundTripper())
	ada := usertoken.User{
		Tenant: tenant, ObjectID: userID, Client: frontend, Groups: groups(2),
		Scopes: []string{"access_as_user"}, AMR: []string{"pwd"}, Version: "2.0",
	}
	with := func(change func(*usertoken.User)) usertoken.User {
		user := ada
		change(&user)
		return user
	}
	for name, c := range map[string]struct {
		req  entratest.UserTokenRequest
		want usertoken.User
	}{
		"v2": {entratest.UserTokenRequest{}, ada},
		"v1, client id": {entratest.UserTokenRequest{Audience: apiV1},
			with(func(u *usertoken.User) { u.Version = "1.0" })},
		"v1, api:// and the client id": {entratest.UserTokenRequest{Audience: "api://" + apiV1},
			with(func(u *usertoken.User) { u.Version = "1.0" })},
		"v1, another App ID URI": {entratest.UserTokenRequest{Audience: "https://ledger.example"},
			with(func(u *usertoken.User) { u.Version = "1.0" })},
		"single application": {entratest.UserTokenRequest{Client: apiV2},
			with(func(u *usertoken.User) { u.Client = apiV2 })},
		"scopes, roles and methods": {entratest.UserTokenRequest{Scopes: []string{"Read", "Write"}, Roles: []string{"Analyst"}, MFA: true, Claims: map[string]any{"acrs": []string{"c1"}}},
			with(func(u *usertoken.User) {
				u.Scopes, u.Roles, u.AMR, u.ACRS = []string{"Read", "Write"}, []string{"Analyst"}, []string{"pwd", "mfa"}, []string{"c1"}
			})},
		"guest, v2": {entratest.UserTokenRequest{User: guest},
			with(func(u *usertoken.User) {
				u.ObjectID, u.Guest, u.Groups = "cccccccc-0000-4000-8000-00000000000d", true, nil
			})},
		"guest, v1": {entratest.UserTokenRequest{User: guest, Audience: apiV1},
			with(func(u *usertoken.User) {
				u.ObjectID, u.Guest, u.Groups, u.Version = "cccccccc-0000-4000-8000-00000000000d", true, nil, "1.0"
			})},
		"more groups than fit": {entratest.UserTokenRequest{User: busy},
			with(func(u *usertoken.User) {
				u.ObjectID, u.GroupsOverage, u.Groups = "cccccccc-0000-4000-8000-00000000000e", true, nil
			})},
	} {
		t.Run(name, func(t *testing.T) {
			raw := userToken(t, server, c.req)
			got := verified(t, v, raw)
			if again := verified(t, v, raw); got.Digest != sha256.Sum256([]byte(raw)) || again.Digest != got.Digest {
				t.Error("the digest is not that of the token, or not each time")
			}
			if diff := cmp.Diff(c.want, got, cmpopts.IgnoreFields(usertoken.User{}, "ExpiresAt", "UniqueID", "Digest")); diff != "" {
				t.Errorf("user (-want +got):\n%s", diff)
			}
			if left := time.Until(got.ExpiresAt); left < 59*time.Minute || left > 91*time.Minute || got.UniqueID == "" {
				t.Errorf("got %s left and uti %q, want about an hour and one", left, got.UniqueID)
			}
		})
	}
}

func TestKeyRotation(t *testing.T) {
	server := newEntra(t)
	v := newVerifier(t, server.RoundTripper())
	before := userToken(t, server, entratest.UserTokenRequest{})
	verified(t, v, before)
	server.RotateKeys()
	after := userToken(t, server, entratest.UserTokenRequest{})
	for range 3 {
		verified(t, v, after)
		verified(t, v, before)
	}
	fetches := 0
	for _, r := range server.Requests() {
		if strings.HasSuffix(r.Path, "/discovery/v2.0/keys") {
			fetches++
		}
	}
	if fetches != 2 {
		t.Errorf("got %d fetches of keys, want one at the start and one after the rotation", fetches)
	}
}

func TestEntraTokensThatAreRefused(t *testing.T) {
	server := newEntra(t)
	v := newVerifier(t, server.RoundTripper())
	for name, c := range map[string]struct {
		req  entratest.UserTokenRequest
		want usertoken.Problem
	}{
		"another tenant":          {entratest.UserTokenRequest{Tenant: otherTenant, User: "eve@fabrikam.example"}, usertoken.WrongTenant},
		"for Graph":               {entratest.UserTokenRequest{Audience: "https://graph.microsoft.com"}, usertoken.WrongAudience},
		"expired":                 {entratest.UserTokenRequest{Lifetime: -time.Second}, usertoken.Expired},
		"not yet valid":           {entratest.UserTokenRequest{Claims: map[string]any{"nbf": time.Now().Add(6 * time.Minute).Unix()}}, usertoken.NotYetValid},
		"issued in the future":    {entratest.UserTokenRequest{Claims: map[string]any{"iat": time.Now().Add(6 * time.Minute).Unix()}}, usertoken.NotYetValid},
		"no expiry":               {entratest.UserTokenRequest{Claims: map[string]any{"exp": nil}}, usertoken.NoExpiry},
		"id token":                {entratest.UserTokenRequest{IDToken: true}, usertoken.IDToken},
		"id token with roles":     {entratest.UserTokenRequest{IDToken: true, Claims: map[string]any{"roles": []string{"Analyst"}}}, usertoken.IDToken},
		"id token with a nonce":   {entratest.UserTokenRequest{IDToken: true, Claims: map[string]any{"nonce": "n", "scp": "a", "azp": frontend}}, usertoken.IDToken},
		"id token with at_hash":   {entratest.UserTokenRequest{IDToken: true, Claims: map[string]any{"at_hash": "h", "scp": "a", "azp": frontend}}, usertoken.IDToken},
		"id token with c_hash":    {entratest.UserTokenRequest{IDToken: true, Claims: map[string]any{"c_hash": "h", "scp": "a", "azp": frontend}}, usertoken.IDToken},
		"no scope":                {entratest.UserTokenRequest{Claims: map[string]any{"scp": nil}}, usertoken.NotDelegated},
		"scope /":                 {entratest.UserTokenRequest{Claims: map[string]any{"scp": "/"}}, usertoken.NotDelegated},
		"blank scope":             {entratest.UserTokenRequest{Claims: map[string]any{"scp": " "}}, usertoken.NotDelegated},
		"a device's":              {entratest.UserTokenRequest{Claims: map[string]any{"idtyp": "device"}}, usertoken.NotDelegated},
		"says app, with a scope":  {entratest.UserTokenRequest{Claims: map[string]any{"idtyp": "app"}}, usertoken.AppOnly},
		"roles and no scope":      {entratest.UserTokenRequest{Roles: []string{"Run"}, Claims: map[string]any{"scp": nil, "idtyp": nil}}, usertoken.AppOnly},
		"own subject, scope /":    {entratest.UserTokenRequest{Claims: map[string]any{"scp": "/", "idtyp": nil, "sub": userID}}, usertoken.AppOnly},
		"no oid":                  {entratest.UserTokenRequest{Claims: map[string]any{"oid": nil}}, usertoken.NoUser},
		"oid is a name":           {entratest.UserTokenRequest{Claims: map[string]any{"oid": member}}, usertoken.NoUser},
		"no tid":                  {entratest.UserTokenRequest{Claims: map[string]any{"tid": nil}}, usertoken.NoUser},
		"tid is a domain":         {entratest.UserTokenRequest{Claims: map[string]any{"tid": "contoso.example"}}, usertoken.NoUser},
		"tid of another tenant":   {entratest.UserTokenRequest{Claims: map[string]any{"tid": otherTenant}}, usertoken.WrongIssuer},
		"another issuer":          {entratest.UserTokenRequest{Claims: map[string]any{"iss": "https://issuer.example/" + tenant + "/v2.0"}}, usertoken.WrongIssuer},
		"issuer that starts well": {entratest.UserTokenRequest{Claims: map[string]any{"iss": authority + ".evil.example/" + tenant + "/v2.0"}}, usertoken.WrongIssuer},
		"issuer that ends well":   {entratest.UserTokenRequest{Claims: map[string]any{"iss": "https://evil.example/" + authority + "/" + tenant + "/v2.0"}}, usertoken.WrongIssuer},
		"v1 issuer, v2 token":     {entratest.UserTokenRequest{Claims: map[string]any{"iss": "https://sts.windows.net/" + tenant + "/"}}, usertoken.WrongIssuer},
		"neither version":         {entratest.UserTokenRequest{Claims: map[string]any{"ver": "3.0"}}, usertoken.Malformed},
		"client is a name":        {entratest.UserTokenRequest{Claims: map[string]any{"azp": "front end"}}, usertoken.Malformed},
		"client of v1 in v2":      {entratest.UserTokenRequest{Claims: map[string]any{"azp": nil, "appid": frontend}}, usertoken.Malformed},
		"several audiences":       {entratest.UserTokenRequest{Claims: map[string]any{"aud": []string{apiV2, apiV1}}}, usertoken.WrongAudience},
		"no audience":             {entratest.UserTokenRequest{Claims: map[string]any{"aud": nil}}, usertoken.WrongAudience},
		"empty audience":          {entratest.UserTokenRequest{Claims: map[string]any{"aud": ""}}, usertoken.WrongAudience},
		"audience with a slash":   {entratest.UserTokenRequest{Claims: map[string]any{"aud": "https://ledger.example/"}}, usertoken.WrongAudience},
		"audience that is longer": {entratest.UserTokenRequest{Claims: map[string]any{"aud": "api://" + apiV2 + "0"}}, usertoken.WrongAudience},
		"scopes in a list":        {entratest.UserTokenRequest{Claims: map[string]any{"scp": []string{"a"}}}, usertoken.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			raw := userToken(t, server, c.req)
			wantQuiet(t, raw, refusal(t, v, raw, c.want))
		})
	}
	t.Run("an application's", func(t *testing.T) { refused(t, v, appToken(t, server), usertoken.AppOnly) })
}

// wantQuiet fails the test if a refusal shows a part of the token or the user's name.
func wantQuiet(t *testing.T, raw string, e *usertoken.Error) {
	t.Helper()
	shown := fmt.Sprintf("%+v", *e)
	for _, private := range append(strings.Split(raw, "."), "Ada", "Lovelace", "eyJ") {
		if strings.Contains(shown, private) {
			t.Errorf("the error shows %q: %s", private, shown)
		}
	}
}
