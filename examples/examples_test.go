package examples_test

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Every example gets a token when it asks for what it may have, and ends with
// an error when it does not.
func TestExamples(t *testing.T) {
	bin := t.TempDir()
	_, _ = run(t, nil, "go", "build", "-o", bin, "../cmd/credfree", "./go-oauth2")
	dir := filepath.Join(t.TempDir(), "lab")
	start(t, "ready: ", filepath.Join(bin, "credfree"), "emulator", "--dir", dir)
	agents, admin := freeAddress(t), freeAddress(t)
	start(t, `"ready"`, filepath.Join(bin, "credfree"), "serve", "--config", filepath.Join(dir, "credfree.yaml"), "--listen", agents, "--admin-listen", admin)

	for name, command := range map[string][]string{
		"go-oauth2": {filepath.Join(bin, "go-oauth2")},
	} {
		t.Run(name, func(t *testing.T) {
			const granted, other = "https://graph.microsoft.com/.default", "https://vault.azure.net/.default"
			env := func(scope string) []string {
				return append(os.Environ(), "TOKEN_URL=http://"+agents+"/oauth2/token", "SCOPE="+scope)
			}
			if out, err := run(t, env(granted), command...); err != nil || strings.TrimSpace(out) != "got a Bearer token for "+granted {
				t.Errorf("got %q, %v", out, err)
			}
			if out, err := run(t, env(other), command...); err == nil || !strings.Contains(out, "invalid_scope") {
				t.Errorf("asking for what it may not have: got %q, %v, want a failure with invalid_scope", out, err)
			}
		})
	}
}

// The policies of the GitOps example are valid, and nothing is odd about them.
func TestGitOpsPolicies(t *testing.T) {
	bin := t.TempDir()
	_, _ = run(t, nil, "go", "build", "-o", bin, "../cmd/credfree")
	files, err := filepath.Glob("gitops/*/credfree.yaml")
	if err != nil || len(files) != 2 {
		t.Fatalf("got policies %v, %v, want two", files, err)
	}
	for _, file := range files {
		if out, err := run(t, os.Environ(), filepath.Join(bin, "credfree"), "check", "--config", file, "--strict-warnings"); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

// run runs a command to its end and returns all it wrote. Without env, an
// error ends the test.
func run(t *testing.T, env []string, command ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil && env == nil {
		t.Fatalf("%s: %v\n%s", command[0], err, out)
	}
	return string(out), err
}

// start starts a command that goes on until the test ends, once it has written
// ready.
func start(t *testing.T, ready string, command ...string) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), command[0], command[1:]...)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = writer, writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Error(err)
	}
	lines, seen := bufio.NewScanner(reader), make(chan bool)
	go func() {
		defer close(seen)
		for lines.Scan() {
			if strings.Contains(lines.Text(), ready) {
				seen <- true
			}
		}
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s did not stop cleanly: %v", command[1], err)
		}
		<-seen
		if err := reader.Close(); err != nil {
			t.Error(err)
		}
	})
	if !<-seen {
		t.Fatalf("%s never wrote %q", command[1], ready)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	return l.Addr().String()
}
