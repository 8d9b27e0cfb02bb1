package localapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/exchange/entratest"
)

// Each refusal has its status, its words, its record, and no call.
func TestCallRefusals(t *testing.T) {
	limited := func(dir string) string { return caller(dir) + "    limits: {perMinute: 1}\n" }
	forUsersToo := func(dir string) string {
		return strings.Replace(forUsers("")(dir), "scopes: ["+userRead, "apis: [users], scopes: ["+userRead, 1)
	}
	for name, test := range map[string]struct {
		agents       func(string) string
		behavior     entratest.Behavior
		full         bool
		method, path string
		headers      []string
		body         io.Reader
		status       int
		code, reason string
		by           string
		rule         string
	}{
		"nobody":           {agents: stranger, path: "tools/x", status: 401, code: "invalid_client", reason: "unknown_agent", by: "policy", rule: "agents"},
		"nobody no API":    {agents: stranger, path: "none/x", status: 401, code: "invalid_client", reason: "unknown_agent", by: "policy", rule: "agents"},
		"no such API":      {path: "none/x", status: 404, code: "not_found", reason: "api_unknown", by: "policy", rule: "apis"},
		"not its API":      {path: "graph/x", status: 403, code: "unauthorized_client", reason: "api_not_allowed", by: "policy", rule: "agents.demo.allow.apis"},
		"API for users":    {agents: forUsersToo, path: "users/x", status: 403, code: "unauthorized_client", reason: "api_not_allowed", by: "policy", rule: "agents.demo.allow.apis"},
		"method":           {method: "DELETE", path: "ruled/a", status: 403, code: "unauthorized_client", reason: "api_method_not_allowed", by: "policy", rule: "apis.ruled.methods"},
		"path":             {path: "ruled/c", status: 403, code: "unauthorized_client", reason: "api_path_not_allowed", by: "policy", rule: "apis.ruled.paths"},
		"identity":         {path: "tools/x", headers: []string{"Credfree-Identity", "vm"}, status: 403, code: "unauthorized_client", reason: "identity_not_allowed", by: "policy", rule: "agents.demo.identity"},
		"for no user":      {path: "tools/x", headers: []string{"Credfree-User-Token", "x.y.z"}, status: 403, code: "unauthorized_client", reason: "on_behalf_of_not_allowed", by: "policy", rule: "agents.demo.onBehalfOf"},
		"garbled user":     {agents: forUsersToo, path: "users/x", headers: []string{"Credfree-User-Token", "x.y.z"}, status: 403, code: "invalid_grant", reason: "user_token_malformed", by: "policy", rule: "agents.demo.onBehalfOf"},
		"empty user":       {agents: forUsersToo, path: "tools/x", headers: []string{"Credfree-User-Token", " "}, status: 400, code: "invalid_request", reason: "bad_request", by: "broker"},
		"two users":        {agents: forUsersToo, path: "tools/x", headers: []string{"Credfree-User-Token", "a", "Credfree-User-Token", "b"}, status: 400, code: "invalid_request", reason: "bad_request", by: "broker"},
		"claims":           {path: "tools/x", headers: []string{"Credfree-Claims", "bm8="}, status: 400, code: "invalid_request", reason: "bad_request", by: "broker"},
		"scheme":           {path: "tools/x", headers: []string{"Authorization", "Negotiate x"}, status: 400, code: "invalid_request", reason: "bad_request", by: "broker"},
		"TRACE":            {method: "TRACE", path: "tools/x", status: 405, code: "invalid_request", reason: "bad_request", by: "broker"},
		"trace":            {method: "trace", path: "tools/x", status: 405, code: "invalid_request", reason: "bad_request", by: "broker"}, // some servers tell no case apart
		"path of nowhere":  {path: "tools/../x", status: 400, code: "invalid_request", reason: "bad_request", by: "broker"},
		"a browser":        {path: "tools/x", headers: []string{"Origin", "http://evil.example"}, status: 403, code: "access_denied", reason: "foreign_origin", by: "broker"},
		"large":            {method: "PUT", path: "tools/x", body: strings.NewReader(strings.Repeat("x", 1025)), status: 413, code: "invalid_request", reason: "too_large", by: "broker"},
		"refused by Entra": {behavior: entratest.Behavior{Code: 700016}, path: "tools/x", status: 403, code: "unauthorized_client", reason: "entra_rejected", by: "entra"},
		"throttled":        {behavior: entratest.Behavior{Status: 429, RetryAfter: "7"}, path: "tools/x", status: 429, code: "temporarily_unavailable", reason: "entra_throttled", by: "entra"},
		"outage":           {behavior: entratest.Behavior{Status: 503}, path: "tools/x", status: 503, code: "temporarily_unavailable", reason: "entra_unavailable", by: "broker"},
		"mismatch":         {behavior: entratest.Behavior{WrongGrant: true}, path: "tools/x", status: 403, code: "server_error", reason: "token_mismatch", by: "broker"},
		"audit log full":   {full: true, path: "tools/x", status: 503, code: "temporarily_unavailable", reason: "audit_unavailable", by: "broker"},
		"over the limit":   {agents: limited, path: "tools/x", status: 429, code: "temporarily_unavailable", reason: "over_limit", by: "policy", rule: "agents.demo.limits.perMinute"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.agents == nil {
				test.agents = caller
			}
			if test.method == "" {
				test.method = http.MethodGet
			}
			d, a := openCalls(t, test.agents, answering(204, ""), func(cfg *localapi.Config) { cfg.CallThrough.MaxBody = 1024 })
			if test.reason == "over_limit" {
				d.call(t, test.method, test.path, "")
			}
			d.entra.SetBehavior(test.behavior)
			d.full.Store(test.full)
			before := a.calls.Load()
			d.audited()
			resp := do(t, d.request(t, test.method, test.path, test.body, test.headers...))
			body, err := io.ReadAll(resp.Body)
			check(t, err)
			got := answer{Response: resp, body: string(body)}
			e := refusalOf(t, got).Error
			if got.StatusCode != test.status || e.Code != test.code || e.Reason != test.reason || e.RefusedBy != test.by || test.rule != "" && e.Rule != test.rule {
				t.Errorf("got %s, want %d %s %s by %s, %s", got.wire(), test.status, test.code, test.reason, test.by, test.rule)
			}
			if e.Hint == "" || !strings.Contains(e.Message, e.Hint) || len(e.IssuanceID) != 32 || got.Header.Get(client.IssuanceHeader) != e.IssuanceID {
				t.Errorf("got %s, want a hint in the message, and the id of the issuance", got.wire())
			}
			if waits := got.StatusCode == 429; waits && got.Header.Get("Retry-After") == "" || got.StatusCode == 401 && got.Header.Get("WWW-Authenticate") == "" || got.StatusCode == 405 && got.Header.Get("Allow") == "" {
				t.Errorf("got %s, want the header of its status", got.wire())
			}
			if n := a.calls.Load() - before; n != 0 {
				t.Errorf("got %d calls, want none", n)
			}
			if line := d.audited(); !test.full && (!strings.Contains(line, e.IssuanceID) || strings.Count(line, "\n") != 1) {
				t.Errorf("recorded %q, want the one issuance", line)
			}
		})
	}
}

