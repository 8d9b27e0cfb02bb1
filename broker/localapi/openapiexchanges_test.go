package localapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/admin"
	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/recent"
	"github.com/credfree/credfree/exchange/entratest"
)

// exchangeRow is a request for an operation of the document, and its status.
type exchangeRow struct {
	id      string
	target  string // path and query; "" for the path in the document
	body    string
	status  int
	headers []string
}

// everything is an agent that may use every door, but not everything there.
func everything(string) string {
	return fmt.Sprintf("  demo:\n    identity: demo\n    identities: [demo, vm]\n    callers: [{tcp: {uids: [%d]}}]\n    allow: {apis: [graph, tools], scopes: [%q]}\n"+
		"    onBehalfOf: {allow: {apis: [users], scopes: [%s]}, clients: [%s]}\n", os.Getuid(), graph, userRead, entratest.DemoFrontendClientID)
}

const (
	identityQuery = "?resource=" + resource
	msi           = "/msi/token" + identityQuery + "&api-version=2019-08-01"
	imdsQuery     = "/metadata/identity/oauth2/token" + identityQuery + "&api-version=2018-02-01"
)

var calls = []string{"callGet", "callHead", "callOptions", "callDelete", "callPost", "callPut", "callPatch"}

// reads are operations that hold nothing of anybody.
var reads = []string{"metadata", "metadataHead", "openidMetadata", "openidMetadataHead", "openapi", "openapiHead"}

// everyDoor is one request for a token through every door that asks Entra anew:
// with the status of each for the OAuth door, for managed identities, for the
// auth sidecar and for calls. 0 leaves a door out.
func everyDoor(t *testing.T, d *door, oauth, identity, sidecar, call int) (rows []exchangeRow) {
	user := d.bearer(t, entratest.DemoClientID)
	add := func(status int, row exchangeRow) {
		if row.status = status; status != 0 {
			rows = append(rows, row)
		}
	}
	for _, id := range []string{"token", "entraToken"} {
		add(oauth, exchangeRow{id: id, body: good + "&claims=" + fresh()})
	}
	add(identity, exchangeRow{id: "appServiceToken", target: msi + "&claims=" + fresh(), headers: asAppService})
	add(identity, exchangeRow{id: "imdsToken", target: imdsQuery + "&claims=" + fresh(), headers: asIMDS})
	add(sidecar, exchangeRow{id: "AuthorizationHeader", target: header + "users?claims=" + fresh(), headers: user})
	add(sidecar, exchangeRow{id: "AuthorizationHeaderUnauthenticated", target: ownHeader + "graph?claims=" + fresh()})
	add(sidecar, exchangeRow{id: "DownstreamApi", target: "/DownstreamApi/users?claims=" + fresh(), headers: user})
	add(sidecar, exchangeRow{id: "DownstreamApiUnauthenticated", target: "/DownstreamApiUnauthenticated/tools?claims=" + fresh()})
	for _, id := range calls {
		claims, err := url.QueryUnescape(fresh())
		check(t, err)
		add(call, exchangeRow{id: id, target: "/call/tools/x", headers: []string{"Credfree-Claims", claims}})
	}
	return rows
}

var challenges = 0

// fresh is a claims challenge, encoded, that was not there before.
func fresh() string {
	challenges++
	return url.QueryEscape(fmt.Sprintf(`{"access_token":{"x":{"value":"%d"}}}`, challenges))
}

// Every operation is sent for real, with every status, header and member that
// the document has; and no answer has one that the document has not.
func TestOpenAPI(t *testing.T) {
	described := readDescription(t, localapi.OpenAPI())
	for name, scenario := range map[string]func(*testing.T, *description){
		"well": describedWell, "refused": describedRefusals, "behind": describedFailures, "closed": describedClosed, "calls": describedCalls,
		"operators": describedOperators,
	} {
		t.Run(name, func(t *testing.T) { scenario(t, described) })
	}
	if missing := described.unseen(); len(missing) > 0 {
		t.Errorf("the document has what no answer has had:\n%s", strings.Join(missing, "\n"))
	}
}

