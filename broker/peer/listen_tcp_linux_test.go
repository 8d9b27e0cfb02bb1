package peer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListenLoopbackRefuses(t *testing.T) {
	for _, addr := range []string{
		"0.0.0.0:7400", "[::]:7400", ":7400", "", "7400", "127.0.0.1", "localhost", "example.com:7400", "192.0.2.1:7400",
		"[fd00::1]:7400", "[fe80::1%lo]:7400", "[::1%lo]:7400", "[::ffff:0.0.0.0]:7400", "[::ffff:192.0.2.1]:7400", "127.1:7400", "2130706433:7400",
		"0177.0.0.1:7400", "localhost.:7400", "localhost.example.com:7400", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:",
	} {
		l, err := ListenLoopback(addr)
		if err == nil {
			_ = l.Close()
			t.Errorf("%q: got a listener on %v, want an error", addr, l.Addr())
			continue
		}
		if !strings.Contains(err.Error(), fmt.Sprintf("%q", addr)) {
			t.Errorf("%q: the error does not name it: %v", addr, err)
		}
	}
}

func TestListenLoopbackAccepts(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:0": "127.0.0.1", "localhost:0": "127.0.0.1", "127.0.0.2:0": "127.0.0.2", "[::1]:0": "::1", "[::ffff:127.0.0.1]:0": "127.0.0.1",
	} {
		l := listenLoopback(t, addr)
		got := l.Addr().(*net.TCPAddr).AddrPort().Addr()
		if got.String() != want {
			t.Errorf("%q: listens on %v, want %s", addr, got, want)
		}
		if _, err := ListenLoopback(l.Addr().String()); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("port in use: got %v", err)
		}
	}
}

// dualStack listens on every family, which ListenLoopback never does, so that IPv4 clients appear with IPv6-mapped addresses.
func dualStack(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &tcpListener{inner: l.(*net.TCPListener)}
}

// dialMapped connects an IPv6 socket to an IPv4 address, ::ffff:127.0.0.1.
func dialMapped(t *testing.T, port int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Connect(fd, &unix.SockaddrInet6{Port: port, Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}); err != nil {
		t.Fatal(err)
	}
}

func TestTCPPeer(t *testing.T) {
	port := func(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }
	plainDial := func(host string) func(*testing.T, net.Listener) {
		return func(t *testing.T, l net.Listener) { dial(t, "tcp", net.JoinHostPort(host, fmt.Sprint(port(l)))) }
	}
	on := func(addr string) func(*testing.T) net.Listener {
		return func(t *testing.T) net.Listener { return listenLoopback(t, addr) }
	}
	mapped := func(t *testing.T, l net.Listener) { dialMapped(t, port(l)) }
	for _, tt := range []struct {
		name   string
		listen func(*testing.T) net.Listener
		dial   func(*testing.T, net.Listener)
	}{
		{"IPv4", on("127.0.0.1:0"), plainDial("127.0.0.1")},
		{"IPv6", on("[::1]:0"), plainDial("::1")},
		{"IPv6 socket to IPv4 listener", on("127.0.0.1:0"), mapped},
		{"IPv4 to dual-stack listener", dualStack, plainDial("127.0.0.1")},
		{"IPv6 to dual-stack listener", dualStack, plainDial("::1")},
		{"IPv6 socket to dual-stack listener over IPv4", dualStack, mapped},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := tt.listen(t)
			tt.dial(t, l)
			got, err := identify(accept(t, l))
			want := Peer{Network: "tcp", UID: uint32(os.Getuid()), Known: true}
			if err != nil || got != want {
				t.Errorf("got %+v, %v; want %+v", got, err, want)
			}
		})
	}
}

func TestTCPPeerOfAnotherUser(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l := listenLoopback(t, addr)
		serve(t, l, whoHandler)
		out, uid, _, err := child(t, strangerID, strangerID, "get tcp "+l.Addr().String())
		if err != nil {
			t.Fatalf("child: %v\n%s", err, out)
		}
		got := decodeWho(t, out)
		if want := (Peer{Network: "tcp", UID: uid, Known: true}); got.Error != "" || got.Peer != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if other := uint32(strangerID); uid != other && got.Peer.UID == other {
			t.Errorf("a peer of uid %d passes as uid %d", uid, other)
		}
	}
}

// Asked for a connection that does not exist, the kernel answers with the listener on the local address.
func TestListenerIsNotAPeer(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l := listenLoopback(t, addr).Addr().(*net.TCPAddr).AddrPort()
		o, err := ownerOf(tuple{local: l, remote: netip.AddrPortFrom(l.Addr(), 1)})
		if o != (owner{}) || err == nil || !strings.Contains(err.Error(), "state LISTEN") {
			t.Errorf("got %+v, %v; want a refusal that names the state LISTEN", o, err)
		}
	}
}

