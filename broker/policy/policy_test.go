package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/credfree/credfree/broker/policy"
)

const (
	billingID = "11111111-2222-3333-4444-55555555aaaa"
	graph     = "https://graph.microsoft.com/.default"
	mailRead  = "https://graph.microsoft.com/Mail.Read"
	search    = "https://search.azure.com/.default"
	orders    = "api://Contoso.Orders/.default"
)

// example has each kind of caller once, and one agent per shape of identity.
const example = `version: 1
tenant: 8A0C5B0E-0000-4000-8000-0123456789AB
sources:
  pod: {file: {path: /var/run/token}}
identities:
  billing: {application: {clientID: 11111111-2222-3333-4444-55555555AAAA, source: pod}}
  audit: {application: {clientID: 99999999-2222-3333-4444-555555555555, source: pod}}
agents:
  researcher:
    owner: team@contoso.com
    expires: 2027-06-30
    identity: billing
    callers:
      - {socket: researcher.sock, uids: [10001, 10002]}
      - {tcp: {uids: [10001]}}
      - {tcp: {keyFile: /keys/researcher}}
    allow: {scopes: [https://graph.microsoft.com/.default, https://graph.microsoft.com/Mail.Read]}
  writer:
    identity: audit
    identities: [billing, audit]
    callers:
      - {socket: /run/writer.sock}
      - {tcp: {uids: [10003], keyFile: keys/writer}}
    allow: {scopes: [https://search.azure.com/.default, api://Contoso.Orders/.default]}
  chooser:
    identities: [billing, audit]
    callers: [{tcp: {uids: [10009]}}]
    allow: {scopes: [https://search.azure.com/.default]}
`

var may2027 = time.Date(2027, 5, 1, 12, 0, 0, 0, time.UTC)

func parse(t testing.TB, data string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("/etc/credfree/credfree.yaml", []byte(data))
	if err != nil {
		t.Fatalf("got the error\n%v\nwant a policy from\n%s", err, data)
	}
	return p
}

func socket(name string, uid uint32) policy.Peer {
	return policy.Peer{Socket: name, UID: uid, Known: true}
}

func tcp(uid uint32) policy.Peer { return policy.Peer{UID: uid, Known: true} }

func key(file string, uid uint32) policy.Peer {
	return policy.Peer{KeyFile: file, UID: uid, Known: true}
}

func TestZeroPolicyDeniesEverything(t *testing.T) {
	byHand := &policy.Policy{Agents: map[string]*policy.Agent{"a": {
		Name: "a", Default: "i", Identities: []string{"i"}, Callers: []policy.Caller{{TCP: true, Any: true}}, Scopes: []string{graph},
	}}}
	for name, p := range map[string]*policy.Policy{"zero": {}, "by hand": byHand} {
		for _, peer := range []policy.Peer{{}, tcp(0), tcp(1), socket("a.sock", 0), key("", 0), key("/keys/a", 1), {KeyRefused: true}} {
			for _, scope := range []string{"", graph} {
				d := p.Decide(policy.Request{Peer: peer, Agent: "a", Identity: "i", Scope: scope, Now: may2027})
				if d.Allowed || d.Reason != policy.UnknownAgent || d.Agent != nil || d.Scopes != nil {
					t.Errorf("%s policy, peer %+v, scope %q: got %+v, want unknown_agent", name, peer, scope, d)
				}
			}
		}
		if n := len(p.Sockets()) + len(p.KeyFiles()); n != 0 {
			t.Errorf("%s policy: got %d sockets and key files, want none", name, n)
		}
	}
}