// run sends the rows and holds every answer against the document.
func (d *description) run(t *testing.T, base string, rows ...exchangeRow) {
	t.Helper()
	for _, row := range rows {
		o := d.operation(t, row.id)
		target := row.target
		if target == "" {
			target = strings.ReplaceAll(o.path, "{tenant}", entratest.DemoTenantID)
		}
		ask := (&door{url: base}).send
		if below, ok := strings.CutPrefix(target, "/call/"); ok { // errors have another form there
			target, ask = below, (&door{url: base}).call
		}
		got := ask(t, o.method, target, row.body, row.headers...)
		if got.StatusCode != row.status {
			t.Errorf("%s %s: got %d %s, want %d", o.method, target, got.StatusCode, got.body, row.status)
		}
		for _, problem := range d.matches(o, got) {
			t.Error(problem)
		}
	}
}

func withDoors(cfg *localapi.Config) { cfg.CallThrough.MaxBody = 1 << 20 }

func describedWell(t *testing.T, described *description) {
	d, _ := openCalls(t, everything, answering(200, "the API's"), withDoors)
	rows := everyDoor(t, d, 200, 200, 200, 200)
	user := d.user(t)
	own := tokenIn(t, d.send(t, http.MethodGet, ownHeader+"graph", ""))
	for _, id := range []string{"token", "entraToken"} {
		rows = append(rows, exchangeRow{id: id, body: exchanged(user), status: 200}, exchangeRow{id: id, body: asserted(user), status: 200})
	}
	for _, token := range []string{own, user, "nothing"} {
		rows = append(rows, exchangeRow{id: "introspect", body: form("token", token), status: 200})
	}
	for _, id := range append(reads, "health", "healthHead") {
		rows = append(rows, exchangeRow{id: id, status: 200})
	}
	rows = append(rows, exchangeRow{id: "ValidateAuthorizationHeader", status: 200, headers: d.bearer(t, entratest.DemoClientID)})
	described.run(t, d.url, rows...)
}

