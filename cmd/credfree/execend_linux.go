package main

import (
	"os/exec"
	"runtime"
	"syscall"
)

// endWithStarter has the kernel ask cmd to end when this process ends first, by
// SIGKILL. It takes the end of the thread that starts cmd for that of the
// process (prctl(2), PR_SET_PDEATHSIG): the caller keeps its thread until cmd
// has ended and it calls release, in the same goroutine.
func endWithStarter(cmd *exec.Cmd) (release func()) {
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return runtime.UnlockOSThread
}
