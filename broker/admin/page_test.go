package admin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/admin"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/recent"
)

// operators is a listener with a memory, over a real loopback socket: the peer
// is this test's own user.
type operators struct {
	memory *recent.Memory
	server *httptest.Server
	purged []admin.Selection
	close  func()
}

func overview() admin.Overview {
	return admin.Overview{
		Version: "v1", Policy: admin.PolicyView{Revision: "abc123", Since: time.Now(), Warnings: []admin.Warning{{Line: 3, Path: "agents.a", Text: "a warning", Hint: "a hint"}},
			Error: "credfree.yaml:1:1: broken", Changed: time.Now()},
		Agents: []admin.AgentView{{Name: "researcher", Owner: "team@contoso.com", Expires: "2027-01-01", DaysLeft: 12, Identities: []string{"one"}, Callers: []string{"tcp, uid 10001"},
			Rights: []admin.RightView{{Scope: "https://graph.microsoft.com/.default", Granted: true, Rule: "agents.researcher.allow.scopes[0]"}, {Scope: "https://vault.azure.net/.default", Count: 3}}}},
	}
}

// resolve is of a broker that knows one agent and one shorthand.
func resolve(s admin.Selection) (admin.Selection, error) {
	switch {
	case s.Agent != "" && s.Agent != "researcher":
		return admin.Selection{}, &admin.SelectionError{Text: "there is no such agent", Hint: "did you mean researcher?", Unknown: true}
	case s.User == "alice":
		return admin.Selection{}, &admin.SelectionError{Text: "that is not the id of a user", Hint: "write TENANT/OBJECT-ID"}
	case s.Scope == "graph":
		s.Scope = "https://graph.microsoft.com/.default"
	}
	return s, nil
}

func newOperators(t *testing.T, change ...func(*admin.Config)) *operators {
	t.Helper()
	o := &operators{memory: recent.New(time.Now())}
	cfg := admin.Config{
		Parts: func() []admin.Part { return []admin.Part{part("policy", admin.PartState{OK: true}, false)} }, Metrics: http.NotFoundHandler(),
		Purge: func(s admin.Selection) (admin.Purged, error) {
			s, err := resolve(s)
			if err == nil {
				o.purged = append(o.purged, s)
			}
			return admin.Purged{Tokens: 7, Sessions: 1}, err
		},
		Resolve: resolve, Memory: o.memory, Overview: overview,
	}
	for _, c := range change {
		c(&cfg)
	}
	h, err := admin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := peer.ListenLoopback("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.server = httptest.NewUnstartedServer(h)
	o.server.Config.ConnContext = peer.ConnContext
	if err := o.server.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	o.server.Listener = l
	o.server.Start()
	o.close = h.Close
	t.Cleanup(func() { h.Close(); o.server.Close() })
	return o
}

func issuance(n int) recent.Issuance {
	return recent.Issuance{
		Start: time.Now(), Took: 3 * time.Millisecond, ID: fmt.Sprintf("%032x", n), TraceID: recent.TraceID{byte(n), 1}, SpanID: recent.SpanID{byte(n), 2},
		Agent: "researcher", Door: "oauth", Scopes: []string{"https://graph.microsoft.com/.default"}, Decision: recent.Allow, Cache: "miss", Rule: "agents.researcher.allow.scopes[0]", Revision: "abc123",
		OnBehalfOf: true, UserTenant: "8a0c5b0e-0000-4000-8000-000000000001", UserObjectID: "0be5e000-0000-4000-8000-000000000002",
		CorrelationID: "11111111-2222-4333-8444-555555555555", Steps: []recent.Step{{Number: 1, Name: "caller", OK: true, Detail: "tcp, uid 10001, no key, is agent researcher", Rule: "agents.researcher.callers[0]"}},
	}
}

// ask sends a request as a browser or a program, and returns status and body.
func (o *operators) ask(t *testing.T, method, path, body string, headers ...string) (int, string) {
	t.Helper()
	status, text, _ := o.exchange(t, method, path, body, headers...)
	return status, text
}

func (o *operators) exchange(t *testing.T, method, path, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, o.server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var text strings.Builder
	if _, err := fmt.Fprint(&text, readAll(t, resp)); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, text.String(), resp.Header
}

func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	var b strings.Builder
	buffer := make([]byte, 4096)
	for {
		n, err := resp.Body.Read(buffer)
		b.Write(buffer[:n])
		if err != nil {
			return b.String()
		}
	}
}

