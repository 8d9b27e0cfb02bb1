package peer

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUnixPeerIsTheConnectingProcess(t *testing.T) {
	path := filepath.Join(folder(t), "a.sock")
	l := listenUnix(t, path)
	dial(t, "unix", path)
	c := accept(t, l)
	got, err := identify(c)
	if err != nil {
		t.Fatal(err)
	}
	want := Peer{Network: "unix", Socket: path, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), PID: int32(os.Getpid()), Known: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("peer (-want +got):\n%s", diff)
	}
	if got := c.LocalAddr().String(); got != path {
		t.Errorf("local address %q, want %q", got, path)
	}
	if got := l.Addr().String(); got != path {
		t.Errorf("listener's address %q, want %q", got, path)
	}
}

// A unix peer's credentials are those at connect: unlike on TCP, closing does not lose them.
func TestUnixPeerThatClosedBeforeTheLookUp(t *testing.T) {
	path := filepath.Join(folder(t), "a.sock")
	l := listenUnix(t, path)
	_ = dial(t, "unix", path).Close()
	got, err := identify(accept(t, l))
	if err != nil || !got.Known || got.UID != uint32(os.Getuid()) || got.PID != int32(os.Getpid()) {
		t.Errorf("got %+v, %v; want this process", got, err)
	}
}

func TestUnixPeerOfAnotherUser(t *testing.T) {
	path := filepath.Join(folder(t), "a.sock")
	serve(t, listenUnix(t, path), whoHandler)
	// Our own group, or the mode of the socket would keep it out.
	out, uid, gid, err := child(t, strangerID, os.Getgid(), "get unix "+path)
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	got := decodeWho(t, out)
	if got.Error != "" || !got.Peer.Known || got.Peer.UID != uid || got.Peer.GID != gid || got.Peer.PID == int32(os.Getpid()) || got.Peer.PID == 0 {
		t.Errorf("got %+v, want uid %d, gid %d, another process", got, uid, gid)
	}
	if other := uint32(strangerID); uid != other && got.Peer.UID == other {
		t.Errorf("a peer of uid %d passes as uid %d", uid, other)
	}
}

func TestUidsThatNameNobody(t *testing.T) {
	const everyone, pod = "         0          0 4294967295\n", "0 100000 65536\n"
	tests := []struct {
		uidMap string
		uid    uint32
		ok     bool
	}{
		{everyone, 0, true}, {everyone, 65534, true}, {everyone, 1<<32 - 1, false},
		{pod, 0, true}, {pod, 10001, true}, {pod, 65534, false}, {pod, 1<<32 - 1, false},
		{"", 65534, false}, {"garbage", 65534, false}, {"0 0 many", 65534, false},
	}
	for _, tt := range tests {
		ns := namespace{stranger: 65534, complete: mapsEverybody(tt.uidMap)}
		if err := ns.check(tt.uid); (err == nil) != tt.ok {
			t.Errorf("map %q, uid %d: got %v, want ok %v", tt.uidMap, tt.uid, err, tt.ok)
		}
	}
}

// Both kinds of listener apply that check: here every uid but this process's own has a number in the namespace.
func TestPeerHiddenByTheUserNamespace(t *testing.T) {
	defer func(f func() namespace) { userSpace = f }(userSpace)
	userSpace = func() namespace { return namespace{stranger: uint32(os.Getuid())} }
	path := filepath.Join(folder(t), "a.sock")
	for _, l := range []net.Listener{listenUnix(t, path), listenLoopback(t, "127.0.0.1:0")} {
		dial(t, l.Addr().Network(), l.Addr().String())
		p, err := identify(accept(t, l))
		wantUnknown(t, p, err, "in this user namespace")
	}
}

func TestNoEvidence(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	path := filepath.Join(folder(t), "a.sock")
	l := listenUnix(t, path)
	dial(t, "unix", path)
	other := ConnContext(context.Background(), accept(t, l))
	for name, ctx := range map[string]context.Context{
		"no ConnContext":          context.Background(),
		"foreign connection":      ConnContext(context.Background(), a),
		"evidence of another one": ConnContext(other, a),
	} {
		p, err := FromContext(ctx)
		if p != (Peer{}) {
			t.Errorf("%s: got %+v, want the zero Peer", name, p)
		}
		wantUnknown(t, p, err, "ConnContext")
	}
}
