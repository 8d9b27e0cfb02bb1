package policy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/policy"
)

func ceiling(t testing.TB, data string) *policy.Ceiling {
	t.Helper()
	c, err := policy.ParseCeiling("/etc/ceiling.yaml", []byte("version: 1\n"+data))
	if err != nil {
		t.Fatalf("got the error\n%v\nwant a ceiling from\n%s", err, data)
	}
	return c
}

func under(t testing.TB, c *policy.Ceiling, data string) *policy.Policy {
	t.Helper()
	p, err := policy.ParseWith("/etc/credfree/credfree.yaml", []byte(data), policy.Options{Ceiling: c})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCeilingRules: what governed allows is denied by each rule of a ceiling in
// its turn, in audit mode too, and the explanation names the rule.
func TestCeilingRules(t *testing.T) {
	call := forAlice()
	call.API, call.Scope, call.Method, call.Path, call.Raw = "mail", "", "GET", "/me", false
	itself := policy.Request{Peer: tcp(1), Scope: graph, Raw: true, Now: may2027}
	for name, test := range map[string]struct {
		ceiling string // "": the zero one
		request policy.Request
		rule    string // "" for what is allowed
		step    string
	}{
		"nothing said":             {"\n", forAlice(), "", ""},
		"never read":               {"", forAlice(), "ceiling", "agent"},
		"agent blocked":            {"blocked: {agents: [z, a]}", forAlice(), "ceiling.blocked.agents[1]", "agent"},
		"another agent blocked":    {"blocked: {agents: [b]}", forAlice(), "", ""},
		"owner":                    {"require: {owner: true}", forAlice(), "ceiling.require.owner", "agent"},
		"expires":                  {"require: {expires: true}", forAlice(), "", ""},
		"cloud":                    {"clouds: [usgov, china]", forAlice(), "ceiling.clouds", "agent"},
		"its cloud":                {"clouds: [usgov, public]", forAlice(), "", ""},
		"tenant":                   {"tenants: [" + otherID + "]", forAlice(), "ceiling.tenants", "identity"},
		"its tenant":               {"tenants: [" + otherID + ", " + strings.ToUpper(tenantID) + "]", forAlice(), "", ""},
		"client":                   {"clientIDs: [" + otherID + "]", forAlice(), "ceiling.clientIDs", "identity"},
		"its client":               {"clientIDs: [" + billingID + "]", forAlice(), "", ""},
		"scope":                    {"allow: {scopes: [graph]}", forAlice(), "ceiling.allow", "scope"},
		"no scope":                 {"allow: {}", forAlice(), "ceiling.allow", "scope"},
		"its scope":                {"allow: {scopes: [graph/User.Read]}", forAlice(), "", ""},
		"its resource":             {"allow: {resources: [https://graph.microsoft.com]}", forAlice(), "", ""},
		"its resource by name":     {"allow: {resources: [graph]}", forAlice(), "", ""},
		"another's resource":       {"clouds: [public, usgov]\nallow: {resources: [storage]}", forAlice(), "ceiling.allow", "scope"},
		"scope for users":          {"onBehalfOf: {allow: {scopes: [graph/Mail.Read]}}", forAlice(), "ceiling.onBehalfOf.allow", "scope"},
		"nothing for users":        {"allow: {resources: [graph]}\nonBehalfOf: {allow: {}}", forAlice(), "ceiling.onBehalfOf.allow", "scope"},
		"nothing for users, alone": {"onBehalfOf: {allow: {}}", itself, "", ""},
		"more for users":           {"allow: {}\nonBehalfOf: {allow: {resources: [graph]}}", forAlice(), "", ""},
		"host":                     {"apiHosts: [contoso.com]", call, "ceiling.apiHosts", "scope"},
		"its host with its port":   {"apiHosts: [\"graph.microsoft.com:443\"]", call, "", ""},
		"its host":                 {"apiHosts: [contoso.com, graph.microsoft.com]", call, "", ""},
		"user blocked":             {"blocked: {users: [" + tenantID + "/" + bobID + ", " + tenantID + "/" + aliceID + "]}", forAlice(), "ceiling.blocked.users[1]", "user"},
		"user's tenant":            {"onBehalfOf: {users: {tenants: [" + otherID + "]}}", forAlice(), "ceiling.onBehalfOf.users.tenants", "user"},
		"user's app":               {"onBehalfOf: {clients: [" + otherID + "]}", forAlice(), "ceiling.onBehalfOf.clients", "user"},
		"its user":                 {"onBehalfOf: {users: {tenants: [" + tenantID + "], guests: false}, clients: [" + signInApp + "]}", forAlice(), "", ""},
	} {
		for _, mode := range []string{"enforce", "audit"} {
			file := strings.Replace(governed, "mode: enforce", "mode: "+mode, 1)
			if !strings.Contains(file, "agents:\n  a:\n") {
				t.Fatal("the agent of the example is another")
			}
			c := new(policy.Ceiling)
			if test.ceiling != "" {
				c = ceiling(t, test.ceiling+"\naudit: true\n")
			}
			if name == "host" || name == "its host" {
				file = strings.Replace(file, "rawToken: true", "rawToken: false", 1)
			}
			e := under(t, c, file).Explain(test.request)
			d, last := e.Decision, e.Steps[len(e.Steps)-1]
			switch {
			case test.rule == "":
				if !d.Allowed {
					t.Errorf("%s, %s: got %+v, want it allowed", name, mode, d)
				}
			case d.Allowed || d.Reason != policy.AboveCeiling || d.Rule != test.rule || last.Name != test.step || last.Rule != test.rule || last.OK || d.Scopes != nil:
				t.Errorf("%s, %s: got %+v at %+v, want %s at %s", name, mode, d, last, test.rule, test.step)
			case !strings.Contains(d.Hint, test.rule):
				t.Errorf("%s: got the hint %q", name, d.Hint)
			}
		}
	}
}

// A guest passes the policy and not the ceiling.
func TestCeilingGuests(t *testing.T) {
	file := head + `agents:
  a:
    {identity: app, callers: [{tcp: {uids: [1]}}], onBehalfOf: {allow: {scopes: [graph/User.Read]}, users: {tenants: [` + tenantID + `], guests: true}}}
`
	r := policy.Request{Peer: tcp(1), Scope: userRead, OnBehalfOf: true, Now: may2027, User: &policy.User{Tenant: tenantID, ObjectID: aliceID, Guest: true, Expires: may2027.Add(1)}}
	if d := under(t, ceiling(t, "onBehalfOf: {users: {guests: true}}"), file).Decide(r); !d.Allowed {
		t.Errorf("got %+v, want it allowed", d)
	}
	p := under(t, ceiling(t, "onBehalfOf: {users: {guests: false}}"), file)
	if d := p.Decide(r); d.Rule != "ceiling.onBehalfOf.users.guests" {
		t.Errorf("got %+v, want it denied", d)
	}
	if got := warned(p, "no guest is acted for"); got != 1 {
		t.Errorf("got %d warnings, want 1: %v", got, p.Warnings)
	}
}

func warned(p *policy.Policy, about string) (n int) {
	for _, warning := range p.Warnings {
		if strings.Contains(warning.Message, about) && strings.HasPrefix(warning.Message, "above the ceiling: ") && warning.Line > 0 {
			n++
		}
	}
	return n
}

// TestCeilingNumbers: limits, long running work, audit mode and the raw token.
func TestCeilingNumbers(t *testing.T) {
	file := head + `mode: audit
agents:
  a:
    identity: app
    expires: 2027-01-01
    callers: [{tcp: {uids: [1]}}]
    allow: {scopes: [graph]}
    limits: {onBehalfOf: {perMinute: 50}}
    onBehalfOf: {allow: {scopes: [graph/User.Read]}, users: {tenants: [` + tenantID + `]}, longRunning: {maxAge: 24h}}
`
	over := policy.Request{Peer: tcp(1), Scope: graph, Over: true, Now: may2027.AddDate(-1, 0, 0)}
	expired := policy.Request{Peer: tcp(1), Scope: graph, Now: may2027, Raw: true}

	p := under(t, ceiling(t, "limits: {perMinute: 7, onBehalfOf: {perMinute: 60}}\naudit: true\nonBehalfOf: {longRunning: {maxAge: 1h}}"), file)
	if a := p.Agents["a"]; a.Limits != (policy.Limits{PerMinute: 7, OnBehalfOfPerMinute: 50}) || a.OnBehalfOf.LongRunning.Hours() != 1 || !a.Audit {
		t.Errorf("got %+v, %+v", a.Limits, a.OnBehalfOf)
	}
	// The limit of the ceiling is never forgiven; the expiry, of which it says
	// nothing, is.
	if d := p.Decide(over); d.Allowed || d.Reason != policy.OverLimit || d.Rule != "ceiling.limits.perMinute" {
		t.Errorf("got %+v, want over_limit by the ceiling", d)
	}
	if d := p.Decide(expired); !d.Allowed || !d.Audited {
		t.Errorf("got %+v, want it audited", d)
	}
	p = under(t, ceiling(t, "require: {expires: true}\naudit: true"), file)
	if d := p.Decide(expired); d.Allowed || d.Reason != policy.AgentExpired {
		t.Errorf("got %+v, want agent_expired", d)
	}
	p = under(t, ceiling(t, "rawToken: false\napiHosts: [graph.microsoft.com]"), file)
	if a := p.Agents["a"]; a.Audit || a.RawToken || warned(p, "mode: audit has no effect") != 1 || warned(p, "no token leaves the broker") != 1 {
		t.Errorf("got %+v with %v, want it enforced and without a raw token", a, p.Warnings)
	}
	expired.Now = may2027.AddDate(-1, 0, 0)
	if d := p.Decide(expired); d.Reason != policy.RawTokenForbidden || d.Rule != "ceiling.rawToken" {
		t.Errorf("got %+v, want raw_token_forbidden by the ceiling", d)
	}
}

// What a policy grants above its ceiling is warned about, where it stands.
func TestCeilingWarnings(t *testing.T) {
	p := under(t, ceiling(t, `
tenants: [`+tenantID+`]
clientIDs: [`+otherID+`]
clouds: [china]
apiHosts: [contoso.com]
allow: {scopes: [https://graph.microsoft.com/.default]}
require: {owner: true}
limits: {perMinute: 5}
`), head+`apis: {graph: {baseURL: https://graph.microsoft.com, scopes: [graph]}}
agents:
  a:
    identity: app
    callers: [{tcp: {uids: [1]}}]
    limits: {perMinute: 6}
    allow: {scopes: [graph/Mail.Read, graph, ai-search]}
`)
	for about, want := range map[string]int{
		"this cloud is asked": 1, "this identity gets no token": 1, "does not call this host": 1, "Mail.Read is denied": 1,
		"https://search.azure.com/.default is denied": 1, "graph.microsoft.com/.default is denied": 0, "the agent gets nothing": 1, "the limit is lower": 1,
	} {
		if got := warned(p, about); got != want {
			t.Errorf("got %d warnings %q, want %d: %v", got, about, want, p.Warnings)
		}
	}
}

func TestCeilingProblems(t *testing.T) {
	for data, want := range map[string]string{
		"version: 2":                               "version 1 of the file only",
		"{}":                                       "version is missing",
		"version: 1\nagents: {}":                   "unknown field",
		"version: 1\nclouds: []":                   "the list is empty",
		"version: 1\nclouds: [custom]":             "any server at all",
		"version: 1\ntenants: [common]":            "common is no tenant",
		"version: 1\ntenants: [pod]":               "\"pod\" is neither a GUID nor a domain",
		"version: 1\nclientIDs: [x]":               "is not a GUID",
		"version: 1\nallow: {scopes: [Mail.Read]}": "Mail.Read",
		"version: 1\nallow: {resources: [\"https://graph.microsoft.com/\"]}": "is not a resource",
		"version: 1\nallow: {resources: [\"https://a/b\", graphs]}":          "\"graphs\" is not a resource",
		"version: 1\nrawToken: false":                                        "can still leave it for any host",
		"version: 1\napiHosts: [\"https://a\"]":                              "want a host",
		"version: 1\nblocked: {users: [" + aliceID + "]}":                    "which tenant",
		"version: 1\nblocked: {agents: [A]}":                                 "is not the name of an agent",
		"version: 1\nonBehalfOf: {longRunning: {maxAge: 1m}}":                "want 15m to 24h",
		"version: 1\nlimits: {perMinute: 0}":                                 "want a number",
		"a: [":                                                               "YAML",
	} {
		c, err := policy.ParseCeiling("ceiling.yaml", []byte(data))
		problems, ok := errors.AsType[policy.Problems](err)
		if !ok || c != nil || !strings.Contains(problems.Error(), want) {
			t.Errorf("%q: got %v, want %q", data, err, want)
		}
	}
}

// A shorthand of a ceiling means what the cloud says: a policy that gives it
// another meaning in a cloud of its own gains nothing.
func TestCeilingShorthandsAreItsOwn(t *testing.T) {
	file := strings.Replace(head, "sources:", "cloud: custom\nauthority: https://login.contoso.com\nresources: {storage: https://graph.microsoft.com}\nsources:", 1) + `agents: {a: {identity: app, callers: [{tcp: {uids: [1]}}], allow: {scopes: [storage]}}}
`
	c := ceiling(t, "clouds: [custom]\nauthorities: [https://login.contoso.com]\nallow: {resources: [storage]}")
	if d := under(t, c, file).Decide(policy.Request{Peer: tcp(1), Scope: graph, Now: may2027}); d.Rule != "ceiling.allow" {
		t.Errorf("got %+v, want it denied", d)
	}
	c = ceiling(t, "clouds: [custom]\nauthorities: [https://login.fabrikam.com]")
	if d := under(t, c, file).Decide(policy.Request{Peer: tcp(1), Scope: graph, Now: may2027}); d.Rule != "ceiling.authorities" {
		t.Errorf("got %+v, want it denied", d)
	}
}

// FuzzCeiling: whatever a ceiling says, nothing is allowed under it that the
// policy alone denies, and one that does not parse lets nothing through.
func FuzzCeiling(f *testing.F) {
	for _, seed := range []string{
		"version: 1\n", "version: 1\nallow: {}\n", "version: 1\nallow: {resources: [graph], scopes: [storage]}\nonBehalfOf: {allow: {}, users: {guests: false}}\n",
		"version: 1\nclouds: [custom]\nauthorities: [https://a]\n", "version: 1\nrequire: {owner: true}\nlimits: {perMinute: 1}\naudit: true\n", "version: 1\nrawToken: false\napiHosts: [a]\n",
	} {
		f.Add([]byte(seed))
	}
	alone := parse(f, governed)
	requests := []policy.Request{forAlice(), {Peer: tcp(1), Scope: graph, Raw: true, Now: may2027}, {Peer: tcp(2), Identity: "vm", Scope: graph, Now: may2027}, {Peer: tcp(1), Scope: search, Now: may2027}}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := policy.ParseCeiling("ceiling.yaml", data)
		if err != nil {
			c = new(policy.Ceiling)
		}
		p := under(t, c, governed)
		for _, r := range requests {
			before, now := alone.Decide(r), p.Decide(r)
			if now.Allowed && (!before.Allowed || err != nil || now.Scope != before.Scope || now.Identity != before.Identity || now.RawToken && !before.RawToken) {
				t.Fatalf("%q: got %+v, the policy alone %+v", data, now, before)
			}
		}
	})
}

// Whoever sets a ceiling gets a record of every token under it.
func TestCeilingWantsRecords(t *testing.T) {
	file := "audit: best-effort\n" + head + "agents: {}\n"
	if p := under(t, nil, file); !p.Recording.BestEffort {
		t.Error("without a ceiling, best effort is not what was asked for")
	}
	if p := under(t, ceiling(t, ""), file); p.Recording.BestEffort || warned(p, "audit: best-effort has no effect") != 1 {
		t.Errorf("got best effort %t and %v under a ceiling", p.Recording.BestEffort, p.Warnings)
	}
}
