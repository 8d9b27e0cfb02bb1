package localapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/exchange/entratest"
)

// An API that validates tokens answers an agent that has none: for the agent
// itself, and on behalf of a user.
func TestCallThrough(t *testing.T) {
	d, _ := openCalls(t, sealed, emulated)
	got := d.call(t, http.MethodGet, "users/me", "", "Credfree-User-Token", d.user(t))
	if got.StatusCode != 200 || !strings.Contains(got.body, entratest.DemoUserName) || got.Header.Get(client.IssuanceHeader) == "" {
		t.Errorf("got %s, want the user", got.wire())
	}
	var line map[string]any
	check(t, json.Unmarshal([]byte(d.audited()), &line))
	want := map[string]any{"door": "call_through", "agent": "demo", "decision": "allow", "rule": "agents.demo.onBehalfOf.allow.apis[0]",
		"on_behalf_of": true, "user_object_id": entratest.DemoUserID, "issuance_id": got.Header.Get(client.IssuanceHeader)}
	for name := range line {
		if _, ok := want[name]; !ok {
			delete(line, name)
		}
	}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Errorf("audit line (-want +got):\n%s", diff)
	}
	// The right is for users only, and the token stays where it is.
	if got := d.call(t, http.MethodGet, "users/me", ""); got.StatusCode != 403 || refusalOf(t, got).Error.Reason != "api_not_allowed" {
		t.Errorf("got %s, want api_not_allowed", got.wire())
	}
	if got := d.send(t, http.MethodPost, "/oauth2/token", good); got.error.Reason != "raw_token_forbidden" {
		t.Errorf("got %s, want raw_token_forbidden", got.wire())
	}

	d, _ = openCalls(t, caller, emulated)
	got = d.call(t, http.MethodPatch, "tools/echo/a/b?x=1&y=%zz&;", "body", "X-Request-Id", "r1")
	var echo struct{ Method, Path, Query string }
	check(t, json.Unmarshal([]byte(got.body), &echo))
	if echo.Method != "PATCH" || echo.Path != "/echo/a/b" || echo.Query != "x=1&y=%zz&;" {
		t.Errorf("got %s, want the request as it was", got.body)
	}
}

