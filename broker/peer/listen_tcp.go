package peer

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// tuple is the pair of addresses of the peer's own TCP socket: its local address is our remote one.
type tuple struct {
	local, remote netip.AddrPort
}

// owner is what the kernel says about the process side of a TCP socket. Two equal owners are the same socket.
type owner struct {
	uid    uint32
	inode  uint32
	cookie uint64
}

// ListenLoopback listens on a TCP port of this machine that other machines cannot reach.
//
// addr is "host:port", where host is a loopback address literal (127.0.0.1, any of 127.0.0.0/8, [::1]) or "localhost", which
// means 127.0.0.1 without asking a resolver, and port is a number (0: any free port). Everything else is an error that names addr.
//
// Accept looks the client up once; a look-up that fails makes the peer unknown (see [FromContext]) and is never an error of
// Accept. Errors of Accept are those of package net, so that [net/http.Server] can wait out the transient ones.
// The listener is safe for concurrent use.
func ListenLoopback(addr string) (net.Listener, error) {
	ap, err := loopbackAddr(addr)
	if err != nil {
		return nil, err
	}
	network := "tcp4"
	if ap.Addr().Is6() {
		network = "tcp6"
	}
	// No keep-alive probes: the kernel itself ends a loopback connection when its process dies.
	lc := net.ListenConfig{KeepAlive: -1}
	// With Multipath TCP a connection could outlive the address pair by which its owner is found.
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), network, ap.String())
	if err != nil {
		return nil, fmt.Errorf("listen on loopback address %q (is another process using the port?): %w", addr, err)
	}
	return &tcpListener{inner: l.(*net.TCPListener)}, nil
}

func loopbackAddr(addr string) (netip.AddrPort, error) {
	refuse := func(why string) (netip.AddrPort, error) {
		return netip.AddrPort{}, fmt.Errorf("refusing to listen on %q: %s; use 127.0.0.1:PORT, [::1]:PORT or localhost:PORT", addr, why)
	}
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return refuse("it is not of the form host:port")
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return refuse("the port is not a number from 0 to 65535")
	}
	if host == "" {
		return refuse("without a host it would listen on every network interface")
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return refuse("the host is a name, and what names mean can be changed from outside")
	}
	ip = ip.Unmap()
	switch {
	case ip.IsUnspecified():
		return refuse("it would listen on every network interface")
	case !ip.IsLoopback() || ip.Zone() != "":
		return refuse("other machines or network namespaces could reach it")
	}
	return netip.AddrPortFrom(ip, uint16(port)), nil
}

type tcpListener struct {
	inner *net.TCPListener
	crowd crowd
}

func (l *tcpListener) Close() error   { return l.inner.Close() }
func (l *tcpListener) Addr() net.Addr { return l.inner.Addr() }

func (l *tcpListener) Accept() (net.Conn, error) {
	for {
		c, err := l.inner.AcceptTCP()
		if err != nil {
			return nil, err // as it is: net/http recognises the transient ones
		}
		ev := witnessTCP(c)
		if leave, ok := l.crowd.enter(ev.peer); ok {
			return &tcpConn{TCPConn: c, ev: ev, leave: leave}, nil
		}
		_ = c.Close() // the caller sees that it is closed
	}
}

// tcpConn embeds the concrete type so that net/http still finds ReadFrom and CloseWrite.
type tcpConn struct {
	*net.TCPConn
	ev    *evidence
	leave func()
}

func (c *tcpConn) Close() error {
	c.leave()
	return c.TCPConn.Close()
}

func (c *tcpConn) Read(p []byte) (int, error) {
	letAnswersGoFirst(p)
	return c.TCPConn.Read(p)
}

func (c *tcpConn) evidence() *evidence { return c.ev }

func witnessTCP(c net.Conn) *evidence {
	p := Peer{Network: "tcp"}
	client, ok1 := c.RemoteAddr().(*net.TCPAddr)
	server, ok2 := c.LocalAddr().(*net.TCPAddr)
	if !ok1 || !ok2 {
		return unknown(p, fmt.Errorf("the peer is unknown: the connection has no TCP addresses (%v, %v)", c.RemoteAddr(), c.LocalAddr()))
	}
	t := tuple{local: plain(client.AddrPort()), remote: plain(server.AddrPort())}
	if !t.local.Addr().IsLoopback() {
		return unknown(p, fmt.Errorf("the peer is unknown: its address %s is not a loopback address; connect from this machine to 127.0.0.1 or [::1]", t.local))
	}
	first, err := ownerOf(t)
	if err != nil {
		return unknown(p, err)
	}
	p.UID = first.uid
	return known(p, func() error { return confirmTCP(t, first) })
}

// confirmTCP is the second look: between accept and the first request the client may have closed, and its port may have
// been taken by another process.
func confirmTCP(t tuple, first owner) error {
	again, err := ownerOf(t)
	if err != nil {
		return fmt.Errorf("at the first request: %w", err)
	}
	if again != first {
		return fmt.Errorf("the peer is unknown: the client's address %s belonged to another socket at accept; open a new connection", t.local)
	}
	return nil
}

// plain is the one spelling in which addresses are compared: IPv4 is never written as IPv6, and there is no zone.
func plain(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
