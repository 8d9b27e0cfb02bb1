package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes are a listener in memory, whose time is that of the test.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   *sync.Once
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// What a slow client can hold is bounded, on both listeners.
func TestSlowClients(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
	for name, test := range map[string]struct {
		send   func(t *testing.T, conn net.Conn)
		within time.Duration
		status int // of the answer before the end; 0 for none, or 400 where that is on its way
	}{
		"sends nothing":            {func(*testing.T, net.Conn) {}, 5 * time.Second, 0},
		"stops within its headers": {func(t *testing.T, conn net.Conn) { write(t, conn, "POST / HTTP/1.1\r\nHost: loc") }, 5 * time.Second, 0},
		"sends its headers by drops": {func(t *testing.T, conn net.Conn) {
			drip(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 1000))
		}, 5 * time.Second, 0},
		"stops within its body": {func(t *testing.T, conn net.Conn) { write(t, conn, head+"abc") }, 10 * time.Second, 400},
		"sends its body by drops": {func(t *testing.T, conn net.Conn) {
			write(t, conn, head)
			drip(conn, strings.Repeat("x", 1000))
		}, 10 * time.Second, 400},
		"asks, and then nothing": {func(t *testing.T, conn net.Conn) { write(t, conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") }, 2 * time.Minute, 200},
		"sends headers without an end": {func(t *testing.T, conn net.Conn) {
			write(t, conn, "GET / HTTP/1.1\r\nHost: localhost\r\n"+strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 50))
		}, time.Second, 431},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						w.WriteHeader(http.StatusBadRequest)
					}
				}), slog.New(slog.DiscardHandler))
				listener := pipes{make(chan net.Conn), make(chan struct{}), new(sync.Once)}
				served := make(chan error)
				go func() { served <- server.Serve(listener) }()
				ours, theirs := net.Pipe()
				began := time.Now()
				listener.conns <- theirs
				var sending sync.WaitGroup
				sending.Go(func() { test.send(t, ours) })

				status := 0
				reader := bufio.NewReader(ours)
				if resp, err := http.ReadResponse(reader, nil); err == nil {
					status = resp.StatusCode
				}
				// Whatever is left, the connection has an end.
				_, err := io.Copy(io.Discard, reader)
				took := time.Since(began)
				if status != test.status && (test.status != 0 || status != http.StatusBadRequest) || took > test.within+time.Second {
					t.Errorf("got status %d, and the end after %s (%v); want %d, within %s", status, took, err, test.status, test.within)
				}
				if err := errors.Join(ours.Close(), server.Close()); err != nil {
					t.Error(err)
				}
				sending.Wait()
				if err := <-served; !errors.Is(err, http.ErrServerClosed) {
					t.Error(err)
				}
			})
		})
	}
}

func write(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	// The server need not read to the end what it refuses.
	if _, err := io.WriteString(conn, text); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

// drip writes a byte each second, until nobody reads any more.
func drip(conn net.Conn, text string) {
	for i := range len(text) {
		if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// A defect that makes a handler panic is an error in the log, without what it panicked
// with; the rest of what net/http says is not.
func TestPanicsAreLogged(t *testing.T) {
	var log bytes.Buffer
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("eyJ-a-token") }))
	server.Config.ErrorLog = newServer(nil, slog.New(slog.NewTextHandler(&log, nil))).ErrorLog
	server.Start()
	resp, err := http.Get(server.URL) //nolint:noctx // it has no answer
	if err == nil {
		check(t, resp.Body.Close())
		t.Error("there was an answer")
	}
	server.Close()
	if got := log.String(); strings.Count(got, "level=ERROR") != 1 || strings.Contains(got, "eyJ") || !strings.Contains(got, "TestPanicsAreLogged") {
		t.Errorf("got %s", got)
	}
	log.Reset()
	if _, err := (serverLog{slog.New(slog.NewTextHandler(&log, nil))}).Write([]byte("http: TLS handshake error\n")); err != nil || log.Len() > 0 {
		t.Errorf("got %v, %s", err, log.String())
	}
}
