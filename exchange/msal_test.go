package exchange_test

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
)

// Each test here is named after something MSAL Go does by default, or did in
// an earlier version, that a broker must not inherit.

// MSAL 1.9 refreshed a user's token with the application's grant once it had
// passed refresh_in, and answered from its cache until then. Here nothing is
// remembered: each call is one request with the grant asked for.
func TestNothingIsAnsweredFromMSALsCache(t *testing.T) {
	e := newEntra(t)
	e.server.SetBehavior(entratest.Behavior{RefreshIn: time.Nanosecond, Lifetime: time.Hour})
	first, err := e.ask(t.Context(), graph)
	if err != nil {
		t.Fatal(err)
	}
	second, err := e.ask(t.Context(), graph)
	if err != nil {
		t.Fatal(err)
	}
	if first.Reveal() == second.Reveal() || len(e.sent.requests) != 2 {
		t.Errorf("got the same token from %d requests, want two tokens from 2", len(e.sent.requests))
	}
	for _, form := range e.sent.forms {
		if got := form.Get("grant_type"); got != "client_credentials" {
			t.Errorf("got grant %q", got)
		}
	}
}

// A token of the wrong kind is withheld, however it came about.
func TestWrongGrantsTokenIsWithheld(t *testing.T) {
	e := newEntra(t)
	e.server.SetBehavior(entratest.Behavior{DelegatedInstead: true})
	token, err := e.ask(t.Context(), graph)
	if got := asError(t, err); got.Reason != exchange.TokenMismatch {
		t.Errorf("got %s, want %s", got.Reason, exchange.TokenMismatch)
	}
	if token.Len() != 0 {
		t.Error("the user's token was released")
	}
}

// MSAL takes an empty scope list for "any token you have", and sends one scope
// with a space in it as two.
func TestEmptyAndSmuggledScopesAreNotSent(t *testing.T) {
	for name, scopes := range map[string][]string{
		"none": {}, "empty": {""}, "two in one": {graph + " https://vault.azure.net/.default"}, "tab": {graph + "\t"},
		"newline": {"https://graph.microsoft.com/\n.default"}, "second empty": {graph, ""}, "non-breaking space": {graph + "\u00a0x/.default"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEntra(t)
			_, err := e.ask(t.Context(), scopes...)
			if got := asError(t, err); got.Reason != exchange.BadRequest {
				t.Errorf("got %s, want %s", got.Reason, exchange.BadRequest)
			}
			if len(e.sent.requests) != 0 {
				t.Error("it was sent")
			}
		})
	}
}

// MSAL puts any tenant into the URL.
func TestOddTenantsAndClientsAreNotSent(t *testing.T) {
	for _, tenant := range []string{"", "common", "../x", "a/b", "//evil", "a?b=c", "contoso.com/x", "contoso.com\n", "%2e%2e"} {
		e := newEntra(t)
		e.app.Tenant = tenant
		_, err := e.ask(t.Context(), graph)
		if got := asError(t, err); got.Reason != exchange.BadRequest || len(e.sent.requests) != 0 {
			t.Errorf("tenant %q: got %s and %d requests, want %s and none", tenant, got.Reason, len(e.sent.requests), exchange.BadRequest)
		}
	}
	e := newEntra(t)
	e.app.ClientID = "not-a-guid"
	_, err := e.ask(t.Context(), graph)
	if got := asError(t, err); got.Reason != exchange.BadRequest {
		t.Errorf("got %s, want %s", got.Reason, exchange.BadRequest)
	}
}

// http.Client follows a 307 and posts the assertion again, to whoever is there.
func TestRedirectDoesNotRepostTheAssertion(t *testing.T) {
	var reposted atomic.Int32
	thief := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reposted.Add(1) }))
	defer thief.Close()
	host, err := entratest.Listen(entratest.HostConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	}()
	host.Server.SetBehavior(entratest.Behavior{Redirect: thief.URL + "/token"})
	e := newEntra(t)
	text, err := host.Issuer.ServiceAccountToken(entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	e.write(t, text)
	client, err := exchange.New(exchange.Config{Authority: host.URL, Audience: entratest.TokenExchangeAudience, Transport: host.Client().Transport})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Token(t.Context(), e.app, exchange.Request{Scopes: []string{graph}})
	if got := asError(t, err); got.Reason != exchange.ReplyMalformed || !strings.Contains(got.Message, "redirect") {
		t.Errorf("got %s %q, want %s about a redirect", got.Reason, got.Message, exchange.ReplyMalformed)
	}
	if reposted.Load() != 0 {
		t.Error("the assertion was posted to the redirect's target")
	}
}

// A variable in the environment would send every request to a region.
func TestForcedRegionIsIgnored(t *testing.T) {
	t.Setenv("MSAL_FORCE_REGION", "westus2")
	e := newEntra(t)
	if _, err := e.ask(t.Context(), graph); err != nil {
		t.Fatal(err)
	}
	if got := e.sent.requests[0].URL.Host; got != "login.entra.test" {
		t.Errorf("the request went to %s", got)
	}
}

// MSAL keeps every token it has seen; a client that is used for months must
// not grow.
func TestExchangesLeaveNoMemoryBehind(t *testing.T) {
	e := newEntra(t)
	claims := `{"aud":"https://graph.microsoft.com","appid":"` + entratest.DemoClientID + `","tid":"` + entratest.DemoTenantID + `","roles":["` + strings.Repeat("r", 1500) + `"]}`
	answer := respond(200, "application/json", `{"token_type":"Bearer","expires_in":3599,"access_token":"`+encode(`{}`)+"."+encode(claims)+`.sig"}`)
	client, err := exchange.New(exchange.Config{Authority: authority, Audience: entratest.TokenExchangeAudience, Transport: roundTripper(answer)})
	if err != nil {
		t.Fatal(err)
	}
	round := func(n int) {
		for range n {
			if _, err := client.Token(t.Context(), e.app, exchange.Request{Scopes: []string{graph}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	round(100)
	before := heap()
	round(1500)
	if grown := int64(heap()) - int64(before); grown > 1<<20 {
		t.Errorf("1,500 exchanges left %d KiB behind; MSAL's cache alone would be 3,600", grown>>10)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
