package broker_test

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/secret"
)

const (
	userRead = "https://graph.microsoft.com/User.Read"
	mailRead = "https://graph.microsoft.com/Mail.Read"
	groupID  = "99990000-0000-4000-8000-000000009999"
)

// assistant may act for users of the tenant who come from the front end. more
// goes below onBehalfOf.
func assistant(more string) string {
	return `
agents:
  assistant:
    owner: desk@demo.example
    identity: demo
    identities: [demo, agent, agent-user]
    callers: [{tcp: {uids: [10001]}}]
    allow: {scopes: [` + graph + `, ` + userRead + `]}
    onBehalfOf:
      allow: {scopes: [` + userRead + `, ` + mailRead + `]}
      clients: [` + entratest.DemoFrontendClientID + `]
` + more
}

func TestOnBehalfOf(t *testing.T) {
	w := newWorld(t)
	w.use(t, assistant(""))
	user := w.userToken(t, nil)
	first, err := w.actFor(as(t, 10001), user, userRead)
	check(t, err)
	if first.Token.Kind != exchange.Delegated || first.Token.UserObjectID != entratest.DemoUserID || !slices.Equal(first.Token.Scopes, []string{"User.Read"}) {
		t.Errorf("got a token of kind %s for %s with %q, want Ada's with User.Read", first.Token.Kind, first.Token.UserObjectID, first.Token.Scopes)
	}
	line := w.audit.last(t)
	for key, want := range map[string]any{"on_behalf_of": true, "user_tenant_id": entratest.DemoTenantID, "user_object_id": entratest.DemoUserID,
		"user_client_id": entratest.DemoFrontendClientID, "token_kind": "user", "first_use": true, "rule": "agents.assistant.onBehalfOf.allow.scopes[0]"} {
		if line[key] != want {
			t.Errorf("got %s=%v in the audit line, want %v", key, line[key], want)
		}
	}
	second, err := w.actFor(as(t, 10001), user, userRead)
	check(t, err)
	if line := w.audit.last(t); second.Token.Reveal() != first.Token.Reveal() || line["cache"] != "hit" || line["first_use"] != nil {
		t.Errorf("got %v, want the same token from the cache", line)
	}
	// The token of the same user that is another token has an entry of its own.
	other, err := w.actFor(as(t, 10001), w.userToken(t, func(r *entratest.UserTokenRequest) { r.MFA = true }), userRead)
	check(t, err)
	if other.Token.Reveal() == first.Token.Reveal() {
		t.Error("two user tokens share an entry")
	}
	// What the agent may have for itself, it may not have for a user, and the reverse.
	if _, err := w.actFor(as(t, 10001), user, graph); denial(t, err).Reason != policy.ScopeNotAllowed {
		t.Errorf("got %v for a scope of the agent's own", err)
	}
	if _, err := w.ask(as(t, 10001), mailRead); denial(t, err).Reason != policy.ScopeNotAllowed {
		t.Errorf("got %v for a scope of users", err)
	}
}

// The whole chain of an agent user is five spans, and then one hit.
func TestAgentUserChain(t *testing.T) {
	w := newWorld(t)
	w.use(t, assistant(""))
	ask := func() broker.Issued {
		issued, err := w.Issue(as(t, 10001), broker.Request{Door: "oauth", Identity: "agent-user", Scope: userRead})
		check(t, err)
		return issued
	}
	first := ask()
	if first.Token.UserObjectID != entratest.DemoAgentUserID || w.entra.TokenRequests() != 3 {
		t.Errorf("got a token for %s after %d requests, want the agent user's after 3", first.Token.UserObjectID, w.entra.TokenRequests())
	}
	var names []string
	for _, span := range w.spans.Ended() {
		names = append(names, span.Name())
	}
	if want := []string{"workload.token", "entra.token", "entra.token", "entra.token", "token.issue"}; !slices.Equal(names, want) {
		t.Errorf("got spans %q, want %q", names, want)
	}
	w.spans.Reset()
	if second := ask(); second.Token.Reveal() != first.Token.Reveal() || len(w.spans.Ended()) != 1 || w.audit.last(t)["cache"] != "hit" {
		t.Errorf("got %d spans and cache %v, want one hit", len(w.spans.Ended()), w.audit.last(t)["cache"])
	}
	line := w.audit.last(t)
	if line["identity"] != "agent-user" || line["identity_member"] != nil || line["client_id"] != entratest.DemoAgentIdentityID {
		t.Errorf("got %v, want the agent identity, and no user name", line)
	}
	// A token of the agent itself takes one request more: the blueprint's is kept.
	_, err := w.Issue(as(t, 10001), broker.Request{Door: "oauth", Identity: "agent", Scope: graph})
	check(t, err)
	if got := w.entra.TokenRequests(); got != 4 {
		t.Errorf("got %d requests, want 4", got)
	}
}

