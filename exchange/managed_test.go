package exchange_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/managedidentity"
)

// endpointOf is a client of a machine whose endpoint answers so, and how often it did.
func endpointOf(t *testing.T, answer func(*http.Request) (*http.Response, error)) (*managedidentity.Client, *recorder) {
	t.Helper()
	for _, name := range []string{"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT"} {
		t.Setenv(name, "")
	}
	sent := &recorder{answer: answer}
	client, err := managedidentity.New(managedidentity.Config{Transport: bodyless{sent}})
	must(t, err)
	return client, sent
}

// bodyless gives a request that has no body an empty one.
type bodyless struct{ next http.RoundTripper }

func (b bodyless) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body == nil {
		req = req.Clone(req.Context())
		req.Body = http.NoBody
	}
	return b.next.RoundTrip(req)
}

// What the machine's endpoint refuses was asked, and is not asked again for ten
// seconds; another identity, or another resource, is.
func TestMachinesRefusalIsRemembered(t *testing.T) {
	machine, sent := endpointOf(t, respond(400, "application/json", `{"error":"invalid_request","error_description":"Identity not found"}`))
	inTime(t, func(t *testing.T, _ *entra) {
		client := newEntra(t, func(cfg *exchange.Config) { cfg.ManagedIdentity = machine }).client
		ask := func(id, scope string, requests int, asked bool) {
			t.Helper()
			_, err := client.Token(t.Context(), exchange.ManagedIdentity{ID: managedidentity.ID{ClientID: id}}, exchange.Request{Scopes: []string{scope}})
			got := asError(t, err)
			if got.Reason != exchange.AssertionUnusable || got.Asked() != asked || len(sent.requests) != requests {
				t.Errorf("got %s, asked: %t, after %d requests, want %s, %t after %d", got.Reason, got.Asked(), len(sent.requests), exchange.AssertionUnusable, asked, requests)
			}
		}
		ask(entratest.DemoClientID, graph, 1, true)
		time.Sleep(rememberFor - 1)
		for range 20 {
			ask(entratest.DemoClientID, graph, 1, false)
		}
		ask(entratest.DemoClientID, vault, 2, true)
		ask(entratest.DemoTenantID, graph, 3, true)
		time.Sleep(time.Nanosecond)
		ask(entratest.DemoClientID, graph, 4, true)
		// What cannot be asked was not.
		_, err := client.Token(t.Context(), exchange.ManagedIdentity{ID: managedidentity.ID{ClientID: "a", ObjectID: "b"}}, exchange.Request{Scopes: []string{graph}})
		if asError(t, err).Asked() || len(sent.requests) != 4 {
			t.Errorf("got %v after %d requests, want none of it sent", err, len(sent.requests))
		}
	})
}

// A machine that wants its workload token asked for later is left alone until then,
// and the agent hears how long.
func TestMachineAsSourceThrottles(t *testing.T) {
	machine, sent := endpointOf(t, respond(429, "text/plain", "", "Retry-After", "60"))
	inTime(t, func(t *testing.T, e *entra) {
		app := e.app
		app.Source = managedidentity.Source{Client: machine, Audience: entratest.TokenExchangeAudience}
		for i := range 20 {
			_, err := e.client.Token(t.Context(), app, exchange.Request{Scopes: []string{graph}})
			if got, left := asError(t, err), time.Duration(60-i)*time.Second; got.Reason != exchange.AssertionUnavailable || got.RetryAfter != left || got.Asked() {
				t.Errorf("got %s, %s to wait, asked: %t, want %s, %s", got.Reason, got.RetryAfter, got.Asked(), exchange.AssertionUnavailable, left)
			}
			time.Sleep(time.Second)
		}
		if len(sent.requests) != 1 || e.count() != 0 {
			t.Errorf("got %d requests to the machine and %d to Entra, want 1 and none", len(sent.requests), e.count())
		}
	})
}
