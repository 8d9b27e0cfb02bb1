package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/credfree/credfree/broker/admin"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/broker/recent"
)

// details returns what operators see of each issuance, the oldest first.
func (r *running) details(t *testing.T) []admin.Detail {
	t.Helper()
	look := func(path string, into any) {
		status, text := do(t, http.MethodGet, "http://"+r.adminAddr()+path, "")
		if status != http.StatusOK {
			t.Fatalf("%s: got %d %s", path, status, text)
		}
		check(t, json.NewDecoder(strings.NewReader(text)).Decode(into))
	}
	var list admin.Issuances
	look("/issuances?limit=1000", &list)
	var all []admin.Detail
	for _, i := range slices.Backward(list.Issuances) {
		var d admin.Detail
		look("/issuances/"+i.ID, &d)
		all = append(all, d)
	}
	return all
}

// The steps that operators see are those of the decision as it was made: by the
// policy of that time, of a cache hit too, and the same that explain prints.
func TestOperatorsSeeTheDecision(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	ask := func(scope string) {
		do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+scope)
	}
	before := r.inForce().Policy
	ask(graphScope)
	ask(graphScope)
	ask(vaultScope)
	after, err := policy.Parse("credfree.yaml", []byte(r.lab.header()+strings.Replace(anyProcess(), "apis: [graph, azure-openai]", "scopes: [keyvault]", 1)))
	check(t, err)
	check(t, r.use(after))
	r.reloadApplied(r.inForce().Policy.Revision)
	ask(graphScope)
	want := func(p *policy.Policy, scope string) []recent.Step {
		var steps []recent.Step
		for _, step := range p.Explain(policy.Request{Peer: policy.Peer{UID: uint32(os.Getuid()), Known: true}, Scope: scope, Raw: true, Now: time.Now()}).Steps {
			steps = append(steps, recent.Step(step))
		}
		return steps
	}
	all := r.details(t)
	if len(all) != 4 {
		t.Fatalf("got %d issuances, want 4", len(all))
	}
	for n, test := range []struct {
		policy          *policy.Policy
		scope           string
		decision, cache string
	}{{before, graphScope, "allow", "miss"}, {before, graphScope, "allow", "hit"}, {before, vaultScope, "deny", ""}, {after, graphScope, "deny", ""}} {
		d := all[n]
		if d.Issuance.Decision != test.decision || d.Issuance.Cache != test.cache || d.Issuance.Revision != test.policy.Revision || d.InForce != after.Revision {
			t.Errorf("%d: got %s %s by %s while %s is in force", n, d.Issuance.Decision, d.Issuance.Cache, d.Issuance.Revision, d.InForce)
		}
		if diff := cmp.Diff(want(test.policy, test.scope), d.Steps); diff != "" {
			t.Errorf("%d: (-explain +operators):\n%s", n, diff)
		}
		if test.decision == "deny" && !strings.Contains(d.Issuance.Hint, test.scope) {
			t.Errorf("%d: got hint %q", n, d.Issuance.Hint)
		}
	}
	var state admin.Overview
	_, text := do(t, http.MethodGet, "http://"+r.adminAddr()+"/state", "")
	check(t, json.NewDecoder(strings.NewReader(text)).Decode(&state))
	agent := state.Agents[0]
	if len(state.Agents) != 1 || agent.Allowed != 2 || agent.Denied != 2 || agent.Unused() != len(agent.Rights)-1 {
		t.Errorf("got %+v", agent)
	}
	if last := agent.Rights[len(agent.Rights)-1]; last.Scope != graphScope || last.Granted || last.Count != 2 {
		t.Errorf("got %+v, want the right that was taken away and had been used", last)
	}
	if state.Policy.Applied != 1 || state.Policy.Revision != after.Revision || state.Policy.Error != "" || state.Entra.LastAsked.IsZero() {
		t.Errorf("got %+v %+v", state.Policy, state.Entra)
	}
}

// Whoever asks what the agent's own token says is told by a decision, too, and uses no
// right.
func TestOperatorsSeeInspections(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	_, text := do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+graphScope)
	var got struct {
		Token string `json:"access_token"`
	}
	check(t, json.NewDecoder(strings.NewReader(text)).Decode(&got))
	if _, text := do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/introspect", "token="+got.Token); !strings.Contains(text, `"active":true`) {
		t.Fatalf("got %s", text)
	}
	all := r.details(t)
	d := all[len(all)-1]
	if !d.Issuance.Inspected() || d.Spans[0].Name != "token.inspect" {
		t.Errorf("got %+v", d)
	}
	if diff := cmp.Diff(all[0].Steps[:4], d.Steps); diff != "" { // none hands out a token
		t.Errorf("(-of the token +of the inspection):\n%s", diff)
	}
	var state admin.Overview
	_, text = do(t, http.MethodGet, "http://"+r.adminAddr()+"/state", "")
	check(t, json.NewDecoder(strings.NewReader(text)).Decode(&state))
	agent := state.Agents[0]
	uses := int64(0)
	for _, right := range agent.Rights {
		uses += right.Count
	}
	if agent.Allowed != 1 || agent.Inspected != 1 || uses != 1 {
		t.Errorf("got %+v", agent)
	}
}

