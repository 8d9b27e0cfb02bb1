package review_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/broker/review"
)

// overlap has scopes that the same agent is granted several times over.
const overlap = `version: 1
tenant: 8a0c5b0e-1111-4222-8333-444455556666
sources: {pod: {file: {path: /t}}}
identities: {app: {application: {clientID: 11111111-2222-4333-8444-555555555555, source: pod}}}
apis:
  graph: {baseURL: https://graph.microsoft.com/v1.0, scopes: [graph]}
  people: {baseURL: https://graph.microsoft.com/v1.0/users, scopes: [graph/User.Read, graph/Group.Read.All]}
roles:
  ops: [arm, graph]
  more: [arm, storage]
agents:
  "1.5":
    owner: a
    expires: 2030-01-01
    identity: app
    callers: [{tcp: {uids: [1]}}]
    allow: {scopes: [graph, arm, "https://colon.example/a:"], roles: [ops, more], apis: [graph]}
    onBehalfOf:
      clients: [66666666-2222-4333-8444-555555555555]
      allow: {scopes: [graph/User.Read], roles: [more], apis: [people]}
`

// merge does what the yq expression in a proposal does: mappings are merged,
// and all else is replaced.
func merge(old, by any) any {
	a, ok1 := old.(map[string]any)
	b, ok2 := by.(map[string]any)
	if !ok1 || !ok2 {
		return by
	}
	merged := maps.Clone(a)
	for name, value := range b {
		merged[name] = merge(a[name], value)
	}
	return merged
}

// dates are not to become times on their way through a decoder.
var dates = regexp.MustCompile(`\b20[0-9]{2}-[0-9]{2}-[0-9]{2}\b`)

// apply returns the policy that a proposal makes of a file.
func apply(t testing.TB, file, proposal []byte) *policy.Policy {
	t.Helper()
	var old, by any
	check(t, yaml.Unmarshal(dates.ReplaceAll(file, []byte(`"$0"`)), &old))
	check(t, yaml.Unmarshal(proposal, &by))
	if by == nil {
		by = map[string]any{}
	}
	smaller, err := yaml.Marshal(merge(old, by))
	check(t, err)
	p, err := policy.Parse("smaller.yaml", smaller)
	if err != nil {
		t.Fatalf("the proposal makes a policy that is wrong: %v\n%s", err, proposal)
	}
	return p
}

// rightsOf lists the rights of a policy as <agent> <flow> <scope>.
func rightsOf(p *policy.Policy) map[string]bool {
	rights := map[string]bool{}
	for name, agent := range p.Agents {
		for _, scope := range agent.Scopes {
			rights[name+" self "+scope] = true
		}
		if agent.OnBehalfOf != nil {
			for _, scope := range agent.OnBehalfOf.Scopes {
				rights[name+" user "+scope] = true
			}
		}
	}
	return rights
}

// apisOf lists the scopes that come and go with another scope of an API.
func apisOf(p *policy.Policy, right string) []string {
	agent := p.Agents[strings.Fields(right)[0]]
	prefix, scope := right[:strings.LastIndexByte(right, ' ')+1], strings.Fields(right)[2]
	names := agent.APIs
	if strings.Contains(prefix, " user ") {
		names = agent.OnBehalfOf.APIs
	}
	var others []string
	for _, name := range names {
		if scopes := p.APIs[name].Scopes; slices.Contains(scopes, scope) {
			for _, other := range scopes {
				others = append(others, prefix+other)
			}
		}
	}
	return others
}