// No request, however it is put, gets the token of an intermediate leg.
func TestLegsAreNobodys(t *testing.T) {
	w := newWorld(t)
	w.use(t, assistant(""))
	for _, identity := range []string{"", "agent", "agent-user", entratest.DemoAgentIdentityID} {
		for _, scope := range []string{"api://AzureADTokenExchange/.default", entratest.TokenExchangeResourceID + "/.default", "api://AzureADTokenExchange"} {
			if issued, err := w.Issue(as(t, 10001), broker.Request{Identity: identity, Scope: scope}); err == nil || issued.Token.Len() > 0 {
				t.Errorf("identity %q got a token for %s", identity, scope)
			}
		}
	}
	if got := w.entra.TokenRequests(); got != 0 {
		t.Errorf("Entra was asked %d times", got)
	}
}

// Each token that is not a user's delegation to us, now, is refused by us, with
// a reason of its own; Entra is not asked.
func TestUserTokensThatAreRefused(t *testing.T) {
	w := newWorld(t)
	w.use(t, assistant(""))
	appToken, err := w.ask(as(t, 10001), graph)
	check(t, err)
	before := w.entra.TokenRequests()
	token := func(change func(*entratest.UserTokenRequest)) secret.Text { return w.userToken(t, change) }
	for name, test := range map[string]struct {
		token  secret.Text
		reason policy.Reason
	}{
		"none":            {secret.Text{}, "user_token_malformed"},
		"garbage":         {secret.New("not-a-token"), "user_token_malformed"},
		"expired":         {token(func(r *entratest.UserTokenRequest) { r.Lifetime = -time.Minute }), "user_token_expired"},
		"an id token":     {token(func(r *entratest.UserTokenRequest) { r.IDToken, r.Client = true, entratest.DemoClientID }), "user_token_id_token"},
		"an application":  {appToken.Token.Text, "user_token_wrong_audience"},
		"of an app alone": {token(func(r *entratest.UserTokenRequest) { r.Claims = map[string]any{"scp": nil, "idtyp": "app"} }), "user_token_app_only"},
		"for Graph":       {token(func(r *entratest.UserTokenRequest) { r.Audience = "https://graph.microsoft.com" }), "user_token_wrong_audience"},
		"for a blueprint": {token(func(r *entratest.UserTokenRequest) { r.Audience = entratest.DemoBlueprintClientID }), "user_token_wrong_audience"},
		"changed":         {secret.New(flip(token(nil).Reveal())), "user_token_bad_signature"},
		"another tenant": {token(func(r *entratest.UserTokenRequest) {
			r.Claims = map[string]any{"tid": groupID, "iss": authority + "/" + groupID + "/v2.0"}
		}), "user_token_wrong_tenant"},
		"another app's": {token(func(r *entratest.UserTokenRequest) { r.Client = groupID }), policy.UserClientNotAllowed},
		"a guest":       {token(func(r *entratest.UserTokenRequest) { r.Claims = map[string]any{"acct": 1} }), policy.UserIsGuest},
	} {
		t.Run(name, func(t *testing.T) {
			issued, err := w.actFor(as(t, 10001), test.token, userRead)
			got := denial(t, err)
			if got.Reason != test.reason || !strings.HasPrefix(got.Rule, "agents.assistant.onBehalfOf") || got.Hint == "" || issued.Token.Len() != 0 {
				t.Errorf("got %s by %s (%s), want %s by a rule of onBehalfOf", got.Reason, got.Rule, got.Hint, test.reason)
			}
			if line := w.audit.last(t); line["reason"] != string(test.reason) || line["decision"] != "deny" || line["issuance_id"] != got.ID {
				t.Errorf("got audit line %v", line)
			}
		})
	}
	if got := w.entra.TokenRequests(); got != before {
		t.Errorf("Entra was asked %d times", got-before)
	}
}

// flip changes one character in the middle of the signature.
func flip(token string) string {
	i := strings.LastIndexByte(token, '.') + 20
	c := byte('A')
	if token[i] == c {
		c = 'B'
	}
	return token[:i] + string(c) + token[i+1:]
}

// Audit mode allowed what was denied in the end for another reason: it issued nothing,
// and the log does not say so.
func TestDeniedAfterAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		rules := assistant("    mode: audit\n")
		bare := strings.Replace(rules, userRead+", "+mailRead, mailRead, 1)
		if bare == rules {
			t.Fatal("the scope is not taken away")
		}
		w.use(t, bare)
		user := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Lifetime = 3 * time.Second })
		w.entra.SetBehavior(entratest.Behavior{Delay: 4 * time.Second, ClockSkew: -10 * time.Second})
		if _, err := w.actFor(as(t, 10001), user, userRead); denial(t, err).Reason != "user_token_expired" {
			t.Errorf("got %v", err)
		}
		if line := w.audit.last(t); line["decision"] != "deny" || line["reason"] != "user_token_expired" || line["audited"] != nil {
			t.Errorf("got %v, want a denial like any other", line)
		}
	})
}

