//go:build linux

package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/entratest"
)

func TestGuardrails(t *testing.T) {
	p, err := policy.Parse("credfree.yaml", []byte(`version: 1
tenant: `+entratest.DemoTenantID+`
sources: {pod: {file: {path: /tokens/t}}}
identities: {demo: {application: {clientID: `+entratest.DemoClientID+`, source: pod}}}
agents: {one: {identity: demo, callers: [{socket: one.sock, uids: [10001]}], allow: {scopes: [graph]}}}
`))
	check(t, err)
	uids := func(uids ...uint32) func() (map[uint32]bool, error) {
		return func() (map[uint32]bool, error) {
			seen := map[uint32]bool{}
			for _, uid := range uids {
				seen[uid] = true
			}
			return seen, nil
		}
	}
	tight := func() podFacts {
		return podFacts{
			uid: 65532, groups: []uint32{65532, 2000}, uids: uids(65532), imds: imdsFact{asked: true},
			privileges: privileges{noNewPrivs: true, seccomp: 2, ptraceScope: "1"},
			tokens:     []fileFact{{path: "/tokens/t", mode: 0o400, uid: 65532}},
			sockets:    []fileFact{{path: "/run/credfree", mode: 0o770, gid: 2000}},
		}
	}
	gone := errors.New("it is gone")
	for name, test := range map[string]struct {
		change func(*podFacts)
		state  stepState
		want   string // in the detail, or in the note of a step that passes
		fix    string // in the hint
	}{
		"tight":                {func(*podFacts) {}, stepOK, "no agent has the broker's user", ""},
		"root":                 {func(f *podFacts) { f.uid, f.uids = 0, uids(0) }, stepFailed, "runs as root", "runAsUser: 65532"},
		"an agent's user":      {func(f *podFacts) { f.uid, f.uids = 10001, uids(10001) }, stepFailed, "agents one", "a user of its own"},
		"the pause container":  {func(f *podFacts) { f.uids = uids(65532, 65535) }, stepFailed, "uid 65535", "shareProcessNamespace: false"},
		"can be dumped":        {func(f *podFacts) { f.undumpable = gone }, stepFailed, "can be dumped", "prctl"},
		"no token":             {func(f *podFacts) { f.tokens[0].err = gone }, stepFailed, "it is gone", "mount the projected token"},
		"token can be changed": {func(f *podFacts) { f.tokens[0].mode = 0o660 }, stepFailed, "others may replace it", "readOnly: true"},
		"token among sockets":  {func(f *podFacts) { f.tokens[0].path = "/run/credfree/t" }, stepFailed, "a folder of agents' sockets", "a volume of its own"},
		"token of fsGroup":     {func(f *podFacts) { f.tokens[0].mode, f.tokens[0].gid = 0o440, 2000 }, stepOK, "group 2000 is the pod's fsGroup", ""},
		"token for everybody":  {func(f *podFacts) { f.tokens[0].mode = 0o644 }, stepOK, "every container that mounts it can read it", ""},
		"no sockets":           {func(f *podFacts) { f.sockets[0].err = gone }, stepFailed, "it is gone", "--socket-dir"},
		"open sockets":         {func(f *podFacts) { f.sockets[0].mode = 0o777 }, stepOK, "agents have to mount it with readOnly: true", ""},
		"machine identity":     {func(f *podFacts) { f.imds.reachable, f.imds.status = true, 400 }, stepWarning, "answers (400)", "except: [169.254.169.254/32]"},
		"capabilities":         {func(f *podFacts) { f.privileges.capabilities = 1<<5 | 1<<19 }, stepWarning, "has 2 capabilities", "drop: [ALL]"},
		"new privileges":       {func(f *podFacts) { f.privileges.noNewPrivs = false }, stepWarning, "could gain privileges", "allowPrivilegeEscalation: false"},
		"no seccomp":           {func(f *podFacts) { f.privileges.seccomp = 0 }, stepWarning, "not filtered", "RuntimeDefault"},
		"writable root":        {func(f *podFacts) { f.privileges.writableRootFS = true }, stepWarning, "file system is writable", "readOnlyRootFilesystem: true"},
		"no /proc":             {func(f *podFacts) { f.privileges.err = gone }, stepFailed, "cannot be told", "mount /proc"},
	} {
		facts := tight()
		test.change(&facts)
		worst, found := stepOK, false
		for _, s := range guardrails(facts, p) {
			if s.State == stepFailed || s.State == stepWarning && worst != stepFailed {
				worst = s.State
			}
			found = found || s.State == test.state && strings.Contains(s.Detail+strings.Join(s.Notes, " "), test.want) && strings.Contains(s.Hint, test.fix)
		}
		if worst != test.state || !found {
			t.Errorf("%s: got %+v, want state %s, %q, hint %q", name, guardrails(facts, p), test.state, test.want, test.fix)
		}
	}
}