func TestUnusedAddressHasNoOwner(t *testing.T) {
	l := listenLoopback(t, "127.0.0.1:0")
	free := l.Addr().(*net.TCPAddr).AddrPort()
	_ = l.Close()
	if o, err := ownerOf(tuple{local: free, remote: free}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %+v, %v; want ENOENT", o, err)
	}
}

type fakeConn struct {
	net.Conn
	local, remote net.Addr
}

func (c fakeConn) LocalAddr() net.Addr  { return c.local }
func (c fakeConn) RemoteAddr() net.Addr { return c.remote }

func TestPeerFromAnotherMachineIsUnknown(t *testing.T) {
	here := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7400}
	p, err := witnessTCP(fakeConn{local: here, remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5}}).result()
	wantUnknown(t, p, err, "not a loopback address")
	p, err = witnessTCP(fakeConn{local: here, remote: &net.UnixAddr{}}).result()
	wantUnknown(t, p, err, "no TCP addresses")
}

// withSpareFiles runs f while the process may open exactly n more files.
func withSpareFiles(t *testing.T, n int, f func()) {
	t.Helper()
	probe, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0) // the lowest free number
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(probe)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(probe + n), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}

func TestAcceptWithoutFreeFiles(t *testing.T) {
	path := filepath.Join(folder(t), "a.sock")
	for _, l := range []net.Listener{listenLoopback(t, "127.0.0.1:0"), listenUnix(t, path)} {
		dial(t, l.Addr().Network(), l.Addr().String())
		withSpareFiles(t, 0, func() {
			_, err := l.Accept()
			// net/http waits and tries again exactly if the error itself says that it is temporary.
			if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Temporary() { //nolint:staticcheck // deprecated, and what net/http asks
				t.Errorf("%s: got %v, want a temporary net.Error", l.Addr().Network(), err)
			}
		})
		if _, err := identify(accept(t, l)); err != nil {
			t.Errorf("%s: afterwards: %v", l.Addr().Network(), err)
		}
	}
}

func TestFailedLookUpIsNotAnAcceptError(t *testing.T) {
	l := listenLoopback(t, "127.0.0.1:0")
	dial(t, "tcp", l.Addr().String())
	var c net.Conn
	withSpareFiles(t, 1, func() { c = accept(t, l) }) // one for the connection, none for netlink
	p, err := identify(c)
	wantUnknown(t, p, err, "NETLINK_SOCK_DIAG")
	if !errors.Is(err, unix.EMFILE) {
		t.Errorf("got %v, want EMFILE kept as the reason", err)
	}
}

func TestEvidenceInsideTLS(t *testing.T) {
	l := listenLoopback(t, "127.0.0.1:0")
	dial(t, "tcp", l.Addr().String())
	if p, err := identify(tls.Server(accept(t, l), &tls.Config{})); err != nil || !p.Known {
		t.Errorf("got %+v, %v; want a known peer", p, err)
	}
}

func TestRequestsEndToEnd(t *testing.T) {
	path := filepath.Join(folder(t), "a.sock")
	for _, tt := range []struct {
		l    net.Listener
		want Peer
	}{
		{listenUnix(t, path), Peer{Network: "unix", Socket: path, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), PID: int32(os.Getpid()), Known: true}},
		{listenLoopback(t, "localhost:0"), Peer{Network: "tcp", UID: uint32(os.Getuid()), Known: true}},
		{listenLoopback(t, "[::1]:0"), Peer{Network: "tcp", UID: uint32(os.Getuid()), Known: true}},
	} {
		serve(t, tt.l, whoHandler)
		body, err := get(tt.l.Addr().Network(), tt.l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if got := decodeWho(t, body); got.Error != "" || got.Peer != tt.want {
			t.Errorf("got %+v, want %+v", got, tt.want)
		}
	}
}

// net/http relies on these methods of the connections it is given.
func TestConnectionCarriesData(t *testing.T) {
	path := filepath.Join(folder(t), "a.sock")
	for _, l := range []net.Listener{listenLoopback(t, "127.0.0.1:0"), listenUnix(t, path)} {
		client := dial(t, l.Addr().Network(), l.Addr().String())
		server := accept(t, l)
		if _, ok := server.(io.ReaderFrom); !ok && l.Addr().Network() == "tcp" {
			t.Error("tcp: no ReadFrom")
		}
		closer, ok := server.(interface{ CloseWrite() error })
		if !ok {
			t.Fatalf("%s: no CloseWrite", l.Addr().Network())
		}
		fmt.Fprint(server, "hello")
		if err := closer.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(client); err != nil || string(got) != "hello" {
			t.Errorf("%s: got %q, %v", l.Addr().Network(), got, err)
		}
	}
}
