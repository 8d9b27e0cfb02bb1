package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// code WANT COMMAND… runs a command that must end with exit code WANT, and
// with an empty stdout unless that is 0.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code WANT COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("got exit code %d, want %d", got, want)
	}
	if stdout := ts.ReadFile("stdout"); got != 0 && stdout != "" {
		ts.Fatalf("stdout of a failure: %q", stdout)
	}
}

// background FILE COMMAND… starts a command that runs on to the end of the
// script, where it has to stop cleanly on SIGTERM. All its output is in FILE.
func background(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: background FILE COMMAND…")
	}
	out, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	path := filepath.SplitList(ts.Getenv("PATH"))
	cmd := exec.Command(filepath.Join(path[0], args[1]), args[2:]...) //nolint:noctx // ended by the script's own end
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.MkAbs("."), out, out
	cmd.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"), "GOMAXPROCS="+ts.Getenv("GOMAXPROCS"))
	ts.Check(cmd.Start())
	ts.Defer(func() {
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait(), out.Close()); err != nil {
			ts.Logf("%s did not stop cleanly: %v\n%s", args[1], err, ts.ReadFile(args[0]))
			panic("background command failed")
		}
	})
}

// wait-for FILE TEXT waits until a background command has written TEXT.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: wait-for FILE TEXT")
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && bytes.Contains(text, []byte(args[1])) {
			return
		}
	}
	ts.Fatalf("%s never held %q, but:\n%s", args[0], args[1], ts.ReadFile(args[0]))
}

// free-port NAME… sets each variable to a loopback address nobody listens on.
func freePort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: free-port NAME…")
	}
	for _, name := range args {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it listens at once or fails
		ts.Check(err)
		ts.Setenv(name, l.Addr().String())
		defer func() { ts.Check(l.Close()) }()
	}
}

// replace FILE OLD NEW changes every OLD in FILE.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace FILE OLD NEW")
	}
	text := strings.ReplaceAll(ts.ReadFile(args[0]), args[1], args[2])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}