func describedRefusals(t *testing.T, described *description) {
	d, _ := openCalls(t, everything, answering(200, "the API's"), withDoors)
	rows := everyDoor(t, d, 403, 403, 403, 403)
	rows = append(rows, exchangeRow{id: "introspect", body: "token=x", status: 403})
	for _, id := range append(reads, "health", "healthHead") {
		rows = append(rows, exchangeRow{id: id, status: 403})
	}
	for i := range rows { // a browser
		rows[i].headers = append(slices.Clone(rows[i].headers), "Origin", "null")
	}
	large, other := strings.Repeat("a", 70<<10), "&client_id=other"
	user := d.bearer(t, entratest.DemoClientID)
	for id, body := range map[string]string{"token": good, "entraToken": good, "introspect": "token=x"} {
		rows = append(rows,
			exchangeRow{id: id, body: "%zz", status: 400},
			exchangeRow{id: id, body: body + other, status: 401},
			exchangeRow{id: id, body: large, status: 413},
			exchangeRow{id: id, body: body, status: 415, headers: []string{"Content-Type", "text/plain"}})
	}
	rows = append(rows,
		exchangeRow{id: "token", body: form("grant_type", "client_credentials", "scope", "https://vault.azure.net/.default"), status: 400},
		exchangeRow{id: "appServiceToken", target: "/msi/token?resource=x", status: 400, headers: asAppService},
		exchangeRow{id: "appServiceToken", target: msi, status: 401},
		exchangeRow{id: "appServiceToken", target: strings.Replace(msi, "graph.microsoft.com", "vault.azure.net", 1), status: 403, headers: asAppService},
		exchangeRow{id: "appServiceToken", target: msi + "&x=" + large[:20<<10], status: 414, headers: asAppService},
		exchangeRow{id: "imdsToken", target: imdsQuery, status: 400},
		exchangeRow{id: "imdsToken", target: imdsQuery + "&x=" + large[:20<<10], status: 414, headers: asIMDS},
		exchangeRow{id: "AuthorizationHeader", target: header + "users", status: 401},
		exchangeRow{id: "AuthorizationHeader", target: header + "graph", status: 403, headers: user},
		exchangeRow{id: "AuthorizationHeader", target: header + "nowhere", status: 400, headers: user},
		exchangeRow{id: "AuthorizationHeader", target: header + "users?x=" + large[:20<<10], status: 414, headers: user},
		exchangeRow{id: "AuthorizationHeaderUnauthenticated", target: ownHeader + "nowhere", status: 400},
		exchangeRow{id: "AuthorizationHeaderUnauthenticated", target: ownHeader + "ruled", status: 403},
		exchangeRow{id: "AuthorizationHeaderUnauthenticated", target: ownHeader + "graph?x=" + large[:20<<10], status: 414},
		exchangeRow{id: "ValidateAuthorizationHeader", target: "/Validate?identity=%zz", status: 400, headers: user},
		exchangeRow{id: "ValidateAuthorizationHeader", target: "/Validate", status: 401},
		exchangeRow{id: "ValidateAuthorizationHeader", target: "/Validate", status: 403, headers: append([]string{"Origin", "null"}, user...)},
		exchangeRow{id: "ValidateAuthorizationHeader", target: "/Validate?x=" + large[:20<<10], status: 414, headers: user},
	)
	api := map[string]string{"DownstreamApi": "users", "DownstreamApiUnauthenticated": "tools"}
	for id, target := range map[string]string{"DownstreamApi": "/DownstreamApi/", "DownstreamApiUnauthenticated": "/DownstreamApiUnauthenticated/"} {
		headers := user
		if id != "DownstreamApi" {
			headers = nil
		}
		rows = append(rows, exchangeRow{id: id, target: target + "nowhere", status: 400, headers: headers},
			exchangeRow{id: id, target: target + "graph?identity=nobody", status: 403, headers: headers},
			exchangeRow{id: id, target: target + api[id], body: strings.Repeat("a", 5<<20), status: 413, headers: headers},
			exchangeRow{id: id, target: target + "graph?x=" + large[:20<<10], status: 414, headers: headers})
	}
	rows = append(rows, exchangeRow{id: "entraToken", target: "/a%2Fb/oauth2/v2.0/token", body: good, status: 404})
	for id, target := range map[string]string{"appServiceToken": msi, "imdsToken": imdsQuery, "AuthorizationHeader": header + "users?", "AuthorizationHeaderUnauthenticated": ownHeader + "graph?",
		"ValidateAuthorizationHeader": "/Validate?", "DownstreamApi": "/DownstreamApi/users?", "DownstreamApiUnauthenticated": "/DownstreamApiUnauthenticated/tools?"} {
		rows = append(rows, exchangeRow{id: id, target: target + "&x=" + large, status: 431})
	}
	for _, id := range calls {
		rows = append(rows,
			exchangeRow{id: id, target: "/call/tools/%2e%2e/x", status: 400},
			exchangeRow{id: id, target: "/call/ruled/x", status: 403},
			exchangeRow{id: id, target: "/call/nowhere/x", status: 404},
			exchangeRow{id: id, target: "/call/tools/x", body: strings.Repeat("a", 2<<20), status: 413})
	}
	described.run(t, d.url, rows...)
	nobody := open(t, stranger)
	described.run(t, nobody.url, append(everyDoor(t, nobody, 401, 401, 401, 401), exchangeRow{id: "introspect", body: "token=x", status: 401})...)
}

