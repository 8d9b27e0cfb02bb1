package localapi_test

import (
	"net/http"
	"os"
	"testing"

	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/exchange/entratest"
)

// What goes wrong behind the broker, as the agent sees it: retry what can
// change by itself, and nothing else.
func TestFailuresBehind(t *testing.T) {
	for name, test := range map[string]struct {
		behavior entratest.Behavior
		break_   func(t *testing.T, d *door)
		status   int
		code     string
		by       string
		check    func(t *testing.T, got answer)
	}{
		"throttled": {behavior: entratest.Behavior{Status: 429, RetryAfter: "7"}, status: 429, code: "temporarily_unavailable", by: client.ByEntra,
			check: func(t *testing.T, got answer) {
				if after := got.Header.Get("Retry-After"); after != "7" {
					t.Errorf("got Retry-After %q, want 7", after)
				}
			}},
		"outage":     {behavior: entratest.Behavior{Status: 503}, status: 503, code: "temporarily_unavailable", by: client.ByBroker},
		"truncated":  {behavior: entratest.Behavior{Truncate: true}, status: 503, code: "temporarily_unavailable", by: client.ByBroker},
		"huge":       {behavior: entratest.Behavior{Huge: true}, status: 503, code: "temporarily_unavailable", by: client.ByBroker},
		"redirect":   {behavior: entratest.Behavior{Redirect: "https://evil.example/"}, status: 503, code: "temporarily_unavailable", by: client.ByBroker},
		"wrong kind": {behavior: entratest.Behavior{WrongGrant: true}, status: 500, code: "server_error", by: client.ByBroker},
		"refused": {behavior: entratest.Behavior{Code: 700016}, status: 400, code: "unauthorized_client", by: client.ByEntra,
			check: func(t *testing.T, got answer) {
				if len(got.error.Codes) != 1 || got.error.Codes[0] != 700016 || got.error.CorrelationID == "" {
					t.Errorf("got codes %v, correlation id %q", got.error.Codes, got.error.CorrelationID)
				}
			}},
		"conditional access": {behavior: entratest.Behavior{Code: 53003}, status: 400, code: "access_denied", by: client.ByEntra,
			check: func(t *testing.T, got answer) {
				if got.error.Claims == "" || got.error.Suberror == "" {
					t.Errorf("got claims %q, suberror %q", got.error.Claims, got.error.Suberror)
				}
			}},
		"no workload token": {break_: func(t *testing.T, d *door) { check(t, os.Remove(d.file)) }, status: 503, code: "temporarily_unavailable", by: client.ByBroker},
		"garbled workload token": {break_: func(t *testing.T, d *door) { check(t, os.WriteFile(d.file, []byte("x"), 0o600)) },
			status: 500, code: "server_error", by: client.ByBroker},
		"audit log full": {break_: func(_ *testing.T, d *door) { d.full.Store(true) }, status: 503, code: "temporarily_unavailable", by: client.ByBroker},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, thisUser)
			d.entra.SetBehavior(test.behavior)
			if test.break_ != nil {
				test.break_(t, d)
			}
			got := d.send(t, http.MethodPost, "/oauth2/token", good)
			if got.StatusCode != test.status || got.error.Code != test.code || got.error.RefusedBy != test.by {
				t.Fatalf("got %d %s, want %d %s by %s", got.StatusCode, got.body, test.status, test.code, test.by)
			}
			if got.error.Hint == "" || got.error.IssuanceID == "" {
				t.Errorf("got %s, want a hint and an issuance id", got.body)
			}
			if test.check != nil {
				test.check(t, got)
			}
		})
	}
}
