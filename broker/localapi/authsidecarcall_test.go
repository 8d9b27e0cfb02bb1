package localapi_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/entratest"
)

const (
	callRoute = "/DownstreamApi/"
	ownCall   = "/DownstreamApiUnauthenticated/"
	pathIs    = "optionsOverride.RelativePath="
	methodIs  = "optionsOverride.HttpMethod="
)

// sealedCaller may call every API, and gets no token out.
func sealedCaller(string) string {
	return strings.Replace(sidecar("    rawToken: false\n")(""), "apis: [graph]", "apis: [graph, tools, ruled]", 1)
}

// downstream is what the auth sidecar makes of an API's answer.
type downstream struct {
	StatusCode int
	Headers    map[string][]string
	Content    *string
}

func downstreamIn(t testing.TB, got answer) downstream {
	t.Helper()
	var result downstream
	decoder := json.NewDecoder(strings.NewReader(got.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&result); err != nil || got.StatusCode != 200 || got.Header.Get("Content-Type") != "application/json; charset=utf-8" || got.Header.Get(client.IssuanceHeader) == "" {
		t.Fatalf("got %s: %v", got.wire(), err)
	}
	if !strings.Contains(got.body, `"content":`) {
		t.Errorf("content is left out of %s", got.body)
	}
	return result
}

// An agent that may have no token calls: as itself, as an agent identity and its
// user, and on behalf of a user.
func TestDownstreamAPI(t *testing.T) {
	d, _ := openCalls(t, sealedCaller, emulated)
	for name, test := range map[string]struct {
		path    string
		headers []string
		client  string
		object  string
	}{
		"itself":        {ownCall + "tools?" + pathIs + "echo/x", nil, entratest.DemoClientID, ""},
		"agent":         {ownCall + "tools?" + pathIs + "echo/x&" + asAgent, nil, entratest.DemoAgentIdentityID, ""},
		"agent's user":  {ownCall + "tools?" + pathIs + "echo/x&" + asRobot, nil, entratest.DemoAgentIdentityID, entratest.DemoAgentUserID},
		"itself by app": {callRoute + "tools?" + pathIs + "echo/x&" + asApp, d.bearer(t, entratest.DemoClientID), entratest.DemoClientID, ""},
	} {
		d.audited()
		result := downstreamIn(t, d.send(t, http.MethodPost, test.path, "", test.headers...))
		var echo struct {
			Method string
			Claims map[string]any
		}
		if result.Content == nil {
			t.Fatalf("%s: got %+v", name, result)
		}
		check(t, json.Unmarshal([]byte(*result.Content), &echo))
		if result.StatusCode != 200 || echo.Method != "GET" || echo.Claims["appid"] != test.client || test.object != "" && echo.Claims["oid"] != test.object {
			t.Errorf("%s: got %d %s", name, result.StatusCode, *result.Content)
		}
		if line := d.audited(); !strings.Contains(line, `"auth_sidecar"`) || !strings.Contains(line, `"api":"tools"`) || strings.Count(line, "\n") != 1 {
			t.Errorf("%s: recorded is %s", name, line)
		}
	}
	result := downstreamIn(t, d.send(t, http.MethodPost, callRoute+"users?"+pathIs+"/me", "", d.bearer(t, entratest.DemoClientID)...))
	if result.StatusCode != 200 || result.Content == nil || !strings.Contains(*result.Content, entratest.DemoUserName) {
		t.Errorf("got %+v, want the user", result)
	}
	if p := problemIn(t, d.send(t, http.MethodGet, ownHeader+"tools", "")); p.Reason != "raw_token_forbidden" {
		t.Errorf("got %+v", p)
	}
}

// The request that the API gets, to the last header.
func TestDownstreamRequest(t *testing.T) {
	var body string
	d, a := openCalls(t, sealedCaller, func(*door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			data, _ := io.ReadAll(r.Body)
			body = string(data)
			w.WriteHeader(204)
		})
	}, func(cfg *localapi.Config) {
		cfg.Sidecar.Calls = map[string]localapi.SidecarCall{"tools": {Method: "PUT", Path: "settled", Accept: "text/plain", ContentType: "text/csv",
			Header: http.Header{"X-Settled": {"1"}, "X-Both": {"1"}}, Query: map[string]string{"settled": "1", "both": "1"}}}
	})
	binary := "\x00\xff\xfe not text"
	result := downstreamIn(t, d.send(t, http.MethodPost, ownCall+"ruled?"+methodIs+"Post&"+pathIs+url.QueryEscape("/b/x%20y?$select=id&q=%zz")+
		"&optionsOverride.AcceptHeader=text/event-stream&optionsOverride.ExtraHeaderParameters.x-one=1&optionsOverride.ExtraHeaderParameters.Prefer=a%3Db"+
		"&optionsOverride.ExtraQueryParameters.b%20c=d%26e&optionsOverride.ExtraQueryParameters.a=1&optionsOverride.BaseUrl=https://evil.example",
		binary, "Content-Type", "application/octet-stream", "X-Callers-Own", "1", "Cookie", "a=b"))
	if result.StatusCode != 204 || result.Content != nil {
		t.Errorf("got %+v", result)
	}
	got := a.request()
	if got.Method != "POST" || got.Host != "tools.example.com" || got.URL.EscapedPath() != "/base/v1/b/x%20y" || got.URL.RawQuery != "$select=id&q=%zz&a=1&b%20c=d%26e" || body != binary {
		t.Errorf("got %s %s%s %q", got.Method, got.Host, got.URL, body)
	}
	if token, ok := strings.CutPrefix(got.Header.Get("Authorization"), "Bearer "); !ok || d.verify(t, token).Client != entratest.DemoClientID {
		t.Errorf("got Authorization %q", got.Header.Get("Authorization"))
	}
	got.Header.Del("Authorization")
	want := http.Header{"Accept": {"text/event-stream"}, "Content-Type": {"application/octet-stream"}, "Content-Length": {fmt.Sprint(len(binary))}, "X-One": {"1"}, "Prefer": {"a=b"}, "User-Agent": got.Header["User-Agent"]}
	if diff := cmp.Diff(want, got.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}

	// What is settled holds where the request says nothing, whatever else it says.
	downstreamIn(t, d.send(t, http.MethodPost, ownCall+"tools?optionsOverride.ExtraHeaderParameters.x-both=2&optionsOverride.ExtraQueryParameters.both=2", "body"))
	got = a.request()
	if got.Method != "PUT" || got.URL.Path != "/settled" || got.URL.RawQuery != "both=2&settled=1" || got.Header.Get("Accept") != "text/plain" || got.Header.Get("Content-Type") != "text/csv" ||
		got.Header.Get("X-Settled") != "1" || got.Header.Get("X-Both") != "2" {
		t.Errorf("got %s %s %v", got.Method, got.URL, got.Header)
	}
	downstreamIn(t, d.send(t, http.MethodPost, ownCall+"tools?"+methodIs+"DELETE&"+pathIs+"x&optionsOverride.ContentType=a/b", "body"))
	if got = a.request(); got.Method != "DELETE" || got.URL.Path != "/x" || got.Header.Get("Content-Type") != "a/b" {
		t.Errorf("got %s %s %v", got.Method, got.URL, got.Header)
	}
	downstreamIn(t, d.send(t, http.MethodPost, ownCall+"ruled", ""))
	if got = a.request(); got.Method != "GET" || got.URL.RequestURI() != "/base/v1" || got.Header.Get("Accept") != "application/json" || got.ContentLength != 0 {
		t.Errorf("got %s %s %v", got.Method, got.URL, got.Header)
	}
}

