package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/exchange/entratest"
)

// ask asks for a token of an identity that is not in the cache.
func (r *running) ask(t *testing.T, identity string) (int, string) {
	t.Helper()
	_, _, err := r.broker.Purge(broker.Selection{Agent: "demo"})
	check(t, err)
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {graphScope}, "identity": {identity}}
	return do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", form.Encode())
}

// Whatever happens around the broker, and however long it lasts: when it is
// over, the broker serves again, and nobody has to restart it.
func TestRecovery(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	host := r.lab.host
	all := func(t *testing.T, when string) {
		t.Helper()
		for _, identity := range []string{"demo", "agent", "agent-user"} {
			// A breaker that has opened lets the next request pass within 5 s.
			deadline := time.Now().Add(15 * time.Second)
			for {
				status, body := r.ask(t, identity)
				if status == http.StatusOK {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s, %s: got %d %s, want a token", when, identity, status, body)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
	}
	none := func(t *testing.T, when string) {
		t.Helper()
		if status, body := r.ask(t, "demo"); status == http.StatusOK {
			t.Errorf("%s: got a token: %s", when, body)
		}
	}
	all(t, "at first")
	for name, trouble := range map[string]struct{ begin, end func() error }{
		"Entra goes and comes back": {host.Pause, host.Resume},
		"Entra fails": {
			func() error { host.Server.SetBehavior(entratest.Behavior{Status: 503}); return nil },
			func() error { host.Server.SetBehavior(entratest.Behavior{}); return nil }},
		"the clock is ten minutes behind": {
			func() error { host.Server.SetBehavior(entratest.Behavior{ClockSkew: -10 * time.Minute}); return nil },
			func() error { host.Server.SetBehavior(entratest.Behavior{}); return nil }},
		"the workload token is gone": {
			func() error { return os.Remove(filepath.Join(r.lab.dir, "workload-token")) },
			r.lab.refreshTokens},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, trouble.begin())
			// The legs of agents are kept: only what needs a new one fails.
			none(t, name)
			check(t, trouble.end())
			all(t, "after: "+name)
		})
	}
	for name, change := range map[string]func() error{
		"the workload token is replaced": r.lab.refreshTokens,
		"Entra's keys are replaced":      func() error { host.Server.RotateKeys(); return nil },
		"Entra's keys are all others": func() error {
			for range 5 { // until the first is not published any more
				host.Server.RotateKeys()
				if err := r.lab.refreshTokens(); err != nil {
					return err
				}
			}
			return nil
		},
		"the issuer's keys are replaced": func() error { host.Issuer.RotateKeys(); return r.lab.refreshTokens() },
		"the clock is ten minutes ahead": func() error {
			host.Server.SetBehavior(entratest.Behavior{ClockSkew: 10 * time.Minute})
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, change())
			all(t, name)
		})
	}
}

