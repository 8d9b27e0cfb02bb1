package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/policy"
)

// TestShorthands: what a shorthand stands for depends on the cloud, and one
// that is not well known there stands for nothing.
func TestShorthands(t *testing.T) {
	const custom = "cloud: custom\nauthority: https://h\n"
	for _, test := range []struct{ cloud, text, want string }{
		{"", "graph", graph},
		{"", "graph/User.Read", userRead},
		{"", "devops", "499b84ac-1321-427f-aa17-267ca6975798/.default"},
		{"", "devops/vso.code", "499b84ac-1321-427f-aa17-267ca6975798/vso.code"},
		{"", "azure-openai", "https://cognitiveservices.azure.com/.default"},
		{"", "ai-search", "https://search.azure.com/.default"},
		{"", "foundry", "https://ai.azure.com/.default"},
		{"", "azure-ml", "https://ml.azure.com/.default"},
		{"", "arm", "https://management.azure.com/.default"},
		{"", "keyvault", "https://vault.azure.net/.default"},
		{"cloud: usgov\n", "graph", "https://graph.microsoft.us/.default"},
		{"cloud: usgov\n", "azure-openai", "https://cognitiveservices.azure.us/.default"},
		{"cloud: usgov\n", "storage", "https://storage.azure.com/.default"},
		{"cloud: usgov-dod\n", "graph", "https://dod-graph.microsoft.us/.default"},
		{"cloud: usgov-dod\n", "arm", "https://management.usgovcloudapi.net/.default"},
		{"cloud: china\n", "graph/User.Read", "https://microsoftgraph.chinacloudapi.cn/User.Read"},
		{"cloud: china\n", "sql", "https://database.chinacloudapi.cn/.default"},
		{custom, "graph", graph},
		{custom + "resources: {graph: https://graph.contoso.example}\n", "graph", "https://graph.contoso.example/.default"},
		{custom + "resources: {graph: https://graph.contoso.example}\n", "arm", "https://management.azure.com/.default"},
	} {
		file := head + test.cloud + "agents: {a: {identity: app, callers: [{tcp: {uids: [1]}}], allow: {scopes: [" + test.text + "]}}}\n"
		p := parse(t, file)
		if diff := cmp.Diff([]string{test.want}, p.Agents["a"].Scopes); diff != "" {
			t.Errorf("%s%s (-want +got):\n%s", test.cloud, test.text, diff)
		}
		if d := p.Decide(policy.Request{Peer: tcp(1), Scope: test.want}); !d.Allowed || d.Rule != "agents.a.allow.scopes[0]" {
			t.Errorf("%s%s: got %+v, want it allowed", test.cloud, test.text, d)
		}
		for _, text := range []string{test.text, test.want} {
			if got, problem := p.Cloud.Scope(text); got != test.want || problem != nil {
				t.Errorf("%s%s: Scope = %q, %v, want %q", test.cloud, text, got, problem, test.want)
			}
		}
		d := p.Decide(policy.Request{Peer: tcp(1), Scope: test.text})
		if d.Reason != policy.ScopeMalformed || !strings.Contains(d.Hint, `write "`+test.want+`"`) {
			t.Errorf("%s%s in a request: got %s, hint %q", test.cloud, test.text, d.Reason, d.Hint)
		}
	}
}

// TestAliases: az asks for Azure Resource Manager by its older name. Who is granted
// the one has the other, by the same line and as it was asked for; and nothing else
// of either.
func TestAliases(t *testing.T) {
	for cloud, alias := range map[string]string{
		"": "https://management.core.windows.net", "cloud: usgov\n": "https://management.core.usgovcloudapi.net", "cloud: china\n": "https://management.core.chinacloudapi.cn",
	} {
		agents := "agents:\n  a: {identity: app, callers: [{tcp: {uids: [1]}}], allow: {scopes: [arm]}}\n" +
			"  b: {identity: app, callers: [{tcp: {uids: [2]}}], allow: {scopes: [arm, " + alias + "/.default]}}\n" +
			"  c: {identity: app, callers: [{tcp: {uids: [3]}}], allow: {scopes: [" + alias + "//.default]}}\n" +
			"  d: {identity: app, callers: [{tcp: {uids: [4]}}], allow: {scopes: [" + alias + "/.default, arm]}}\n" +
			"  e: {identity: app, callers: [{tcp: {uids: [5]}}], allow: {scopes: [graph/.default]}}\n"
		p := parse(t, head+cloud+agents)
		named, _ := p.Cloud.Scope("arm")
		for uid, rule := range map[uint32]string{1: "agents.a.allow.scopes[0]", 2: "agents.b.allow.scopes[1]", 3: "agents.c.allow.scopes[0]", 4: "agents.d.allow.scopes[0]", 5: ""} {
			for _, asked := range []string{alias + "/.default", alias + "//.default"} {
				d := p.Decide(policy.Request{Peer: tcp(uid), Scope: asked})
				if d.Allowed != (rule != "") || rule != "" && (d.Rule != rule || d.Scope != alias+"/.default" || d.Resource != alias) {
					t.Errorf("%s%s for %d: got %+v, want it by %s", cloud, asked, uid, d, rule)
				}
				if rule == "" && !strings.Contains(d.Hint, `add "`+named+`"`) {
					t.Errorf("got the hint %q, want it to name %s", d.Hint, named)
				}
			}
			if d := p.Decide(policy.Request{Peer: tcp(uid), Scope: alias + "/user_impersonation"}); d.Allowed {
				t.Errorf("got %+v, want another scope of the alias denied", d)
			}
		}
		// What is listed stays what is written.
		if diff := cmp.Diff([]string{named}, p.Agents["a"].Scopes); diff != "" || len(p.Agents["a"].Granted()) != 1 || len(p.Agents["b"].Scopes) != 2 || len(p.Agents["d"].Scopes) != 2 {
			t.Errorf("got the scopes %v, %v, %v", p.Agents["a"].Scopes, p.Agents["b"].Scopes, p.Agents["d"].Scopes)
		}
		if d := p.Decide(policy.Request{Peer: tcp(3), Scope: named}); d.Allowed {
			t.Errorf("got %+v, want the alias alone", d)
		}
	}
	const elsewhere = head + "cloud: usgov\nagents: {a: {identity: app, callers: [{tcp: {uids: [1]}}], allow: {scopes: [arm]}}}\n"
	if d := parse(t, elsewhere).Decide(policy.Request{Peer: tcp(1), Scope: "https://management.core.windows.net/.default"}); d.Allowed {
		t.Errorf("got %+v, want another cloud's denied", d)
	}
}