// Whatever the API answers comes inside 200, with its headers, and is not followed.
func TestDownstreamAnswer(t *testing.T) {
	for _, status := range []int{200, 302, 401, 404, 429, 500, 503} {
		d, a := openCalls(t, sealedCaller, answering(status, `{"a":"<&>é"}`, "Location", "https://tools.example.com/next", "Retry-After", "7", "WWW-Authenticate", "Bearer", "Etag", `"1"`,
			"Request-Id", "r", "Content-Type", "application/json; charset=utf-8", "Set-Cookie", "a=b", "X-Many", "1", "X-Many", "2", "Connection", "close"))
		result := downstreamIn(t, d.send(t, http.MethodPost, ownCall+"tools", ""))
		if result.StatusCode != status || result.Content == nil || *result.Content != `{"a":"<&>é"}` || a.calls.Load() != 1 {
			t.Errorf("%d: got %+v after %d calls", status, result, a.calls.Load())
		}
		delete(result.Headers, "Date")
		want := map[string][]string{"Location": {"https://tools.example.com/next"}, "Retry-After": {"7"}, "Www-Authenticate": {"Bearer"}, "Etag": {`"1"`}, "Request-Id": {"r"},
			"Content-Type": {"application/json; charset=utf-8"}, "Content-Length": {"13"}, "X-Many": {"1", "2"}}
		if diff := cmp.Diff(want, result.Headers); diff != "" {
			t.Errorf("%d: headers (-want +got):\n%s", status, diff)
		}
	}
	for name, test := range map[string]struct {
		body   string
		status int
	}{
		"none": {"", 200}, "binary": {"\xff\xfe", 422}, "largest": {strings.Repeat("x", 4<<20), 200}, "too large": {strings.Repeat("x", 4<<20+1), 422},
	} {
		d, _ := openCalls(t, sealedCaller, answering(200, test.body, "Content-Type", "application/octet-stream"))
		got := d.send(t, http.MethodPost, ownCall+"tools", "")
		if test.status == 200 {
			if result := downstreamIn(t, got); (result.Content == nil) != (test.body == "") || test.body != "" && *result.Content != test.body {
				t.Errorf("%s: got %d bytes", name, len(got.body))
			}
		} else if p := problemIn(t, got); p.Status != test.status || p.Reason != "api_answer_unfit" || !strings.Contains(p.Hint, "/call/tools/") {
			t.Errorf("%s: got %+v", name, p)
		}
	}
}

