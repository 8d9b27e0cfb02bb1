//go:build unix

package workload_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/credfree/credfree/exchange/workload"
)

// script runs a shell script, whose $1 is a folder.
func script(dir, text string) workload.Exec {
	return workload.Exec{Command: []string{"/bin/sh", "-c", text, "sh", dir}, Getenv: variables{"PATH": "/usr/bin:/bin"}.get}
}

// lives returns a named pipe for a script to open, and a channel that is closed
// when no process has it open any more: zombies do not count.
func lives(t *testing.T) (dir string, dead <-chan struct{}) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "life"), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		file, err := os.Open(filepath.Join(dir, "life"))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, file)
		file.Close()
	}()
	return dir, done
}

func wantDead(t *testing.T, dead <-chan struct{}) {
	t.Helper()
	select {
	case <-dead:
	case <-time.After(10 * time.Second):
		t.Error("a process of the command is still alive")
	}
}

func TestExecRunsAnew(t *testing.T) {
	dir := t.TempDir()
	source := script(dir, `cat "$1/token"`)
	for _, answer := range []string{"T\n", `{"token":"T","expiry":"x"}`, `{"value":"T"}`, `{"version":1,"success":true,"token_type":"urn:ietf:params:oauth:token-type:id_token","id_token":"T","expiration_time":1}`} {
		for _, name := range []string{"one", "two"} {
			text := regexp.MustCompile(`\bT\b`).ReplaceAllLiteralString(answer, subject(name))
			if err := os.WriteFile(filepath.Join(dir, "token"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			wantSubject(t, source, name)
		}
	}
}

// The command hangs, and so does its child; both are killed.
func TestExecThatHangs(t *testing.T) {
	dir, dead := lives(t)
	source := script(dir, `exec 3>"$1/life"; trap '' TERM INT HUP; echo `+bearer+`; echo `+bearer+` >&2; sleep 600 & sleep 600`)
	source.Timeout = 200 * time.Millisecond
	began := time.Now()
	_, err := source.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "did not end within 200ms", bearer)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s, want about 200ms", took)
	}
	wantDead(t, dead)
}

func TestExecIsGivenUp(t *testing.T) {
	dir, dead := lives(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	_, err := script(dir, `exec 3>"$1/life"; sleep 600 & wait`).Assertion(ctx)
	wantError(t, err, workload.Unavailable, "given up")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error among its causes", err)
	}
	wantDead(t, dead)
	_, err = script(dir, `echo started > "$1/started"`).Assertion(ctx)
	wantError(t, err, workload.Unavailable, "given up")
	if _, err := os.Stat(filepath.Join(dir, "started")); err == nil {
		t.Error("a command was started for nobody")
	}
}

// The command is done, and its child keeps the output open.
func TestExecLeavesAChildBehind(t *testing.T) {
	dir, dead := lives(t)
	began := time.Now()
	wantSubject(t, script(dir, `exec 3>"$1/life"; sleep 600 & echo `+subject("s")), "s")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s, want the child not waited for", took)
	}
	wantDead(t, dead)
}

// leaver makes the test binary a command whose child leaves its process group
// and keeps the output open.
const leaver = "WORKLOAD_TEST_LEAVER"

func TestMain(m *testing.M) {
	if os.Getenv(leaver) == "" {
		os.Exit(m.Run())
	}
	child := exec.Command("/bin/sleep", "15") // it is to outlive this process
	child.Stdout, child.SysProcAttr = os.Stdout, &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		panic(err)
	}
}

// The child has left the process group, and is not waited for all the same.
func TestExecLosesAChild(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	source := script(t.TempDir(), self+`; echo `+subject("s"))
	source.Variables, source.Getenv = []string{leaver}, variables{"PATH": "/usr/bin:/bin", leaver: "1"}.get
	began := time.Now()
	wantSubject(t, source, "s")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s, want the child not waited for", took)
	}
}

func TestExecThatPrintsTooMuch(t *testing.T) {
	dir, dead := lives(t)
	began := time.Now()
	_, err := script(dir, `exec 3>"$1/life"; trap '' PIPE; while :; do echo `+bearer+`; done`).Assertion(t.Context())
	wantError(t, err, workload.Malformed, "printed more than", bearer)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s, want the command ended early", took)
	}
	wantDead(t, dead)
}

