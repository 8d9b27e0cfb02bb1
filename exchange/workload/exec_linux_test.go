package workload_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/credfree/credfree/exchange/workload"
)

// In a container the broker is process 1, and what a command leaves behind becomes
// its child: each exchange would leave a zombie, until no process can be started.
func TestExecLeavesNoZombies(t *testing.T) {
	adopt := func(orphans uintptr) {
		const setChildSubreaper = 36
		if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, orphans, 0); errno != 0 {
			t.Fatal(errno)
		}
	}
	adopt(1)
	defer adopt(0)
	wantNone := func() {
		t.Helper()
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
			t.Errorf("got the child %d and %v, want no children", pid, err)
		}
	}
	dir := t.TempDir()
	wantSubject(t, script(dir, `{ sleep 600 & sleep 600; } >/dev/null 2>&1 & true & echo `+subject("s")), "s")
	wantNone()

	hangs := script(dir, `sleep 600 & sleep 600`)
	hangs.Timeout = 200 * time.Millisecond
	_, err := hangs.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "did not end within 200ms")
	wantNone()
}
