package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The table under the README's first command is what that prints, but for the times.
func TestReadmeDemoIsTrue(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "credfree", "demo").Output()
	check(t, err)
	_, rest, _ := strings.Cut(string(out), "\n\n")
	table, _, _ := strings.Cut(rest, "\n\n")
	want, got := "```\n"+table+"\n```\n", section(t, "demo")
	if *updateReadme {
		replaceInReadme(t, got, want)
		return
	}
	took := regexp.MustCompile(`\d+\.\d\d ms`)
	if diff := cmp.Diff(took.ReplaceAllString(want, "N ms"), took.ReplaceAllString(got, "N ms")); diff != "" {
		t.Errorf("README.md and the demo differ (run with -update) (-printed +README):\n%s", diff)
	}
}

// A command that is printed to be typed has a name only where that leads to this
// very program: not under go run, and not where an older one is installed.
func TestCallable(t *testing.T) {
	own, err := os.Executable()
	check(t, err)
	dir := t.TempDir()
	name := filepath.Join(dir, "credfree")
	t.Setenv("PATH", dir)
	expect := func(where, want string) {
		t.Helper()
		if got := callable(); got != want {
			t.Errorf("%s: got %q, want %q", where, got, want)
		}
	}
	expect("not in PATH", own)
	check(t, os.WriteFile(name, []byte("#!/bin/sh\n"), 0o700))
	expect("another in PATH", own)
	check(t, os.Remove(name))
	check(t, os.Symlink(own, name))
	expect("in PATH", "credfree")
}
