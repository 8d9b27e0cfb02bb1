package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/exchange/entratest"
)

// auditOf opens an audit log as the flags would.
func auditOf(t *testing.T, args ...string) *auditLog {
	t.Helper()
	set := flag.NewFlagSet("serve", flag.ContinueOnError)
	for _, f := range auditFlags() {
		check(t, f.Apply(set))
	}
	check(t, set.Parse(args))
	a, err := openAuditLog(cli.NewContext(cli.NewApp(), set, nil), nil)
	check(t, err)
	return a
}

// withAudit is a change that writes to a.
func withAudit(a *auditLog) func(*running, *serviceConfig) {
	return func(_ *running, cfg *serviceConfig) {
		cfg.audit, cfg.auditFormat, cfg.auditDetail = a.sink, a.format, a.describe
	}
}

func (r *running) token(t *testing.T, scope string) int {
	t.Helper()
	status, _ := do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+scope)
	return status
}

func (r *running) ready(t *testing.T) (int, string) {
	t.Helper()
	return do(t, http.MethodGet, "http://"+r.adminAddr()+"/readyz", "")
}

// The audit log is moved, deleted, and loses its folder and its disk, under a
// whole broker: no line is lost, there is no token without one, readiness says
// so, and nothing has to be restarted. The chain holds over all of it.
func TestAuditLogUnderTrouble(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	check(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "audit.log")
	a := auditOf(t, "--audit-log", path, "--audit-chain")
	defer func() { check(t, a.close()) }()
	r := startServiceOf(t, func(header, _ string) string { return header + anyProcess() }, withAudit(a))
	var kept []string // what was written, the oldest first
	keep := func() {
		text, err := os.ReadFile(path)
		check(t, err)
		kept = append(kept, string(text))
	}
	fine := func(what string) {
		t.Helper()
		if got := r.token(t, graphScope); got != http.StatusOK {
			t.Errorf("%s: got %d, want a token", what, got)
		}
		if got, text := r.ready(t); got != http.StatusOK || !strings.Contains(text, path) {
			t.Errorf("%s: got %d %s, want ready", what, got, text)
		}
	}
	red := func(what string) {
		t.Helper()
		if got, text := r.ready(t); got != http.StatusServiceUnavailable || !strings.Contains(text, "until then there are no tokens") {
			t.Errorf("%s: got %d %s before any request, want not ready", what, got, text)
		}
		if got := r.token(t, graphScope); got != http.StatusServiceUnavailable {
			t.Errorf("%s: got %d, want no token", what, got)
		}
	}
	fine("at first")

	check(t, os.Rename(path, path+".1"))
	fine("moved, without a signal")
	r.reopenAudit(a)
	text, err := os.ReadFile(path + ".1")
	check(t, err)
	kept = append(kept, string(text))
	fine("moved, with a signal")

	keep()
	check(t, os.Remove(path))
	time.Sleep(time.Millisecond) // as long as a busy file may go unlooked at
	fine("deleted")
	keep()
	check(t, os.RemoveAll(dir))
	red("without its folder")
	r.reopenAudit(a)
	red("without its folder, after a signal")
	check(t, os.Mkdir(dir, 0o700))
	fine("its folder is back")

	keep()
	check(t, os.Remove(path))
	check(t, os.Symlink("/dev/full", path))
	r.reopenAudit(a)
	if got := r.token(t, graphScope); got != http.StatusServiceUnavailable {
		t.Errorf("disk full: got %d, want no token", got)
	}
	red("disk full")
	check(t, os.Remove(path))
	r.reopenAudit(a)
	fine("there is room again")
	keep()

	lines := 0
	v, err := issuance.NewVerifier(issuance.VerifyConfig{Report: func(f issuance.Finding) { t.Errorf("%+v", f) }})
	check(t, err)
	for i, log := range kept {
		check(t, v.Read(fmt.Sprint(i), strings.NewReader(log)))
		lines += strings.Count(log, `"decision":"allow"`)
	}
	if sum := v.End(); sum.Broken != 0 || lines != 6 {
		t.Errorf("got %+v and %d tokens in the log, want 6", sum, lines)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, want := range []string{"audit log opened anew", "the audit log cannot be opened anew"} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
}

// With audit: best-effort, a full disk costs the record and not the token, and
// everybody can see that.
func TestBestEffortIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	check(t, os.Symlink("/dev/full", path))
	a := auditOf(t, "--audit-log", path)
	defer func() { check(t, a.close()) }()
	for _, effort := range []string{"required", "best-effort"} {
		r := startServiceOf(t, func(header, _ string) string { return header + "audit: " + effort + "\n" + anyProcess() }, withAudit(a))
		token := r.token(t, graphScope)
		ready, text := r.ready(t)
		_, metrics := do(t, http.MethodGet, "http://"+r.adminAddr()+"/metrics", "")
		want, gauge := http.StatusServiceUnavailable, "credfree_audit_required 1"
		if effort == "best-effort" {
			want, gauge = http.StatusOK, "credfree_audit_required 0"
			if !strings.Contains(text, "tokens go out without a line") || !strings.Contains(text, "no space left") {
				t.Errorf("readiness does not say so: %s", text)
			}
		}
		if token != want || ready != want {
			t.Errorf("%s: got %d for a token and %d for readiness, want %d", effort, token, ready, want)
		}
		for _, metric := range []string{gauge, "credfree_audit_writable 0", "credfree_audit_failures_total 1"} {
			if !strings.Contains(metrics, metric) {
				t.Errorf("%s: no %s in the metrics", effort, metric)
			}
		}
	}
}

