//go:build unix

package workload

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// ownGroup makes a command the leader of a process group of its own.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// killGroup kills a command and all its children that did not leave its group.
func killGroup(leader *os.Process) error {
	err := syscall.Kill(-leader.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// reapGroup takes away what is dead of a killed command's group and has no parent
// but this process: as process 1 of a container it inherits all orphans. What does
// not die within a second, because the kernel holds it, is not waited for.
func reapGroup(leader *os.Process) {
	for range 1000 {
		pid, err := syscall.Wait4(-leader.Pid, nil, syscall.WNOHANG, nil)
		switch {
		case err != nil && !errors.Is(err, syscall.EINTR): // there is none, usually
			return
		case pid == 0:
			time.Sleep(time.Millisecond)
		}
	}
}
