package main

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel takes the end of the thread that has started a command for the end
// of credfree: whoever waits for the command has to be on it, whatever else runs.
func TestExecKeepsItsThread(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "cat")
	stdin, err := cmd.StdinPipe()
	check(t, err)
	c, err := startCommand(cmd)
	check(t, err)
	if got := cmd.SysProcAttr.Pdeathsig; got != syscall.SIGTERM {
		t.Errorf("got signal %d at the end of credfree, want SIGTERM", got)
	}
	thread := unix.Gettid()
	for range 1000 {
		other := make(chan struct{})
		go func() { defer close(other) }()
		if <-other; unix.Gettid() != thread {
			t.Fatalf("got thread %d, want %d", unix.Gettid(), thread)
		}
		time.Sleep(time.Microsecond)
	}
	check(t, stdin.Close())
	check(t, c.wait())
}
