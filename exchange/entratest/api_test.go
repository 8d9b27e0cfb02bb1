package entratest_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/exchange/entratest"
)

// callAPI asks the API in process.
func (w *world) callAPI(t testing.TB, method, target, token, body string) answer {
	t.Helper()
	r := httptest.NewRequest(method, "https://api.example"+target, strings.NewReader(body))
	r.Header.Set("X-Request-Id", "r1")
	r.Header.Set("Cookie", "session=secret")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	rec := httptest.NewRecorder()
	w.server.API().ServeHTTP(rec, r)
	a := answer{status: rec.Code, header: rec.Header(), raw: rec.Body.Bytes()}
	_ = json.Unmarshal(a.raw, &a.body) // streams are no JSON
	return a
}

func (w *world) appToken(t testing.TB, scope string) string {
	t.Helper()
	return w.post(t, tenantID, with(w.appForm(t), "scope", scope)).text("access_token")
}

func TestAPIValidatesTokens(t *testing.T) {
	w := newAgentWorld(t)
	user := func(req entratest.UserTokenRequest) string {
		if req.Audience == "" {
			req.Audience = "api://ledger"
		}
		return w.userToken(t, req)
	}
	good := user(entratest.UserTokenRequest{})
	stranger := newWorld(t)
	for name, c := range map[string]struct {
		token, target string
		status        int
		want          string
	}{
		"good":              {good, "/echo/a/b?c=d", 200, ""},
		"v1":                {user(entratest.UserTokenRequest{Version: 1}), "/echo/", 200, ""},
		"none":              {"", "/echo/", 401, ""},
		"none for me":       {"", "/v1.0/me", 401, ""},
		"garbled":           {"hunter2", "/echo/", 401, "malformed"},
		"bad signature":     {badSignature(good), "/echo/", 401, "signature"},
		"another server":    {stranger.userToken(t, entratest.UserTokenRequest{Audience: "api://ledger"}), "/echo/", 401, "signature"},
		"a workload":        {w.workloadToken(t), "/echo/", 401, "signature"},
		"another issuer":    {user(entratest.UserTokenRequest{Claims: map[string]any{"iss": "https://evil.example"}}), "/echo/", 401, "issuer"},
		"another tenant":    {user(entratest.UserTokenRequest{Claims: map[string]any{"tid": otherTenant}}), "/echo/", 401, "issuer"},
		"another audience":  {user(entratest.UserTokenRequest{Claims: map[string]any{"aud": userID}}), "/echo/", 401, "audience"},
		"two audiences":     {user(entratest.UserTokenRequest{Claims: map[string]any{"aud": []string{ledgerID, ledgerID}}}), "/echo/", 401, "audience"},
		"an API's for me":   {good, "/v1.0/me", 401, "audience"},
		"T1":                {w.t1(t, tenantID, childID), "/echo/", 401, "audience"},
		"expired":           {user(entratest.UserTokenRequest{Lifetime: -6 * time.Minute}), "/echo/", 401, "expired"},
		"not valid yet":     {user(entratest.UserTokenRequest{Claims: map[string]any{"nbf": time.Now().Add(6 * time.Minute).Unix()}}), "/echo/", 401, "not valid yet"},
		"an id token":       {user(entratest.UserTokenRequest{IDToken: true, Client: ledgerID}), "/echo/", 401, "ID token"},
		"stream, no token":  {"", "/sse", 401, ""},
		"socket, no token":  {"", "/ws", 401, ""},
		"socket, no header": {good, "/ws", 426, ""},
	} {
		a := w.callAPI(t, "GET", c.target, c.token, "")
		challenge := a.header.Get("WWW-Authenticate")
		if a.status != c.status || (a.status == 401) != strings.HasPrefix(challenge, `Bearer realm="", authorization_uri="`+baseURL+"/") {
			t.Errorf("%s: got %d %q, want %d", name, a.status, challenge, c.status)
		}
		if c.want != "" && (!strings.Contains(challenge, `error="invalid_token"`) || !strings.Contains(challenge, c.want)) ||
			c.want == "" && strings.Contains(challenge, "error=") {
			t.Errorf("%s: got challenge %q, want one about %q", name, challenge, c.want)
		}
	}
}

