package policy_test

import (
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/policy"
)

// TestLookAlikeScopes: the agent may have Graph's .default and one named
// scope. Whatever only looks like them is denied, for the right reason and
// with a hint that says how to write it.
func TestLookAlikeScopes(t *testing.T) {
	p := parse(t, strings.Replace(example, "https://graph.microsoft.com/Mail.Read",
		"https://graph.microsoft.com/Mail.Read, 00000003-0000-0000-c000-0000000000aa/.default, https://contoso.com/a/b/.default", 1))
	const malformed, notAllowed = policy.ScopeMalformed, policy.ScopeNotAllowed
	for _, test := range []struct {
		scope  string
		reason policy.Reason
		hint   string // part of it
	}{
		// Named scopes, .default and prefixes do not imply each other.
		{"https://graph.microsoft.com/User.Read", notAllowed, "the policy lists https://graph.microsoft.com/.default; scopes are compared exactly"},
		{"https://graph.microsoft.com/mail.read", notAllowed, "the policy lists https://graph.microsoft.com/Mail.Read;"},
		{"https://graph.microsoft.com/Mail.ReadWrite", notAllowed, `add "https://graph.microsoft.com/Mail.ReadWrite" to agents.researcher.allow.scopes`},
		{"https://graph.microsoft.com/Mail.Rea", notAllowed, "lists https://graph.microsoft.com/Mail.Read;"},
		{"https://graph.microsoft.com/.Default", malformed, "begins with a dot and is not .default: write https://graph.microsoft.com/.default"},
		{"https://graph.microsoft.com/.default/.default", malformed, "path segment that begins with a dot"},
		{"https://graph.microsoft.com.evil.example/.default", notAllowed, "add "},
		{"https://evil.example/graph.microsoft.com/.default", notAllowed, "add "},
		{"https://graph-microsoft.com/.default", notAllowed, "the policy lists https://graph.microsoft.com/.default;"},
		{"https://graph.microsoft.us/.default", notAllowed, "the policy lists https://graph.microsoft.com/.default;"},
		{"https://contoso.com/a/.default", notAllowed, "lists https://contoso.com/a/b/.default;"},
		{"https://contoso.com/a/b", notAllowed, "add "},
		{"api://graph.microsoft.com/.default", notAllowed, "add "},
		{"00000003-0000-0000-c000-0000000000ab/.default", notAllowed, "add "},

		// What a URL parser would take for the same, or for something else.
		{"HTTPS://graph.microsoft.com/.default", malformed, "upper-case letters in its scheme: write https://graph.microsoft.com/.default"},
		{"https://Graph.Microsoft.com/.default", malformed, "upper-case letters in its host: write https://graph.microsoft.com/.default"},
		{"https://graph.microsoft.com./.default", malformed, "ends with a dot: write https://graph.microsoft.com/.default"},
		{"https://graph.microsoft.com:443/.default", malformed, "has a port: write https://graph.microsoft.com/.default"},
		{"https://graph.microsoft.com:8443/.default", malformed, "has a port: write <resource>/<name>"},
		{"https://graph.microsoft.com@evil.example/.default", malformed, "user information"},
		{"https://user:pw@graph.microsoft.com/.default", malformed, "user information"},
		{"https://graph.microsoft.com///.default", malformed, "empty path segment"},
		{"https://graph.microsoft.com//Mail.Read", malformed, "empty path segment"},
		{"https://graph.microsoft.com/./.default", malformed, "path segment that begins with a dot"},
		{"https://graph.microsoft.com/x/../.default", malformed, "path segment that begins with a dot"},
		{"https://graph.microsoft.com/..", malformed, "name that begins with a dot"},
		{"https://graph.microsoft.com/*", malformed, "no wildcards"},
		{"https://graph.microsoft.com/.default/", malformed, "begins with a dot: write https://graph.microsoft.com/.default"},
		{"https://graph.microsoft.com/", malformed, "no name after its resource: write https://graph.microsoft.com/.default"},
		{"https://graph.microsoft.com", malformed, "no name after its resource: write https://graph.microsoft.com/.default"},
		{"https:///.default", malformed, "no host"},
		{"https://graph..microsoft.com/.default", malformed, "not a host name"},
		{"https://-graph.microsoft.com/.default", malformed, "not a host name"},
		{"https://graph_microsoft.com/.default", malformed, "not a host name"},
		{"https://*.microsoft.com/.default", malformed, "no wildcards"},
		{"https://" + strings.Repeat("a", 64) + ".com/.default", malformed, "not a host name"},
		{"https://" + strings.Repeat("a.", 130) + "com/.default", malformed, "too long"},
		{"https://graph.microsoft.com/.default?x", malformed, "a query"},
		{"https://graph.microsoft.com/.default#x", malformed, "a fragment"},
		{"https://graph.microsoft.com/%2edefault", malformed, "percent-encoding"},
		{`https:\\graph.microsoft.com\.default`, malformed, "a backslash"},
		{"https://graph.microsoft.com/<all>", malformed, "no scope may have"},
		{"https://graph.microsoft.com/.default\x00", malformed, "control character"},
		{"https://graph.microsoft.com/.default\x7f", malformed, "control character"},
		{"https://gr\u0430ph.microsoft.com/.default", malformed, "not ASCII"}, // Cyrillic
		{"https://graph.microsoft.com/.default\u200b", malformed, "not ASCII"},
		{"https://graph.microsoft.com/.default\xff", malformed, "not ASCII"},
		{"http://graph.microsoft.com/.default", malformed, "neither https://, nor api://, nor a lower-case GUID: write https://graph.microsoft.com/.default"},
		{"//graph.microsoft.com/.default", malformed, "neither https://"},
		{"graph.microsoft.com/.default", malformed, "neither https://"},
		{"https:graph.microsoft.com/.default", malformed, "neither https://"},
		{"urn:x/.default", malformed, "neither https://"},
		{"/.default", malformed, "neither https://"},
		{"https://contoso.com/a/", malformed, "no name after its resource"},
		{"api://../.default", malformed, "begins with a dot"},
		{"api:///.default", malformed, "empty path segment"},
		{"api://x:1/.default", malformed, "has a port"},
		{"api://u@x/.default", malformed, "user information"},
		{"API://x/.default", malformed, "upper-case letters in its scheme: write api://x/.default"},
		{"00000003-0000-0000-C000-0000000000AA/.default", malformed, "upper-case letters in its resource: write 00000003-0000-0000-c000-0000000000aa/.default"},
		{"00000003-0000-0000-c000-0000000000aa", malformed, "has no resource: write 00000003-0000-0000-c000-0000000000aa/.default"},
		{"00000003-0000-0000-c000-0000000000aa/.default/x", malformed, "neither https://"},
		{"https://graph.microsoft.com/" + strings.Repeat("a", 600), malformed, "longer than 512 bytes"},

		// Scopes of sign-in, and short names.
		{"openid", malformed, "an application token has none"},
		{"offline_access", malformed, "https://graph.microsoft.com/.default"},
		{"profile", malformed, "remove it"},
		{"email", malformed, "remove it"},
		{graph + " openid", malformed, "remove it"},
		{"User.Read", malformed, "has no resource: write https://graph.microsoft.com/User.Read"},
		{".default", malformed, "write https://graph.microsoft.com/.default"},
	} {
		d := p.Decide(policy.Request{Peer: tcp(10001), Scope: test.scope, Now: may2027})
		if d.Allowed || d.Reason != test.reason || !strings.Contains(d.Hint, test.hint) {
			t.Errorf("%q:\n got %s, hint %s\nwant %s, hint with %s", test.scope, d.Reason, d.Hint, test.reason, test.hint)
		}
	}
	// Entra's form for a resource whose identifier ends in a slash.
	if d := p.Decide(policy.Request{Peer: tcp(10001), Scope: "https://graph.microsoft.com//.default", Now: may2027}); d.Scope != graph || d.Resource != "https://graph.microsoft.com" {
		t.Errorf("with two slashes: got %+v, want %s", d, graph)
	}
	for _, scope := range []string{graph, mailRead, "00000003-0000-0000-c000-0000000000aa/.default", "https://contoso.com/a/b/.default"} {
		if d := p.Decide(policy.Request{Peer: tcp(10001), Scope: scope, Now: may2027}); !d.Allowed {
			t.Errorf("%q: got %+v, want it allowed", scope, d)
		}
	}
}