// TestWrongScopes: whoever writes neither a scope nor a shorthand is told what to
// write.
func TestWrongScopes(t *testing.T) {
	public, sovereign := parse(t, head).Cloud, parse(t, head+"cloud: bleu\naudience: api://A\n").Cloud
	for _, test := range []struct {
		cloud         *policy.Cloud
		text          string
		message, hint string
	}{
		{&public, "Graph", `the scope "Graph" has no resource`, "did you mean graph?"},
		{&public, "graph/", `"graph/" is no scope of graph`, "write graph for all that is granted, or graph/<scope>"},
		{&public, "User.Read", `the scope "User.Read" has no resource`, "write https://graph.microsoft.com/User.Read"},
		{&public, "https://Graph.microsoft.com/.default", `the scope "https://Graph.microsoft.com/.default" has upper-case letters in its host`, "write https://graph.microsoft.com/.default"},
		{&public, "", `the scope "" has no resource`, "write <resource>/<name>, e.g. https://graph.microsoft.com/.default"},
		{&sovereign, "graph", "it is not known what graph stands for in the cloud bleu", "write the whole scope: https://<host>/.default"},
	} {
		scope, problem := test.cloud.Scope(test.text)
		if scope != "" || problem == nil || problem.Message != test.message || problem.Hint != test.hint {
			t.Errorf("%q: got %q, %+v, want %q and the hint %q", test.text, scope, problem, test.message, test.hint)
		}
	}
}

// TestResourcesOfClouds: no cloud has another one's Microsoft Graph,
// and the sovereign clouds that nobody has described have none.
func TestResourcesOfClouds(t *testing.T) {
	seen := map[string]string{}
	for _, fields := range []string{"public", "usgov", "usgov-dod", "china", "bleu\naudience: api://A", "delos\naudience: api://A", "govsg\naudience: api://A"} {
		cloud := parse(t, head+"cloud: "+fields+"\n").Cloud
		graph, ok := cloud.Resources["graph"]
		if ok != (len(cloud.Resources) > 0) {
			t.Errorf("%s: got the resources %v", cloud.Name, cloud.Resources)
		}
		if other := seen[graph]; ok && other != "" {
			t.Errorf("%s and %s have the same Microsoft Graph %s", cloud.Name, other, graph)
		}
		seen[graph] = cloud.Name
	}
}

// TestReservedScopes: whatever could be a token for the token exchange is
// denied by its own reason, even where another reason would do.
func TestReservedScopes(t *testing.T) {
	public := parse(t, example)
	custom := parse(t, strings.Replace(example, "sources:", "cloud: custom\nauthority: https://h\naudience: api://Contoso.Exchange\nsources:", 1))
	reserved := func(p *policy.Policy, scope string) {
		t.Helper()
		if d := p.Decide(policy.Request{Peer: tcp(10001), Scope: scope, Now: may2027}); d.Reason != policy.ScopeReserved || d.Rule == "" || d.Hint == "" {
			t.Errorf("%q: got %+v, want scope_reserved", scope, d)
		}
	}
	listed := func(p *policy.Policy, scope string) {
		t.Helper()
		if d := p.Decide(policy.Request{Peer: tcp(10001), Scope: scope, Now: may2027}); d.Reason != policy.ScopeNotAllowed {
			t.Errorf("%q: got %+v, want scope_not_allowed", scope, d)
		}
	}
	reserved(public, "api://AzureADTokenExchange/.default")
	reserved(public, "api://azureadtokenexchange/.default")
	reserved(public, "api://AzureADTokenExchangeUSGov/.default") // another cloud's
	reserved(public, "api://AzureADTokenExchange/x/.default")
	reserved(public, "api://AzureFMITokenExchange/.default")
	reserved(public, "fb60f99c-7a34-4190-8149-302f77469936/.default")
	reserved(public, "fb60f99c-7a34-4190-8149-302f77469936/user_impersonation")
	reserved(public, "api://fb60f99c-7a34-4190-8149-302f77469936/.default")
	reserved(public, "api://FB60F99C-7A34-4190-8149-302F77469936/.default")
	reserved(public, "a9dd8a2a-df54-4ae0-84f9-38c8d57e5265/.default")
	reserved(public, graph+" api://AzureADTokenExchange/.default")
	reserved(custom, "api://Contoso.Exchange/.default")
	reserved(custom, "api://contoso.exchange/.default")
	reserved(custom, "api://Contoso.Exchange/x/.default")
	reserved(custom, "api://AzureADTokenExchange/.default")
	listed(custom, "api://Contoso.Exchanges/.default")
	listed(public, "api://Contoso.Exchange/.default")
	listed(public, "fb60f99c-7a34-4190-8149-302f77469937/.default")
}