func TestAPIEcho(t *testing.T) {
	w := newWorld(t)
	token := w.appToken(t, ledgerDefault)
	a := w.callAPI(t, "PATCH", "/echo/x/"+token+"?token="+token, token, "body")
	claims, _ := a.body["claims"].(map[string]any)
	if a.status != 200 || a.text("method") != "PATCH" || claims["azp"] != agentID || claims["aud"] != ledgerID {
		t.Errorf("got %d %s, want the request and the claims", a.status, a.raw)
	}
	if diff := cmp.Diff(map[string]any{"X-Request-Id": "r1"}, a.body["headers"]); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if strings.Contains(string(a.raw), "eyJ") || strings.Contains(string(a.raw), "session") {
		t.Errorf("got %s, want no token and no cookie", a.raw)
	}
}

func TestAPIClaimsChallenge(t *testing.T) {
	w := newWorld(t)
	since := time.Now().Unix()
	request := `{"access_token":{"nbf":{"essential":true,"value":"` + asJSON(t, since) + `"},"other":{"value":"x"}}}`
	if err := w.server.SetClaimsChallenge(request); err != nil {
		t.Fatal(err)
	}
	form := with(w.appForm(t), "scope", ledgerDefault)
	a := w.callAPI(t, "GET", "/echo/", w.post(t, tenantID, form).text("access_token"), "")
	_, encoded, _ := strings.Cut(a.header.Get("WWW-Authenticate"), `error="insufficient_claims", claims="`)
	claims, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(encoded, `"`))
	if a.status != 401 || err != nil || string(claims) != request {
		t.Fatalf("got %d %q, want 401 and the claims", a.status, a.header.Get("WWW-Authenticate"))
	}
	if a := w.callAPI(t, "GET", "/echo/", w.post(t, tenantID, with(form, "claims", string(claims))).text("access_token"), ""); a.status != 200 {
		t.Errorf("got status %d with the claims, want 200", a.status)
	}

	request = `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`
	if err := w.server.SetClaimsChallenge(request); err != nil {
		t.Fatal(err)
	}
	obo := with(w.userForm(t), "assertion", w.userToken(t, entratest.UserTokenRequest{MFA: true}))
	for claims, status := range map[string]int{"": 401, strings.Replace(request, "c1", "c2", 1): 401, request: 200} {
		token := w.post(t, tenantID, with(obo, "claims", claims)).text("access_token")
		if a := w.callAPI(t, "GET", "/v1.0/me", token, ""); a.status != status {
			t.Errorf("claims %q: got status %d, want %d", claims, a.status, status)
		}
	}
	if err := w.server.SetClaimsChallenge(""); err != nil {
		t.Fatal(err)
	}
	if a := w.callAPI(t, "GET", "/echo/", w.appToken(t, ledgerDefault), ""); a.status != 200 {
		t.Errorf("got status %d without a challenge, want 200", a.status)
	}
	for _, bad := range []string{"{}", "x", `{"id_token":{}}`} {
		if err := w.server.SetClaimsChallenge(bad); err == nil {
			t.Errorf("%s: got no error, want one", bad)
		}
	}
}

