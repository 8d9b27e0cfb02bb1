package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/entratest"
)

// asking is one request, as an agent sends it and as explain is told of it.
type asking struct {
	scope, identity   string
	api, method, path string // a call, where api is not ""
	user              bool
}

// flags describe it to explain.
func (a asking) flags(dir string) []string {
	flags := []string{"explain", "--format=json", "--config", filepath.Join(dir, "credfree.yaml"), "--ceiling", filepath.Join(dir, "ceiling.yaml"), "--agent=asker", "--identity=" + a.identity}
	if a.api == "" {
		flags = append(flags, "--scope="+a.scope)
	} else {
		flags = append(flags, "--api="+a.api, "--method="+a.method, "--path="+a.path)
	}
	if a.user {
		flags = append(flags, "--user-token="+filepath.Join(dir, "user-token"))
	}
	return flags
}

// send sends it to a broker.
func (a asking) send(t *testing.T, r *running, userToken string) {
	t.Helper()
	if a.api != "" {
		headers := []string{"Authorization", "Bearer " + r.key}
		if a.identity != "" {
			headers = append(headers, "Credfree-Identity", a.identity)
		}
		if a.user {
			headers = append(headers, "Credfree-User-Token", userToken)
		}
		do(t, a.method, "http://"+r.agentsAddr()+"/call/"+a.api+a.path, "", headers...)
		return
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {a.scope}, "client_secret": {r.key}, "identity": {a.identity}}
	if a.user {
		form.Set("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
		form.Set("requested_token_use", "on_behalf_of")
		form.Set("assertion", userToken)
	}
	do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", form.Encode())
}

func pick(rng *rand.Rand, from ...string) string { return from[rng.IntN(len(from))] }

// randomAgent is the agent asker, whatever its rules are.
func randomAgent(rng *rand.Rand, api string) string {
	var b strings.Builder
	allow := func() string {
		return fmt.Sprintf("{scopes: [%s], apis: [%s], roles: [%s]}", pick(rng, "", "graph", "graph/User.Read", "graph, keyvault"), pick(rng, "", "things"), pick(rng, "", "some"))
	}
	fmt.Fprintf(&b, "roles: {some: [arm, graph/Mail.Read]}\n")
	fmt.Fprintf(&b, "apis: {things: {baseURL: %s, scopes: [graph]%s}}\n", api, pick(rng, "", ", methods: [GET]", ", paths: [/a, /b/*, /c/d]", ", methods: [POST, GET], paths: [/]"))
	fmt.Fprintf(&b, "agents:\n  asker:\n    callers: [{tcp: {keyFile: key}}]\n    %s\n    allow: %s\n    rawToken: %s\n", pick(rng, "identity: demo", "identities: [demo, agent]", "identities: [agent-user, demo]\n    identity: demo"), allow(), pick(rng, "true", "true", "false"))
	if line := pick(rng, "", "", "", "", "", "", "mode: audit", "blocked: true", "expires: 2020-01-01", "expires: 2999-12-31"); line != "" {
		b.WriteString("    " + line + "\n")
	}
	if rng.IntN(3) > 0 {
		fmt.Fprintf(&b, "    onBehalfOf: {allow: %s%s}\n", allow(), pick(rng, "", "", ", users: {roles: [Nobody]}", ", scopes: [access]", ", amr: [fido]", ", clients: [0be5e000-0000-4000-8000-0000000005e4]"))
	}
	return b.String()
}

func randomAsking(rng *rand.Rand) asking {
	a := asking{identity: pick(rng, "", "", "", "", "demo", "demo", "agent", "agent-user", "nobody", "demo/x"), user: rng.IntN(3) == 0}
	if rng.IntN(2) == 0 {
		a.api, a.method = pick(rng, "things", "things", "things", "other"), pick(rng, "GET", "POST", "HEAD", "get", "PROPFIND", "TRACE")
		a.path = pick(rng, "", "/", "/a", "/a/", "//a", "/a?x=1", "/b", "/b/", "/b/x", "/b//x", "/b/./x", "/b/../a", "/b/%2e%2e/a", "/b/%252e%252E/a", "/b/%5c", "/b/x%2Fy", "/%61", "/b/..;/a", "/c%2Fd", "/c/d", "/b/%00", "/b/%ff", "/b/%C3%A9")
		return a
	}
	a.scope = pick(rng, "https://graph.microsoft.com/.default", "https://graph.microsoft.com//.default", "https://graph.microsoft.com/User.Read", "https://graph.microsoft.com/User.Read https://graph.microsoft.com/Mail.Read",
		" https://graph.microsoft.com/Mail.Read\t", "https://vault.azure.net/.default", "https://management.core.windows.net//.default", "https://management.azure.com/.default",
		"https://graph.microsoft.com/.default https://vault.azure.net/.default", "graph", "User.Read", "https://GRAPH.microsoft.com/.default", "api://AzureADTokenExchange/.default", "openid")
	return a
}

// TestExplainSaysWhatServeDoes: explain is given random policies and requests, and a
// broker that serves the same is asked. What they say has to be the same.
func TestExplainSaysWhatServeDoes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var header, api string
	r := startServiceWith(t, func(h, _ string) string {
		header = h
		return h + anyProcess()
	})
	header, _, _ = strings.Cut(header, "\napis:")
	api = r.lab.host.APIURL + "/v1.0"
	userToken, err := r.lab.userToken(entratest.DemoClientID)
	check(t, err)
	seen := map[string]int{}
	for range 150 {
		text := header + "\n" + randomAgent(rng, api)
		check(t, r.lab.write("credfree.yaml", text))
		most := "version: 1\n" + pick(rng, "", "", "", "allow: {resources: [graph]}\n", "rawToken: false\napiHosts: [a.example]\n", "onBehalfOf: {allow: {scopes: [graph/User.Read]}}\n", "require: {owner: true}\n")
		check(t, r.lab.write("ceiling.yaml", most))
		ceiling, err := policy.ParseCeiling("ceiling.yaml", []byte(most))
		check(t, err)
		p, err := policy.ParseWith(filepath.Join(r.lab.dir, "credfree.yaml"), []byte(text), policy.Options{Ceiling: ceiling})
		check(t, err)
		check(t, r.use(p))
		for range 12 {
			asked := randomAsking(rng)
			r.mu.Lock()
			r.audit.Reset()
			r.mu.Unlock()
			asked.send(t, r, userToken)
			r.mu.Lock()
			line, _, _ := strings.Cut(r.audit.String(), "\n")
			r.mu.Unlock()
			var did struct {
				Decision, Reason, Rule, Agent, Identity string
				Scopes                                  []string
			}
			if err := json.Unmarshal([]byte(line), &did); err != nil {
				t.Fatalf("%+v: got the line %q: %v", asked, line, err)
			}
			said := runWith("", asked.flags(r.lab.dir)...)
			if did.Reason == "bad_request" {
				if seen["bad_request"]++; said.code != exitUsage || said.stdout != "" {
					t.Errorf("%+v: the broker says that it is no request, and explain %+v", asked, said)
				}
				continue
			}
			var x explained
			if err := json.Unmarshal([]byte(said.stdout), &x); err != nil {
				t.Errorf("%+v: got %+v, and the broker recorded %s", asked, said, line)
				continue
			}
			seen[did.Decision+" "+x.Reason]++
			reason, rule := x.Reason, x.Rule
			if x.Audited {
				reason, rule = x.AuditedReason, x.AuditedRule
			}
			if did.Decision == "error" { // what became of it after the decision
				reason = did.Reason
			}
			if x.Allowed != (did.Decision != "deny") || reason != did.Reason || rule != did.Rule || x.Identity != did.Identity || x.Allowed && !slices.Equal(x.Scopes, did.Scopes) {
				t.Errorf("%+v under\n%s and %s: the broker recorded %s, and explain says %s", asked, text, most, line, said.stdout)
			}
		}
	}
	if len(seen) < 20 || seen["allow "] < 20 || seen["bad_request"] < 50 {
		t.Errorf("got %v, want more variety", seen)
	}
}
