package peer

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"testing"
)

func BenchmarkPeercred(b *testing.B) {
	path := filepath.Join(b.TempDir(), "a.sock")
	l := listenUnix(b, path)
	dial(b, "unix", path)
	c := accept(b, l).(*unixConn)
	b.ReportAllocs()
	for b.Loop() {
		if e := witnessUnix(c.UnixConn, path); e.err != nil {
			b.Fatal(e.err)
		}
	}
}

// BenchmarkSockDiag is one look-up; a connection pays two.
func BenchmarkSockDiag(b *testing.B) {
	l := listenLoopback(b, "127.0.0.1:0")
	client := dial(b, "tcp", l.Addr().String())
	accept(b, l)
	t := tuple{
		local:  client.LocalAddr().(*net.TCPAddr).AddrPort(),
		remote: client.RemoteAddr().(*net.TCPAddr).AddrPort(),
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ownerOf(t); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFromContext(b *testing.B) {
	l := listenLoopback(b, "127.0.0.1:0")
	dial(b, "tcp", l.Addr().String())
	conn := ConnContext(context.Background(), accept(b, l))
	// As deep as net/http's server puts it under a request.
	ctx, cancel := context.WithCancel(context.WithValue(conn, http.LocalAddrContextKey, l.Addr()))
	defer cancel()
	request, cancelRequest := context.WithCancel(ctx)
	defer cancelRequest()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := FromContext(request); err != nil {
			b.Fatal(err)
		}
	}
}
