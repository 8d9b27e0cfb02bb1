//go:build !unix

package workload

import (
	"os"
	"syscall"
)

func ownGroup() *syscall.SysProcAttr { return nil }

// killGroup kills the command alone where there are no process groups.
func killGroup(leader *os.Process) error { return leader.Kill() }

// reapGroup has nothing to do: there are no zombies.
func reapGroup(*os.Process) {}
