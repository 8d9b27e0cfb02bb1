package main

import (
	"errors"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// makeUndumpable keeps the broker's memory out of core files, and from other
// processes of the same user (prctl(2), PR_SET_DUMPABLE).
func makeUndumpable() error {
	return errors.Join(
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
}

func ownUID() uint32 { return uint32(os.Geteuid()) }

// visibleUIDs returns the users of the processes that the broker can see, which
// in a container are those of its process namespace.
func visibleUIDs() (map[uint32]bool, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	uids := map[uint32]bool{}
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		info, err := entry.Info()
		if err != nil { // it has just ended
			continue
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			uids[stat.Uid] = true
		}
	}
	return uids, nil
}
