package peer

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUnixSocketMode(t *testing.T) {
	for _, umask := range []int{0o000, 0o022, 0o077, 0o777} {
		path := filepath.Join(folder(t), "a.sock")
		old := unix.Umask(umask)
		l, err := ListenUnix(path)
		unix.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := info.Mode(), os.ModeSocket|0o660; got != want {
			t.Errorf("umask %03o: mode %v, want %v", umask, got, want)
		}
		_ = l.Close()
	}
}

// The mode must mean something: a process outside owner and group cannot connect. Without root there is no such process; then
// the same is shown by taking our own permission away.
func TestUnixSocketModeKeepsOthersOut(t *testing.T) {
	path := filepath.Join(folder(t), "a.sock")
	serve(t, listenUnix(t, path), whoHandler)
	if os.Getuid() != 0 {
		if err := os.Chmod(path, 0o060); err != nil {
			t.Fatal(err)
		}
	}
	out, _, _, err := child(t, strangerID, strangerID, "get unix "+path)
	if err == nil || !strings.Contains(out, "permission denied") {
		t.Errorf("got %v\n%s\nwant permission denied", err, out)
	}
}

// stale leaves a socket at path on which nobody listens.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// While a stale socket is being replaced there is never nothing at its path (remove-then-bind would fail here), and never a socket,
// under whatever name, that other users may open (bind-then-chmod would).
func TestStaleSocketIsReplacedAtomically(t *testing.T) {
	dir := folder(t)
	path := filepath.Join(dir, "a.sock")
	stale(t, path)
	defer unix.Umask(unix.Umask(0))
	if err := os.Chmod(path, socketMode); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var missing, open atomic.Int64
	started, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		close(started)
		for !stop.Load() {
			if _, err := os.Lstat(path); err != nil {
				missing.Add(1)
			}
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				if info, err := e.Info(); err == nil && info.Mode().Perm()&^socketMode != 0 {
					open.Add(1)
				}
			}
		}
	}()
	<-started
	for range 200 {
		l := listenUnix(t, path).(*unixListener)
		// What a crash leaves: nobody listens, the file stays.
		_ = l.inner.Close()
	}
	stop.Store(true)
	<-done
	if n := missing.Load(); n != 0 {
		t.Errorf("the path was empty %d times", n)
	}
	if n := open.Load(); n != 0 {
		t.Errorf("a socket was open to others %d times", n)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("folder holds %v (%v), want the socket only", left, err)
	}
}

func TestReplacedSocketAnswers(t *testing.T) {
	path := filepath.Join(folder(t), "a.sock")
	stale(t, path)
	l := listenUnix(t, path)
	dial(t, "unix", path)
	if _, err := identify(accept(t, l)); err != nil {
		t.Error(err)
	}
}

func TestTwoListenersInTurn(t *testing.T) {
	path := filepath.Join(folder(t), "a.sock")
	for range 2 {
		l := listenUnix(t, path)
		dial(t, "unix", path)
		_ = accept(t, l).Close()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Fatalf("after Close: %v, want the socket gone", err)
		}
		if err := l.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	}
}

func TestOccupiedPathIsLeftAlone(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, path string)
		want    string
	}{
		{"live socket", func(t *testing.T, path string) { listenUnix(t, path) }, "another process is already listening"},
		{"live datagram socket", func(t *testing.T, path string) {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
		}, "cannot tell whether another process"},
		{"regular file", func(t *testing.T, path string) { write(t, path, "precious", 0o600) }, "not a socket"},
		{"folder", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "not a socket"},
		{"link to a stale socket", func(t *testing.T, path string) {
			stale(t, path+"2")
			if err := os.Symlink(path+"2", path); err != nil {
				t.Fatal(err)
			}
		}, "not a socket"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(folder(t), "a.sock")
			tt.prepare(t, path)
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			l, err := ListenUnix(path)
			if err == nil {
				_ = l.Close()
				t.Fatal("got a listener, want an error")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want the path and %q", err, tt.want)
			}
			after, err := os.Lstat(path)
			if err != nil || !os.SameFile(before, after) {
				t.Errorf("what was there has been touched: %v", err)
			}
		})
	}
}

