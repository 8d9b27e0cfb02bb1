package policy_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/credfree/credfree/broker/policy"
)

// requests has every combination of what the example distinguishes.
func requests() []policy.Request {
	var all []policy.Request
	peers := []policy.Peer{
		{}, {KeyRefused: true}, tcp(10001), tcp(10009), {UID: 10001}, key("/keys/researcher", 1),
		key("/etc/credfree/keys/writer", 10003), socket("researcher.sock", 10001), socket("researcher.sock", 1), socket("/run/writer.sock", 1),
	}
	for _, peer := range peers {
		for _, agent := range []string{"", "researcher", billingID, "nobody"} {
			for _, identity := range []string{"", "billing", "audit", "root"} {
				for _, scope := range []string{"", graph, mailRead + " " + graph, graph + " " + search, "User.Read", search, orders} {
					for _, now := range []time.Time{{}, may2027, may2027.AddDate(1, 0, 0)} {
						all = append(all, policy.Request{Peer: peer, Agent: agent, Identity: identity, Scope: scope, Now: now})
					}
				}
			}
		}
	}
	return all
}

func TestExplainEqualsDecide(t *testing.T) {
	p := parse(t, example)
	for _, r := range requests() {
		checkExplained(t, p, r)
	}
	for _, mode := range []string{"enforce", "audit"} {
		for _, c := range ruleCases() {
			file := strings.NewReplacer(append([]string{"mode: enforce", "mode: " + mode}, c.file...)...).Replace(governed)
			r := forAlice()
			if c.ask != nil {
				c.ask(&r)
			}
			checkExplained(t, parse(t, file), r)
		}
	}
}

func checkExplained(t *testing.T, p *policy.Policy, r policy.Request) {
	t.Helper()
	d, e := p.Decide(r), p.Explain(r)
	if diff := cmp.Diff(d, e.Decision, cmpopts.IgnoreUnexported(policy.Agent{})); diff != "" {
		t.Fatalf("%+v: Explain differs from Decide:\n%s", r, diff)
	}
	checkSteps(t, r, e)
}

// checkSteps: the steps are those of the contract, in its order, without what
// the request does not ask for; the last one decided.
func checkSteps(t *testing.T, r policy.Request, e policy.Explanation) {
	t.Helper()
	names := []string{"caller", "agent", "identity", "scope"}
	if r.OnBehalfOf {
		names = append(names, "user")
	}
	if r.Raw {
		names = append(names, "token")
	}
	if r.Method != "" {
		names = append(names, "call")
	}
	numbers := map[string]int{"caller": 1, "agent": 2, "identity": 3, "scope": 4, "user": 5, "token": 6, "call": 6}
	audited := false
	for i, step := range e.Steps {
		last := i == len(e.Steps)-1
		if step.Name != names[i] || step.Number != numbers[step.Name] || step.Detail == "" || step.Rule == "" {
			t.Fatalf("%+v: got step %d %+v", r, i, step)
		}
		if step.OK != (!last || e.Decision.Allowed) {
			t.Fatalf("%+v: step %+v does not fit the decision %+v", r, step, e.Decision)
		}
		if last && !e.Decision.Allowed && step.Rule != e.Decision.Rule {
			t.Fatalf("%+v: got rule %q in the last step, %q in the decision", r, step.Rule, e.Decision.Rule)
		}
		if step.Audited && !audited && e.Decision.Allowed && step.Rule != e.Decision.AuditedRule {
			t.Fatalf("%+v: got rule %q in the first audited step, %q in the decision", r, step.Rule, e.Decision.AuditedRule)
		}
		audited = audited || step.Audited
	}
	if e.Decision.Allowed && (len(e.Steps) != len(names) || audited != e.Decision.Audited) {
		t.Fatalf("%+v: got %d steps, audited %v, for %+v", r, len(e.Steps), audited, e.Decision)
	}
}

func ExamplePolicy_Explain() {
	p, err := policy.Parse("credfree.yaml", []byte(example))
	if err != nil {
		fmt.Println(err)
		return
	}
	e := p.Explain(policy.Request{
		Peer: policy.Peer{Socket: "researcher.sock", UID: 10001, Known: true}, Scope: "https://graph.microsoft.com/Mail.Send", Now: may2027,
	})
	for _, step := range e.Steps {
		fmt.Printf("%d %-8s %-5v %s (%s)\n", step.Number, step.Name, step.OK, step.Detail, step.Rule)
	}
	fmt.Println(e.Decision.Reason)
	fmt.Println(e.Decision.Hint)
	// Output:
	// 1 caller   true  socket "researcher.sock", uid 10001, is agent researcher (agents.researcher.callers[0])
	// 2 agent    true  researcher works until the end of 2027-06-30 (UTC) (agents.researcher)
	// 3 identity true  acts as billing (agents.researcher.identity)
	// 4 scope    false a scope is not in the list (agents.researcher.allow.scopes)
	// scope_not_allowed
	// add "https://graph.microsoft.com/Mail.Send" to agents.researcher.allow.scopes if the agent may have it; the policy lists https://graph.microsoft.com/Mail.Read; scopes are compared exactly
}