// What the agent says to the broker, to somebody else, or about the way here,
// the API does not hear.
func TestCallRequestHeaders(t *testing.T) {
	d, a := openCalls(t, caller, answering(204, ""))
	req := d.request(t, http.MethodPost, "ruled/b/x", strings.NewReader("body"),
		"Authorization", "Bearer of-somebody-else", "Api-Key", "none", "Cookie", "a=b", "Proxy-Authorization", "Basic x", "X-Identity-Header", "",
		"Credfree-Identity", "demo", "Credfree-Anything", "x", "Connection", "X-Hop, Authorization", "X-Hop", "1", "Keep-Alive", "5", "Upgrade", "h2c", "Connection", "Upgrade", "HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA",
		"Baggage", "a=b", "Tracestate", "a=b", "X-HTTP-Method-Override", "DELETE", "X-Original-URL", "/admin", "X-MS-CLIENT-PRINCIPAL-ID", "x", "X-MS-TOKEN-AAD-ID-TOKEN", "x", "Expect", "100-continue",
		"Accept", "text/event-stream", "User-Agent", "agent/1", "Content-Type", "text/plain", "X-Ms-Client-Request-Id", "1", "Prefer", "a", "Prefer", "b")
	delete(req.Header, "X-Identity-Header")
	if resp := do(t, req); resp.StatusCode != 204 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	got := a.request()
	token, bearer := strings.CutPrefix(got.Header.Get("Authorization"), "Bearer ")
	if !bearer || d.verify(t, token).Client != entratest.DemoClientID {
		t.Errorf("the API got %q, want the token of the identity", got.Header.Get("Authorization"))
	}
	got.Header.Del("Authorization")
	want := http.Header{"Accept": {"text/event-stream"}, "User-Agent": {"agent/1"}, "Content-Type": {"text/plain"}, "Content-Length": {"4"},
		"X-Ms-Client-Request-Id": {"1"}, "Prefer": {"a", "b"}}
	if diff := cmp.Diff(want, got.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if got.Host != "tools.example.com" || got.URL.Path != "/base/v1/b/x" || got.ProtoMajor != 2 || got.Method != "POST" {
		t.Errorf("got %s %s of %s by %s", got.Method, got.URL, got.Host, got.Proto)
	}
}

// Servers that make variables of headers take these for the ones that are withheld.
func TestCallWithholdsLookAlikes(t *testing.T) {
	d, a := openCalls(t, sealedCaller, answering(204, ""))
	names := []string{"X_HTTP_Method_Override", "X_Original_URL", "X_Forwarded_For", "x_ms_client_principal_id", "X.Forwarded.Host", "X-Http_Method", "X_Api_Key", "X_Real_IP", "Credfree_Identity", "X~Rewrite~URL", "Proxy"}
	req := d.request(t, http.MethodPost, "tools/x", nil, "X_Request_Id", "kept")
	for _, name := range names {
		req.Header[name] = []string{"x"}
	}
	if resp := do(t, req); resp.StatusCode != 204 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	got := a.request().Header
	got.Del("Authorization")
	for name := range got {
		if strings.ContainsAny(name, "_.~") && name != "X_request_id" {
			t.Errorf("the API got %s", name)
		}
	}
	if got.Get("X_Request_Id") != "kept" {
		t.Errorf("got %v, want what only has an underscore", got)
	}
	for _, name := range names {
		if p := problemIn(t, d.send(t, http.MethodPost, ownCall+"tools?optionsOverride.ExtraHeaderParameters."+name+"=x", "")); p.Status != 400 || p.Reason != "override_not_allowed" {
			t.Errorf("/DownstreamApi with %s: got %+v, want it refused", name, p)
		}
	}
}

// What would make a client keep state about this address, and whatever holds the
// token, does not reach the agent.
func TestCallResponseHeaders(t *testing.T) {
	var token string
	d, _ := openCalls(t, caller, func(*door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			for _, name := range []string{"Set-Cookie", "Alt-Svc", "Strict-Transport-Security", "Access-Control-Allow-Origin", "Credfree-Issuance-Id", "Clear-Site-Data"} {
				w.Header().Set(name, "x")
			}
			w.Header().Set("X-Debug", "got Bearer "+token)
			w.Header().Set("Location", "/x?access_token="+token)
			w.Header().Set("X-Kept", "1")
			w.Header().Set("Etag", `"1"`)
			w.Header().Set("Date", "now")
			if r.URL.Path == "/private" {
				w.Header().Set("Cache-Control", "private, max-age=60")
			}
			w.Header().Set("Trailer", "X-Sum, X-Leak")
			_, _ = io.WriteString(w, "body") // the agent may be gone
			w.Header().Set("X-Sum", "7")
			w.Header().Set("X-Leak", token)
			w.Header().Set(http.TrailerPrefix+"X-Late", "8")
			w.Header().Set(http.TrailerPrefix+"Set-Cookie", "a=b")
		})
	})
	for path, cache := range map[string][2]string{"private": {"private, max-age=60", ""}, "other": {"no-store", "no-cache"}} {
		got := d.call(t, http.MethodGet, "tools/"+path, "")
		issuance := got.Header.Get(client.IssuanceHeader)
		want := http.Header{"X-Kept": {"1"}, "Etag": {`"1"`}, "Date": {"now"}, "Cache-Control": {cache[0]}, "Content-Type": {"text/plain; charset=utf-8"}, client.IssuanceHeader: {issuance}}
		if cache[1] != "" {
			want["Pragma"] = []string{cache[1]}
		}
		if diff := cmp.Diff(want, got.Header); diff != "" || len(issuance) != 32 {
			t.Errorf("%s: headers (-want +got):\n%s", path, diff)
		}
		if diff := cmp.Diff(http.Header{"X-Sum": {"7"}, "X-Late": {"8"}, "X-Leak": nil}, got.Trailer); diff != "" {
			t.Errorf("%s: trailers (-want +got):\n%s", path, diff)
		}
		if got.body != "body" || token == "" {
			t.Errorf("%s: got the body %q", path, got.body)
		}
	}
}

