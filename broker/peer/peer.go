package peer

import (
	"context"
	"errors"
	"net"
	"sync"
)

// Peer is the kernel's evidence about the process at the other end of a connection. The zero value is nobody.
// It is a plain value: copy and compare it freely.
type Peer struct {
	// Network is "unix" or "tcp"; "" for nobody.
	Network string
	// Socket is the path of the unix socket that the peer connected to, exactly as passed to [ListenUnix]; "" on TCP.
	Socket string
	// UID and GID mean something only if Known is true. On TCP the kernel does not tell the gid: GID is 0 there and means nothing.
	UID, GID uint32
	// PID is 0 when unknown: on TCP, and when the peer lives in a PID namespace that this process cannot see.
	// Process ids are reused; use it in records, never in decisions.
	PID int32
	// Known says that the kernel vouched for UID.
	Known bool
}

// anonymous is p without what the kernel did not vouch for: where it connected, not who it is.
func (p Peer) anonymous() Peer {
	return Peer{Network: p.Network, Socket: p.Socket}
}

// evidence is what one connection's look-ups found. The look-up at accept fills it before anyone else can see it; the first
// call of result settles it; from then on it never changes.
type evidence struct {
	peer Peer
	err  error // why peer.UID is unknown; once settled, nil exactly if peer.Known

	// confirm repeats the look-up and compares; nil when the first one cannot go stale (unix sockets) or has failed.
	confirm func() error
	once    sync.Once // of settle; read peer and err only after it
}

// result returns the final evidence. After the first call it costs one atomic load.
func (e *evidence) result() (Peer, error) {
	e.once.Do(e.settle)
	return e.peer, e.err
}

func (e *evidence) settle() {
	if e.confirm != nil {
		if err := e.confirm(); err != nil {
			e.peer, e.err = e.peer.anonymous(), err
		}
		e.confirm = nil
	}
}

// known and unknown are the only two ways to build evidence, so that peer.Known and err cannot disagree.
func known(p Peer, confirm func() error) *evidence {
	p.Known = true
	return &evidence{peer: p, confirm: confirm}
}

func unknown(p Peer, reason error) *evidence {
	return &evidence{peer: p.anonymous(), err: reason}
}

// witnessed is a connection that a listener of this package accepted.
type witnessed interface{ evidence() *evidence }

type contextKey struct{}

var errNoEvidence = errors.New("the peer is unknown: the connection was not accepted by a listener of package peer, " +
	"or http.Server.ConnContext is not set to peer.ConnContext")

// ConnContext attaches the evidence about c to ctx. Use it as [net/http.Server.ConnContext]. It also finds the evidence of a
// connection inside a TLS connection. For a connection that no listener of this package accepted, [FromContext] returns an error.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	for {
		if w, ok := c.(witnessed); ok {
			return context.WithValue(ctx, contextKey{}, w.evidence())
		}
		wrapper, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			// Hides evidence that ctx may carry about some other connection.
			return context.WithValue(ctx, contextKey{}, (*evidence)(nil))
		}
		c = wrapper.NetConn()
	}
}

// FromContext returns the evidence about the connection that a request came in on; ctx is the request's context.
//
// The first call on a TCP connection asks the kernel again and demands the same socket, the same uid and a connection that is
// still open; what it finds is final for that connection. Later calls make no system call and allocate nothing.
//
// An error says why the peer is unknown and what to change; the returned Peer then has Known false and still says where
// the peer connected (Network, Socket), or is the zero Peer if ctx carries no evidence. Safe for concurrent use.
func FromContext(ctx context.Context) (Peer, error) {
	e, _ := ctx.Value(contextKey{}).(*evidence)
	if e == nil {
		return Peer{}, errNoEvidence
	}
	return e.result()
}
