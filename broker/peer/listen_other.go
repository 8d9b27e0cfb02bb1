//go:build !linux

package peer

import (
	"errors"
	"fmt"
	"net"
	"runtime"
)

// ListenUnix needs Linux: it always returns an error here.
func ListenUnix(path string) (net.Listener, error) {
	return nil, fmt.Errorf("listen on %s: the credentials of unix-socket peers need Linux, and this is %s; use a key file over loopback TCP", path, runtime.GOOS)
}

var errOwnerNeedsLinux = errors.New("the peer is unknown: the uid of a TCP peer needs Linux, and this is " + runtime.GOOS + "; use a key file")

func ownerOf(tuple) (owner, error) { return owner{}, errOwnerNeedsLinux }
