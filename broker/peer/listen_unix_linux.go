package peer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxSocketPath is what sun_path holds besides its final NUL.
	maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

	socketMode = 0o660
	folderMode = 0o750

	// A live listener on the same machine answers a connect at once: the kernel does it, not the process.
	probeTimeout = time.Second
)

// ListenUnix listens on a unix socket at path with mode 0660.
//
// A socket left there by an earlier run is replaced atomically: clients find either the old one or the new one, never
// nothing, and never one with other permissions. A socket on which a process still answers is not taken over, and nothing
// that is not a socket is replaced. The check and the replacement are two steps: do not start two processes on one path at
// the same moment, the later one would win.
//
// The folder is created with mode 0750 if it is missing. It must belong to this process's user or to root, and must not be writable
// by everybody unless it has the sticky bit; whoever else can write to it through its group is trusted.
//
// Accept reads the client's credentials once; failing to do so makes the peer unknown (see [FromContext]) and is never an
// error of Accept. Close removes the socket if it is still the one created here. The listener is safe for concurrent use.
func ListenUnix(path string) (net.Listener, error) {
	if err := checkSocketPath(path); err != nil {
		return nil, err
	}
	folder, err := openFolder(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l := &unixListener{folder: folder, name: filepath.Base(path), addr: &net.UnixAddr{Net: "unix", Name: path}}
	if err := l.checkVacant(); err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	if err := l.bind(); err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return l, nil
}

func checkSocketPath(path string) error {
	switch {
	case path == "":
		return errors.New("listen on a unix socket: the path is empty")
	case path[0] == '@' || strings.ContainsRune(path, 0):
		return fmt.Errorf("listen on %q: abstract sockets have no file permissions; use the path of a file", path)
	case strings.HasSuffix(path, "/"):
		return fmt.Errorf("listen on %s: the path names a folder; add a file name", path)
	case len(path) > maxSocketPath:
		return fmt.Errorf("listen on %s: the path has %d bytes, and the kernel allows %d; use a shorter folder or name", path, len(path), maxSocketPath)
	}
	return nil
}

// openFolder returns a handle to the socket's folder, on which everything that follows is done, so that what was checked is
// what is used even if somebody renames a folder above it.
func openFolder(dir string) (*os.File, error) {
	_, err := os.Stat(dir)
	missing := errors.Is(err, os.ErrNotExist)
	if missing {
		if err := os.MkdirAll(dir, folderMode); err != nil {
			return nil, fmt.Errorf("create the folder: %w", err)
		}
	}
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the folder: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("examine the folder %s: %w", dir, err), f.Close())
	}
	if err := checkFolder(dir, &st, uint32(os.Geteuid())); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if missing && st.Mode&0o777 != folderMode {
		// The umask took bits away. Those above 0777 stay: a set-group-ID folder gives its group to the socket.
		if err := unix.Fchmodat(int(f.Fd()), ".", st.Mode&0o7000|folderMode, 0); err != nil {
			return nil, errors.Join(fmt.Errorf("set the mode of the folder %s: %w", dir, err), f.Close())
		}
	}
	return f, nil
}

// checkFolder refuses folders in which another user could put a socket of his own in our place.
func checkFolder(dir string, st *unix.Stat_t, self uint32) error {
	if st.Uid != self && st.Uid != 0 {
		return fmt.Errorf("the folder %s belongs to uid %d, who could replace the socket; use a folder that belongs to uid %d or root", dir, st.Uid, self)
	}
	if st.Mode&unix.S_IWOTH != 0 && st.Mode&unix.S_ISVTX == 0 {
		return fmt.Errorf("every user can write to the folder %s (mode %04o) and could replace the socket; use a sub-folder, which is created with mode %04o, or run chmod o-w",
			dir, st.Mode&0o7777, folderMode)
	}
	return nil
}

type unixListener struct {
	inner  *net.UnixListener
	folder *os.File // O_PATH
	name   string   // in folder
	addr   *net.UnixAddr
	id     fileID // of the socket created here
	crowd  crowd
	once   sync.Once
	err    error // of the one Close
}

type fileID struct{ dev, ino uint64 }

func (l *unixListener) stat(name string) (id fileID, mode uint32, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(l.folder.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fileID{}, 0, err
	}
	return fileID{uint64(st.Dev), st.Ino}, st.Mode, nil //nolint:unconvert // Dev is not 64 bits wide everywhere
}