// A changed policy file is in force within seconds, without a restart; what is
// not valid, not whole or not there changes nothing but readiness.
func TestReload(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	path := filepath.Join(r.lab.dir, "credfree.yaml")
	header, good := r.lab.header(), anyProcess()
	narrower := strings.Replace(good, "apis: [graph, azure-openai]", "scopes: [keyvault]", 1)
	socket := strings.Replace(good, "    callers:\n", "    callers:\n      - {socket: new.sock}\n", 1)
	w := policyWatch{policy: fileWatch{path: path, applied: []byte(header + good)}}
	look := func(times int) {
		for range times {
			w.look(r.service)
		}
	}
	write := func(text string) { check(t, r.lab.write("credfree.yaml", text)) }
	status := func() int { got, _ := r.ask(t, "demo"); return got }
	ready := func() int { got, _ := do(t, http.MethodGet, "http://"+r.adminAddr()+"/readyz", ""); return got }

	write(header + good)
	look(3)
	if got := r.reload.count[reloadApplied]; got != 0 || status() != 200 {
		t.Errorf("an unchanged file was put in force %d times, status %d", got, status())
	}
	write(header + narrower)
	look(1)
	if status() != 200 {
		t.Error("a file that has just changed is in force before it is known to be whole")
	}
	look(1)
	if status() != 400 || ready() != 200 {
		t.Errorf("got %d and ready %d after the right was taken away, want 400 and 200", status(), ready())
	}
	for name, text := range map[string]string{"invalid": header + "agents: {demo: {what: 1}}\n", "empty": "", "half": header[:40]} {
		write(text)
		look(2)
		if status() != 400 || ready() != 503 {
			t.Errorf("%s: got %d and ready %d, want the old policy and 503", name, status(), ready())
		}
	}
	check(t, os.Remove(path))
	look(2)
	if status() != 400 || ready() != 503 {
		t.Errorf("without a file: got %d and ready %d, want the old policy and 503", status(), ready())
	}
	write(header + narrower)
	look(2)
	if ready() != 200 {
		t.Error("the file is back as it was, and it is not ready")
	}
	write(header + socket)
	w.policy.settled = true // as on SIGHUP
	look(1)
	if status() != 200 {
		t.Error("SIGHUP does not put the file in force at once")
	}
	if _, err := os.Stat(filepath.Join(r.lab.dir, "new.sock")); err != nil {
		t.Errorf("the new socket: %v", err)
	}
	write(header + good)
	look(2)
	if _, err := os.Stat(filepath.Join(r.lab.dir, "new.sock")); err == nil {
		t.Error("the socket that is gone from the policy is still there")
	}
	_, metrics := do(t, http.MethodGet, "http://"+r.adminAddr()+"/metrics", "")
	for _, want := range []string{`credfree_policy_reloads_total{outcome="applied"}`, `credfree_policy_reloads_total{outcome="refused"}`, "credfree_policy_in_force 1", `credfree_agent_time_to_expiry_seconds{agent="demo"}`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

// Who expires soon is said where operators look, and takes nobody out of service.
func TestExpiryIsAnnounced(t *testing.T) {
	for day, want := range map[string]string{
		time.Now().AddDate(1, 0, 0).Format(time.DateOnly):  "none of 1 expires within 30 days",
		time.Now().AddDate(0, 0, 10).Format(time.DateOnly): "demo expires after ",
		time.Now().AddDate(0, 0, -2).Format(time.DateOnly): "demo has expired",
	} {
		r := startService(t, func(string) string {
			return strings.Replace(anyProcess(), "expires: "+time.Now().AddDate(1, 0, 0).Format(time.DateOnly), "expires: "+day, 1)
		})
		r.warnOfExpiry()
		status, body := do(t, http.MethodGet, "http://"+r.adminAddr()+"/readyz", "")
		if status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: got %d %s, want 200 and %q", day, status, body, want)
		}
		r.mu.Lock()
		log := r.log.String()
		r.mu.Unlock()
		if soon := !strings.HasPrefix(want, "none"); strings.Contains(log, "you@demo.example") != soon {
			t.Errorf("%s: got log %s, want a warning: %t", day, log, soon)
		}
	}
}

// Kubernetes exchanges a mounted ConfigMap by a symbolic link to a folder.
func TestReloadThroughASymbolicLink(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	dir := t.TempDir()
	version := func(name, text string) {
		folder := filepath.Join(dir, name)
		check(t, os.Mkdir(folder, 0o700))
		check(t, os.WriteFile(filepath.Join(folder, "credfree.yaml"), []byte(text), 0o600))
		check(t, os.Symlink(name, filepath.Join(dir, "new")))
		check(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "..data")))
	}
	text := r.lab.header() + anyProcess()
	version("..1", text)
	check(t, os.Symlink("..data/credfree.yaml", filepath.Join(dir, "credfree.yaml")))
	w := policyWatch{policy: fileWatch{path: filepath.Join(dir, "credfree.yaml"), applied: []byte(text)}}
	w.look(r.service)
	version("..2", strings.Replace(text, "apis: [graph, azure-openai]", "scopes: [keyvault]", 1))
	w.look(r.service)
	w.look(r.service)
	if got, _ := r.ask(t, "demo"); got != 400 {
		t.Errorf("got %d, want the new policy to deny", got)
	}
}