// TestHintsAreHarmless: hints go into answers, logs and terminals.
func TestHintsAreHarmless(t *testing.T) {
	p := parse(t, example)
	for _, text := range []string{
		strings.Repeat("A", 1<<20), "\x1b[31mred\x1b[0m\r\nSet-Cookie:x", "\u202egpj.exe\u2066", "\xff\xfe\x00", strings.Repeat("\u2028", 500), `"};drop`,
		"https://graph.microsoft.com/" + strings.Repeat("x", 480), "https://a.example/\x1b https://b.example/x",
	} {
		for _, r := range []policy.Request{
			{Peer: socket(text, 1)}, {Peer: key(text, 1)},
			{Peer: tcp(10001), Agent: text, Now: may2027},
			{Peer: tcp(10001), Identity: text, Now: may2027},
			{Peer: tcp(10001), Scope: text, Now: may2027},
			{Peer: tcp(10001), Scope: graph + " " + text, Now: may2027},
		} {
			checkHarmless(t, p.Explain(r))
		}
		checkHarmless(t, parse(t, fleets).Explain(policy.Request{Peer: tcp(1), Identity: "many/" + text, Scope: graph}))
		for _, change := range []func(*policy.User){
			func(u *policy.User) { u.Tenant = text },
			func(u *policy.User) { u.ObjectID = text },
			func(u *policy.User) { u.Client = text },
			func(u *policy.User) { u.Groups, u.Roles = []string{text}, []string{text} },
		} {
			for _, mode := range []string{"enforce", "audit"} {
				r := forAlice()
				change(r.User)
				checkHarmless(t, parse(t, strings.Replace(governed, "mode: enforce", "mode: "+mode, 1)).Explain(r))
			}
		}
	}
}

func checkHarmless(t *testing.T, e policy.Explanation) {
	t.Helper()
	texts := []string{e.Decision.Hint, e.Decision.Rule, e.Decision.AuditedHint, e.Decision.AuditedRule}
	for _, step := range e.Steps {
		texts = append(texts, step.Detail, step.Rule)
	}
	for _, s := range texts {
		if len(s) > 1024 || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Errorf("got %d bytes of %.100q", len(s), s)
		}
	}
}