func TestPrivilegesOf(t *testing.T) {
	got, err := privilegesOf("Name:\tcredfree\nCapPrm:\t0000000000000400\nCapEff:\t0000000000000001\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n")
	if want := (privileges{capabilities: 0x401, noNewPrivs: true, seccomp: 2}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	// A line that is missing is not a privilege that is missing.
	if _, err := privilegesOf("CapPrm:\t0\nCapEff:\t0\nSeccomp:\t2\n"); err == nil {
		t.Error("got no error for a status without NoNewPrivs")
	}
	if p := ownPrivileges(); p.err != nil {
		t.Errorf("got %v for this very process", p.err)
	}
}

func TestFactsOfThisMachine(t *testing.T) {
	dir := t.TempDir()
	// As kubelet lays a projected token out.
	check(t, errors.Join(os.Mkdir(filepath.Join(dir, "..data"), 0o700), os.WriteFile(filepath.Join(dir, "..data", "t"), []byte("x"), 0o640),
		os.Symlink(filepath.Join("..data", "t"), filepath.Join(dir, "t"))))
	if got := factOf(filepath.Join(dir, "t")); got.err != nil || got.mode.Perm() != 0o640 || got.uid != ownUID() {
		t.Errorf("got %+v, want mode 0640 of uid %d", got, ownUID())
	}
	if got := factOf(filepath.Join(dir, "gone")); got.err == nil {
		t.Errorf("got %+v for a file that is not there", got)
	}
}

// The endpoint is reached as an agent would reach it: without a proxy, and
// without following it elsewhere.
func TestAskIMDS(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("Metadata")+r.URL.Path)
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1")
	if got := askIMDS(server.URL + "/metadata"); !got.reachable || got.status != http.StatusFound {
		t.Errorf("got %+v, want 302", got)
	}
	if got := strings.Join(asked, " "); got != "true/metadata" {
		t.Errorf("got requests %q", got)
	}
	server.Close()
	if got := askIMDS(server.URL); !got.asked || got.reachable {
		t.Errorf("got %+v of a server that is gone", got)
	}
}

// The doctor looks at the broker's process, not at its own: one that cannot be
// dumped is told from one that can, from root's, and from none.
func TestBrokerUndumpable(t *testing.T) {
	for name, test := range map[string]struct {
		comm           string
		owner, environ uint32
		want           string
	}{
		"closed":          {"credfree", 7400, 0, ""},
		"open":            {"credfree", 7400, 7400, "process 7 is open to its user"},
		"root's":          {"credfree", 0, 0, "process 7 is root's"},
		"another program": {"python3", 7400, 0, "no broker among the processes"},
	} {
		proc := t.TempDir()
		for pid, comm := range map[string]string{"7": test.comm, strconv.Itoa(os.Getpid()): "credfree"} {
			check(t, errors.Join(os.Mkdir(filepath.Join(proc, pid), 0o755), os.WriteFile(filepath.Join(proc, pid, "comm"), []byte(comm+"\n"), 0o600)))
		}
		err := undumpableBelow(proc, func(path string) fileFact {
			if filepath.Base(path) == "environ" {
				return fileFact{uid: test.environ}
			}
			return fileFact{uid: test.owner}
		})
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}