// A token for a user is never served beyond the user's own.
func TestOnBehalfOfEndsWithTheUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.use(t, assistant(""))
		user := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Lifetime = 10 * time.Minute })
		issued, err := w.actFor(as(t, 10001), user, userRead)
		check(t, err)
		if left := time.Until(issued.ExpiresAt); left > 10*time.Minute {
			t.Errorf("the token is said to be good for %s, the user's is for 10m", left)
		}
		time.Sleep(9*time.Minute + 50*time.Second)
		_, err = w.actFor(as(t, 10001), user, userRead)
		check(t, err)
		synctest.Wait()
		time.Sleep(10 * time.Second)
		if _, err := w.actFor(as(t, 10001), user, userRead); denial(t, err).Reason != "user_token_expired" {
			t.Errorf("got %v after the end of the user's token", err)
		}
		if got := w.entra.TokenRequests(); got != 1 {
			t.Errorf("got %d requests to Entra, want 1: what ends with the user is not refreshed", got)
		}
	})
}

// A user's token that expires while Entra is asked is one that has expired; one that
// is good for a moment still is good for that moment.
func TestUserTokensThatExpireDuringTheExchange(t *testing.T) {
	for lifetime, expired := range map[time.Duration]bool{3 * time.Second: true, 4 * time.Second: true, 6 * time.Second: false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.use(t, assistant(""))
			user := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Lifetime = lifetime })
			w.entra.SetBehavior(entratest.Behavior{Delay: 4 * time.Second, ClockSkew: -10 * time.Second})
			var asking sync.WaitGroup
			for range 3 { // one asks, the others join
				asking.Go(func() {
					issued, err := w.actFor(as(t, 10001), user, userRead)
					if !expired {
						check(t, err)
						if left := time.Until(issued.ExpiresAt); left <= 0 || left > 2*time.Second {
							t.Errorf("%s: the token is said to be good for %s", lifetime, left)
						}
						return
					}
					if denied := denial(t, err); denied.Reason != "user_token_expired" || denied.ID != issued.ID || denied.Hint == "" || issued.Token.Len() > 0 {
						t.Errorf("%s: got %s of %s and %d bytes", lifetime, denied.Reason, denied.ID, issued.Token.Len())
					}
				})
			}
			asking.Wait()
			want := 1
			if expired {
				want = 0
			}
			if line := w.audit.last(t); w.cache.Stats().Entries != want || expired && (line["decision"] != "deny" || line["reason"] != "user_token_expired") {
				t.Errorf("%s: got %d entries and audit line %v", lifetime, w.cache.Stats().Entries, line)
			}
		})
	}
}

// Whoever answers in Entra's place: the token of another user is not released.
func TestAnotherUsersTokenIsWithheld(t *testing.T) {
	w := newWorldOf(t, func(d *entratest.Directory) {
		d.Tenants[0].Users = append(d.Tenants[0].Users, entratest.User{ObjectID: groupID, UserPrincipalName: "eve@demo.example"})
	})
	other := w.userToken(t, func(r *entratest.UserTokenRequest) { r.User = groupID })
	client, err := exchange.New(exchange.Config{Authority: authority, Audience: entratest.TokenExchangeAudience, Transport: swapping{w.entra.RoundTripper(), other.Reveal()}})
	check(t, err)
	w.rules.Exchange = client
	w.use(t, assistant(""))
	issued, err := w.actFor(as(t, 10001), w.userToken(t, nil), userRead)
	if got := asExchangeError(t, err); got.Reason != exchange.TokenMismatch || issued.Token.Len() > 0 || w.cache.Stats().Entries != 0 {
		t.Errorf("got %s, want %s and nothing kept", got.Reason, exchange.TokenMismatch)
	}
}

// swapping puts another user's token into each request.
type swapping struct {
	next  http.RoundTripper
	token string
}

func (s swapping) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	form.Set("assertion", s.token)
	req.Body, req.ContentLength = io.NopCloser(strings.NewReader(form.Encode())), int64(len(form.Encode()))
	return s.next.RoundTrip(req)
}

func asExchangeError(t testing.TB, err error) *exchange.Error {
	t.Helper()
	failure, ok := err.(*exchange.Error) //nolint:errorlint // Issue returns it as it is
	if !ok {
		t.Fatalf("got %v, want an *exchange.Error", err)
	}
	return failure
}

// A token that was challenged is not served again once the challenge is met.
func TestClaimsReplaceWhatWasChallenged(t *testing.T) {
	w := newWorld(t)
	first, err := w.ask(as(t, 10001), graph)
	check(t, err)
	met, err := w.Issue(as(t, 10001), broker.Request{Scope: graph, Claims: `{"access_token":{"nbf":{"essential":true,"value":"1"}}}`})
	check(t, err)
	after, err := w.ask(as(t, 10001), graph)
	check(t, err)
	if after.Token.Reveal() == first.Token.Reveal() || met.Token.Reveal() == first.Token.Reveal() {
		t.Error("the token that was challenged is served again")
	}
}