var browser = []string{"Accept", "text/html,application/xhtml+xml"}

// Every page is shown, whatever there is to show, under a policy that lets it
// load nothing foreign, and with nothing that the policy would keep from working.
func TestPages(t *testing.T) {
	o := newOperators(t)
	inline := regexp.MustCompile(`(?i)\sstyle=|<style|<script(>| [^>]*>[^<])|\son[a-z]+=|javascript:|https?://[^"<]*\.(js|css|png|woff)`)
	look := func(path string, want ...string) {
		t.Helper()
		status, text, header := o.exchange(t, http.MethodGet, path, "", browser...)
		if status != http.StatusOK {
			t.Fatalf("%s: got %d %s", path, status, text)
		}
		if policy := header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: got policy %q", path, policy)
		}
		if found := inline.FindString(text); found != "" {
			t.Errorf("%s has %q, which its policy forbids", path, found)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s lacks %q", path, w)
			}
		}
	}
	look("/", "Nobody has asked yet", "the list holds 1000")
	look("/agents", "researcher", "in 12 days", "1 of 1", "since the broker started")
	look("/health", "no requests in the last hour", "Nothing is held back")
	look("/policy", "a warning", "credfree.yaml:1:1: broken", "abc123")
	i, denied := issuance(1), issuance(2)
	i.SaidAgentName, i.SaidConversation = "a <i>name</i>", "talk-7"
	denied.Decision, denied.Cache, denied.Reason, denied.Hint = recent.Deny, "", "scope_not_allowed", "add it <b>there</b>"
	o.memory.Add(&i)
	o.memory.Add(&denied)
	o.memory.AddRefresh(i.Start, time.Millisecond, "entra_throttled", true)
	o.memory.AddSpan(recent.Span{TraceID: i.TraceID, SpanID: recent.SpanID{9}, Parent: i.SpanID, Name: "entra.token", Start: i.Start, Took: time.Millisecond,
		Attributes: []recent.Attribute{{Key: "credfree.entra.leg", Value: "resource"}}})
	look("/", "0be5e000", "scope not allowed", "2 remembered of 2", `aria-label="Filter issuances"`)
	look("/?decision=deny", "1 matching of 2")
	look("/?agent=none&rows=", "No issuance that is remembered matches")
	look("/issuances/"+i.ID, "tcp, uid 10001, no key, is agent researcher", "agents.researcher.callers[0]", "entra.token · resource", "abc123", "which is in force", `role="img"`, "a &lt;i&gt;name&lt;/i&gt;", `href="/?id=talk-7"`)
	look("/issuances/"+denied.ID, "add it &lt;b&gt;there&lt;/b&gt;", "scope not allowed")
	look("/health", "1 allowed, 1 denied, 0 failed", "<rect", "in the background: 1", "tokens not refreshed: 1", "1, 1 failed")
	look("/purge/confirm?agent=researcher", "these tokens?", `method="post" action="/purge/confirm"`)
	if status, text := o.ask(t, http.MethodGet, "/issuances/ff", "", browser...); status != http.StatusNotFound || !strings.Contains(text, "audit log") {
		t.Errorf("an unknown issuance: got %d %s", status, text)
	}
	if status, text := o.ask(t, http.MethodGet, "/?decision=maybe", "", browser...); status != http.StatusBadRequest || !strings.Contains(text, "decision is allow, deny or error") {
		t.Errorf("a wrong filter: got %d", status)
	}
	i.Asked = true
	held := issuance(3)
	held.Decision, held.Reason = recent.Fail, "entra_throttled"
	for _, i := range []*recent.Issuance{&i, &held} {
		i.ID = strings.Repeat(i.ID[31:], 32)
		o.memory.Add(i)
	}
	look("/issuances/"+i.ID, "answered within 3.00 ms by an exchange of its own.")
	look("/issuances/"+held.ID, "answered within 3.00 ms; Entra was not asked for the token.")
	i.Number, i.Revision = 0, "older"
	i.ID = strings.Repeat("e", 32)
	o.memory.Add(&i)
	look("/issuances/"+i.ID, "revision <code>abc123</code> is in force now")
}

