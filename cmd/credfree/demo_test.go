package main

import (
	"os"
	"path/filepath"
	"testing"
)

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