// Content is text, whatever the API writes it in, without the mark of its byte
// order. What is no text is not made some.
func TestDownstreamCharsets(t *testing.T) {
	for _, test := range []struct{ kind, body, want string }{
		{"application/json", "\xef\xbb\xbf{\"a\":\"\u00e9\"}", `{"a":"é"}`},
		{"application/json; charset=utf-8", "\xef\xbb\xbf{}", "{}"},
		{"text/plain; charset=us-ascii", "plain", "plain"},
		{`text/plain; charset="ISO-8859-1"`, "caf\xe9\x80", "caf\u00e9\u0080"},
		{"text/plain; charset=utf-16", "\xff\xfee\x00=\xd8\x00\xde", "e\U0001f600"},
		{"text/plain; charset=utf-16", "\xfe\xff\x00e", "e"},
		{"text/plain; charset=UTF-16BE", "\x00e", "e"},
		{"text/plain; charset=utf-16le", "e\x00", "e"},
		{"text/plain; charset=utf-16", "odd", ""},
		{"text/plain; charset=utf-16le", "=\xd8e\x00", ""},
		{"text/plain; charset=utf-8", "caf\xe9", ""},
		{"text/plain; charset=koi8-r", "\xd0", ""},
		{"image/jpeg", "\xff\xd8\xff\xe0", ""},
		{"broken type; charset=iso-8859-1", "\xe9", ""},
	} {
		d, _ := openCalls(t, sealedCaller, answering(200, test.body, "Content-Type", test.kind))
		got := d.send(t, http.MethodPost, ownCall+"tools", "")
		if test.want == "" {
			if p := problemIn(t, got); p.Status != 422 || p.Reason != "api_answer_unfit" {
				t.Errorf("%s %q: got %+v, want it refused", test.kind, test.body, p)
			}
		} else if result := downstreamIn(t, got); result.Content == nil || *result.Content != test.want {
			t.Errorf("%s %q: got %s, want %q", test.kind, test.body, got.body, test.want)
		}
	}
}

