package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/policy"
)

const granted = head + `roles:
  reader: [graph/Mail.Read, ai-search]
  writer: [graph/Mail.Send, graph/Mail.Read]
apis:
  mail: {baseURL: https://graph.microsoft.com/v1.0, scopes: [graph/Mail.Read, graph/User.Read], methods: [GET, POST], paths: [/me, /me/messages/*, /*]}
  local: {baseURL: "http://127.0.0.1:8080", scopes: [graph]}
agents:
  a:
    identity: app
    callers: [{tcp: {uids: [1]}}]
    allow: {roles: [reader, writer], apis: [mail], scopes: [graph/User.Read, graph/Files.Read, storage]}
  b: {identity: app, callers: [{tcp: {uids: [2]}}], allow: {roles: [reader], apis: [local, mail]}}
`

// TestGrants: roles, APIs and scopes come to one list, and every decision names
// the line that granted it.
func TestGrants(t *testing.T) {
	p := parse(t, granted)
	const of = "https://graph.microsoft.com/"
	allow := func(uid uint32, scope, rule string) {
		t.Helper()
		if d := p.Decide(policy.Request{Peer: tcp(uid), Scope: scope}); !d.Allowed || d.Rule != rule {
			t.Errorf("%d, %q: got %+v, want it allowed by %s", uid, scope, d, rule)
		}
	}
	deny := func(uid uint32, scope string) {
		t.Helper()
		if d := p.Decide(policy.Request{Peer: tcp(uid), Scope: scope}); d.Reason != policy.ScopeNotAllowed {
			t.Errorf("%d, %q: got %+v, want scope_not_allowed", uid, scope, d)
		}
	}
	allow(1, of+"Files.Read", "agents.a.allow.scopes[1]")
	allow(1, of+"User.Read", "agents.a.allow.scopes[0]") // before the api that has it too
	allow(1, of+"Mail.Read", "agents.a.allow.roles[0]")  // before the second role and the api
	allow(1, of+"Mail.Send", "agents.a.allow.roles[1]")
	allow(1, search, "agents.a.allow.roles[0]")
	allow(2, of+"User.Read", "agents.b.allow.apis[1]")
	allow(2, graph, "agents.b.allow.apis[0]")
	deny(2, of+"Mail.Send")
	deny(2, of+"Files.Read")
	deny(1, graph)

	// Several: the line, the list, or the whole allow that they have in common.
	allow(1, of+"Files.Read "+of+"User.Read", "agents.a.allow.scopes")
	allow(1, of+"Mail.Read "+of+"Mail.Send", "agents.a.allow.roles")
	allow(1, of+"Mail.Read "+of+"User.Read", "agents.a.allow")
	allow(2, of+"User.Read "+of+"User.Read", "agents.b.allow.apis[1]")
	allow(2, graph+" "+of+"User.Read", "agents.b.allow.apis")

	want := []string{of + "User.Read", of + "Files.Read", "https://storage.azure.com/.default", of + "Mail.Read", search, of + "Mail.Send"}
	if diff := cmp.Diff(want, p.Agents["a"].Scopes); diff != "" {
		t.Errorf("scopes of a (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"local", "mail"}, p.Agents["b"].APIs); diff != "" {
		t.Errorf("apis of b (-want +got):\n%s", diff)
	}
}

func TestAPIs(t *testing.T) {
	want := map[string]policy.API{
		"mail": {
			Name: "mail", BaseURL: "https://graph.microsoft.com/v1.0", Scopes: []string{mailRead, userRead},
			Methods: []string{"GET", "POST"}, Paths: []string{"/me", "/me/messages/*", "/*"},
		},
		"local": {Name: "local", BaseURL: "http://127.0.0.1:8080", Scopes: []string{graph}},
	}
	p := parse(t, granted)
	if diff := cmp.Diff(want, p.APIs); diff != "" {
		t.Errorf("apis (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string][]string{"reader": {mailRead, search}, "writer": {"https://graph.microsoft.com/Mail.Send", mailRead}}, p.Roles); diff != "" {
		t.Errorf("roles (-want +got):\n%s", diff)
	}
}

// TestGrantsAreBounded: a short file cannot make a large policy by giving a
// large role to many agents.
func TestGrantsAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "roles:\n  large:\n")
	for i := range 500 {
		fmt.Fprintf(&b, "    - https://api-%d.contoso.com/.default\n", i)
	}
	b.WriteString("agents:\n")
	for i := range 200 {
		fmt.Fprintf(&b, "  a%d: {identity: app, callers: [{tcp: {uids: [%d]}}], allow: {roles: [large]}}\n", i, i)
	}
	p := parse(t, b.String())
	if d := p.Decide(policy.Request{Peer: tcp(199), Scope: "https://api-499.contoso.com/.default"}); !d.Allowed {
		t.Errorf("got %+v, want it allowed", d)
	}
	problems, _ := problemsOf(t, []byte(b.String()+"  b: {identity: app, allow: {roles: [large]}}\n"))
	if len(problems) != 1 || problems[0].Path != "agents.b.allow.roles[0]" || !strings.Contains(problems[0].Message, "more than 100000 scopes") {
		t.Errorf("got %v, want one problem about the number of scopes", problems)
	}
}
