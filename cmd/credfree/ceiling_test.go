package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/policy"
)

// A ceiling holds from the start on, whatever becomes of its file: without one
// that was ever valid nobody gets a token, and afterwards the last valid one
// counts. What it takes away is gone from the cache at once.
func TestCeilingReload(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	path := filepath.Join(r.lab.dir, "ceiling.yaml")
	text := r.lab.header() + anyProcess()
	r.cfg.ceiling = true
	check(t, r.lab.write("credfree.yaml", text))

	p, w, ceilingErr, err := startPolicy(filepath.Join(r.lab.dir, "credfree.yaml"), nil, path, func(string) string { return "" })
	check(t, err)
	if ceilingErr == nil {
		t.Fatal("got no error for a ceiling that is not there")
	}
	check(t, r.use(p))
	r.ceilingRead(p.Ceiling(), ceilingErr)
	look := func() { w.look(r.service); w.look(r.service) }
	ready := func() int { got, _ := do(t, http.MethodGet, "http://"+r.adminAddr()+"/readyz", ""); return got }
	want := func(when string, status, readiness int, rule string) {
		t.Helper()
		got, body := r.ask(t, "demo")
		if got != status || ready() != readiness || !strings.Contains(body, rule) {
			t.Errorf("%s: got %d and ready %d, want %d and %d by %q: %s", when, got, ready(), status, readiness, rule, body)
		}
	}
	const wide, narrow = "version: 1\nallow: {resources: [graph]}\n", "version: 1\nallow: {resources: [storage]}\n"
	look()
	want("without a ceiling", 400, 503, "ceiling")
	check(t, r.lab.write("ceiling.yaml", wide))
	look()
	want("with one", 200, 200, "access_token")
	if got := r.cache.Stats().Entries; got == 0 {
		t.Fatal("the token is not in the cache")
	}
	check(t, r.lab.write("ceiling.yaml", narrow))
	look()
	if got := r.cache.Stats().Entries; got != 0 {
		t.Errorf("got %d tokens in the cache that the ceiling does not allow", got)
	}
	want("with a lower one", 400, 200, "ceiling.allow")
	check(t, r.lab.write("ceiling.yaml", "version: 1\nallow: {resource: [graph]}\n"))
	look()
	want("with one that is not valid", 400, 503, "ceiling.allow")
	check(t, r.lab.write("credfree.yaml", strings.Replace(text, "apis: [graph, azure-openai]", "scopes: [storage]", 1)))
	look()
	form := "grant_type=client_credentials&scope=https://storage.azure.com/.default"
	if status, body := do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", form); status == 400 && strings.Contains(body, "ceiling") {
		t.Errorf("a new policy under the last valid ceiling: got %s", body)
	}
	check(t, r.lab.write("ceiling.yaml", wide))
	check(t, r.lab.write("credfree.yaml", text))
	look()
	want("with the first one again", 200, 200, "access_token")
	check(t, os.Remove(path))
	look()
	want("without a file again", 200, 503, "access_token")
}

// The ceiling and the policy are two files: one says nothing of how the other is.
func TestCeilingAndPolicyFailApart(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	ceiling, file := filepath.Join(r.lab.dir, "ceiling.yaml"), filepath.Join(r.lab.dir, "credfree.yaml")
	text := r.lab.header() + "users: hashed\nusersKeyFile: users.key\n" + anyProcess()
	const wide, lower, narrow = "version: 1\nallow: {resources: [graph]}\n", "version: 1\nallow: {resources: [graph, keyvault]}\n", "version: 1\nallow: {resources: [storage]}\n"
	r.cfg.ceiling = true
	check(t, r.lab.write("users.key", "0123456789abcdef\n"))
	check(t, r.lab.write("credfree.yaml", text))
	check(t, r.lab.write("ceiling.yaml", wide))
	p, w, ceilingErr, err := startPolicy(file, nil, ceiling, func(string) string { return "" })
	check(t, errors.Join(err, ceilingErr))
	check(t, r.use(p))
	look := func() { w.look(r.service); w.look(r.service) }
	state := func(want string, when string) {
		t.Helper()
		status, _ := r.ask(t, "demo")
		if got := fmt.Sprint(status, r.policyState(t.Context()).OK, r.ceilingState(t.Context()).OK); got != want {
			t.Errorf("%s: got %s, want %s", when, got, want)
		}
	}
	state("200 true true", "at first")
	check(t, r.lab.write("credfree.yaml", "garbage: ["))
	look()
	state("200 false true", "with a broken policy")
	applied := r.reload.count[reloadApplied]
	check(t, r.lab.write("ceiling.yaml", lower))
	look()
	state("200 false true", "with a broken policy under another ceiling")
	if got := r.reload.count[reloadApplied]; got != applied {
		t.Errorf("a change of the ceiling counts as %d policies", got-applied)
	}
	check(t, r.lab.write("credfree.yaml", text))
	look()
	state("200 true true", "mended")
	// A lower ceiling that cannot be put in force now is as soon as it can.
	check(t, os.Remove(filepath.Join(r.lab.dir, "users.key")))
	check(t, r.lab.write("ceiling.yaml", narrow))
	look()
	state("200 true false", "without the key file that the policy names")
	check(t, r.lab.write("users.key", "0123456789abcdef\n"))
	look()
	state("400 true true", "with the key file again")
}

// What the pod says comes from its environment at the start, and from nothing
// else: a broker whose pod says nothing makes nothing up.
func TestStartTakesFromThePod(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "credfree.yaml")
	check(t, os.WriteFile(path, []byte("version: 1\ntenant: pod\nagents: {}\n"), 0o600))
	const id = "8a0c5b0e-0000-4000-8000-0123456789ab"
	p, w, _, err := startPolicy(path, nil, "", func(name string) string {
		return map[string]string{"CREDFREE_POD_TENANT_ID": id}[name]
	})
	check(t, err)
	if p.Tenant != id || len(p.FromPod) != 1 || w.options.Pod == nil || w.options.Ceiling != nil {
		t.Errorf("got tenant %q, %v", p.Tenant, p.FromPod)
	}
	if _, _, _, err := startPolicy(path, nil, "", func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), "the pod does not say") {
		t.Errorf("got %v, want an error", err)
	}
	if got := podOf(func(string) string { return "" }); got != nil {
		t.Errorf("got %+v, want no pod", got)
	}
	if got := podOf(func(name string) string { return name }); *got != (policy.Pod{ClientID: "CREDFREE_POD_CLIENT_ID", TenantID: "CREDFREE_POD_TENANT_ID", AgentID: "CREDFREE_POD_AGENT_ID"}) {
		t.Errorf("got %+v", got)
	}
}
