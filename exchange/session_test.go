package exchange_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
)

// A session goes on acting for the user when the user's token is worth nothing
// any more, until it is revoked.
func TestSessions(t *testing.T) {
	for name, test := range map[string]struct {
		identity func(e *entra) exchange.Identity
		audience string
	}{
		"application": {func(e *entra) exchange.Identity { return e.app }, entratest.DemoClientID},
		"agent":       {func(e *entra) exchange.Identity { return e.agent() }, entratest.DemoBlueprintClientID},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEntra(t, withKeeper)
			first, err := e.client.Token(t.Context(), test.identity(e), exchange.Request{Scopes: []string{userRead}, User: e.userToken(t, test.audience), KeepSession: true})
			if err != nil {
				t.Fatal(err)
			}
			if first.Session.Len() == 0 {
				t.Fatal("no session came")
			}
			again := exchange.Request{Scopes: []string{"https://graph.microsoft.com/Mail.Read"}, KeepSession: true, User: exchange.User{Session: first.Session, ObjectID: entratest.DemoUserID}}
			second, err := e.client.Token(t.Context(), test.identity(e), again)
			if err != nil {
				t.Fatal(err)
			}
			if grants := e.grants(); grants[len(grants)-1] != "refresh_token" {
				t.Errorf("got grants %q, want the last to be refresh_token", grants)
			}
			if second.UserObjectID != entratest.DemoUserID || !slices.Equal(second.Scopes, []string{"Mail.Read"}) || second.Session.Len() == 0 {
				t.Errorf("got a token for %s with %q, want Ada's with Mail.Read and a session", second.UserObjectID, second.Scopes)
			}
			again.User.ObjectID = entratest.DemoAgentUserID
			if _, err := e.client.Token(t.Context(), test.identity(e), again); asError(t, err).Reason != exchange.TokenMismatch {
				t.Errorf("got %v for somebody else's session, want %s", err, exchange.TokenMismatch)
			}
			again.User.ObjectID = ""
			if err := e.server.RevokeSignInSessions("", entratest.DemoUserID); err != nil {
				t.Fatal(err)
			}
			_, err = e.client.Token(t.Context(), test.identity(e), again)
			if got := asError(t, err); got.Reason != exchange.EntraRejected || !slices.Contains(got.Codes, 50173) {
				t.Errorf("got %s %v after the revocation, want 50173", got.Reason, got.Codes)
			}
		})
	}
}

// Capabilities are declared on every grant, claims or not, and bring long-lived
// tokens whose refresh_in we alone look at.
func TestCapabilities(t *testing.T) {
	const challenge = `{"access_token":{"nbf":{"essential":true,"value":"1"}}}`
	for _, claims := range []string{"", challenge} {
		e := newEntra(t, withKeeper)
		e.app.Capabilities = []string{"cp1"}
		requests := []exchange.Request{
			{Scopes: []string{graph}, Claims: claims},
			{Scopes: []string{userRead}, Claims: claims, User: e.userToken(t, entratest.DemoClientID), KeepSession: true},
		}
		for range 2 {
			req := requests[0]
			requests = requests[1:]
			token, err := e.client.Token(t.Context(), e.app, req)
			if err != nil {
				t.Fatal(err)
			}
			if token.Lifetime < 20*time.Hour || token.RefreshIn <= 0 || token.RefreshIn >= token.Lifetime {
				t.Errorf("got lifetime %s, refresh in %s, want a day and less", token.Lifetime, token.RefreshIn)
			}
			if token.Session.Len() > 0 {
				requests = append(requests, exchange.Request{Scopes: []string{userRead}, Claims: claims, User: exchange.User{Session: token.Session}})
			}
		}
		if _, err := e.client.Token(t.Context(), e.app, requests[0]); err != nil {
			t.Fatal(err)
		}
		for _, form := range e.sent.forms {
			sent := form.Get("claims")
			if !strings.Contains(sent, `"xms_cc":{"values":["cp1"]}`) || (claims != "") != strings.Contains(sent, `"nbf"`) {
				t.Errorf("%s: got claims %s, want cp1, and the challenge: %t", form.Get("grant_type"), sent, claims != "")
			}
		}
	}
}
