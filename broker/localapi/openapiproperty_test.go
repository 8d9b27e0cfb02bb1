package localapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/exchange/entratest"
)

// world is a broker that everybody asks anything, and what it may be asked.
type world struct {
	*door
	described  *description
	operations []operation
	client     http.Transport
	user       string
	sensible   map[string][]string // values that make sense, by the parameter's name
}

const vault = "https://vault.azure.net/.default"

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{described: readDescription(t, localapi.OpenAPI())}
	w.door, _ = openCalls(t, func(string) string {
		return fmt.Sprintf("  demo:\n    identity: demo\n    identities: [demo, fleet]\n    callers: [{tcp: {uids: [%d]}}]\n    allow: {apis: [graph, tools], scopes: [%q]}\n"+
			"    onBehalfOf: {allow: {apis: [users]}, clients: [%s]}\n", os.Getuid(), graph, entratest.DemoFrontendClientID)
	}, answering(200, "the API's"))
	t.Cleanup(w.client.CloseIdleConnections)
	for _, o := range w.described.operations() {
		if tags := fmt.Sprint(o.object["tags"]); !strings.Contains(tags, "operators") || o.path == "/healthz" {
			w.operations = append(w.operations, o)
		}
	}
	w.user = w.door.user(t)
	own := tokenOf(t, w.send(t, http.MethodPost, "/oauth2/token", good))
	application, api := []string{entratest.DemoClientID}, []string{"graph", "tools", "users"}
	w.sensible = map[string][]string{
		"scope": {graph, userRead, vault, userRead + " openid"}, "resource": {resource, resource + "/", "https://vault.azure.net"}, "audience": {resource},
		"identity": {"demo", "fleet/" + entratest.DemoAgentIdentityID}, "claims": {`{"access_token":{"a":null}}`}, "client_id": append(application, "demo"), "client_secret": {keyText},
		"client_assertion": {"eyJhbGciOiJub25lIn0.e30."}, "client_assertion_type": {assertionType},
		"subject_token": {w.user}, "assertion": {w.user}, "token": {own, w.user}, "token_type_hint": {"access_token"}, "tenant": {entratest.DemoTenantID},
		"clientid": application, "object_id": {entratest.DemoAgentIdentityID}, "principal_id": {entratest.DemoAgentIdentityID}, "Metadata": {"true"},
		"apiName": api, "api": api, "path": {"me", "v1.0/users/1", ""}, "AgentIdentity": {entratest.DemoAgentIdentityID},
		"optionsOverride.Scopes": {graph, vault}, "optionsOverride.RequestAppToken": {"true", "false"}, "optionsOverride.AcquireTokenOptions.Tenant": {entratest.DemoTenantID},
		"optionsOverride.AcquireTokenOptions.Claims": {`{"access_token":{"a":null}}`}, "Credfree-Identity": {"demo"}, "Credfree-User-Token": {w.user}, "Credfree-Claims": {`{"a":{}}`},
	}
	w.audited()
	return w
}

// senseless are values that no parameter has, but for a text that may be anything.
var senseless = []string{"", " ", "x", "*", "../..", "%00", "\x00", "a\r\nb", "ünï", strings.Repeat("a", 2000), "null", "{}", "[]", "'\"<>", "https://graph.microsoft.com", "true", "-1", "common", "\xff\xfe", "/", "."}

// value is one for a parameter: mostly one that the document allows.
func (w *world) value(r *rand.Rand, p parameter) string {
	choices := w.sensible[p.name]
	if enum, ok := p.schema["enum"].([]any); ok {
		for _, v := range enum {
			choices = append(choices, fmt.Sprint(v))
		}
	}
	if constant, ok := p.schema["const"]; ok {
		choices = append(choices, fmt.Sprint(constant))
	}
	if example, ok := p.schema["example"]; ok {
		choices = append(choices, fmt.Sprint(example))
	}
	if p.name == "api-version" && p.schema["const"] == nil {
		choices = append(choices, "2018-02-01")
	}
	if len(choices) == 0 || r.IntN(12) == 0 {
		return senseless[r.IntN(len(senseless))]
	}
	return choices[r.IntN(len(choices))]
}

