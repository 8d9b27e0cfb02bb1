package policy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/policy"
)

// FuzzParse: no file makes Parse panic, and no file that parses has a policy
// that answers the zero Request, allows a scope that a search of the file
// does not find, or has an agent that its own callers do not lead to.
func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(governed))
	f.Add(fullFile(f))
	_, cases := problemCases(f)
	for _, c := range cases {
		f.Add(c.data())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := policy.Parse("/etc/credfree.yaml", data)
		if err != nil {
			if p != nil || err.Error() == "" {
				t.Fatalf("got the policy %v and the error %q", p, err)
			}
			return
		}
		if d := p.Decide(policy.Request{}); d.Allowed {
			t.Fatalf("the zero request is allowed: %+v", d)
		}
		for name, agent := range p.Agents {
			for _, caller := range agent.Callers {
				checkCaller(t, p, name, agent, caller, string(data))
			}
		}
	})
}

func checkCaller(t *testing.T, p *policy.Policy, name string, agent *policy.Agent, caller policy.Caller, file string) {
	t.Helper()
	r := policy.Request{Peer: policy.Peer{Socket: caller.Socket, KeyFile: caller.KeyFile}, Identity: agent.Identities[0]}
	if members := p.Identities[r.Identity].Members(); len(members) > 0 {
		r.Identity += "/" + members[len(members)-1]
	}
	if len(caller.UIDs) > 0 {
		r.Peer.UID, r.Peer.Known = caller.UIDs[0], true
	}
	if !agent.Expires.IsZero() {
		r.Now = agent.Expires.Add(-1)
	}
	for _, scope := range agent.Scopes {
		r.Scope = scope
		d := p.Decide(r)
		if agent.Blocked {
			if d.Reason != policy.AgentBlocked || d.Agent != agent {
				t.Fatalf("%+v: got %+v, want agent %s blocked", r, d, name)
			}
			continue
		}
		if !d.Allowed || d.Audited || d.Agent != agent || d.Scope != scope {
			t.Fatalf("%+v: got %+v, want agent %s with its own scope", r, d, name)
		}
		slashes := strings.Replace(d.Scope, "/.default", "//.default", 1)
		if !strings.Contains(file, d.Scope) && !strings.Contains(file, slashes) && !hasShorthand(p, file, d.Scope) {
			t.Fatalf("%q is allowed and not in the file", d.Scope)
		}
		r.Scope = strings.ToUpper(scope)
		if d := p.Decide(r); d.Allowed && !d.Audited && !slices.Contains(agent.Scopes, r.Scope) {
			t.Fatalf("%q is allowed and not in the list %q", r.Scope, agent.Scopes)
		}
	}
}

// hasShorthand reports whether the file has what stands for scope.
func hasShorthand(p *policy.Policy, file, scope string) bool {
	for name, resource := range p.Cloud.Resources {
		permission, ok := strings.CutPrefix(scope, resource+"/")
		if ok && (permission == ".default" && strings.Contains(file, name) || strings.Contains(file, name+"/"+permission)) {
			return true
		}
	}
	return false
}

// FuzzScope: whatever is asked for, what is allowed is one of the grants with
// their shorthands expanded, byte for byte but for a second slash; and what only audit mode allows is
// still canonical and no token for the token exchange.
func FuzzScope(f *testing.F) {
	enforced, audited := parse(f, governed), parse(f, strings.Replace(governed, "mode: enforce", "mode: audit", 1))
	for _, scope := range append(slices.Clone(modelBad), modelGood...) {
		f.Add(scope, false)
		f.Add(scope+" "+userRead, true)
		f.Add(strings.Replace(scope, "/.default", "//.default", 1), false)
	}
	f.Fuzz(func(t *testing.T, scope string, onBehalfOf bool) {
		r := forAlice()
		r.Scope, r.OnBehalfOf = scope, onBehalfOf
		grants := []string{graph}
		if onBehalfOf {
			grants = []string{userRead, mailRead}
		}
		for asked := range strings.FieldsSeq(scope) {
			asked = modelTwoSlashes.ReplaceAllString(asked, "$1/.default")
			if enforced.Decide(r).Allowed && !slices.Contains(grants, asked) {
				t.Errorf("%q is allowed, and no grant", asked)
			}
			if _, canonical := modelScope(asked); audited.Decide(r).Allowed && (!canonical || modelReserved.MatchString(asked)) {
				t.Errorf("%q is allowed in audit mode", asked)
			}
		}
		if d := enforced.Decide(r); d.Allowed && (len(d.Scopes) == 0 || strings.Join(d.Scopes, " ") != d.Scope) {
			t.Errorf("%q: got %+v", scope, d)
		}
	})
}

// FuzzDecide: whatever is asked, an allowed request has an agent, an identity
// of that agent that is not expired, and scopes that are in the agent's list,
// letter for letter but for a second slash, and of one resource; a denied one has a reason, a rule
// and a hint, and no scope.
func FuzzDecide(f *testing.F) {
	p := parse(f, example)
	seeds := requests()
	for i := 0; i < len(seeds); i += 37 {
		r := seeds[i]
		f.Add(r.Peer.Socket, r.Peer.UID, r.Peer.Known, r.Peer.KeyFile, r.Peer.KeyRefused, r.Agent, r.Identity, r.Scope, r.Now.Unix())
	}
	f.Fuzz(func(t *testing.T, socket string, uid uint32, known bool, keyFile string, refused bool, agent, identity, scope string, now int64) {
		r := policy.Request{
			Peer:  policy.Peer{Socket: socket, UID: uid, Known: known, KeyFile: keyFile, KeyRefused: refused},
			Agent: agent, Identity: identity, Scope: scope, Now: time.Unix(now, 0),
		}
		d := p.Decide(r)
		if e := p.Explain(r).Decision; e.Reason != d.Reason || e.Rule != d.Rule || e.Scope != d.Scope {
			t.Fatalf("%+v: Decide says %+v, Explain %+v", r, d, e)
		}
		if !d.Allowed {
			if d.Reason == "" || d.Rule == "" || d.Hint == "" || len(d.Hint) > 1024 || len(d.Scopes) != 0 || d.Scope != "" {
				t.Fatalf("%+v: got the denial %+v", r, d)
			}
			return
		}
		if !slices.Contains(d.Agent.Identities, d.Identity) || identity != "" && identity != d.Identity {
			t.Fatalf("%+v: got the identity %q", r, d.Identity)
		}
		if !d.Agent.Expires.IsZero() && !r.Now.Before(d.Agent.Expires) {
			t.Fatalf("%+v: agent %s has expired", r, d.Agent.Name)
		}
		asked := strings.Fields(scope)
		for _, s := range asked {
			s = modelTwoSlashes.ReplaceAllString(s, "$1/.default")
			if !slices.Contains(d.Agent.Scopes, s) || !slices.Contains(d.Scopes, s) || s[:strings.LastIndex(s, "/")] != d.Resource {
				t.Fatalf("%+v: %q is allowed by %+v", r, s, d)
			}
		}
		if len(asked) == 0 || !slices.IsSorted(d.Scopes) || strings.Join(d.Scopes, " ") != d.Scope {
			t.Fatalf("%+v: got the scopes %q, %q", r, d.Scopes, d.Scope)
		}
	})
}

// TestFuzzSeeds: a fuzz target whose seeds were lost would pass for ever.
func TestFuzzSeeds(t *testing.T) {
	_, cases := problemCases(t)
	if len(cases) < 50 || len(requests()) < 1000 {
		t.Errorf("got %d files and %d requests", len(cases), len(requests()))
	}
}
