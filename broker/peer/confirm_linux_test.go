package peer

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
)

// The kernel gives uid 0 for a client that has closed. As another user's child would then look like root, this is the trap.
func TestTCPClientThatClosedBeforeTheLookUp(t *testing.T) {
	l := listenLoopback(t, "127.0.0.1:0")
	c := dial(t, "tcp", l.Addr().String())
	fmt.Fprint(c, "GET / HTTP/1.1\r\n\r\n")
	_ = c.Close()
	p, err := identify(accept(t, l))
	wantUnknown(t, p, err, "keep the connection open")
	if p.Network != "tcp" {
		t.Errorf("got network %q, want tcp", p.Network)
	}
}

func TestTCPClientThatResetBeforeTheLookUp(t *testing.T) {
	l := listenLoopback(t, "127.0.0.1:0")
	c := dial(t, "tcp", l.Addr().String())
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
	p, err := identify(accept(t, l))
	wantUnknown(t, p, err, "closed the connection")
}

func TestTCPClientThatHalfClosedBeforeTheLookUp(t *testing.T) {
	l := listenLoopback(t, "[::1]:0")
	c := dial(t, "tcp", l.Addr().String())
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	p, err := identify(accept(t, l))
	wantUnknown(t, p, err, "state FIN_WAIT")
}

func TestTCPClientGoneBetweenAcceptAndFirstRequest(t *testing.T) {
	for name, leave := range map[string]func(net.Conn){
		"closed":      func(c net.Conn) { _ = c.Close() },
		"half-closed": func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite() },
		"reset":       func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			l := listenLoopback(t, "127.0.0.1:0")
			client := dial(t, "tcp", l.Addr().String())
			server := accept(t, l)
			if first := server.(*tcpConn).ev.peer; !first.Known {
				t.Fatalf("first look: got %+v, want a known peer", first)
			}
			leave(client)
			ctx := ConnContext(context.Background(), server)
			for range 2 { // what was found is final
				p, err := FromContext(ctx)
				wantUnknown(t, p, err, "at the first request")
			}
		})
	}
}

// After the first call the answer is final: if FromContext looked again here, it would find a closed client.
func TestTCPEvidenceIsFinalAfterTheFirstCall(t *testing.T) {
	l := listenLoopback(t, "127.0.0.1:0")
	client := dial(t, "tcp", l.Addr().String())
	ctx := ConnContext(context.Background(), accept(t, l))
	before, err := FromContext(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
	after, err := FromContext(ctx)
	if err != nil || after != before {
		t.Errorf("got %+v, %v; want %+v", after, err, before)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = FromContext(ctx) }); n != 0 {
		t.Errorf("FromContext allocates %v times", n)
	}
}

func TestSecondLookDemandsTheSameSocket(t *testing.T) {
	l := listenLoopback(t, "127.0.0.1:0")
	client := dial(t, "tcp", l.Addr().String())
	accept(t, l)
	addrs := tuple{
		local:  client.LocalAddr().(*net.TCPAddr).AddrPort(),
		remote: client.RemoteAddr().(*net.TCPAddr).AddrPort(),
	}
	first, err := ownerOf(addrs)
	if err != nil {
		t.Fatal(err)
	}
	if first.inode == 0 || first.cookie == 0 {
		t.Fatalf("got %+v, want an inode and a cookie", first)
	}
	if err := confirmTCP(addrs, first); err != nil {
		t.Errorf("same socket: %v", err)
	}
	for name, other := range map[string]owner{
		"uid":    {first.uid + 1, first.inode, first.cookie},
		"inode":  {first.uid, first.inode + 1, first.cookie},
		"cookie": {first.uid, first.inode, first.cookie + 1},
	} {
		if err := confirmTCP(addrs, other); err == nil || !strings.Contains(err.Error(), "another socket") {
			t.Errorf("another %s: got %v, want a refusal", name, err)
		}
	}
}