// A body of unknown length is bounded on its way.
func TestCallStreamIsBounded(t *testing.T) {
	d, _ := openCalls(t, caller, func(*door) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	}, func(cfg *localapi.Config) { cfg.CallThrough.MaxBody = 1024 })
	resp := do(t, d.request(t, http.MethodPut, "tools/x", io.MultiReader(strings.NewReader(strings.Repeat("x", 1025)))))
	body, err := io.ReadAll(resp.Body)
	check(t, err)
	if got := (answer{Response: resp, body: string(body)}); got.StatusCode != 413 || refusalOf(t, got).Error.Reason != "too_large" {
		t.Errorf("got %s, want 413", got.wire())
	}
}

// SDKs present the agent's key in headers of their own, and some insist on one
// where none is needed.
func TestCallKeys(t *testing.T) {
	d, a := openCalls(t, keyCaller, answering(204, ""))
	for _, test := range []struct {
		status  int
		headers []string
	}{
		{204, []string{"Authorization", "Bearer " + keyText}}, {204, []string{"Api-Key", keyText}}, {204, []string{"X-Api-Key", keyText}}, {204, []string{"X-Identity-Header", keyText}},
		{204, []string{"Api-Key", keyText, "Authorization", "Bearer " + keyText}}, {204, []string{"Api-Key", keyText, "Authorization", "Bearer none"}}, {204, []string{"Api-Key", "none", "Authorization", "Bearer " + keyText}},
		{400, []string{"Api-Key", keyText, "Authorization", "Bearer other"}}, {400, []string{"Api-Key", keyText, "X-Api-Key", "other"}},
		{401, []string{"Api-Key", "none"}}, {401, nil}, {401, []string{"Api-Key", keyText + "x"}}, {401, []string{"Authorization", "Bearer other"}},
	} {
		got := d.call(t, http.MethodGet, "tools/x", "", test.headers...)
		if got.StatusCode != test.status || strings.Contains(got.wire(), keyText) {
			t.Errorf("%q: got %s, want %d", test.headers, got.wire(), test.status)
		}
		if last := a.request(); last != nil && strings.Contains(fmt.Sprint(last.Header), keyText) {
			t.Errorf("%q: the API got the agent's key", test.headers)
		}
	}
}

