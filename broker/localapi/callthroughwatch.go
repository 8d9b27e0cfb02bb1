package localapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/credfree/credfree/broker"
)

// errIdle is why a call was cut that nothing moved on.
var errIdle = errors.New("nothing moved for too long")

// revoked is why a call was cut that a reload of the rules no longer allows.
type revoked struct{ error }

// explain returns what is final: the API may have done what was asked of it, which
// nobody is to ask twice without a look.
func (r *revoked) explain() error {
	if denied, ok := errors.AsType[*broker.Denied](r.error); ok {
		return denied
	}
	return &badRequest{status: http.StatusForbidden, code: "access_denied", reason: broker.ReasonPurged,
		message: "the policy was changed during the call, which goes another way by now", hint: "look whether the API has done what was asked, and ask again"}
}

const (
	farewell = 30 * time.Second // for the agent to take the end of an answer
	leftover = 5 * time.Second  // for the agent to end a request that is answered already
)

// watch ends a call on which nothing moves, in place of the deadlines of the
// server: those end every call at the same age.
type watch struct {
	idle   time.Duration
	cancel context.CancelCauseFunc
	conn   *http.ResponseController
	timer  *time.Timer
	// switched says that the connection is no longer the server's.
	switched bool

	mu      sync.Mutex // guards stopped, and keeps end and touch within the request
	stopped bool
}

// watchCall starts to watch, and returns the request with a context that ends
// with the call. The caller must stop the watch before it returns.
func watchCall(rw http.ResponseWriter, r *http.Request, idle time.Duration) (*watch, *http.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	w := &watch{idle: idle, cancel: cancel, conn: http.NewResponseController(rw)}
	// A writer that can do none of this has no connection that could hang.
	_ = w.conn.SetReadDeadline(time.Time{})
	_ = w.conn.SetWriteDeadline(time.Time{})
	_ = w.conn.EnableFullDuplex()
	w.timer = time.AfterFunc(idle, func() { w.end(errIdle) })
	return w, r.WithContext(ctx)
}

// touch says that something has moved. That what is left of a call moves once more
// does not matter any longer.
func (w *watch) touch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.timer.Reset(w.idle)
	}
}

// end ends the call to the API, and whatever waits for the agent.
func (w *watch) end(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return // the connection is another request's by now
	}
	w.cancel(why)
	_ = w.conn.SetReadDeadline(time.Now())
	_ = w.conn.SetWriteDeadline(time.Now().Add(farewell))
}

// stop ends the watch and the context of the call, and leaves the connection to
// the server. body is the agent's, as the server has given it.
func (w *watch) stop(body io.Closer) {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.timer.Stop()
	w.cancel(nil)
	if w.switched {
		return
	}
	_ = w.conn.SetWriteDeadline(time.Now().Add(farewell))
	_ = w.conn.SetReadDeadline(time.Now().Add(leftover))
	_ = w.conn.Flush()
	// A server that is left to do this itself, in full duplex, reads the next
	// request while it still reads the rest of this one, and panics.
	_ = body.Close()
}

// agentBody is what the agent sends.
type agentBody struct {
	io.ReadCloser
	watch *watch
}

// agentError is a failure of the agent to send what it announced.
type agentError struct{ error }

func (e *agentError) Unwrap() error { return e.error }

// Read implements io.Reader.
func (b *agentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.watch.touch()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = &agentError{err}
	}
	return n, err
}

// apiBody is what the API answers. end is called when all of it was read.
type apiBody struct {
	io.ReadCloser
	watch *watch
	end   func()
}

// Read implements io.Reader.
func (b *apiBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.watch.touch()
	}
	if errors.Is(err, io.EOF) {
		b.end()
	}
	return n, err
}

// apiConn is a connection to the API that has switched protocols.
type apiConn struct {
	*apiBody
	io.Writer
}

// Write implements io.Writer.
func (c *apiConn) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	if n > 0 {
		c.watch.touch()
	}
	return n, err
}