// What is refused, and that the API hears nothing of it.
func TestDownstreamRefusals(t *testing.T) {
	d, a := openCalls(t, sealedCaller, answering(200, "x"))
	const extra = "optionsOverride.ExtraHeaderParameters."
	tests := map[string]struct {
		path   string
		body   string
		status int
		reason string
		rule   string
	}{
		"unknown API":       {ownCall + "nothing", "", 400, "api_unknown", "apis"},
		"another's API":     {ownCall + "users", "", 403, "api_not_allowed", "agents.demo.allow.apis"},
		"method":            {ownCall + "ruled?" + methodIs + "Delete", "", 403, "api_method_not_allowed", "apis.ruled.methods"},
		"path":              {ownCall + "ruled?" + pathIs + "c", "", 403, "api_path_not_allowed", "apis.ruled.paths"},
		"method is none":    {ownCall + "tools?" + methodIs + "CONNECT", "", 400, "bad_request", ""},
		"up":                {ownCall + "ruled?" + pathIs + "b/../../admin", "", 400, "bad_request", ""},
		"up, encoded twice": {ownCall + "ruled?" + pathIs + "b/%25252e%25252e/admin", "", 400, "bad_request", ""},
		"backslash":         {ownCall + "ruled?" + pathIs + "b%5Cx", "", 400, "bad_request", ""},
		"fragment":          {ownCall + "ruled?" + pathIs + "a%23x", "", 400, "bad_request", ""},
		"another host":      {ownCall + "tools?" + pathIs + url.QueryEscape("//evil.example/\r\nX: y"), "", 400, "bad_request", ""},
		"space in a query":  {ownCall + "tools?" + pathIs + url.QueryEscape("a?b c"), "", 400, "bad_request", ""},
		"header injection":  {ownCall + "tools?" + extra + "X=" + url.QueryEscape("a\r\nX-Ms-Y: b"), "", 400, "bad_request", ""},
		"name injection":    {ownCall + "tools?" + extra + url.QueryEscape("X: a\r\nY") + "=b", "", 400, "bad_request", ""},
		"type injection":    {ownCall + "tools?optionsOverride.ContentType=" + url.QueryEscape("a/b\r\nX: y"), "x", 400, "bad_request", ""},
		"other resource":    {ownCall + "tools?" + scopesAre + "https://vault.azure.net/.default", "", 400, "override_not_allowed", "apis.tools.scopes"},
		"another tenant":    {ownCall + "tools?" + tenantIs + otherAgentID, "", 400, "override_not_allowed", "tenant"},
		"unknown option":    {ownCall + "tools?optionsOverride.CustomHeader.x=1", "", 400, "override_not_allowed", ""},
		"header twice":      {ownCall + "tools?" + extra + "x=1&" + extra + "X=2", "", 400, "bad_request", ""},
		"agent not known":   {ownCall + "tools?AgentIdentity=x", "", 403, "identity_not_allowed", "agents.demo.identities"},
		"no user":           {callRoute + "users", "", 401, "user_token_missing", ""},
		"body of no type":   {ownCall + "tools?untyped", "x", 400, "bad_request", ""},
		"body too large":    {ownCall + "tools", strings.Repeat("x", 4<<20+1), 413, "too_large", ""},
	}
	for _, name := range []string{"Authorization", "cookie", "Host", "X-Original-URL", "X-MS-CLIENT-PRINCIPAL", "X-MS-CLIENT-PRINCIPAL-ID", "X-Forwarded-For", "X-MS-TOKEN-AAD-ID-TOKEN",
		"Connection", "transfer-encoding", "Content-Length", "Credfree-Identity", "accept-encoding", "Accept", "Content-Type", "Upgrade", "Proxy-Authorization", "Traceparent"} {
		tests["header "+name] = struct {
			path   string
			body   string
			status int
			reason string
			rule   string
		}{ownCall + "tools?" + extra + name + "=x", "", 400, "override_not_allowed", ""}
	}
	for name, test := range tests {
		d.audited()
		headers := []string{}
		if strings.Contains(test.path, "untyped") {
			headers = []string{"Content-Type", ""}
		}
		p := problemIn(t, d.send(t, http.MethodPost, test.path, test.body, headers...))
		if p.Status != test.status || p.Reason != test.reason || !strings.HasPrefix(p.Rule, test.rule) || test.rule == "" && p.Rule != "" {
			t.Errorf("%s: got %+v", name, p)
		}
		if d.audited() == "" {
			t.Errorf("%s: nothing is recorded", name)
		}
	}
	if a.calls.Load() != 0 {
		t.Errorf("the API was called %d times", a.calls.Load())
	}
}