// What goes wrong behind the broker: each door says the same in its own form.
func describedFailures(t *testing.T, described *description) {
	for name, scenario := range map[string]struct {
		broken                         func(t *testing.T, d *door)
		oauth, identity, sidecar, call int
	}{
		"refused":   {behaving(entratest.Behavior{Code: 53003}), 400, 403, 401, 401},
		"throttled": {behaving(entratest.Behavior{Status: 429, RetryAfter: "7"}), 429, 429, 429, 429},
		"outage":    {behaving(entratest.Behavior{Status: 503, RetryAfter: "1"}), 503, 503, 503, 503},
		"garbled":   {func(t *testing.T, d *door) { check(t, os.WriteFile(d.file, []byte("x"), 0o600)) }, 500, 403, 403, 403},
		"full":      {func(_ *testing.T, d *door) { d.full.Store(true) }, 503, 503, 503, 503},
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := openCalls(t, everything, answering(200, "the API's"), withDoors)
			rows := everyDoor(t, d, scenario.oauth, scenario.identity, scenario.sidecar, scenario.call)
			if name == "full" {
				rows = append(rows, exchangeRow{id: "introspect", body: "token=x", status: 503}, exchangeRow{id: "ValidateAuthorizationHeader", status: 503, headers: d.bearer(t, entratest.DemoClientID)})
			}
			d.bearer(t, entratest.DemoClientID)
			scenario.broken(t, d)
			described.run(t, d.url, rows...)
		})
	}
	limited := open(t, func(dir string) string { return everything(dir) + "    limits: {perMinute: 1}\n" })
	described.run(t, limited.url, exchangeRow{id: "token", body: good, status: 200}, exchangeRow{id: "token", body: good, status: 429},
		exchangeRow{id: "introspect", body: "token=x", status: 429}, exchangeRow{id: "ValidateAuthorizationHeader", status: 429, headers: limited.bearer(t, entratest.DemoClientID)})
}

func behaving(behavior entratest.Behavior) func(*testing.T, *door) {
	return func(_ *testing.T, d *door) { d.entra.SetBehavior(behavior) }
}

func describedClosed(t *testing.T, described *description) {
	d := open(t, everything, func(cfg *localapi.Config) { cfg.AuthSidecar = false })
	described.run(t, d.url, exchangeRow{id: "AuthorizationHeader", target: header + "users", status: 404},
		exchangeRow{id: "AuthorizationHeaderUnauthenticated", target: ownHeader + "graph", status: 404},
		exchangeRow{id: "ValidateAuthorizationHeader", status: 404}, exchangeRow{id: "DownstreamApi", target: "/DownstreamApi/users", status: 404},
		exchangeRow{id: "DownstreamApiUnauthenticated", target: "/DownstreamApiUnauthenticated/graph", status: 404},
		exchangeRow{id: "health", status: 404}, exchangeRow{id: "healthHead", status: 404},
		exchangeRow{id: "openapi", status: 200}) // whatever doors are open
	if whole := d.send(t, http.MethodGet, "/openapi/v1.json", ""); whole.body != string(localapi.OpenAPI()) {
		t.Error("what is served is not the document")
	}
}