// The key of a policy that hashes users is a file, or one of the run's own that
// a reload does not change.
func TestHashedUsersOverReloads(t *testing.T) {
	r := startServiceWith(t, func(header, dir string) string {
		return header + "users: hashed\n" + anyProcess()
	})
	hash := func() string {
		user, err := os.ReadFile(filepath.Join(r.lab.dir, "user-token"))
		check(t, err)
		status, body := do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token",
			"grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&requested_token_use=on_behalf_of&scope="+userScope+"&assertion="+string(user))
		if status != http.StatusOK {
			t.Fatalf("got %d %s", status, body)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		lines := strings.Split(strings.TrimSpace(r.audit.String()), "\n")
		var line struct {
			Hash     string `json:"user_hash"`
			ObjectID string `json:"user_object_id"`
		}
		check(t, json.Unmarshal([]byte(lines[len(lines)-1]), &line))
		if line.ObjectID != "" || len(line.Hash) != 64 {
			t.Errorf("got %+v", line)
		}
		return line.Hash
	}
	first := hash()
	w := policyWatch{policy: fileWatch{path: filepath.Join(r.lab.dir, "credfree.yaml")}}
	put := func(text string) {
		check(t, r.lab.write("credfree.yaml", r.lab.header()+text+anyProcess()))
		w.policy.settled = true
		w.look(r.service)
	}
	put("users: hashed\nmode: audit\n")
	if again := hash(); again != first {
		t.Errorf("a reload made %s of %s", again, first)
	}
	put("users: hashed\nusersKeyFile: users.key\n") // which is not there
	if again := hash(); again != first {
		t.Errorf("a policy that cannot be kept is in force: %s", again)
	}
	if status, _ := r.ready(t); status != http.StatusServiceUnavailable {
		t.Errorf("got %d, want not ready", status)
	}
	w.look(r.service)
	if got := r.reload.count[reloadRefused]; got != 1 {
		t.Errorf("got %d refusals of one policy", got)
	}
	check(t, r.lab.write("users.key", "0123456789abcdef\n")) // a volume that is mounted later
	w.look(r.service)
	if got, want := hash(), issuance.NewPseudonyms([]byte("0123456789abcdef")).Of(demoUser(t, r)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// Operators ask for a user by the ids that Entra has; of an object id alone it cannot
	// be told which hash stands for it, and that is said.
	tenant, object := demoUser(t, r)
	found := func(user string) (status int, body string) {
		return do(t, http.MethodGet, "http://"+r.adminAddr()+"/issuances?limit=1000&user="+user, "")
	}
	if status, body := found(tenant + "/" + strings.ToUpper(object)); status != http.StatusOK || !strings.Contains(body, `"matching": 1,`) {
		t.Errorf("got %d %s, want the one issuance of this key", status, body)
	}
	if status, body := found(object); status != http.StatusBadRequest || !strings.Contains(body, "TENANT/OBJECT-ID") {
		t.Errorf("got %d %s, want it refused", status, body)
	}
}

// demoUser is the tenant and object id of the user of the lab's user token.
func demoUser(t *testing.T, r *running) (tenant, object string) {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(r.lab.dir, "user-token"))
	check(t, err)
	var claims struct{ TID, OID string }
	readSegment(t, strings.Split(string(token), ".")[1], &claims)
	return claims.TID, claims.OID
}