// TestDecide is the table to argue about: who gets what by the example.
func TestDecide(t *testing.T) {
	p := parse(t, example)
	decide := func(peer policy.Peer, identity, scope string) policy.Decision {
		return p.Decide(policy.Request{Peer: peer, Identity: identity, Scope: scope, Now: may2027})
	}
	allow := func(peer policy.Peer, identity, scope, agent, as, rule string) {
		t.Helper()
		d := decide(peer, identity, scope)
		if !d.Allowed || d.Agent == nil || d.Agent.Name != agent || d.Identity != as || d.Rule != rule || d.Reason != "" || d.Hint != "" {
			t.Errorf("peer %+v, identity %q, scope %q: got %+v, want %s as %s by %s", peer, identity, scope, d, agent, as, rule)
		}
	}
	deny := func(peer policy.Peer, identity, scope string, reason policy.Reason, rule string) {
		t.Helper()
		d := decide(peer, identity, scope)
		if d.Allowed || d.Reason != reason || d.Rule != rule || d.Hint == "" || d.Scopes != nil || d.Scope != "" || d.Resource != "" {
			t.Errorf("peer %+v, identity %q, scope %q: got %+v, want %s by %s", peer, identity, scope, d, reason, rule)
		}
	}
	const inList = "agents.researcher.allow.scopes"

	// A socket: its uids count, a key does not.
	allow(socket("researcher.sock", 10001), "", graph, "researcher", "billing", inList+"[0]")
	allow(socket("researcher.sock", 10002), "", mailRead, "researcher", "billing", inList+"[1]")
	allow(policy.Peer{Socket: "researcher.sock", UID: 10001, Known: true, KeyRefused: true}, "", graph, "researcher", "billing", inList+"[0]")
	allow(policy.Peer{Socket: "/run/writer.sock"}, "", search, "writer", "audit", "agents.writer.allow.scopes[0]")
	allow(policy.Peer{Socket: "/run/writer.sock", KeyFile: "/keys/researcher"}, "", search, "writer", "audit", "agents.writer.allow.scopes[0]")
	deny(socket("researcher.sock", 10003), "", graph, policy.UnknownAgent, "agents.researcher.callers[0]")
	deny(policy.Peer{Socket: "researcher.sock", UID: 10001}, "", graph, policy.UnknownAgent, "agents.researcher.callers[0]")
	deny(policy.Peer{Socket: "researcher.sock", UID: 10003, Known: true, KeyFile: "/keys/researcher"}, "", graph, policy.UnknownAgent, "agents.researcher.callers[0]")
	deny(socket("writer.sock", 10001), "", search, policy.UnknownAgent, "agents")
	deny(socket("\x00", 10001), "", graph, policy.UnknownAgent, "agents")

	// TCP without a key: the kernel's word.
	allow(tcp(10001), "", graph, "researcher", "billing", inList+"[0]")
	deny(tcp(10002), "", graph, policy.UnknownAgent, "agents") // listed for the socket only
	deny(tcp(10003), "", search, policy.UnknownAgent, "agents")
	deny(policy.Peer{UID: 10001}, "", graph, policy.UnknownAgent, "agents")
	deny(policy.Peer{}, "", graph, policy.UnknownAgent, "agents")

	// TCP with a key: the key, and the uids that are listed beside it.
	allow(key("/keys/researcher", 4242), "", graph, "researcher", "billing", inList+"[0]")
	allow(policy.Peer{KeyFile: "/keys/researcher"}, "", graph, "researcher", "billing", inList+"[0]")
	allow(key("/etc/credfree/keys/writer", 10003), "", search, "writer", "audit", "agents.writer.allow.scopes[0]")
	deny(key("/etc/credfree/keys/writer", 10001), "", search, policy.UnknownAgent, "agents.writer.callers[1]")
	deny(policy.Peer{KeyFile: "/etc/credfree/keys/writer", UID: 10003}, "", search, policy.UnknownAgent, "agents.writer.callers[1]")
	deny(key("/keys/nobody", 10001), "", graph, policy.UnknownAgent, "agents") // 10001 would do without a key
	deny(policy.Peer{UID: 10001, Known: true, KeyRefused: true}, "", graph, policy.UnknownAgent, "agents")
	deny(policy.Peer{KeyFile: "/keys/researcher", KeyRefused: true}, "", graph, policy.UnknownAgent, "agents")

	// Identities.
	allow(tcp(10001), "billing", graph, "researcher", "billing", inList+"[0]")
	allow(socket("/run/writer.sock", 1), "billing", search, "writer", "billing", "agents.writer.allow.scopes[0]")
	allow(tcp(10009), "audit", search, "chooser", "audit", "agents.chooser.allow.scopes[0]")
	deny(tcp(10001), "audit", graph, policy.IdentityNotAllowed, "agents.researcher.identity")
	deny(tcp(10001), "Billing", graph, policy.IdentityNotAllowed, "agents.researcher.identity")
	deny(socket("/run/writer.sock", 1), billingID, search, policy.IdentityNotAllowed, "agents.writer.identities")
	deny(tcp(10009), "", search, policy.IdentityMissing, "agents.chooser.identities")

	// Scopes: several of one resource, each in the list.
	allow(tcp(10001), "", " "+graph+"\t\n", "researcher", "billing", inList+"[0]")
	allow(tcp(10001), "", graph+" "+graph, "researcher", "billing", inList+"[0]")
	allow(tcp(10001), "", mailRead+"\u00a0"+graph, "researcher", "billing", inList)
	deny(tcp(10001), "", " \t\u2003", policy.ScopeMissing, inList)
	deny(tcp(10001), "", search, policy.ScopeNotAllowed, inList)
	deny(tcp(10001), "", graph+" https://graph.microsoft.com/User.Read", policy.ScopeNotAllowed, inList)
	deny(socket("/run/writer.sock", 1), "", search+" "+orders, policy.ScopeMixedResources, "agents.writer.allow.scopes")
	deny(tcp(10001), "", strings.Repeat(graph+" ", 17), policy.ScopeMalformed, inList)
	allow(tcp(10001), "", strings.Repeat(graph+" ", 16), "researcher", "billing", inList+"[0]")
}

