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

// crowd is an agent that acts for users in any of 20 groups by every rule, and
// a user who is in 20 groups, the last of which is the right one.
func crowd(t testing.TB) (*policy.Policy, policy.Request) {
	t.Helper()
	group := func(i int) string { return fmt.Sprintf("%08d-2222-3333-4444-555555555555", i) }
	var listed []string
	r := forAlice()
	r.User.Groups = nil
	for i := range 20 {
		listed = append(listed, group(i))
		r.User.Groups = append(r.User.Groups, group(100+i))
	}
	r.User.Groups[19] = group(19)
	return parse(t, strings.Replace(governed, "groups: ["+groupID, "groups: ["+strings.Join(listed, ", "), 1)), r
}

func TestDecideAllocatesNothing(t *testing.T) {
	many, r := fleet(t)
	forUser, obo := crowd(t)
	withSocket := r
	withSocket.Peer = socket("agent-31.sock", 20031)
	call := obo
	callForAlice(func(*policy.Request) {})(&call)
	for name, c := range map[string]struct {
		p *policy.Policy
		r policy.Request
	}{"tcp": {many, r}, "socket": {many, withSocket}, "on behalf of": {forUser, obo}, "call": {forUser, call}} {
		if d := c.p.Decide(c.r); !d.Allowed {
			t.Fatalf("%s: got %+v, want it allowed", name, d)
		}
		if n := testing.AllocsPerRun(1000, func() { c.p.Decide(c.r) }); n != 0 {
			t.Errorf("%s: got %v allocations for an allowed scope, want 0", name, n)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	many, allowed := fleet(b)
	forUser, obo := crowd(b)
	denied := allowed
	denied.Scope = "https://api-32-3.contoso.com/.default"
	nobody := allowed
	nobody.Peer = tcp(1)
	for _, c := range []struct {
		name string
		p    *policy.Policy
		r    policy.Request
	}{{"allowed", many, allowed}, {"denied", many, denied}, {"nobody", many, nobody}, {"on-behalf-of", forUser, obo}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.p.Decide(c.r)
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