func TestJSON(t *testing.T) {
	o := newOperators(t)
	for n := 1; n <= 3; n++ {
		i := issuance(n)
		o.memory.Add(&i)
	}
	var list admin.Issuances
	_, text := o.ask(t, http.MethodGet, "/issuances?limit=2&user=0be5e000-0000-4000-8000-000000000002", "")
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list.Issuances) != 2 || list.Matching != 3 || list.Issuances[0].Number != 3 {
		t.Errorf("got %s, %v", text, err)
	}
	var detail admin.Detail
	_, text = o.ask(t, http.MethodGet, "/issuances/"+fmt.Sprintf("%032x", 2), "")
	if err := json.Unmarshal([]byte(text), &detail); err != nil || detail.Issuance.Number != 2 || detail.Issuance.Took != 3*time.Millisecond || len(detail.Steps) != 1 || len(detail.Spans) != 1 || detail.InForce != "abc123" {
		t.Errorf("got %s, %v", text, err)
	}
	var state admin.Overview
	_, text = o.ask(t, http.MethodGet, "/state", "")
	if err := json.Unmarshal([]byte(text), &state); err != nil || state.Held.Issuances != 3 || len(state.Minutes) != recent.Hour || len(state.Agents) != 1 || !state.Ready.Ready {
		t.Errorf("got %s, %v", text, err)
	}
	for _, wrong := range []string{"/issuances?limit=0", "/issuances?limit=1001", "/issuances?nonsense=1", "/issuances?agent=a&agent=b", "/issuances/events?decision=x", "/issuances?after=-1"} {
		if status, text := o.ask(t, http.MethodGet, wrong, ""); status != http.StatusBadRequest || !strings.Contains(text, `"error"`) {
			t.Errorf("%s: got %d %s", wrong, status, text)
		}
	}
}

// An inspection is shown as one, and not as a token that was handed out.
func TestInspectionsAreShownAsSuch(t *testing.T) {
	o := newOperators(t)
	ofUser, own, refused, issued := issuance(1), issuance(2), issuance(3), issuance(4)
	for _, i := range []*recent.Issuance{&ofUser, &own, &refused} {
		i.Inspection, i.Cache, i.ExpiresAt = true, "", time.Now().Add(time.Hour)
	}
	ofUser.Scopes, own.TokenKind = nil, "app"
	refused.Decision, refused.Reason, refused.ExpiresAt = recent.Deny, "user_token_invalid", time.Time{}
	issued.Cache, issued.TokenKind, issued.ExpiresAt = "hit", "user", time.Now().Add(time.Hour)
	for _, i := range []*recent.Issuance{&ofUser, &own, &refused, &issued} {
		o.memory.Add(i)
	}
	look := func(path string, want, not []string) {
		t.Helper()
		_, text := o.ask(t, http.MethodGet, path, "", browser...)
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s lacks %q", path, w)
			}
		}
		for _, n := range not {
			if strings.Contains(text, n) {
				t.Errorf("%s has %q", path, n)
			}
		}
	}
	const allowed, inspected, denied = "</span> allowed</span>", "</span> inspected</span>", "</span> denied</span>"
	look("/?scope=graph&decision=allow", []string{inspected, allowed}, nil)
	look("/issuances/"+ofUser.ID, []string{inspected, "<dt>Inspected token</dt><dd>a user's own, good until", "what a token says, and for none", "token.inspect"}, []string{allowed, "token.issue", "<dt>Token</dt>"})
	look("/issuances/"+own.ID, []string{inspected, "<dt>Inspected token</dt><dd>app token, good until"}, []string{allowed})
	look("/issuances/"+refused.ID, []string{denied, "what a token says, and for none"}, []string{inspected})
	look("/issuances/"+issued.ID, []string{allowed, "<dt>Token</dt><dd>user token, good until", "token.issue"}, []string{inspected, "for none"})
	look("/health", []string{"1 allowed, 1 denied, 0 failed, 2 inspected", "1 of 1 tokens from the cache (100 %)"}, nil)
}