// An exchange has its waterfall though nothing is exported, and a plain hit
// costs no span.
func TestSpansStayHere(t *testing.T) {
	memory := recent.New(time.Now())
	for name, test := range map[string]struct {
		exporter   string
		processors []sdktrace.SpanProcessor
		want       bool
	}{
		"nothing is exported":        {"", []sdktrace.SpanProcessor{spanKeeper{memory}}, true},
		"none is asked for":          {"none", []sdktrace.SpanProcessor{spanKeeper{memory}}, true},
		"spans are exported":         {"console", []sdktrace.SpanProcessor{spanKeeper{memory}}, false},
		"somebody else wants spans":  {"", []sdktrace.SpanProcessor{spanKeeper{memory}, sdktrace.NewSimpleSpanProcessor(tracetest.NewInMemoryExporter())}, false},
		"nobody wants spans, nor we": {"", nil, false},
	} {
		t.Setenv("OTEL_TRACES_EXPORTER", test.exporter)
		made, err := newTelemetry(t.Context(), slog.New(slog.DiscardHandler), test.processors...)
		check(t, err)
		if made.noHits != test.want {
			t.Errorf("%s: got %v, want %v", name, made.noHits, test.want)
		}
		check(t, made.shutdown(t.Context()))
	}
	r := startService(t, func(string) string { return anyProcess() })
	do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+graphScope)
	var names []string
	for _, span := range r.details(t)[0].Spans {
		names = append(names, span.Name)
	}
	if diff := cmp.Diff([]string{"token.issue", "workload.token", "entra.token", "HTTP POST"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The operator key lets in who is neither root nor the broker's own user; a
// file that holds none is no reason to start without.
func TestAdminKeyFile(t *testing.T) {
	if keys, err := readAdminKey(""); keys != nil || err != nil {
		t.Errorf("got %v, %v", keys, err)
	}
	path := t.TempDir() + "/key"
	for text, want := range map[string]string{"": "is empty", "short": "of 5 bytes", strings.Repeat("k", 32): ""} {
		check(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := readAdminKey(path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	if _, err := readAdminKey(path + "-none"); err == nil || !strings.Contains(fmt.Sprint(err), "operator key") {
		t.Errorf("got %v", err)
	}
}

// Users who are blocked are shown as all users are.
func TestBlockedUsersAreShownAsUsersAre(t *testing.T) {
	p := &policy.Policy{}
	p.Blocked.Users = []policy.UserID{{Tenant: "5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10", ObjectID: "0be5e000-0000-4000-8000-0000000005e4"}}
	pseudonyms := issuance.NewPseudonyms([]byte("0123456789abcdef"))
	if got := policyView(p, nil).BlockedUsers; !slices.Equal(got, []string{"5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10/0be5e000-0000-4000-8000-0000000005e4"}) {
		t.Errorf("got %q", got)
	}
	if got := policyView(p, pseudonyms).BlockedUsers; !slices.Equal(got, []string{pseudonyms.Of("5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10", "0be5e000-0000-4000-8000-0000000005e4")}) {
		t.Errorf("got %q", got)
	}
}

// A right is used by all its names, and each is a right of its own where it is granted.
func TestRightsByAnotherName(t *testing.T) {
	const named, older = "https://management.azure.com/.default", "https://management.core.windows.net/.default"
	for scopes, want := range map[string]string{
		"arm":                  "[{" + named + " 3}]",
		"arm, '" + older + "'": "[{" + named + " 1} {" + older + " 2}]",
	} {
		p, err := policy.Parse("credfree.yaml", []byte("version: 1\ntenant: 5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10\nsources: {s: {file: {path: /x}}}\n"+
			"identities: {demo: {application: {clientID: a1d4c0de-0000-4000-8000-00000000a9e7, source: s}}}\nagents: {a: {identity: demo, callers: [{tcp: {uids: [1]}}], allow: {scopes: ["+scopes+"]}}}\n"))
		check(t, err)
		type right struct {
			Scope string
			Count int64
		}
		var got []right
		for _, v := range rightViews(p.Agents["a"], recent.AgentUse{Rights: []recent.RightUse{{Scope: named, Count: 1}, {Scope: older, Count: 2}}}) {
			if !v.Granted {
				t.Errorf("%s: %+v is not granted", scopes, v)
			}
			got = append(got, right{v.Scope, v.Count})
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s: got %v, want %s", scopes, got, want)
		}
	}
}