func TestAPIGraph(t *testing.T) {
	d := directory()
	const direct, outer, outermost = "dddddddd-0000-4000-8000-00000000000a", "dddddddd-0000-4000-8000-00000000000b", "dddddddd-0000-4000-8000-00000000000c"
	home := &d.Tenants[0]
	home.Users[0].Groups = []string{direct}
	home.Groups = []entratest.Group{
		{ObjectID: direct, DisplayName: "direct", MemberOf: []string{outer}},
		{ObjectID: outer, DisplayName: "outer", MemberOf: []string{direct, outermost}},
	}
	home.Applications[0].AppRoles[graph] = []string{"GroupMember.Read.All"}
	home.Applications[0].Delegated[graph] = []string{"User.Read", "User.Read.All", "Mail.Read"}
	w := newWorldOf(t, d)
	app := w.appToken(t, graphDefault)
	me := w.post(t, tenantID, w.userForm(t)).text("access_token")
	reader := w.post(t, tenantID, with(w.userForm(t), "scope", "User.Read.All")).text("access_token")
	mail := w.post(t, tenantID, with(w.userForm(t), "scope", "Mail.Read")).text("access_token")

	ada := "/v1.0/users/" + userID
	for _, c := range []struct {
		method, target, token, body string
		status                      int
		want                        string // in the answer
	}{
		{"GET", "/v1.0/me", me, "", 200, userID},
		{"GET", "/v1.0/me", app, "", 400, "delegated"},
		{"GET", "/v1.0/me", mail, "", 403, "Authorization_RequestDenied"},
		{"GET", "/v1.0/users/ada@contoso.example", reader, "", 200, userID},
		{"GET", "/v1.0/users/" + guestUser, me, "", 403, "Authorization_RequestDenied"},
		{"GET", "/v1.0/users/nobody", reader, "", 404, "Request_ResourceNotFound"},
		{"GET", "/v1.0/me/memberOf", me, "", 200, `"displayName":null`},
		{"GET", ada + "/memberOf", app, "", 200, `"displayName":"direct"`},
		{"GET", ada + "/memberOf", mail, "", 403, "Authorization_RequestDenied"},
		{"GET", ada + "/memberOf?$top=0", app, "", 400, "Request_BadRequest"},
		{"GET", ada + "/memberOf?$skiptoken=x", app, "", 400, "Request_BadRequest"},
		{"POST", ada + "/getMemberObjects", app, `{"securityEnabledOnly":false}`, 200, `["` + direct + `","` + outer + `","` + outermost + `"]`},
		{"POST", ada + "/getMemberObjects", app, `{}`, 400, "securityEnabledOnly"},
		{"POST", "/v1.0/users/" + disabledUser + "/getMemberObjects", app, `{"securityEnabledOnly":true}`, 200, `"value":[]`},
	} {
		a := w.callAPI(t, c.method, c.target, c.token, c.body)
		if a.status != c.status || !strings.Contains(string(a.raw), c.want) {
			t.Errorf("%s %s: got %d %s, want %d with %q", c.method, c.target, a.status, a.raw, c.status, c.want)
		}
	}
	// The groups claim has what transitiveMemberOf lists, page by page.
	_, claims := unverified(t, me)
	if got := asJSON(t, claims["groups"]); got != asJSON(t, []string{direct, outer, outermost}) {
		t.Errorf("got groups %s, want also those of groups", got)
	}
	if got := w.groupPages(t, ada+"/memberOf?$top=1", app); asJSON(t, got) != asJSON(t, [][]string{{direct}}) {
		t.Errorf("got pages %v of memberOf, want the direct group", got)
	}
	if got := w.groupPages(t, ada+"/transitiveMemberOf?$top=2", app); asJSON(t, got) != asJSON(t, [][]string{{direct, outer}, {outermost}}) {
		t.Errorf("got pages %v of transitiveMemberOf, want all in two pages", got)
	}
	if got := w.groupPages(t, "/v1.0/users/"+guestUser+"/memberOf", app); len(got) != 3 || len(got[0]) != 100 || len(got[2]) != 1 {
		t.Errorf("got %d pages of 201 groups, want 3", len(got))
	}
}

