package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/policy"
)

// fleet is a policy of 50 agents with 4 scopes each.
func fleet(t testing.TB) (*policy.Policy, policy.Request) {
	t.Helper()
	var b strings.Builder
	b.WriteString(strings.Split(example, "agents:")[0] + "agents:\n")
	for i := range 50 {
		fmt.Fprintf(&b, "  agent-%02d:\n    identity: billing\n    expires: 2027-06-30\n    callers: [{socket: agent-%02d.sock, uids: [%d]}, {tcp: {uids: [%d]}}]\n    allow:\n      scopes:\n", i, i, 20000+i, 20000+i)
		for j := range 4 {
			fmt.Fprintf(&b, "        - https://api-%d-%d.contoso.com/.default\n", i, j)
		}
	}
	return parse(t, b.String()), policy.Request{Peer: tcp(20031), Agent: "agent-31", Scope: "https://api-31-3.contoso.com/.default", Now: may2027}
}

func TestDecideAllocatesNothing(t *testing.T) {
	p, r := fleet(t)
	if d := p.Decide(r); !d.Allowed {
		t.Fatalf("got %+v, want it allowed", d)
	}
	withSocket := r
	withSocket.Peer = socket("agent-31.sock", 20031)
	for name, r := range map[string]policy.Request{"tcp": r, "socket": withSocket} {
		if n := testing.AllocsPerRun(1000, func() { p.Decide(r) }); n != 0 {
			t.Errorf("%s: got %v allocations for an allowed scope, want 0", name, n)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	p, allowed := fleet(b)
	denied := allowed
	denied.Scope = "https://api-32-3.contoso.com/.default"
	nobody := allowed
	nobody.Peer = tcp(1)
	for name, r := range map[string]policy.Request{"allowed": allowed, "denied": denied, "nobody": nobody} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Decide(r)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	data := []byte(example)
	for b.Loop() {
		if _, err := policy.Parse("credfree.yaml", data); err != nil {
			b.Fatal(err)
		}
	}
}
