package peer

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// witnessUnix reads the credentials that the kernel stored when the client called connect. They cannot go stale: the client
// may close or change its uid, the connection keeps them.
func witnessUnix(c *net.UnixConn, path string) *evidence {
	p := Peer{Network: "unix", Socket: path}
	raw, err := c.SyscallConn()
	if err != nil {
		return unknown(p, fmt.Errorf("the peer of %s is unknown: %w", path, err))
	}
	var cred *unix.Ucred
	var credErr error
	ctlErr := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(ctlErr, credErr); err != nil {
		return unknown(p, fmt.Errorf("the peer of %s is unknown: SO_PEERCRED: %w", path, err))
	}
	if err := userSpace().check(cred.Uid); err != nil {
		return unknown(p, err)
	}
	p.UID, p.GID, p.PID = cred.Uid, cred.Gid, cred.Pid
	return known(p, nil)
}

// namespace is what this process's user namespace does to the uids that the kernel tells it.
type namespace struct {
	complete bool   // every uid of the machine has a number here
	stranger uint32 // the number shown for users who have none
}

// userSpace is read once: a process's mapping never changes after it was written.
var userSpace = sync.OnceValue(func() namespace {
	ns := namespace{stranger: 65534}
	if text, err := os.ReadFile("/proc/sys/kernel/overflowuid"); err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32); err == nil {
			ns.stranger = uint32(n)
		}
	}
	if text, err := os.ReadFile("/proc/self/uid_map"); err == nil {
		ns.complete = mapsEverybody(string(text))
	}
	return ns
})

// mapsEverybody says whether a uid_map (lines of inside, outside, count) leaves nobody out, as the first user namespace's does.
func mapsEverybody(uidMap string) bool {
	var total uint64
	for line := range strings.Lines(uidMap) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return false
		}
		n, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil {
			return false
		}
		total += n
	}
	return total == math.MaxUint32
}

// check refuses the uids that do not name one user: the kernel's "none", and the one number behind which it hides every user who
// is not mapped into our namespace.
func (ns namespace) check(uid uint32) error {
	switch {
	case uid == math.MaxUint32:
		return errors.New("the peer is unknown: the kernel has no credentials for it")
	case uid == ns.stranger && !ns.complete:
		return fmt.Errorf("the peer is unknown: in this user namespace uid %d also stands for every user from outside; run the client under another uid", uid)
	}
	return nil
}