// groupPages follows the links of a list.
func (w *world) groupPages(t *testing.T, target, token string) [][]string {
	t.Helper()
	var pages [][]string
	for range 10 {
		a := w.callAPI(t, "GET", target, token, "")
		var doc struct {
			Next  string `json:"@odata.nextLink"`
			Value []struct {
				ID string `json:"id"`
			} `json:"value"`
		}
		if err := json.Unmarshal(a.raw, &doc); err != nil || a.status != 200 {
			t.Fatalf("got %d %s, %v, want a page", a.status, a.raw, err)
		}
		var ids []string
		for _, v := range doc.Value {
			ids = append(ids, v.ID)
		}
		pages = append(pages, ids)
		if doc.Next == "" {
			return pages
		}
		next, err := url.Parse(doc.Next)
		if err != nil || next.Host != "api.example" {
			t.Fatalf("got next link %q, %v, want one of the same host", doc.Next, err)
		}
		target = next.RequestURI()
	}
	t.Fatal("got more than 10 pages")
	return nil
}

// TestHostServesTheAPI needs sockets: for streams and WebSockets.
func TestHostServesTheAPI(t *testing.T) {
	h := listen(t, entratest.HostConfig{})
	client := h.Client()
	defer client.CloseIdleConnections()
	token, err := h.Server.UserToken(entratest.UserTokenRequest{User: entratest.DemoUserID, Audience: entratest.DemoClientID})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.APIURL+"/sse?events=3&interval=20ms", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Header.Get("Content-Type") != "text/event-stream" || strings.Count(string(body), "data: ") != 3 {
		t.Errorf("got %s %q, %v, want three events", resp.Header.Get("Content-Type"), body, err)
	}

	conn, answered := dialWebSocket(t, h, token)
	// "hi" with the mask 1, 2, 3, 4.
	if _, err := conn.Write([]byte{0x81, 0x82, 1, 2, 3, 4, 'h' ^ 1, 'i' ^ 2}); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 4)
	if _, err := io.ReadFull(answered, frame); err != nil || string(frame) != "\x81\x02hi" {
		t.Errorf("got frame %q, %v, want hi", frame, err)
	}
	// A frame without a mask is a protocol error.
	if _, err := conn.Write([]byte{0x81, 0x01, 'x'}); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(answered); err != nil || string(rest) != "\x88\x02\x03\xea" {
		t.Errorf("got %q, %v, want a close frame with 1002", rest, err)
	}
	// Close ends connections that were given away.
	_, waiting := dialWebSocket(t, h, token)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(waiting); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("got a connection that outlives its host, want it closed")
	}
}

func dialWebSocket(t *testing.T, h *entratest.Host, token string) (*tls.Conn, *bufio.Reader) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(h.CA)
	dialer := &tls.Dialer{Config: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}}
	raw, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(h.APIURL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	conn, ok := raw.(*tls.Conn)
	if !ok {
		t.Fatalf("got a %T, want a TLS connection", raw)
	}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// The key and its answer are those of RFC 6455 section 1.3.
	_, err = io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer "+token+"\r\nConnection: keep-alive, Upgrade\r\n"+
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("got %v, %v, want the protocol switched", resp, err)
	}
	return conn, r
}

// Users come in pages, to who may read them all.
func TestAPIGraphUsers(t *testing.T) {
	w := newWorld(t)
	app, me := w.appToken(t, graphDefault), w.post(t, tenantID, w.userForm(t)).text("access_token")
	if a := w.callAPI(t, "GET", "/v1.0/users", me, ""); a.status != 403 {
		t.Errorf("with User.Read alone: got %d, want 403", a.status)
	}
	var names []string
	next := "/v1.0/users?$top=2"
	for next != "" {
		a := w.callAPI(t, "GET", next, app, "")
		values, _ := a.body["value"].([]any)
		for _, value := range values {
			name, _ := value.(map[string]any)["displayName"].(string)
			names = append(names, name)
		}
		next = strings.TrimPrefix(a.text("@odata.nextLink"), "https://api.example")
	}
	if diff := cmp.Diff([]string{"Ada", "", ""}, names); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
}