// An API that cannot be reached is the operator's to mend: the answer says what
// is wrong, and nothing of the network.
func TestCallUnreachable(t *testing.T) {
	for name, test := range map[string]struct {
		change       func(*api, *localapi.Config)
		status       int
		reason, text string
	}{
		"certificate":  {func(a *api, cfg *localapi.Config) { cfg.CallThrough.Transport = a.transport() }, 502, "api_unreachable", "its certificate is not trusted"},
		"nobody there": {func(a *api, _ *localapi.Config) { a.Close() }, 502, "api_unreachable", "nobody answers at its address"},
		"no name": {func(_ *api, cfg *localapi.Config) {
			transport := localapi.APITransport(nil, func(*http.Request) (*url.URL, error) { return url.Parse("http://user:pass@proxy.invalid") })
			cfg.CallThrough.Transport = transport
		}, 502, "api_unreachable", "its name cannot be resolved"},
		"no answer":    {failing(context.DeadlineExceeded), 504, "api_timeout", "it does not answer in time"},
		"half of one":  {failing(io.ErrUnexpectedEOF), 502, "api_unreachable", "the connection broke"},
		"wrong answer": {failing(errors.New("malformed HTTP response from 127.0.0.1 with pass")), 502, "api_unreachable", "the connection broke"},
	} {
		t.Run(name, func(t *testing.T) {
			var a *api
			d, a := openCalls(t, caller, answering(204, ""), func(cfg *localapi.Config) {
				transport := cfg.CallThrough.Transport
				cfg.CallThrough.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
					changed := localapi.Config{CallThrough: localapi.CallThrough{Transport: transport}}
					test.change(a, &changed)
					return changed.CallThrough.Transport.RoundTrip(r)
				})
			})
			got := d.call(t, http.MethodPost, "tools/x", "body")
			e := refusalOf(t, got).Error
			if got.StatusCode != test.status || e.Reason != test.reason || !strings.Contains(e.Message, test.text) || e.Hint == "" || e.IssuanceID == "" {
				t.Errorf("got %s, want %d and %q", got.wire(), test.status, test.text)
			}
			if strings.Contains(got.body, "pass") || strings.Contains(got.body, "127.0.0.1") {
				t.Errorf("got %s, want nothing of the network", got.body)
			}
		})
	}
}

// failing is a transport that fails with err.
func failing(err error) func(*api, *localapi.Config) {
	return func(_ *api, cfg *localapi.Config) {
		cfg.CallThrough.Transport = roundTripper(func(*http.Request) (*http.Response, error) { return nil, err })
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
