package localapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/exchange/entratest"
)

// twoAgents are demo, over TCP, and other, at the socket. They have the same
// rights.
func twoAgents(string) string {
	const agent = "  %s:\n    identity: demo\n    callers: [{%s}]\n    allow: {scopes: [%q]}\n    onBehalfOf: {allow: {scopes: [%s]}, clients: [%s]}\n"
	uids := fmt.Sprintf("uids: [%d]}", os.Getuid())
	return fmt.Sprintf(agent, "demo", "tcp: {"+uids, graph, userRead, entratest.DemoFrontendClientID) +
		fmt.Sprintf(agent, "other", "socket: agent.sock, "+strings.TrimSuffix(uids, "}"), graph, userRead, entratest.DemoFrontendClientID)
}

// other sends a form as whoever is at the socket.
func (d *door) other(t *testing.T, path, body string) answer {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.socket)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost"+path, strings.NewReader(body))
	check(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := transport.RoundTrip(req)
	check(t, err)
	text, err := io.ReadAll(resp.Body)
	check(t, err)
	check(t, resp.Body.Close())
	return answer{Response: resp, body: string(text)}
}

const introspection = "/oauth2/introspect"

func tokenOf(t testing.TB, got answer) string {
	t.Helper()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(got.body), &answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("got %d %s", got.StatusCode, got.body)
	}
	return answer.AccessToken
}

func (d *door) introspect(t *testing.T, token string) map[string]any {
	t.Helper()
	got := d.send(t, http.MethodPost, introspection, form("token", token))
	var answer map[string]any
	check(t, json.Unmarshal([]byte(got.body), &answer))
	if got.StatusCode != 200 || got.Header.Get("Cache-Control") != "no-store" || got.Header.Get("Credfree-Issuance-Id") == "" {
		t.Fatalf("got %d %v %s", got.StatusCode, got.Header, got.body)
	}
	return answer
}