// The admin listener purges for the broker's own user, and says how much.
func TestPurgeOverTheAdminListener(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	if status, body := r.ask(t, "agent"); status != 200 {
		t.Fatalf("got %d %s", status, body)
	}
	target := "http://" + r.adminAddr() + "/purge"
	for form, want := range map[string]int{"": 400, "all=false": 400, "agent=": 400, "who=me": 400, "all=true&agent=demo": 400, "agent=a&agent=b": 400, "agent=Demo": 404, "user=alice": 400, "scope=Graph": 400} {
		if status, body := do(t, http.MethodPost, target, form); status != want {
			t.Errorf("%q: got %d %s, want %d", form, status, body, want)
		}
	}
	if status, _ := do(t, http.MethodPost, target, "all=true", "Origin", "https://evil.example"); status != 403 {
		t.Errorf("a browser page got %d, want 403", status)
	}
	if status, _ := do(t, http.MethodGet, target, ""); status != 405 {
		t.Errorf("GET got %d, want 405", status)
	}
	if status, body := do(t, http.MethodPost, target, "all=true"); status != 200 || !strings.Contains(body, `{"tokens":2,"sessions":0}`) {
		t.Errorf("got %d %s, want two tokens purged: the agent's and the blueprint's", status, body)
	}
}

// Readiness blames Entra for what Entra does: not for what a request is refused for, and
// not for what was never sent.
func TestEntraIsNotBlamedForRequests(t *testing.T) {
	for name, c := range map[string]struct {
		behavior entratest.Behavior
		file     string
		ok       bool
		text     string
	}{
		"an outage":           {entratest.Behavior{Status: 503}, "", false, ""},
		"a refusal":           {entratest.Behavior{Code: 500011}, "", true, "AADSTS500011"},
		"no workload token":   {entratest.Behavior{}, "broken", true, "not asked yet"},
		"an answer of tokens": {entratest.Behavior{}, "", true, "last asked at"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startService(t, func(string) string { return anyProcess() })
			r.lab.host.Server.SetBehavior(c.behavior)
			if c.file != "" {
				check(t, r.lab.write("workload-token", c.file))
			}
			r.token(t, graphScope)
			if got := r.entraState(t.Context()); got.OK != c.ok || !strings.Contains(got.Detail, c.text) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// A policy that came through a pipe stays: there is nothing to look at again.
func TestPolicyFromAPipeIsReadOnce(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	from, to, err := os.Pipe()
	check(t, err)
	check(t, to.Close())
	t.Cleanup(func() { check(t, from.Close()) })
	w := policyWatch{policy: fileWatch{path: fmt.Sprintf("/dev/fd/%d", from.Fd()), applied: []byte("what it said")}}
	for range 3 {
		w.look(r.service)
	}
	if state := r.policyState(t.Context()); !state.OK {
		t.Errorf("got %+v", state)
	}
}

// A policy that could not be put in force, and was taken back, never is: not even when
// what it lacked comes in the same moment.
func TestPolicyThatIsTakenBack(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	path := filepath.Join(r.lab.dir, "credfree.yaml")
	first := r.lab.header() + anyProcess()
	second := r.lab.header() + "users: hashed\nusersKeyFile: users.key\n" + anyProcess()
	w := policyWatch{policy: fileWatch{path: path, applied: []byte(first)}, inForce: []byte(first)}
	check(t, r.lab.write("credfree.yaml", second))
	for range 3 {
		w.look(r.service)
	}
	if got := r.reload.count[reloadRefused]; got != 1 || r.policyState(t.Context()).OK {
		t.Fatalf("got %d refusals: %+v", got, r.policyState(t.Context()))
	}
	check(t, r.lab.write("credfree.yaml", first))
	check(t, r.lab.write("users.key", "0123456789abcdef\n"))
	for range 3 {
		w.look(r.service)
		if r.inForce().Policy.Recording.HashedUsers {
			t.Fatal("it is in force")
		}
	}
	if state := r.policyState(t.Context()); !state.OK {
		t.Errorf("got %+v", state)
	}
}
