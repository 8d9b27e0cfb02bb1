package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/policy"
)

const ofThePod = `version: 1
tenant: pod
sources: {pod: {file: {path: /t}}}
identities:
  app: {application: {clientID: pod, podIDs: [11111111-2222-3333-4444-55555555aaaa, 9a0c5b0e-0000-4000-8000-0123456789ab], source: pod}}
  bot: {agent: {blueprintID: b1111111-2222-3333-4444-555555555555, agentID: pod, podIDs: [a1111111-2222-3333-4444-555555555555], source: pod}}
agents: {a: {identities: [app, bot], callers: [{tcp: {uids: [1]}}], allow: {scopes: [graph]}}}
`

func TestFromPod(t *testing.T) {
	pod := &policy.Pod{ClientID: strings.ToUpper(billingID), TenantID: tenantID, AgentID: agentOne}
	p, err := policy.ParseWith("credfree.yaml", []byte(ofThePod), policy.Options{Pod: pod})
	if err != nil {
		t.Fatal(err)
	}
	if p.Tenant != tenantID || p.Identities["app"].Tenant != tenantID || p.Identities["app"].Application.ClientID != billingID {
		t.Errorf("got %+v of tenant %s", p.Identities["app"].Application, p.Tenant)
	}
	if diff := cmp.Diff([]string{agentOne}, p.Identities["bot"].Agent.AgentIDs); diff != "" {
		t.Errorf("agent ids (-want +got):\n%s", diff)
	}
	want := []policy.FromPod{
		{Path: "tenant", Value: tenantID}, {Path: "identities.app.application.clientID", Value: billingID}, {Path: "identities.bot.agent.agentID", Value: agentOne},
	}
	if diff := cmp.Diff(want, p.FromPod); diff != "" {
		t.Errorf("from the pod (-want +got):\n%s", diff)
	}
	if d := p.Decide(policy.Request{Peer: tcp(1), Identity: "bot", Scope: graph, Now: may2027}); !d.Allowed || d.Member != agentOne {
		t.Errorf("got %+v", d)
	}
	if got := warnedOfPod(p); got != 0 {
		t.Errorf("got %d warnings: %v", got, p.Warnings)
	}
	// A policy that takes nothing from the pod says so.
	if got := parse(t, example).FromPod; len(got) != 0 {
		t.Errorf("got %v of a file that stands alone", got)
	}
}

func warnedOfPod(p *policy.Policy) (n int) {
	for _, warning := range p.Warnings {
		if strings.Contains(warning.Message, "there is no pod here") {
			n++
		}
	}
	return n
}

// Without a pod the file can be checked, and no id is made up.
func TestFromNoPod(t *testing.T) {
	p := parse(t, strings.Replace(ofThePod, "allow: {scopes: [graph]}}", "allow: {scopes: [graph]}, onBehalfOf: {allow: {scopes: [graph/User.Read]}, clients: ["+signInApp+"]}}", 1))
	if d := p.Decide(policy.Request{Peer: tcp(1), Identity: "app", Scope: userRead, OnBehalfOf: true, User: alice(), Now: may2027}); d.Allowed {
		t.Errorf("got %+v for a user of a tenant that is not known", d)
	}
	if got := warnedOfPod(p); got != 3 || p.Tenant != "" || p.Identities["app"].Application.ClientID != "" {
		t.Errorf("got %d warnings and %+v, want 3 and nothing", got, p.Identities["app"].Application)
	}
}

func TestFromPodRefused(t *testing.T) {
	good := policy.Pod{ClientID: billingID, TenantID: tenantID, AgentID: agentOne}
	for name, test := range map[string]struct {
		change func(*policy.Pod)
		file   string
		want   string
	}{
		"no client id":          {func(p *policy.Pod) { p.ClientID = "" }, ofThePod, "identities.app.application.clientID: the pod does not say"},
		"no tenant":             {func(p *policy.Pod) { p.TenantID = "" }, ofThePod, "tenant: the pod does not say"},
		"no agent":              {func(p *policy.Pod) { p.AgentID = "" }, ofThePod, "identities.bot.agent.agentID: the pod does not say"},
		"a domain":              {func(p *policy.Pod) { p.TenantID = "contoso.com" }, ofThePod, "is not a GUID"},
		"spaces":                {func(p *policy.Pod) { p.ClientID = billingID + "\n" }, ofThePod, "is not a GUID"},
		"a path":                {func(p *policy.Pod) { p.ClientID = "../" + billingID }, ofThePod, "is not a GUID"},
		"another client":        {func(p *policy.Pod) { p.ClientID = blueprintID }, ofThePod, "is not one of podIDs"},
		"another agent":         {func(p *policy.Pod) { p.AgentID = agentTwo }, ofThePod, "is not one of podIDs"},
		"any agent":             {func(*policy.Pod) {}, strings.Replace(ofThePod, "agentID: pod, podIDs: [a1111111-2222-3333-4444-555555555555]", "agentID: pod", 1), "could name any agent identity"},
		"the blueprint":         {func(*policy.Pod) {}, strings.Replace(ofThePod, "podIDs: [a1111111-2222-3333-4444-555555555555]", "podIDs: [a1111111-2222-3333-4444-555555555555, "+blueprintID+"]", 1), "this is the blueprint"},
		"podIDs for nothing":    {func(*policy.Pod) {}, strings.Replace(ofThePod, "clientID: pod", "clientID: "+billingID, 1), "podIDs goes with an id that the pod says only"},
		"podIDs beside agentID": {func(*policy.Pod) {}, strings.Replace(ofThePod, "agentID: pod", "agentID: "+agentOne, 1), "podIDs goes with an id that the pod says only"},
		"a tag":                 {func(*policy.Pod) {}, strings.Replace(ofThePod, "tenant: pod", "tenant: !!str pod", 1), "the YAML tag"},
		"an anchor":             {func(*policy.Pod) {}, strings.Replace(ofThePod, "clientID: pod", "clientID: &id pod", 1), "anchors and aliases are refused"},
		"an escape":             {func(*policy.Pod) {}, strings.Replace(ofThePod, "agentID: pod", `agentID: "p\x6fd"`, 1), "YAML escapes are refused"},
		"an empty list":         {func(*policy.Pod) {}, strings.Replace(ofThePod, "podIDs: [a1111111-2222-3333-4444-555555555555]", "podIDs: []", 1), "the list is empty"},
	} {
		pod := good
		test.change(&pod)
		if _, err := policy.ParseWith("credfree.yaml", []byte(test.file), policy.Options{Pod: &pod}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	any := strings.Replace(ofThePod, "clientID: pod, podIDs: [11111111-2222-3333-4444-55555555aaaa, 9a0c5b0e-0000-4000-8000-0123456789ab]", "clientID: pod", 1)
	p, err := policy.ParseWith("credfree.yaml", []byte(any), policy.Options{Pod: &good})
	if err != nil || !strings.Contains(policy.Problems(p.Warnings).Error(), "any client id that trusts it") {
		t.Errorf("got %v, want a warning about the list that is missing", err)
	}
}