func ExamplePolicy_Explain_onBehalfOf() {
	p, err := policy.Parse("credfree.yaml", []byte(strings.Replace(governed, "mode: enforce", "mode: audit", 1)))
	if err != nil {
		fmt.Println(err)
		return
	}
	r := forAlice()
	r.User.Groups = nil
	e := p.Explain(r)
	for _, step := range e.Steps {
		fmt.Printf("%d %-8s %-5v %s (%s)\n", step.Number, step.Name, step.OK, step.Detail, step.Rule)
	}
	fmt.Println(e.Decision.Allowed, e.Decision.Rule, e.Decision.AuditedReason)
	fmt.Println(e.Decision.AuditedHint)
	// Output:
	// 1 caller   true  tcp, uid 1, no key, is agent a (agents.a.callers[0])
	// 2 agent    true  a works until the end of 2027-06-30 (UTC) (agents.a)
	// 3 identity true  acts as app (agents.a.identities)
	// 4 scope    true  listed: https://graph.microsoft.com/User.Read (agents.a.onBehalfOf.allow.scopes[0])
	// 5 user     true  only audited: the user is in none of the groups (agents.a.onBehalfOf.users.groups)
	// 6 token    true  the token may be handed out (agents.a)
	// true mode user_not_in_group
	// add the user to one of the groups of agents.a.onBehalfOf.users.groups, or list a group of the user there
}

// TestDecideOrder: of several things that are wrong, the earliest step is
// named. Each row repairs the first thing that the row above it has wrong.
func TestDecideOrder(t *testing.T) {
	p := parse(t, example)
	r := policy.Request{
		Peer: tcp(4242), Agent: "nobody", Identity: "root", Scope: " ", Now: may2027.AddDate(1, 0, 0),
	}
	expect := func(want policy.Reason) {
		t.Helper()
		if got := p.Decide(r).Reason; got != want {
			t.Fatalf("%+v: got %q, want %q", r, got, want)
		}
	}
	expect(policy.UnknownAgent)
	r.Peer = tcp(10001)
	expect(policy.AgentMismatch)
	r.Agent = "researcher"
	expect(policy.AgentExpired)
	r.Now = may2027
	expect(policy.IdentityNotAllowed)
	r.Identity = "billing"
	expect(policy.ScopeMissing)
	r.Scope = "https://a.example/x https://b.example/x User.Read"
	expect(policy.ScopeMalformed)
	r.Scope = "https://a.example/x https://b.example/x"
	expect(policy.ScopeMixedResources)
	r.Scope = "https://a.example/x https://a.example/y"
	expect(policy.ScopeNotAllowed)
	r.Scope = graph
	expect("")

	r.Peer, r.Agent, r.Identity, r.Scope = tcp(10009), "chooser", "", "User.Read"
	expect(policy.IdentityMissing)
	r.Identity = "audit"
	expect(policy.ScopeMalformed)
}

func TestDecideConcurrently(t *testing.T) {
	p := parse(t, example)
	all := requests()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for _, r := range all {
				if d, e := p.Decide(r), p.Explain(r); d.Reason != e.Decision.Reason || d.Scope != e.Decision.Scope {
					t.Errorf("%+v: got %+v and %+v", r, d, e.Decision)
				}
			}
		})
	}
	group.Wait()
}

// The steps name the user, unless users are hashed.
func TestExplainNamesNoHashedUser(t *testing.T) {
	r := forAlice()
	for recording, named := range map[string]bool{"": true, "users: hashed\nusersKeyFile: key\n": false} {
		explained := parse(t, governed+recording).Explain(r)
		if !explained.Decision.Allowed {
			t.Fatalf("got %+v", explained)
		}
		text := fmt.Sprintf("%+v", explained.Steps)
		if got := strings.Contains(text, r.User.ObjectID) && strings.Contains(text, r.User.Tenant); got != named {
			t.Errorf("%q: got %s", recording, text)
		}
	}
}