// Who is neither the broker's own user nor root, nor presents the key, sees
// nothing; nor does a foreign page in an operator's browser.
func TestOperatorsOnly(t *testing.T) {
	closed := []string{"/", "/agents", "/health", "/policy", "/purge/confirm?all=true", "/issuances", "/issuances/abc", "/issuances/events", "/state"}
	h := handler(t) // over a connection that no listener of ours accepted: nobody
	for _, path := range closed {
		w := get(t, h, http.MethodGet, path)
		if w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "form_key") || strings.Contains(w.Body.String(), "researcher") {
			t.Errorf("%s: got %d %s", path, w.Code, w.Body)
		}
	}
	for path, body := range map[string]string{"/purge": "all=true", "/purge/confirm": "all=true", "/login": "key=0123456789012345678901234567890123456789"} {
		req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		req.Host, req.RemoteAddr = "127.0.0.1:7401", "127.0.0.1:5555"
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != http.StatusForbidden || len(w.Result().Cookies()) > 0 {
			t.Errorf("%s: got %d %v", path, w.Code, w.Header())
		}
	}
	o := newOperators(t)
	for _, path := range closed {
		for name, headers := range map[string][]string{
			"a foreign page": {"Origin", "https://evil.example"}, "a sandboxed page": {"Origin", "null"}, "another port": {"Origin", "http://127.0.0.1:1"},
			"a link on a foreign page": {"Sec-Fetch-Site", "cross-site"}, "another port of the host": {"Sec-Fetch-Site", "same-site"}, "a rebound name": {"Host", "evil.example"},
			"two origins": {"Origin", o.server.URL + ", https://evil.example"},
		} {
			resp := o.raw(t, path, headers[0], headers[1])
			if resp != http.StatusForbidden {
				t.Errorf("%s from %s: got %d, want 403", path, name, resp)
			}
		}
	}
	for _, path := range []string{"/page.css", "/page.js"} {
		if status, _ := o.ask(t, http.MethodGet, path, "", "Sec-Fetch-Site", "same-origin"); status != http.StatusOK {
			t.Errorf("%s: got %d", path, status)
		}
	}
	if status, _ := o.ask(t, http.MethodGet, "/metrics", "", "Origin", o.server.URL); status != http.StatusForbidden {
		t.Errorf("metrics for a page: got %d", status)
	}
}