// request makes one of an operation, which may or may not make sense.
func (w *world) request(t testing.TB, r *rand.Rand) (operation, *http.Request) {
	t.Helper()
	o := w.operations[r.IntN(len(w.operations))]
	parameters := w.described.parameters(o)
	if choices, ok := w.described.formSchema(o)["oneOf"].([]any); ok { // one grant, mostly
		grant := w.described.schema(choices[r.IntN(len(choices))])["properties"].(map[string]any)
		parameters = slices.DeleteFunc(parameters, func(p parameter) bool {
			return p.in == "form" && (grant[p.name] == nil || p.name == "grant_type" && !equalSchema(p.schema, grant["grant_type"])) && r.IntN(20) > 0
		})
	}
	query, body, header, path := url.Values{}, url.Values{}, http.Header{}, o.path
	for _, p := range parameters {
		if p.in != "path" && r.IntN(10) >= map[bool]int{true: 9, false: 2}[p.required] {
			continue
		}
		for n := 1 + r.IntN(20)/19; n > 0; n-- {
			switch value := w.value(r, p); p.in {
			case "path":
				path = strings.Replace(path, "{"+p.name+"}", strings.ReplaceAll(url.PathEscape(value), "%2F", "/"), 1)
			case "query":
				query.Add(p.name, value)
			case "form":
				body.Add(p.name, value)
			case "header":
				if !strings.ContainsAny(value, "\x00\r\n") { // no client can send these
					header.Add(p.name, value)
				}
			}
		}
	}
	w.credentials(r, o, header)
	target, err := url.Parse(w.url)
	check(t, err)
	target.RawQuery = query.Encode()
	if target.Path, err = url.PathUnescape(path); err != nil {
		target.Path = path
	}
	target.RawPath = path
	req, err := http.NewRequestWithContext(t.Context(), o.method, w.url, strings.NewReader(body.Encode()))
	check(t, err)
	req.URL, req.Header = target, header
	if len(body) > 0 || o.method == http.MethodPost {
		header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return o, req
}

func equalSchema(a map[string]any, b any) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// credentials are none for most, since the kernel vouches for the agent; and a
// browser's now and then.
func (w *world) credentials(r *rand.Rand, o operation, header http.Header) {
	if o.id == "appServiceToken" {
		header.Set("X-Identity-Header", "none")
	}
	if o.id == "AuthorizationHeader" || o.id == "DownstreamApi" || o.id == "ValidateAuthorizationHeader" {
		header.Set("Authorization", "Bearer "+w.user)
	}
	switch r.IntN(25) {
	case 0:
		header.Set("Authorization", []string{"Bearer x", "Basic eDp5", "Negotiate x", "Basic", w.user}[r.IntN(5)])
	case 1:
		header.Set("X-Identity-Header", "x")
	case 2:
		header.Set("Origin", "null")
	case 3:
		header.Set("Forwarded", "for=x")
	case 4:
		header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
	case 5:
		header.Del("X-Identity-Header")
	}
}

// auditLine is what the audit log has of a request.
type auditLine struct {
	Event    string
	ID       string `json:"issuance_id"`
	Decision string
	Agent    string
	Scopes   []string
	Identity string
}

// any asks for anything, and finds what must never be.
func (w *world) any(t testing.TB, seed uint64) string {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 7))
	o, req := w.request(t, r)
	resp, err := w.client.RoundTrip(req)
	check(t, err)
	text, err := io.ReadAll(resp.Body)
	check(t, err)
	check(t, resp.Body.Close())
	got := answer{Response: resp, body: string(text)}
	wrong := func(format string, arguments ...any) {
		t.Errorf("seed %d: %s %s: %d %.300s: %s", seed, req.Method, req.URL, got.StatusCode, got.body, fmt.Sprintf(format, arguments...))
	}

	// A path with something else in it may be at no door, or at another one.
	lost := got.StatusCode == http.StatusNotFound || got.StatusCode == http.StatusMethodNotAllowed || o.path != req.URL.Path && !strings.Contains(o.path, "{") ||
		strings.Contains(got.body, `"reason":"foreign_`) // at no door, a browser hears it in the words of the OAuth door
	problems := w.described.matches(o, got)
	if atNoDoor := lost && (o.method == http.MethodHead || strings.Contains(got.body, `"refused_by":"broker"`)); len(problems) > 0 && !atNoDoor {
		wrong("%s", strings.Join(problems, "; "))
	}
	// Of the APIs, only tools.example.com is there.
	if got.StatusCode >= 500 && (got.StatusCode != http.StatusBadGateway || !strings.Contains(req.URL.Path, "/graph")) {
		wrong("nothing behind the broker is broken")
	}

	var lines []auditLine
	for line := range strings.Lines(w.audited()) {
		var one auditLine
		check(t, json.Unmarshal([]byte(line), &one))
		lines = append(lines, one)
	}
	id := got.Header.Get("Credfree-Issuance-Id")
	if len(lines) > 1 || len(lines) == 1 && lines[0].ID != id || len(lines) == 0 && id != "" {
		wrong("answered with issuance %q, recorded as %+v", id, lines)
	}
	hasToken := strings.Contains(got.body, `"access_token":"ey`) || strings.Contains(got.body, "Bearer ey") || strings.Contains(got.body, `"active":true`) || got.body == "the API's" || strings.Contains(got.body, `"content":"the API's"`)
	allowed := len(lines) == 1 && lines[0].Decision == "allow"
	if hasToken && !allowed {
		wrong("a token, or what it is good for, without a decision that allows it: %+v", lines)
	}
	if allowed {
		if lines[0].Agent != "demo" || slices.ContainsFunc(lines[0].Scopes, func(scope string) bool { return scope != graph && scope != userRead }) {
			wrong("more is allowed than the policy has: %+v", lines[0])
		}
		if strings.Contains(got.body, `"access_token":"ey`) && lines[0].Event != "token.issued" {
			wrong("a token is recorded as %+v", lines[0])
		}
	}
	return fmt.Sprint(o.id, " ", got.StatusCode)
}

// Whatever is asked that the document has a word for, or something near it: every
// answer is as the document says, and nobody gets what was not allowed.
func TestAnyRequest(t *testing.T) {
	w := newWorld(t)
	outcomes := map[string]int{}
	for seed := range uint64(4000) {
		outcomes[w.any(t, seed)]++
	}
	// Requests that are all refused would prove nothing.
	for _, o := range w.operations {
		if well := outcomes[o.id+" 200"]; well == 0 {
			t.Errorf("%s has never succeeded", o.id)
		}
	}
	t.Log(outcomes)
}

// FuzzOperations is TestAnyRequest without an end.
func FuzzOperations(f *testing.F) {
	w := newWorld(f)
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { w.any(t, seed) })
}