// What comes of an API that fails, or answers by itself.
func describedCalls(t *testing.T, described *description) {
	d, a := openCalls(t, everything, func(*door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/hang") {
				<-r.Context().Done()
				return
			}
			w.WriteHeader(http.StatusTeapot)
			if strings.HasSuffix(r.URL.Path, "/binary") {
				_, _ = io.WriteString(w, "\xff") // the broker may be gone
			}
		})
	}, func(cfg *localapi.Config) { cfg.CallThrough.Idle = 200 * time.Millisecond })
	for _, id := range calls {
		described.run(t, d.url, exchangeRow{id: id, target: "/call/tools/x", status: 418}, exchangeRow{id: id, target: "/call/tools/hang", status: 504})
	}
	user := d.bearer(t, entratest.DemoClientID)
	described.run(t, d.url, exchangeRow{id: "DownstreamApi", target: "/DownstreamApi/users?optionsOverride.RelativePath=hang", headers: user, status: 504},
		exchangeRow{id: "DownstreamApiUnauthenticated", target: "/DownstreamApiUnauthenticated/tools?optionsOverride.RelativePath=hang", status: 504},
		exchangeRow{id: "DownstreamApi", target: "/DownstreamApi/users?optionsOverride.RelativePath=binary", headers: user, status: 422},
		exchangeRow{id: "DownstreamApiUnauthenticated", target: "/DownstreamApiUnauthenticated/tools?optionsOverride.RelativePath=binary", status: 422})
	a.Close()
	described.run(t, d.url, exchangeRow{id: "DownstreamApi", target: "/DownstreamApi/users", headers: user, status: 502},
		exchangeRow{id: "DownstreamApiUnauthenticated", target: "/DownstreamApiUnauthenticated/tools", status: 502})
	for _, id := range calls {
		described.run(t, d.url, exchangeRow{id: id, target: "/call/tools/x", status: 502})
	}
}

// operators is the admin listener of a broker that is ready, or not.
func operators(t testing.TB, ready bool) string {
	t.Helper()
	part := func(name string, state admin.PartState, reportOnly bool) admin.Part {
		return admin.Part{Name: name, ReportOnly: reportOnly, Check: func(context.Context) admin.PartState { return state }}
	}
	handler, err := admin.New(admin.Config{
		Parts: func() []admin.Part {
			return []admin.Part{part("policy", admin.PartState{OK: ready, Detail: "revision 1"}, false), part("entra", admin.PartState{Error: "timeout", Hint: "wait"}, true)}
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			_, _ = io.WriteString(w, "a_metric 1\n") // the reader may be gone
		}),
		Purge: func(s admin.Selection) (admin.Purged, error) {
			if s.Scope == "x" {
				return admin.Purged{}, &admin.SelectionError{Text: "the scope has no resource", Hint: "write graph"}
			}
			if s.Agent == "nobody" {
				return admin.Purged{}, &admin.SelectionError{Text: "there is no such agent", Hint: "known are demo", Unknown: true}
			}
			return admin.Purged{Tokens: 1}, nil
		},
		Resolve: func(s admin.Selection) (admin.Selection, error) { return s, nil },
		Memory:  recent.New(time.Now()), Overview: func() admin.Overview { return admin.Overview{} },
	})
	check(t, err)
	listener, err := peer.ListenLoopback("127.0.0.1:0")
	check(t, err)
	server := &http.Server{Handler: handler, ConnContext: peer.ConnContext, ReadHeaderTimeout: 5 * time.Second, ErrorLog: log.New(complaints{t}, "", 0)}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { check(t, server.Close()) })
	return "http://" + listener.Addr().String()
}

func describedOperators(t *testing.T, described *description) {
	for ready, status := range map[bool]int{true: 200, false: 503} {
		described.run(t, operators(t, ready), exchangeRow{id: "ready", status: status}, exchangeRow{id: "readyHead", status: status})
	}
	url := operators(t, true)
	browser := []string{"Origin", "null"}
	for _, id := range []string{"health", "healthHead", "metrics", "metricsHead", "ready", "readyHead"} {
		described.run(t, url, exchangeRow{id: id, status: 200}, exchangeRow{id: id, status: 403, headers: browser})
	}
	described.run(t, url, exchangeRow{id: "purge", body: "all=true", status: 200}, exchangeRow{id: "purge", body: "agent=demo&scope=graph", status: 200},
		exchangeRow{id: "purge", body: "agent=demo&scope=x", status: 400}, exchangeRow{id: "purge", body: "agent=nobody", status: 404},
		exchangeRow{id: "purge", body: "agent=demo&all=true", status: 400}, exchangeRow{id: "purge", body: "all=true", status: 403, headers: browser})
}