func TestCloseLeavesAnotherProcessesSocketAlone(t *testing.T) {
	path := filepath.Join(folder(t), "a.sock")
	first := listenUnix(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second := listenUnix(t, path)
	if err := first.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	dial(t, "unix", path)
	if _, err := identify(accept(t, second)); err != nil {
		t.Error(err)
	}
}

func TestFolder(t *testing.T) {
	mode := func(m os.FileMode) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Chmod(dir, m); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name    string
		prepare func(t *testing.T, dir string)
		want    string // part of the error; "" is success
	}{
		{"ours", mode(0o700), ""},
		{"group-writable", mode(0o770), ""},
		{"world-writable", mode(0o777), "every user can write"},
		{"world-writable, set-group-ID", mode(0o777 | os.ModeSetgid), "every user can write"},
		{"world-writable, sticky", mode(0o777 | os.ModeSticky), ""},
		{"missing", func(t *testing.T, dir string) { _ = os.Remove(dir) }, ""},
		{"not a folder", func(t *testing.T, dir string) {
			_ = os.Remove(dir)
			write(t, dir, "", 0o600)
		}, "not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(folder(t), "sub")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			tt.prepare(t, dir)
			l, err := ListenUnix(filepath.Join(dir, "a.sock"))
			if err == nil {
				_ = l.Close()
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestMissingFolderIsCreated0750(t *testing.T) {
	for _, umask := range []int{0o000, 0o022, 0o077} {
		parent := folder(t)
		if err := os.Chmod(parent, 0o755|os.ModeSetgid); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(parent, "sub")
		old := unix.Umask(umask)
		l, err := ListenUnix(filepath.Join(dir, "a.sock"))
		unix.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		// The set-group-ID bit of the parent is inherited and must survive: it gives the group to the socket.
		if got, want := info.Mode(), os.ModeDir|os.ModeSetgid|0o750; got != want {
			t.Errorf("umask %03o: mode %v, want %v", umask, got, want)
		}
	}
}

func TestFolderOfAnotherUser(t *testing.T) {
	const self, root, other = 1000, 0, 1001
	for _, tt := range []struct {
		uid  uint32
		mode uint32
		ok   bool
	}{
		{self, 0o755, true}, {root, 0o755, true}, {root, 0o1777, true},
		{other, 0o755, false}, {other, 0o1777, false}, {self, 0o757, false},
	} {
		err := checkFolder("/f", &unix.Stat_t{Uid: tt.uid, Mode: unix.S_IFDIR | tt.mode}, self)
		if (err == nil) != tt.ok {
			t.Errorf("owner %d, mode %04o: got %v, want ok %v", tt.uid, tt.mode, err, tt.ok)
		}
	}
}

func TestFolderThatCannotBeWritten(t *testing.T) {
	dir := folder(t)
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a.sock")
	out, _, _, err := child(t, strangerID, strangerID, "listen unix "+path)
	if err == nil || !strings.Contains(out, "permission denied") || !strings.Contains(out, "listen on "+path) {
		t.Errorf("got %v\n%s\nwant permission denied for the path", err, out)
	}
}

func TestUnixPathLength(t *testing.T) {
	dir := folder(t)
	pad := strings.Repeat("d", maxSocketPath-len(dir)-len("/")-len("/s"))
	for name, path := range map[string]string{
		"long folder": filepath.Join(dir, pad, "s"), // no room for a temporary name
		"long name":   filepath.Join(dir, pad+"_s"),
	} {
		if len(path) != maxSocketPath {
			t.Fatalf("%s: the test's path has %d bytes", name, len(path))
		}
		l := listenUnix(t, path)
		dial(t, "unix", path)
		if p, err := identify(accept(t, l)); err != nil || p.Socket != path {
			t.Errorf("%s: got %+v, %v", name, p, err)
		}
		if _, err := ListenUnix(path + "x"); err == nil || !strings.Contains(err.Error(), "the kernel allows 107") {
			t.Errorf("%s, one byte more: got %v, want the limit", name, err)
		}
	}
}

func TestUnixPathsThatNameNoFile(t *testing.T) {
	for _, path := range []string{"", "@abstract", "\x00abstract", "/tmp/a\x00b", "/tmp/", folder(t)} {
		if l, err := ListenUnix(path); err == nil {
			_ = l.Close()
			t.Errorf("%q: got a listener, want an error", path)
		}
	}
}