// raw sends a request with one header, which may be Host, and returns the status.
func (o *operators) raw(t *testing.T, path, name, value string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, o.server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if name == "Host" {
		req.Host = value
	} else {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// The key opens the listener to programs as a header and to browsers through a
// cookie, which ends with the key, with logging out, and elsewhere.
func TestOperatorKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	const key = "an-operator-key-that-is-long-enough"
	if err := os.WriteFile(path, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	h := handlerWith(t, func(cfg *admin.Config) { cfg.Key = peer.NewKeys([]string{path}) })
	if w := get(t, h, http.MethodGet, "/issuances", "Authorization", "Bearer "+key); w.Code != http.StatusOK {
		t.Errorf("with the key: got %d", w.Code)
	}
	for _, wrong := range []string{"Bearer " + key + "x", "Bearer ", key, "Basic " + key} {
		if w := get(t, h, http.MethodGet, "/issuances", "Authorization", wrong); w.Code != http.StatusForbidden {
			t.Errorf("with %q: got %d", wrong, w.Code)
		}
	}
	logIn := func(key string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(http.MethodPost, "/login", strings.NewReader(url.Values{"key": {key}}.Encode()))
		req.Host, req.RemoteAddr = "127.0.0.1:7401", "127.0.0.1:5555"
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", "http://127.0.0.1:7401")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		return w
	}
	if w := logIn("wrong-key-wrong-key"); w.Code != http.StatusForbidden || len(w.Result().Cookies()) > 0 || !strings.Contains(w.Body.String(), "not the operator key") {
		t.Errorf("with a wrong key: got %d %s", w.Code, w.Body)
	}
	begin := func() string {
		t.Helper()
		w := logIn(key)
		cookies := w.Result().Cookies()
		if w.Code != http.StatusSeeOther || len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode || strings.Contains(cookies[0].Value, key) {
			t.Fatalf("got %d %v", w.Code, cookies)
		}
		return cookies[0].Name + "=" + cookies[0].Value
	}
	cookie := begin()
	open := func(want int, why string) {
		t.Helper()
		if w := get(t, h, http.MethodGet, "/", "Cookie", cookie); w.Code != want {
			t.Errorf("%s: got %d, want %d", why, w.Code, want)
		}
	}
	open(http.StatusOK, "after logging in")
	if w := get(t, h, http.MethodPost, "/logout", "Cookie", cookie); w.Code != http.StatusSeeOther {
		t.Errorf("logging out: got %d", w.Code)
	}
	open(http.StatusForbidden, "after logging out")
	cookie = begin()
	if err := os.WriteFile(path, []byte(key+"-and-another"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(http.StatusForbidden, "after the key was changed")
}

// A purge asks first, and only its own form purges.
func TestPurgeAsksFirst(t *testing.T) {
	o := newOperators(t)
	_, page := o.ask(t, http.MethodGet, "/purge/confirm?agent=researcher&user=", "", browser...)
	found := regexp.MustCompile(`name="form_key" value="([^"]+)"`).FindStringSubmatch(page)
	if found == nil || len(o.purged) > 0 {
		t.Fatalf("got %s, and %v purged", page, o.purged)
	}
	for name, form := range map[string]string{"no key": "agent=researcher", "a wrong key": "agent=researcher&form_key=x", "nothing chosen": "form_key=" + found[1]} {
		if status, _ := o.ask(t, http.MethodPost, "/purge/confirm", form, "Origin", o.server.URL); status < 400 || len(o.purged) > 0 {
			t.Errorf("%s: got %d, and %v purged", name, status, o.purged)
		}
	}
	status, text := o.ask(t, http.MethodPost, "/purge/confirm", "agent=researcher&identity=&user=&scope=&form_key="+found[1], "Origin", o.server.URL)
	if status != http.StatusOK || !strings.Contains(text, "7 tokens and 1 session are forgotten") || len(o.purged) != 1 || o.purged[0] != (admin.Selection{Agent: "researcher"}) {
		t.Errorf("got %d %s, and %v purged", status, text, o.purged)
	}
}

// What failed had been allowed: the page does not say that it would have been denied for
// that, nor that the rule which allowed it is why it failed.
func TestFailuresAreNoDenials(t *testing.T) {
	o := newOperators(t)
	allowed, audited := issuance(1), issuance(2)
	allowed.Decision, allowed.Reason = recent.Fail, "entra_unavailable"
	audited.Decision, audited.Reason, audited.Audited, audited.Rule = recent.Fail, "entra_rejected", true, "agents.researcher.allow.scopes"
	o.memory.Add(&allowed)
	o.memory.Add(&audited)
	for id, want := range map[string]string{
		allowed.ID: "<strong>entra unavailable</strong>; decided by <code>agents.researcher.allow.scopes[0]</code>",
		audited.ID: "<strong>entra rejected</strong>; audit mode alone had allowed it, against <code>agents.researcher.allow.scopes</code>",
	} {
		if _, text := o.ask(t, http.MethodGet, "/issuances/"+id, "", "Accept", "text/html"); !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if _, text := o.ask(t, http.MethodGet, "/", "", "Accept", "text/html"); strings.Contains(text, "only audited") || !strings.Contains(text, "entra rejected") {
		t.Error("the list does not say why it failed")
	}
}

// A minute in which nothing but an exchange ended is one in which something happened.
func TestMinutesOfExchangesAlone(t *testing.T) {
	o := newOperators(t)
	o.memory.AddExchange(time.Now(), time.Millisecond, "timeout")
	if _, text := o.ask(t, http.MethodGet, "/health", "", "Accept", "text/html"); strings.Contains(text, "Nothing happened.") || !strings.Contains(text, "errors: 1,") {
		t.Error("the exchange is missing")
	}
}