// SIGHUP reaches the audit log, and watching ends with its context.
func TestWatchAuditEnds(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	ctx, stop := context.WithCancel(t.Context())
	stop()
	r.watchAudit(ctx, auditOf(t))
}

func readSegment(t *testing.T, segment string, into any) {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(segment)
	check(t, err)
	check(t, json.Unmarshal(text, into))
}

// Requests to Graph have the user's id in their address, and so get no span; with
// users: hashed the id is nowhere, though Graph was asked.
func TestHashedUsersInRequestsToGraph(t *testing.T) {
	for _, users := range []string{"plain", "hashed"} {
		r := startServiceOf(t, func(header, dir string) string {
			return header + "users: " + users + "\n" + anyProcess() + "      users: {groups: [5f7c7f7e-6f0c-4a39-8f0c-0c8f6a6b7a05]}\n      groupsFromGraph: true\n"
		}, func(*running, *serviceConfig) {})
		user, err := r.lab.host.Server.UserToken(entratest.UserTokenRequest{
			Tenant: entratest.DemoTenantID, User: entratest.DemoUserID, Audience: entratest.DemoClientID, Client: entratest.DemoFrontendClientID, Lifetime: time.Hour,
			Claims: map[string]any{"_claim_names": map[string]any{"groups": "src1"}, "_claim_sources": map[string]any{"src1": map[string]any{}}},
		})
		check(t, err)
		status, body := do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token",
			"grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&requested_token_use=on_behalf_of&scope="+userScope+"&assertion="+user)
		if status == http.StatusOK {
			t.Errorf("got %d %s, want a user in none of the groups to be denied", status, body)
		}
		spans, err := json.Marshal(r.spans.GetSpans())
		check(t, err)
		r.mu.Lock()
		written := string(spans) + r.audit.String() + r.log.String() + body
		r.mu.Unlock()
		if strings.Contains(written, "getMemberObjects") {
			t.Errorf("%s: the address of a request to Graph was recorded", users)
		}
		if !strings.Contains(written, "user_not_in_group") {
			t.Errorf("%s: Graph was not asked: %s", users, body)
		}
		if got := strings.Contains(written, entratest.DemoUserID); got != (users == "plain") {
			t.Errorf("%s: got the user's id: %t", users, got)
		}
	}
}

// Whoever is to read the result of a verification is told when there is none.
func TestVerificationThatCannotBePrinted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a := auditOf(t, "--audit-log", path, "--audit-chain")
	check(t, a.close())
	read, write, err := os.Pipe()
	check(t, err)
	check(t, read.Close())
	check(t, write.Close())
	var told strings.Builder
	if code := run([]string{"credfree", "audit", "verify", path}, strings.NewReader(""), write, &told); code != exitError {
		t.Errorf("got exit code %d and %s, want %d", code, told.String(), exitError)
	}
}