// What the tokens say that an agent may ask about, and nothing more.
func TestIntrospection(t *testing.T) {
	d := open(t, twoAgents)
	user := d.user(t)
	own := tokenOf(t, d.send(t, http.MethodPost, "/oauth2/token", good))
	onBehalf := tokenOf(t, d.send(t, http.MethodPost, "/oauth2/token", exchanged(user)))
	for name, test := range map[string]struct {
		token string
		want  map[string]any
	}{
		"the agent's own": {own, map[string]any{"client_id": entratest.DemoClientID, "azp": entratest.DemoClientID, "scope": "User.Read.All", "aud": "https://graph.microsoft.com"}},
		"for a user":      {onBehalf, map[string]any{"client_id": entratest.DemoClientID, "azp": entratest.DemoClientID, "scope": "User.Read", "aud": "https://graph.microsoft.com", "oid": entratest.DemoUserID}},
		"the user's":      {user, map[string]any{"client_id": entratest.DemoFrontendClientID, "azp": entratest.DemoFrontendClientID, "aud": entratest.DemoClientID, "oid": entratest.DemoUserID}},
	} {
		got := d.introspect(t, test.token)
		exp, _ := got["exp"].(float64)
		iat, _ := got["iat"].(float64)
		if left := time.Until(time.Unix(int64(exp), 0)); left < 10*time.Minute || iat == 0 || got["iss"] == nil || got["sub"] == nil {
			t.Errorf("%s: got %v", name, got)
		}
		for _, member := range []string{"exp", "iat", "iss", "sub"} {
			delete(got, member)
		}
		if test.want["oid"] == nil {
			delete(got, "oid")
		}
		if test.want["scope"] == nil {
			delete(got, "scope")
		}
		test.want["active"], test.want["token_type"], test.want["tid"] = true, "Bearer", entratest.DemoTenantID
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if audited := d.audited(); strings.Count(audited, `"event":"token.inspected"`) != 3 || strings.Contains(audited, own) {
		t.Errorf("audited: %s", audited)
	}
}

// another is a letter of base64 that is not this one.
func another(letter byte) string {
	if letter == 'A' {
		return "B"
	}
	return "A"
}

// What is not the agent's business is not active, and that is all that it hears.
func TestInactiveTokens(t *testing.T) {
	d := open(t, twoAgents)
	own := tokenOf(t, d.send(t, http.MethodPost, "/oauth2/token", good))
	others := tokenOf(t, d.other(t, "/oauth2/token", good+"&claims="+fresh()))
	othersUser := tokenOf(t, d.other(t, "/oauth2/token", exchanged(d.user(t))))
	d.audited()
	for name, token := range map[string]string{
		"of another agent":           others,
		"of another, for a user":     othersUser,
		"garbage":                    "x",
		"a JWT of nobody":            "eyJhbGciOiJub25lIn0.eyJhY3RpdmUiOnRydWV9.",
		"own, with a byte changed":   own[:len(own)-9] + another(own[len(own)-9]) + own[len(own)-8:],
		"own, in other letters":      own[:len(own)-1] + string(own[len(own)-1]+1), // which say the same: the last two bits mean nothing
		"own, with a byte more":      own + "A",
		"own, without its signature": own[:strings.LastIndexByte(own, '.')+1],
		"a user's for another API":   d.user(t, func(r *entratest.UserTokenRequest) { r.Audience = "https://graph.microsoft.com" }),
		"a user's that has expired":  d.user(t, func(r *entratest.UserTokenRequest) { r.Lifetime = -time.Hour }),
	} {
		if diff := cmp.Diff(map[string]any{"active": false}, d.introspect(t, token)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if audited := d.audited(); strings.Count(audited, `"decision":"deny"`) != 10 || strings.Contains(audited, `"decision":"allow"`) {
		t.Errorf("audited: %s", audited)
	}
	if got := d.introspect(t, own); got["active"] != true {
		t.Errorf("the agent's own: got %v", got)
	}
	var answer map[string]any
	check(t, json.Unmarshal([]byte(d.other(t, introspection, form("token", others)).body), &answer))
	if answer["active"] != true {
		t.Errorf("the other's own, to the other: got %v", answer)
	}
}

// An agent that is not for users asks about its own tokens alone; one that is
// nobody, about none.
func TestIntrospectionCallers(t *testing.T) {
	d := open(t, thisUser)
	own := tokenOf(t, d.send(t, http.MethodPost, "/oauth2/token", good))
	if got := d.introspect(t, own); got["active"] != true {
		t.Errorf("got %v", got)
	}
	if diff := cmp.Diff(map[string]any{"active": false}, d.introspect(t, d.user(t))); diff != "" {
		t.Errorf("a user's token (-want +got):\n%s", diff)
	}
	for name, test := range map[string]struct {
		door   *door
		method string
		body   string
		status int
		code   string
	}{
		"nobody":       {open(t, stranger), "POST", form("token", own), 401, "invalid_client"},
		"another name": {d, "POST", form("token", own, "client_id", "other"), 401, "invalid_client"},
		"no token":     {d, "POST", form("token_type_hint", "access_token"), 400, "invalid_request"},
		"two tokens":   {d, "POST", form("token", own, "token", own), 400, "invalid_request"},
		"GET":          {d, "GET", "", 405, "invalid_request"},
	} {
		got := test.door.send(t, test.method, introspection, test.body)
		if got.StatusCode != test.status || got.error.Code != test.code || got.error.Hint == "" || strings.Contains(got.body, `"active"`) {
			t.Errorf("%s: got %d %s, want %d %s", name, got.StatusCode, got.body, test.status, test.code)
		}
	}
	if got := d.send(t, http.MethodPost, introspection, form("token", own, "token_type_hint", "refresh_token")); !strings.Contains(got.body, `"active":true`) {
		t.Errorf("with a wrong hint: got %s", got.body)
	}
	d.full.Store(true)
	if got := d.send(t, http.MethodPost, introspection, form("token", own)); got.StatusCode != 503 || strings.Contains(got.body, "active") {
		t.Errorf("not recorded: got %d %s", got.StatusCode, got.body)
	}
}

// What was purged, or is not allowed any more, is not active any more.
func TestRevokedTokensAreInactive(t *testing.T) {
	var b *broker.Broker
	d := open(t, twoAgents, func(cfg *localapi.Config) { b = cfg.Broker })
	own := tokenOf(t, d.send(t, http.MethodPost, "/oauth2/token", good))
	others := tokenOf(t, d.other(t, "/oauth2/token", good))
	_, _, err := b.Purge(broker.Selection{Agent: "other"})
	check(t, err)
	if diff := cmp.Diff("{\"active\":false}\n", d.other(t, introspection, form("token", others)).body); diff != "" {
		t.Errorf("purged (-want +got):\n%s", diff)
	}
	if got := d.introspect(t, own); got["active"] != true {
		t.Errorf("not purged: got %v", got)
	}
	for name, test := range map[string]struct {
		agents string
		status int
		says   string
	}{
		"expired":       {strings.Replace(twoAgents(""), "identity: demo", "identity: demo\n    expires: 2020-01-01", 1), 400, "unauthorized_client"},
		"other scope":   {strings.Replace(twoAgents(""), graph, "https://vault.azure.net/.default", 1), 200, `{"active":false}`},
		"allowed again": {twoAgents(""), 200, `{"active":false}`}, // revoked once
	} {
		d := open(t, twoAgents, func(cfg *localapi.Config) { b = cfg.Broker })
		own := tokenOf(t, d.send(t, http.MethodPost, "/oauth2/token", good))
		rules := b.Rules()
		if rules.Policy = d.policy(t, test.agents); name == "allowed again" {
			between := rules
			between.Policy = d.policy(t, strings.Replace(twoAgents(""), graph, "https://vault.azure.net/.default", 1))
			check(t, b.Use(between))
		}
		check(t, b.Use(rules))
		if got := d.send(t, http.MethodPost, introspection, form("token", own)); got.StatusCode != test.status || !strings.Contains(got.body, test.says) {
			t.Errorf("%s: got %d %s, want %d %s", name, got.StatusCode, got.body, test.status, test.says)
		}
	}
}