// TestProposalKeepsWhatIsUsed tries out uses at random: the proposed policy is
// valid, grants all that was asked for, and nothing else but what an API that was
// used brings.
func TestProposalKeepsWhatIsUsed(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, file := range [][]byte{testdata(t, "policy.yaml"), []byte(overlap)} {
		cfg := configOf(t, file)
		granted := rightsOf(cfg.Policy)
		for range 100 {
			var log bytes.Buffer
			fmt.Fprintln(&log, `{"time":"2026-10-01T00:00:00Z","type":"audit","decision":"deny","reason":"unknown_agent"}`)
			want := map[string]bool{}
			for _, right := range slices.Sorted(maps.Keys(granted)) {
				if random.IntN(2) == 0 {
					continue
				}
				want[right] = true
				for _, other := range apisOf(cfg.Policy, right) {
					want[other] = true
				}
				part := strings.Fields(right)
				decision := []string{"allow", "deny", "error"}[random.IntN(3)]
				fmt.Fprintf(&log, `{"time":"2026-10-01T00:00:00Z","type":"audit","agent":%q,"decision":%q,"scopes":[%q],"on_behalf_of":%t}`+"\n", part[0], decision, part[2], part[1] == "user")
			}
			var proposal bytes.Buffer
			check(t, reportOf(t, cfg, log.Bytes()).WriteProposal(&proposal))
			smaller := apply(t, file, proposal.Bytes())
			if diff := cmp.Diff(want, rightsOf(smaller)); diff != "" {
				t.Fatalf("the proposal grants something else (-want +got):\n%s\n%s", diff, proposal.Bytes())
			}
			for name, agent := range smaller.Agents {
				for _, api := range cfg.Policy.Agents[name].APIs {
					used := slices.ContainsFunc(cfg.Policy.APIs[api].Scopes, func(scope string) bool { return want[name+" self "+scope] })
					if got := slices.Contains(agent.APIs, api); got != used {
						t.Fatalf("agent %s may call API %s: got %t, want %t\n%s", name, api, got, used, proposal.Bytes())
					}
				}
			}
		}
	}
}

// TestProposalKeepsInspections: who only has users' tokens inspected needs onBehalfOf,
// though it acts for nobody.
func TestProposalKeepsInspections(t *testing.T) {
	for grant, want := range map[string]string{
		"inspection":         "# nothing was asked for on behalf of a user; onBehalfOf stays, to inspect users' tokens",
		"client_credentials": "# nothing was asked for on behalf of a user: onBehalfOf can go",
	} {
		var proposal bytes.Buffer
		line := `{"time":"2026-10-01T00:00:00Z","type":"audit","agent":"1.5","decision":"allow","grant":"` + grant + `"}`
		check(t, reportOf(t, configOf(t, []byte(overlap)), []byte(line)).WriteProposal(&proposal))
		if !strings.Contains(proposal.String(), want+"\n") {
			t.Errorf("%s: got\n%s\nwithout %q", grant, proposal.String(), want)
		}
	}
}

// TestProposalNeedsSomethingToGoBy: nothing is taken away on the word of no log.
func TestProposalNeedsSomethingToGoBy(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  review.Config
		log  []byte
	}{
		{"no policy", review.Config{}, testdata(t, "log.jsonl")},
		{"no line", configOf(t, testdata(t, "policy.yaml")), nil},
		{"only old lines", func() review.Config { cfg := configOf(t, testdata(t, "policy.yaml")); cfg.Since = now; return cfg }(), testdata(t, "log.jsonl")},
	} {
		var proposal bytes.Buffer
		if err := reportOf(t, c.cfg, c.log).WriteProposal(&proposal); err == nil || proposal.Len() > 0 {
			t.Errorf("%s: got the error %v and %q, want an error alone", c.name, err, proposal.String())
		}
	}
}

// TestRulesAreThoseOfDecisions: what a review says grants a right is what the
// policy says when it grants it.
func TestRulesAreThoseOfDecisions(t *testing.T) {
	cfg := configOf(t, testdata(t, "policy.yaml"))
	compared := 0
	for _, agent := range reportOf(t, cfg).Agents {
		caller := cfg.Policy.Agents[agent.Name].Callers[0]
		for _, right := range agent.Rights {
			member := ""
			if agent.Name == "researcher" {
				member = "research/33333333-2222-4333-8444-555555555555"
			}
			steps := cfg.Policy.Explain(policy.Request{
				Peer:  policy.Peer{Socket: caller.Socket, UID: caller.UIDs[0], Known: true},
				Scope: right.Scope, Identity: member, OnBehalfOf: right.OnBehalfOf, Now: since,
			}).Steps
			for _, step := range steps {
				if step.Name != "scope" {
					continue
				}
				compared++
				if !step.OK || step.Audited || step.Rule != right.Rule {
					t.Errorf("%s %s: the policy says %+v, the review %q", agent.Name, right.Scope, step, right.Rule)
				}
			}
		}
	}
	if compared < 10 {
		t.Fatalf("got %d rights to compare, want at least 10", compared)
	}
}
