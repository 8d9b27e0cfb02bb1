package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

// brokerUndumpable says whether the memory of the broker, another process of this
// user, can be dumped: the kernel gives the files below /proc of one that cannot
// to root (proc(5)). nil when it cannot be.
func brokerUndumpable() error { return undumpableBelow("/proc", factOf) }

func undumpableBelow(proc string, factOf func(path string) fileFact) error {
	names, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "comm"))
	if err != nil {
		return err
	}
	for _, name := range names {
		folder := filepath.Dir(name)
		comm, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(comm)) != "credfree" || filepath.Base(folder) == strconv.Itoa(os.Getpid()) {
			continue // it has just ended, or is not the broker
		}
		owner, files := factOf(folder), factOf(filepath.Join(folder, "environ"))
		switch {
		case owner.err != nil || files.err != nil:
			continue
		case owner.uid == 0:
			return fmt.Errorf("process %s is root's, and can dump itself", filepath.Base(folder))
		case files.uid != 0:
			return fmt.Errorf("that of process %s is open to its user", filepath.Base(folder))
		}
		return nil
	}
	return errors.New("there is no broker among the processes that can be seen")
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

// ownGroups returns the supplementary groups, of which a pod's fsGroup is one.
func ownGroups() []uint32 {
	groups, err := os.Getgroups()
	if err != nil {
		return nil
	}
	ids := make([]uint32, len(groups))
	for i, group := range groups {
		ids[i] = uint32(group)
	}
	return ids
}

// factOf looks at a file through its links: kubelet's are several.
func factOf(path string) fileFact {
	info, err := os.Stat(path)
	if err != nil {
		return fileFact{path: path, err: err}
	}
	fact := fileFact{path: path, mode: info.Mode()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		fact.uid, fact.gid = stat.Uid, stat.Gid
	}
	return fact
}

// ownPrivileges reads what the kernel lets this process do (proc(5)).
func ownPrivileges() privileges {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return privileges{err: err}
	}
	p, err := privilegesOf(string(status))
	if err != nil {
		return privileges{err: err}
	}
	var root unix.Statfs_t
	if err := unix.Statfs("/", &root); err != nil {
		return privileges{err: err}
	}
	p.writableRootFS = root.Flags&unix.ST_RDONLY == 0
	scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if err == nil { // a kernel without Yama has none
		p.ptraceScope = strings.TrimSpace(string(scope))
	}
	return p
}

// privilegesOf reads /proc/<pid>/status. A line that is missing is an error: it
// must not look like a privilege that is not there.
func privilegesOf(status string) (privileges, error) {
	found := map[string]string{}
	for line := range strings.Lines(status) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			found[name] = strings.TrimSpace(value)
		}
	}
	effective, err1 := strconv.ParseUint(found["CapEff"], 16, 64)
	permitted, err2 := strconv.ParseUint(found["CapPrm"], 16, 64)
	noNewPrivs, err3 := strconv.Atoi(found["NoNewPrivs"])
	seccomp, err4 := strconv.Atoi(found["Seccomp"])
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return privileges{}, fmt.Errorf("status: %w", err)
	}
	return privileges{capabilities: effective | permitted, noNewPrivs: noNewPrivs == 1, seccomp: seccomp}, nil
}