// A claims challenge of the API is answered once, with a token that has the
// claims; one that no token can be had for is passed on.
func TestDownstreamClaims(t *testing.T) {
	var bodies []string
	d, a := openCalls(t, sealedCaller, recorded(&bodies))
	check(t, d.entra.SetClaimsChallenge(recently()))
	result := downstreamIn(t, d.send(t, http.MethodPost, ownCall+"tools?"+pathIs+"echo/x&"+methodIs+"POST", "body"))
	if diff := cmp.Diff([]string{"body", "body"}, bodies); diff != "" || result.StatusCode != 200 {
		t.Errorf("got %+v; bodies (-want +got):\n%s", result, diff)
	}
	if lines := d.audited(); strings.Count(lines, `"decision":"allow"`) != 2 {
		t.Errorf("recorded %s, want two issuances", lines)
	}
	// One that the fresh token does not meet either is the API's answer.
	check(t, d.entra.SetClaimsChallenge(`{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`))
	a.calls.Store(0)
	result = downstreamIn(t, d.send(t, http.MethodPost, ownCall+"tools?"+pathIs+"echo/x", ""))
	if result.StatusCode != 401 || a.calls.Load() != 2 {
		t.Errorf("got %+v after %d calls, want 401 after two", result, a.calls.Load())
	}
	a.calls.Store(0)
	result = downstreamIn(t, d.send(t, http.MethodPost, ownCall+"tools?"+pathIs+"echo/x&claims="+url.QueryEscape(`{"access_token":{"acrs":{"essential":true,"value":"c2"}}}`), ""))
	if result.StatusCode != 401 || a.calls.Load() != 1 || !strings.Contains(strings.Join(result.Headers["Www-Authenticate"], ""), "claims=") {
		t.Errorf("with claims of its own, the agent got %+v after %d calls", result, a.calls.Load())
	}
	a.calls.Store(0)
	d.entra.SetBehavior(entratest.Behavior{RequireMFA: true})
	got := d.send(t, http.MethodPost, callRoute+"users?"+pathIs+"me", "", d.bearer(t, entratest.DemoClientID)...)
	if p := problemIn(t, got); p.Status != 401 || p.Claims == "" || !strings.Contains(got.Header.Get("WWW-Authenticate"), "insufficient_claims") {
		t.Errorf("got %+v", p)
	}
}