func TestExecProblems(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "plain"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		source  workload.Exec
		problem workload.Problem
		says    string
	}{
		"fails":        {script(dir, `echo `+bearer+` >&2; echo `+subject("s")+`; exit 3`), workload.Unavailable, "exit status 3"},
		"is killed":    {script(dir, `echo `+bearer+`; kill -9 $$`), workload.Unavailable, "killed"},
		"prints none":  {script(dir, `echo `+bearer+` >&2`), workload.Malformed, "gave nothing"},
		"prints both":  {script(dir, `echo warning: `+bearer+`; echo `+subject("s")), workload.Malformed, "white space"},
		"prints other": {script(dir, `echo `+bearer), workload.Malformed, "signed JWT"},
		"says no":      {script(dir, `echo '{"version":1,"success":false,"message":"`+bearer+`"}'`), workload.Unavailable, "says that it has no token"},
		"none":         {workload.Exec{}, workload.Malformed, "absolute path"},
		"relative":     {workload.Exec{Command: []string{"sh", "-c", bearer}}, workload.Malformed, "absolute path"},
		"missing":      {workload.Exec{Command: []string{filepath.Join(dir, "missing"), bearer}}, workload.Unavailable, "no such file"},
		"no program":   {workload.Exec{Command: []string{filepath.Join(dir, "plain"), bearer}}, workload.Unavailable, "permission denied"},
		"reads input":  {script(dir, `cat; echo `+bearer), workload.Malformed, "signed JWT"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.source.Assertion(t.Context())
			wantError(t, err, test.problem, test.says, bearer)
		})
	}
}

// The environment is what the documentation says, plus what a shell adds.
func TestExecEnvironment(t *testing.T) {
	dir := t.TempDir()
	source := script(dir, `pwd > "$1/pwd"; env > "$1/env"; echo `+subject("s"))
	source.Variables = []string{"WANTED", "UNSET"}
	source.Getenv = variables{"PATH": "/usr/bin:/bin", "HOME": "/root", "WANTED": "yes", "OTHER": bearer}.get
	t.Setenv("CREDFREE_TEST_SECRET", bearer)
	wantSubject(t, source, "s")
	data, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for entry := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(entry, "\n"), "=")
		got[name] = value
	}
	for _, added := range []string{"PWD", "OLDPWD", "SHLVL", "_"} {
		delete(got, added)
	}
	if want := (map[string]string{"PATH": "/usr/bin:/bin", "HOME": "/root", "LANG": "C", "WANTED": "yes"}); !maps.Equal(got, want) {
		t.Errorf("got the environment %v, want %v", slices.Sorted(maps.Keys(got)), want)
	}
	if pwd, err := os.ReadFile(filepath.Join(dir, "pwd")); err != nil || string(pwd) != "/\n" {
		t.Errorf("got the folder %q, %v, want /", pwd, err)
	}
}

// The agent is a stand-in that insists on what the real one is documented to need.
func TestBuildkite(t *testing.T) {
	dir := folder(t, map[string]string{"token": subject("s")})
	agent := `#!/bin/sh
test "$*" = "oidc request-token --audience ` + audience + `" || { echo "$*" >&2; exit 1; }
test "$BUILDKITE_AGENT_ACCESS_TOKEN" = ` + bearer + ` && test "$BUILDKITE_JOB_ID" = job && test -z "$OTHER" || exit 2
test "$HTTPS_PROXY $no_proxy $SSL_CERT_FILE" = "http://proxy.test:3128 .corp.test /etc/roots.pem" || exit 3
cat "` + dir + `/token"
`
	if err := os.WriteFile(filepath.Join(dir, "buildkite-agent"), []byte(agent), 0o700); err != nil {
		t.Fatal(err)
	}
	env := variables{"PATH": "/usr/bin:/bin", "BUILDKITE_BIN_PATH": dir, "BUILDKITE_JOB_ID": "job", "BUILDKITE_AGENT_ACCESS_TOKEN": bearer, "OTHER": "secret",
		"HTTPS_PROXY": "http://proxy.test:3128", "no_proxy": ".corp.test", "SSL_CERT_FILE": "/etc/roots.pem"}
	source := workload.Buildkite{Audience: audience, Getenv: env.get}
	wantSubject(t, source, "s")
	for _, name := range []string{"BUILDKITE_BIN_PATH", "BUILDKITE_JOB_ID", "BUILDKITE_AGENT_ACCESS_TOKEN"} {
		value := env[name]
		env[name] = ""
		_, err := source.Assertion(t.Context())
		wantError(t, err, workload.Unavailable, `"`+name+`"`, bearer)
		env[name] = value
	}
	_, err := workload.Buildkite{Getenv: env.get}.Assertion(t.Context())
	wantError(t, err, workload.Malformed, "audience", bearer)
	env["BUILDKITE_BIN_PATH"] = "bin"
	_, err = source.Assertion(t.Context())
	wantError(t, err, workload.Malformed, "absolute path", bearer)
}
