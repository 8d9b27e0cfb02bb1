//go:build unix

package issuance

import (
	"errors"
	"os"
	"syscall"
)

// lock keeps others that lock the file out, until it is closed. What cannot be locked, as
// on some network file systems, is left as it is, and so are pipes and devices.
func lock(file *os.File) error {
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return errLocked
	}
	return nil
}

// state asks the kernel how many names a file has, and how long it is. It
// allocates nothing.
func state(file *os.File) (links uint64, size int64, regular bool, err error) {
	var s syscall.Stat_t
	for {
		err = syscall.Fstat(int(file.Fd()), &s)
		if err != syscall.EINTR {
			break
		}
	}
	return uint64(s.Nlink), s.Size, s.Mode&syscall.S_IFMT == syscall.S_IFREG, err //nolint:unconvert // its type differs between systems
}