// An API that is not there, and one that does not answer.
func TestDownstreamFailures(t *testing.T) {
	d, a := openCalls(t, sealedCaller, answering(200, "x"))
	a.Close()
	if p := problemIn(t, d.send(t, http.MethodPost, ownCall+"tools", "")); p.Status != 502 || p.Reason != "api_unreachable" {
		t.Errorf("got %+v", p)
	}
	d, _ = openCalls(t, sealedCaller, untilDone(200, make(chan struct{})), func(cfg *localapi.Config) { cfg.CallThrough.Idle = 30 * time.Millisecond })
	if p := problemIn(t, d.send(t, http.MethodPost, ownCall+"tools", "")); p.Status != 504 || p.Reason != "api_timeout" {
		t.Errorf("got %+v", p)
	}
}

// What stands in a parameter goes to the API or nowhere: not into an error, nor
// into the record.
func TestDownstreamKeepsSecrets(t *testing.T) {
	d, _ := openCalls(t, sealedCaller, answering(200, "fine"))
	secret := strings.TrimPrefix(d.bearer(t, entratest.DemoClientID)[1], "Bearer ")
	var answers strings.Builder
	for _, name := range []string{"optionsOverride.RelativePath", "optionsOverride.HttpMethod", "optionsOverride.AcceptHeader", "optionsOverride.ContentType", "optionsOverride.ExtraHeaderParameters.x",
		"optionsOverride.ExtraHeaderParameters.cookie", "optionsOverride.ExtraHeaderParameters.x%20", "optionsOverride.ExtraQueryParameters.x", "optionsOverride.Scopes", "AgentIdentity"} {
		for _, api := range []string{"tools", "ruled", "users"} {
			answers.WriteString(d.send(t, http.MethodPost, ownCall+api+"?"+name+"="+secret, "x").wire())
			answers.WriteString(d.send(t, http.MethodPost, ownCall+api+"?"+name+secret+"=x", "x").wire())
		}
	}
	answers.WriteString(d.send(t, http.MethodPost, ownCall+"tools?"+pathIs+"%zz", secret).wire())
	for where, all := range map[string]string{"an answer": answers.String(), "the audit log": d.audited()} {
		for _, text := range []string{secret[:len(secret)/2], secret[len(secret)/2:]} {
			if at := strings.Index(all, text); at >= 0 {
				t.Errorf("%s holds the secret: ...%.300s", where, all[max(0, at-100):])
			}
		}
	}
}

// A reload that makes another API of the one that is being called does not send it the
// token that was asked for, for the API of before.
func TestDownstreamAPIThatBecomesAnother(t *testing.T) {
	const before, after = "tools: {baseURL: https://tools.example.com, scopes: [" + graph + "]}", "tools: {baseURL: https://other.example.com, scopes: [https://vault.azure.net/.default]}"
	var b *broker.Broker
	var asked []string
	d, _ := openCalls(t, sealedCaller, func(d *door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if asked = append(asked, r.Host); len(asked) > 1 {
				return
			}
			rules := b.Rules()
			var err error
			rules.Policy, err = policy.Parse("credfree.yaml", []byte("version: 1\ntenant: "+entratest.DemoTenantID+"\ncloud: custom\nauthority: "+authority+
				"\nsources: {pod: {file: {path: "+d.file+"}}}"+strings.Replace(identities, before, after, 1)+"agents:\n"+sealedCaller("")))
			if err == nil {
				err = b.Use(rules)
			}
			if err != nil {
				t.Error(err)
			}
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_claims", claims="`+base64.StdEncoding.EncodeToString([]byte(recently()))+`"`)
			w.WriteHeader(http.StatusUnauthorized)
		})
	}, func(cfg *localapi.Config) { b = cfg.Broker })
	got := d.send(t, http.MethodPost, ownCall+"tools?optionsOverride.Scopes="+graph, "")
	if p := problemIn(t, got); p.Status != 403 || p.Reason != broker.ReasonPurged || len(asked) != 1 {
		t.Errorf("got %s after calls of %q, want the first one alone", got.wire(), asked)
	}
}