// checkVacant allows two situations: nothing is at the path, or a socket on which nobody answers.
func (l *unixListener) checkVacant() error {
	path := l.addr.Name
	_, mode, err := l.stat(l.name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen on %s: examine what is there: %w", path, err)
	}
	if mode&unix.S_IFMT != unix.S_IFSOCK {
		return fmt.Errorf("listen on %s: something that is not a socket is there, and it is left alone; remove it or use another path", path)
	}
	c, err := net.DialTimeout("unix", path, probeTimeout)
	switch {
	case err == nil:
		_ = c.Close()
		return fmt.Errorf("listen on %s: another process is already listening there; stop it or use another path", path)
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		return nil
	default: // a full queue, no permission, another type of socket: somebody may be there
		return fmt.Errorf("listen on %s: cannot tell whether another process is listening there; remove the socket if none is: %w", path, err)
	}
}

// bind creates the socket under a temporary name and moves it into place when its mode is right.
func (l *unixListener) bind() error {
	fd := int(l.folder.Fd())
	path := l.addr.Name
	// No longer than the name, if that can be unique: what fits for the one fits for the other.
	temp := "." + rand.Text()[:min(12, max(len(l.name)-1, 6))]
	at := filepath.Join(filepath.Dir(path), temp)
	if len(at) > maxSocketPath {
		at = fmt.Sprintf("/proc/self/fd/%d/%s", fd, temp)
	}
	// Linux creates the file with the mode of the unbound socket, so it is never open to others, whatever the umask.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var modeErr error
		err := c.Control(func(s uintptr) { modeErr = unix.Fchmod(int(s), socketMode) })
		return errors.Join(err, modeErr)
	}}
	inner, err := lc.Listen(context.Background(), "unix", at)
	if err != nil {
		return fmt.Errorf("listen on %s: create a socket in its folder (uid %d must be able to write there): %w", path, os.Geteuid(), err)
	}
	l.inner = inner.(*net.UnixListener)
	l.inner.SetUnlinkOnClose(false) // it would remove whatever has the temporary name

	if err = unix.Fchmodat(fd, temp, socketMode, 0); err == nil { // gives back what the umask took
		if l.id, _, err = l.stat(temp); err == nil {
			err = unix.Renameat(fd, temp, fd, l.name)
		}
	}
	if err != nil {
		_ = unix.Unlinkat(fd, temp, 0)
		return errors.Join(fmt.Errorf("listen on %s: put the new socket in place: %w", path, err), l.inner.Close())
	}
	return nil
}

func (l *unixListener) Addr() net.Addr { return l.addr }

func (l *unixListener) Accept() (net.Conn, error) {
	for {
		c, err := l.inner.AcceptUnix()
		if err != nil {
			return nil, err // as it is: net/http recognises the transient ones
		}
		ev := witnessUnix(c, l.addr.Name)
		if leave, ok := l.crowd.enter(ev.peer); ok {
			return &unixConn{UnixConn: c, local: l.addr, ev: ev, leave: leave}, nil
		}
		_ = c.Close() // the caller sees that it is closed
	}
}

// Close removes the socket before it stops listening: while it listens, no other file can have its inode number.
func (l *unixListener) Close() error {
	l.once.Do(func() {
		id, _, err := l.stat(l.name)
		if err == nil && id == l.id {
			err = unix.Unlinkat(int(l.folder.Fd()), l.name, 0)
		}
		if errors.Is(err, unix.ENOENT) {
			err = nil
		}
		if err != nil {
			err = fmt.Errorf("remove the socket %s: %w", l.addr.Name, err)
		}
		l.err = errors.Join(err, l.inner.Close(), l.folder.Close())
	})
	return l.err
}

// unixConn embeds the concrete type so that net/http still finds ReadFrom and CloseWrite.
type unixConn struct {
	*net.UnixConn
	local *net.UnixAddr // the kernel would say the temporary name
	ev    *evidence
	leave func()
}

func (c *unixConn) Close() error {
	c.leave()
	return c.UnixConn.Close()
}

func (c *unixConn) LocalAddr() net.Addr { return c.local }
func (c *unixConn) Read(p []byte) (int, error) {
	letAnswersGoFirst(p)
	return c.UnixConn.Read(p)
}

func (c *unixConn) evidence() *evidence { return c.ev }
