//go:build unix

package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// A command gets the signals that credfree gets, and its exit code is credfree's.
func TestExecPassesSignalsOn(t *testing.T) {
	for name, s := range map[string]syscall.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "WINCH": syscall.SIGWINCH} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "sh", "-c", "trap 'exit 7' "+name+"; echo ready; read line; exit 1")
			_, err := cmd.StdinPipe() // that says nothing
			check(t, err)
			output, err := cmd.StdoutPipe()
			check(t, err)
			c, err := startCommand(cmd)
			check(t, err)
			ready := make([]byte, len("ready"))
			_, err = io.ReadFull(output, ready)
			check(t, err)
			check(t, syscall.Kill(os.Getpid(), s))
			f, ok := errors.AsType[*failure](c.wait())
			if !ok || f.code != 7 || f.Error() != "" {
				t.Errorf("got %+v, want exit code 7 and no text", f)
			}
		})
	}
}