// Nobody follows a redirect for the agent. What points below the API's base URL
// comes back through the broker.
func TestCallLocations(t *testing.T) {
	location := ""
	d, a := openCalls(t, caller, func(*door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Location"] = []string{location}
			w.Header().Set("Operation-Location", location)
			w.WriteHeader(http.StatusFound)
		})
	})
	here := d.url + "/call/ruled"
	for given, want := range map[string]string{
		"https://tools.example.com/base/v1/a?x=%2F&y#z": here + "/a?x=%2F&y#z",
		"https://TOOLS.example.com/base/v1":             here,
		"/base/v1/b%2Fc/":                               here + "/b%2Fc/",
		"d":                                             here + "/b/d",
		"../e":                                          here + "/e",
		"//tools.example.com/base/v1/f":                 here + "/f",
		"":                                              "",
		"https://tools.example.com/base/v1x/a":          "https://tools.example.com/base/v1x/a",
		"https://tools.example.com/base/":               "https://tools.example.com/base/",
		"../../../x":                                    "../../../x",
		"http://tools.example.com/base/v1/a":            "http://tools.example.com/base/v1/a",
		"https://tools.example.com:444/base/v1/a": "https://tools.example.com:444/base/v1/a",
		"https://u@tools.example.com/base/v1/a":   "https://u@tools.example.com/base/v1/a",
		"https://files.example.com/signed?sig=1":  "https://files.example.com/signed?sig=1",
		"https://%zz":                             "https://%zz",
	} {
		location = given
		before := a.calls.Load()
		got := d.call(t, http.MethodGet, "ruled/b/c", "")
		if got.StatusCode != 302 || got.Header.Get("Location") != want && given != "" || got.Header.Get("Operation-Location") != want && given != "" || a.calls.Load() != before+1 {
			t.Errorf("%q: got %s after %d calls, want %q after 1", given, got.wire(), a.calls.Load()-before, want)
		}
	}
}

// A path reaches the API as it was written, or not at all; never outside of the
// base URL, and never as another path than the one that was decided on.
func TestCallPaths(t *testing.T) {
	d, a := openCalls(t, caller, answering(204, ""))
	for path, want := range map[string]string{
		"ruled": "/base/v1", "ruled/": "/base/v1/", "ruled/a": "/base/v1/a", "ruled//a": "/base/v1/a", "/ruled///a": "/base/v1/a",
		"ruled/b/": "/base/v1/b/", "ruled/b/c%2Fd": "/base/v1/b/c%2Fd", "ruled/b/%41": "/base/v1/b/%41", "ruled/%62/x": "/base/v1/%62/x", "ruled/b/users('a@b')": "/base/v1/b/users('a@b')",
		"ruled/b/c:d;e=f": "/base/v1/b/c:d;e=f", "ruled/b/%E2%82%AC": "/base/v1/b/%E2%82%AC", "ruled/b/100%25": "/base/v1/b/100%25", "ruled/b/.hidden": "/base/v1/b/.hidden", "ruled/b/a..b": "/base/v1/b/a..b",
		"tools": "/", "tools/": "/", "tools/call/x": "/call/x", "tools/b/https%3A%2F%2Fx%2Fy": "/b/https%3A%2F%2Fx%2Fy",
	} {
		if got := d.call(t, http.MethodGet, path, ""); got.StatusCode != 204 || a.request().URL.EscapedPath() != want {
			t.Errorf("%s: got %d and %s, want %s", path, got.StatusCode, a.request().URL.EscapedPath(), want)
		}
	}
	before := a.calls.Load()
	for path, status := range map[string]int{
		"ruled/c": 403, "ruled/a/": 403, "ruled/A": 403, "ruled/a/b": 403, "ruled/b": 403, "ruled/b%2Fc": 403, "ruled/a%3Fx": 403,
		"ruled/..": 400, "ruled/../x": 400, "ruled/b/..": 400, "ruled/b/../../x": 400, "ruled/b/%2e%2e/x": 400, "ruled/b/.%2E/x": 400, "ruled/b/..%2fx": 400, "ruled/b/x%2F..%2F..%2Fy": 400,
		"ruled/b/%252e%252e/x": 400, "ruled/b/%25252e%25252e%25252fx": 400, "ruled/b/..;x/y": 400, "ruled/b/..%3Bx/y": 400, "ruled/b/.../y": 400, "ruled/b/..%20/y": 400, "ruled/b/.": 400,
		"ruled/b/..%5cx": 400, "ruled/b/%5cx": 400, "ruled/b/%255cx": 400, "ruled/b/%00": 400, "ruled/b/%0d%0aX:y": 400, "ruled/b/%c0%ae%c0%ae/x": 400, "ruled/b/%ff": 400,
		"Ruled/a": 404, "r%75led/a": 404, "ruled%2Fa": 404, "nothing/a": 404, "..": 404, "%2e%2e/x": 404,
	} {
		got := d.call(t, http.MethodGet, path, "")
		if got.StatusCode != status || a.calls.Load() != before {
			t.Errorf("%s: got %s, want %d and no call", path, got.wire(), status)
		}
		refusalOf(t, got)
	}
	for _, path := range []string{"/call", "/call/", "/Call/ruled/a", "/%63all/ruled/a", "/calls/ruled/a", "/x/call/ruled/a", "/./call/ruled/a"} {
		if got := d.send(t, http.MethodGet, path, ""); got.StatusCode != 404 || got.error.Code != "not_found" {
			t.Errorf("%s: got %s, want no door", path, got.wire())
		}
	}
}

