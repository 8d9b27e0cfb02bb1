package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/policy"
)

// calls has an API with every kind of path, one that is open, and one for users.
const calls = `version: 1
tenant: 8a0c5b0e-0000-4000-8000-0123456789ab
sources: {pod: {file: {path: /t}}}
identities: {app: {application: {clientID: 11111111-2222-3333-4444-55555555aaaa, source: pod}}}
apis:
  mail: {baseURL: https://graph.microsoft.com/v1.0, scopes: [graph/Mail.Read, graph], methods: [GET, POST], paths: [/, /me, /me/messages/*]}
  search: {baseURL: https://contoso.search.windows.net, scopes: [ai-search]}
  users: {baseURL: https://graph.microsoft.com/v1.0, scopes: [graph/User.Read], paths: [/*]}
agents:
  a:
    identity: app
    callers: [{tcp: {uids: [1]}}]
    allow: {apis: [mail, search]}
    rawToken: false
    onBehalfOf: {allow: {apis: [users]}}
  b: {identity: app, callers: [{tcp: {uids: [2]}}], allow: {scopes: [graph]}}
`

// TestCalls is the table of who may call what, where and how.
func TestCalls(t *testing.T) {
	p := parse(t, calls)
	decide := func(agent uint32, api, method, path string) policy.Decision {
		return p.Decide(policy.Request{Peer: tcp(agent), API: api, Method: method, Path: path, Now: may2027})
	}
	allow := func(api, method, path, scope, rule string) {
		t.Helper()
		if d := decide(1, api, method, path); !d.Allowed || d.Scope != scope || d.Rule != rule || d.RawToken {
			t.Errorf("%s %s of %s: got %+v, want %s by %s", method, path, api, d, scope, rule)
		}
	}
	deny := func(agent uint32, api, method, path string, reason policy.Reason, hint string) {
		t.Helper()
		if d := decide(agent, api, method, path); d.Allowed || d.Reason != reason || !strings.Contains(d.Hint, hint) {
			t.Errorf("%s %s of %s: got %+v, want %s and %q", method, path, api, d, reason, hint)
		}
	}
	const mail, searching = "agents.a.allow.apis[0]", "agents.a.allow.apis[1]"
	both := graph + " " + mailRead

	// A path is what is listed, to the letter, or below what ends in /*.
	allow("mail", "GET", "/", both, mail)
	allow("mail", "GET", "/me", both, mail)
	allow("mail", "POST", "/me/messages/x", both, mail)
	allow("mail", "GET", "/me/messages/x/y/", both, mail)
	allow("mail", "GET", "/me/messages/", both, mail)
	for _, path := range []string{"", "/me/", "/Me", "/me2", "/me/x", "/me/messages", "/me/messagesX/y", "/users", "me", "/me%2Fmessages/x", "/x/me"} {
		deny(1, "mail", "GET", path, policy.APIPathNotAllowed, "apis.mail.paths, such as /,")
	}
	for _, method := range []string{"DELETE", "get", "HEAD"} {
		deny(1, "mail", method, "/me", policy.APIMethodNotAllowed, "use GET or POST, or add ")
	}
	deny(1, "mail", "DELETE", "/me", policy.APIMethodNotAllowed, "add DELETE to apis.mail.methods")
	deny(1, "mail", "eyJhbGciOi", "/me", policy.APIMethodNotAllowed, "add the method to apis.mail.methods")

	// Without rules, anything goes: any method, any path.
	allow("search", "PURGE", "/any/thing", search, searching)
	allow("search", "GET", "", search, searching)

	// The right is the agent's own, or on behalf of users, and never the other.
	deny(1, "users", "GET", "/me", policy.APINotAllowed, "add users to agents.a.allow.apis if the agent may call it; known are mail, search")
	deny(2, "mail", "GET", "/me", policy.APINotAllowed, "add mail to agents.b.allow.apis")
	deny(1, "mai", "GET", "/me", policy.APIUnknown, "agents.a.allow.apis; did you mean mail?")
	deny(3, "mai", "GET", "/me", policy.UnknownAgent, "uid 3")

	// A door that hands out the API's token makes no call.
	if d := p.Decide(policy.Request{Peer: tcp(1), API: "mail", Raw: true, Now: may2027}); d.Reason != policy.RawTokenForbidden {
		t.Errorf("got %+v, want raw_token_forbidden", d)
	}
	// Scopes of the request's own have to be listed like those of any other.
	d := p.Decide(policy.Request{Peer: tcp(1), API: "mail", Scope: search, Method: "GET", Path: "/me", Now: may2027})
	if !d.Allowed || d.Scope != search || d.Rule != searching {
		t.Errorf("got %+v, want the scope that was asked for", d)
	}
	if d := p.Decide(policy.Request{Peer: tcp(1), API: "mail", Scope: orders, Method: "GET", Path: "/me", Now: may2027}); d.Reason != policy.ScopeNotAllowed {
		t.Errorf("got %+v, want scope_not_allowed", d)
	}
}

// TestAPIHasFewScopes: an API whose scopes no request can have is an error of
// the file.
func TestAPIHasFewScopes(t *testing.T) {
	var scopes []string
	for i := range 17 {
		scopes = append(scopes, fmt.Sprintf("graph/Scope%d.Read", i))
	}
	file := func(n int) []byte {
		return []byte(strings.Replace(calls, "scopes: [ai-search]", "scopes: ["+strings.Join(scopes[:n], ", ")+"]", 1))
	}
	if problems, _ := problemsOf(t, file(16)); len(problems) != 0 {
		t.Errorf("got %v, want 16 scopes accepted", problems)
	}
	if problems, _ := problemsOf(t, file(17)); len(problems) != 1 || problems[0].Path != "apis.search.scopes" {
		t.Errorf("got %v, want one problem about apis.search.scopes", problems)
	}
}

func ExamplePolicy_Explain_call() {
	p, err := policy.Parse("credfree.yaml", []byte(calls))
	if err != nil {
		fmt.Println(err)
		return
	}
	e := p.Explain(policy.Request{Peer: tcp(1), API: "mail", Method: "GET", Path: "/users", Now: may2027})
	for _, step := range e.Steps {
		fmt.Printf("%d %-8s %-5v %s (%s)\n", step.Number, step.Name, step.OK, step.Detail, step.Rule)
	}
	fmt.Println(e.Decision.Hint)
	// Output:
	// 1 caller   true  tcp, uid 1, no key, is agent a (agents.a.callers[0])
	// 2 agent    true  a has no expiry (agents.a)
	// 3 identity true  acts as app (agents.a.identity)
	// 4 scope    true  listed: https://graph.microsoft.com/.default https://graph.microsoft.com/Mail.Read (agents.a.allow.apis[0])
	// 6 call     false this path of the API may not be called (apis.mail.paths)
	// call a path of apis.mail.paths, such as /, or add this one there; paths are compared exactly, and below those that end in /*
}