func TestAllowedDecisionIsCanonical(t *testing.T) {
	p := parse(t, example)
	got := p.Decide(policy.Request{Peer: tcp(10001), Scope: mailRead + " " + graph + "\t" + mailRead, Now: may2027})
	want := policy.Decision{
		Allowed: true, Rule: "agents.researcher.allow.scopes", Agent: p.Agents["researcher"], Identity: "billing",
		Scopes: []string{graph, mailRead}, Scope: graph + " " + mailRead, Resource: "https://graph.microsoft.com", RawToken: true,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(policy.Agent{})); diff != "" {
		t.Errorf("decision (-want +got):\n%s", diff)
	}
}

// TestAnyLocalProcess: any: true lets in whoever comes over TCP without a key
// that another agent must present, and nobody over a socket.
func TestAnyLocalProcess(t *testing.T) {
	base, _, _ := strings.Cut(example, "agents:")
	open := base + "agents:\n  open: {identity: billing, callers: [{tcp: {any: true}}], allow: {scopes: [" + graph + "]}}\n"
	keyed := open + "  keyed: {identity: billing, callers: [{tcp: {keyFile: /keys/keyed}}], allow: {scopes: [" + graph + "]}}\n"
	for _, test := range []struct {
		name, file string
		peer       policy.Peer
		agent      string // "" for nobody
	}{
		{"nothing known", open, policy.Peer{}, "open"},
		{"uid known", open, tcp(7), "open"},
		{"secret of a library, no key in the file", open, policy.Peer{KeyRefused: true}, "open"},
		{"socket", open, socket("open.sock", 7), ""},
		{"key that is in no file", open, key("/keys/keyed", 7), ""},
		{"no key beside a key file", keyed, tcp(7), "open"},
		{"key beside any", keyed, key("/keys/keyed", 7), "keyed"},
		{"wrong key", keyed, policy.Peer{KeyRefused: true}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := parse(t, test.file).Decide(policy.Request{Peer: test.peer, Scope: graph, Now: may2027})
			got := ""
			if d.Agent != nil {
				got = d.Agent.Name
			}
			if got != test.agent || d.Allowed != (test.agent != "") {
				t.Errorf("got agent %q, allowed %v; want agent %q", got, d.Allowed, test.agent)
			}
		})
	}
}

func TestAgentNameIsOnlyACrossCheck(t *testing.T) {
	p := parse(t, example)
	for name, want := range map[string]policy.Reason{
		"":                                     "",
		"researcher":                           "",
		billingID:                              "",
		strings.ToUpper(billingID):             "",
		"Researcher":                           policy.AgentMismatch,
		"writer":                               policy.AgentMismatch,
		"billing":                              policy.AgentMismatch, // an identity is no name of an agent
		"99999999-2222-3333-4444-555555555555": policy.AgentMismatch, // another agent's identity
		" researcher":                          policy.AgentMismatch,
	} {
		if got := p.Decide(policy.Request{Peer: tcp(10001), Agent: name, Scope: graph, Now: may2027}); got.Reason != want {
			t.Errorf("agent %q: got reason %q, want %q", name, got.Reason, want)
		}
	}
	if d := p.Decide(policy.Request{Agent: "researcher", Scope: graph, Now: may2027}); d.Reason != policy.UnknownAgent {
		t.Errorf("a name without evidence: got %+v, want unknown_agent", d)
	}
}

func TestExpiryIsTheEndOfTheLastDay(t *testing.T) {
	p := parse(t, example)
	last := time.Date(2027, 6, 30, 23, 59, 59, 999_999_999, time.UTC)
	east := time.FixedZone("UTC+14", 14*60*60)
	for _, test := range []struct {
		now  time.Time
		want policy.Reason
	}{
		{last, ""},
		{last.Add(1), policy.AgentExpired},
		{time.Date(2027, 7, 1, 10, 0, 0, 0, east), ""}, // still 30 June in UTC
		{time.Time{}, policy.AgentExpired},             // nobody looked at the clock
	} {
		d := p.Decide(policy.Request{Peer: tcp(10001), Scope: graph, Now: test.now})
		if d.Reason != test.want {
			t.Errorf("now %v: got %q, want %q", test.now, d.Reason, test.want)
		}
		if test.want != "" && d.Rule != "agents.researcher.expires" {
			t.Errorf("now %v: got rule %q", test.now, d.Rule)
		}
	}
	if d := p.Decide(policy.Request{Peer: tcp(10009), Identity: "audit", Scope: search}); !d.Allowed {
		t.Errorf("an agent without expiry at the zero time: got %+v, want it allowed", d)
	}
}