// Whatever an API does with the token, the agent gets none of it in a header or
// in an answer of the broker's own, and the log has none.
func TestCallKeepsTheToken(t *testing.T) {
	tokens := map[string]bool{}
	var mu sync.Mutex
	d, _ := openCalls(t, caller, func(*door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			mu.Lock()
			tokens[token] = true
			mu.Unlock()
			switch r.URL.Path {
			case "/header":
				w.Header().Set("X-Echo", token)
				w.Header().Set("Www-Authenticate", `Bearer error="insufficient_claims", x="`+token+`"`)
				w.WriteHeader(401)
			case "/early":
				w.Header().Set("Link", "<"+token+">")
				w.WriteHeader(http.StatusEarlyHints)
			case "/garbled":
				conn, _, err := http.NewResponseController(w).Hijack()
				if err == nil { // not with HTTP/2
					_, _ = io.WriteString(conn, "HTTP/9 "+token+"\r\n\r\n")
					_ = conn.Close()
				}
				panic(http.ErrAbortHandler)
			}
		})
	})
	var answers strings.Builder
	for _, path := range []string{"header", "early", "garbled", "x", "../x", "%00"} {
		for _, method := range []string{"GET", "POST", "TRACE"} {
			answers.WriteString(d.call(t, method, "tools/"+path, "body").wire())
		}
	}
	answers.WriteString(d.audited())
	if len(tokens) != 1 {
		t.Fatalf("got %d tokens, want one", len(tokens))
	}
	for token := range tokens {
		if token == "" || strings.Contains(answers.String(), token) || strings.Contains(answers.String(), token[len(token)/2:]) {
			t.Error("the token reached the agent or the log")
		}
	}
}

// Many agents' calls at once, with and without bodies, keep to themselves.
func TestCallsAtOnce(t *testing.T) {
	d, _ := openCalls(t, caller, func(*door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	}, func(cfg *localapi.Config) { cfg.CallThrough.Idle = time.Minute })
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			body := strings.Repeat(fmt.Sprint(i, ","), i*1000)
			for range 4 {
				if got := d.call(t, http.MethodPost, "tools/x", body); got.StatusCode != 200 || got.body != body {
					t.Errorf("got %d and %d bytes, want %d", got.StatusCode, len(got.body), len(body))
				}
			}
		})
	}
	group.Wait()
	if lines := strings.Split(strings.TrimSpace(d.audited()), "\n"); len(lines) != 64 || slices.ContainsFunc(lines, func(line string) bool { return !strings.Contains(line, `"door":"call_through"`) }) {
		t.Errorf("got %d audit lines, want 64", len(lines))
	}
}
