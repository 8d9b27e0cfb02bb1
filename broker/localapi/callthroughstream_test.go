package localapi_test

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/policy"
)

// Every event reaches the agent before the API makes the next.
func TestCallStreamsEvents(t *testing.T) {
	next := make(chan struct{})
	d, _ := openCalls(t, caller, func(*door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 3 {
				_, _ = fmt.Fprintf(w, "data: %d\n\n", i) // the agent may be gone
				_ = http.NewResponseController(w).Flush()
				select {
				case <-next:
				case <-r.Context().Done():
					return
				}
			}
		})
	})
	resp := do(t, d.request(t, http.MethodPost, "tools/openai/deployments/gpt/chat/completions?api-version=2024-10-21", strings.NewReader(`{"stream":true}`), "Api-Key", "none"))
	events := bufio.NewReader(resp.Body)
	for i := range 3 {
		line, err := events.ReadString('\n')
		check(t, err)
		if line != fmt.Sprintf("data: %d\n", i) {
			t.Errorf("got %q", line)
		}
		_, err = events.ReadString('\n')
		check(t, err)
		next <- struct{}{}
	}
	if rest, err := io.ReadAll(events); err != nil || len(rest) != 0 {
		t.Errorf("got %q and %v at the end", rest, err)
	}
}

// The emulator's own stream comes through whole.
func TestCallStreamsTheEmulator(t *testing.T) {
	d, _ := openCalls(t, caller, emulated)
	got := d.call(t, http.MethodGet, "tools/sse?events=20&interval=1ms", "")
	if got.StatusCode != 200 || strings.Count(got.body, "data:") != 20 || got.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("got %s, want 20 events", got.wire())
	}
}

// Agent and API talk in turns within one request.
func TestCallFullDuplex(t *testing.T) {
	d, a := openCalls(t, caller, func(*door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			in := bufio.NewReader(r.Body)
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				_, _ = io.WriteString(w, strings.ToUpper(line)) // the agent may be gone
				_ = http.NewResponseController(w).Flush()
			}
		})
	})
	body, out := io.Pipe()
	req := d.request(t, http.MethodPost, "tools/x", body)
	go func() { _, _ = io.WriteString(out, "one\n") }() // before the API there is no answer
	resp := do(t, req)
	in := bufio.NewReader(resp.Body)
	for _, word := range []string{"one\n", "two\n", "three\n"} {
		if word != "one\n" {
			_, err := io.WriteString(out, word)
			check(t, err)
		}
		if line, err := in.ReadString('\n'); err != nil || line != strings.ToUpper(word) {
			t.Errorf("got %q and %v, want %q", line, err, word)
		}
	}
	check(t, out.Close())
	if rest, err := io.ReadAll(in); err != nil || len(rest) != 0 || a.request().ContentLength != -1 {
		t.Errorf("got %q and %v at the end of %d bytes", rest, err, a.request().ContentLength)
	}
}

// dial is a connection to the broker for what no HTTP client does.
func (d *door) dial(t testing.TB) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	check(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn, bufio.NewReader(conn)
}

// An API that answers before it has read leaves the connection fit for the next
// request. A server in full duplex panics over it when nobody reads the rest.
func TestCallAnsweredEarly(t *testing.T) {
	d, _ := openCalls(t, caller, answering(200, "early"))
	conn, in := d.dial(t)
	for range 3 {
		_, err := io.WriteString(conn, "POST /call/tools/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
		check(t, err)
		resp, err := http.ReadResponse(in, nil)
		check(t, err)
		first := make([]byte, 5)
		_, err = io.ReadFull(resp.Body, first)
		check(t, err)
		_, err = io.WriteString(conn, "1\r\ny\r\n0\r\n\r\n")
		check(t, err)
		if rest, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(first)+string(rest) != "early" {
			t.Fatalf("got %d %s%s and %v", resp.StatusCode, first, rest, err)
		}
	}
}

// webSocket is a WebSocket to the emulator's API.
func (d *door) webSocket(t testing.TB) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, in := d.dial(t)
	_, err := io.WriteString(conn, "GET /call/tools/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: "+base64.StdEncoding.EncodeToString(make([]byte, 16))+"\r\n\r\n")
	check(t, err)
	resp, err := http.ReadResponse(in, nil)
	check(t, err)
	if resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") == "" || resp.Header.Get("Credfree-Issuance-Id") == "" {
		t.Fatalf("got %d %v", resp.StatusCode, resp.Header)
	}
	return conn, in
}

// A WebSocket carries frames both ways, and ends when the agent goes.
func TestCallWebSocket(t *testing.T) {
	d, a := openCalls(t, caller, emulated)
	conn, in := d.webSocket(t)
	if a.request().ProtoMajor != 1 {
		t.Errorf("got a WebSocket over %s", a.request().Proto)
	}
	for range 3 {
		_, err := conn.Write(append([]byte{0x81, 0x80 | 5, 0, 0, 0, 0}, "hello"...))
		check(t, err)
		frame := make([]byte, 7)
		_, err = io.ReadFull(in, frame)
		check(t, err)
		if string(frame) != "\x81\x05hello" {
			t.Errorf("got the frame %q", frame)
		}
	}
	_, err := conn.Write([]byte{0x88, 0x80, 0, 0, 0, 0})
	check(t, err)
	if rest, err := io.ReadAll(in); err != nil || string(rest) != "\x88\x00" {
		t.Errorf("got %q and %v at the end", rest, err)
	}
}

// untilDone is an API that answers nothing, or half, and notes when its caller
// has gone.
func untilDone(status int, gone chan<- struct{}) func(*door) http.Handler {
	return func(*door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if status != 0 {
				w.WriteHeader(status)
				_, _ = io.WriteString(w, "half") // the agent may be gone
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
			close(gone)
		})
	}
}

// An agent that goes away takes its call along.
func TestCallEndsWithTheAgent(t *testing.T) {
	for _, status := range []int{0, 200} {
		gone := make(chan struct{})
		d, a := openCalls(t, caller, untilDone(status, gone))
		conn, in := d.dial(t)
		_, err := io.WriteString(conn, "POST /call/tools/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody")
		check(t, err)
		if status != 0 {
			_, err = http.ReadResponse(in, nil)
			check(t, err)
		} else {
			for a.calls.Load() == 0 { // the handler counts before it waits
				check(t, t.Context().Err())
			}
		}
		check(t, conn.Close())
		<-gone
	}
}

// A call on which nothing moves ends: with an answer while there is none yet, by
// cutting it when there is half of one.
func TestCallIdle(t *testing.T) {
	quick := func(cfg *localapi.Config) { cfg.CallThrough.Idle = 300 * time.Millisecond }

	// A busy machine may not reach the API within that time: nobody waits for it.
	d, _ := openCalls(t, caller, untilDone(0, make(chan struct{})), quick)
	got := d.call(t, http.MethodGet, "tools/x", "")
	if got.StatusCode != 504 || refusalOf(t, got).Error.Reason != "api_timeout" || !strings.Contains(got.body, "300ms") {
		t.Errorf("got %s, want 504", got.wire())
	}

	gone := make(chan struct{})
	d, _ = openCalls(t, caller, untilDone(200, gone), quick)
	resp := do(t, d.request(t, http.MethodGet, "tools/x", nil))
	if body, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || string(body) != "half" {
		t.Errorf("got %q and %v, want half and the end of the connection", body, err)
	}
	<-gone

	// The agent is the one that stalls: with a body to be read ahead, and with a stream.
	for _, head := range []string{"Content-Length: 9\r\n\r\nxxxx", "Transfer-Encoding: chunked\r\n\r\n4\r\nxxxx\r\n"} {
		d, _ = openCalls(t, caller, func(*door) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
		}, quick)
		conn, in := d.dial(t)
		_, err := io.WriteString(conn, "POST /call/tools/x HTTP/1.1\r\nHost: localhost\r\n"+head)
		check(t, err)
		resp, err := http.ReadResponse(in, nil)
		check(t, err)
		if resp.StatusCode != 504 {
			t.Errorf("%q: got %d, want 504", head, resp.StatusCode)
		}
	}

	// The agent does not read: what the API sends fills the way, and then stands still.
	gone = make(chan struct{})
	d, _ = openCalls(t, caller, func(*door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 64<<10)) // until it is cut
			}
			close(gone)
		})
	}, quick)
	conn, _ := d.dial(t)
	_, err := io.WriteString(conn, "GET /call/tools/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
	check(t, err)
	<-gone
	check(t, conn.Close())
}

// A call ends when a reload blocks its agent: with an answer while there is none yet,
// by cutting it when there is half of one, or another protocol.
func TestCallEndsWithTheRight(t *testing.T) {
	var b *broker.Broker
	block := func(d *door) {
		rules := b.Rules()
		rules.Policy = d.policy(t, caller("")+"    blocked: true\n")
		check(t, b.Use(rules))
	}
	withBroker := func(cfg *localapi.Config) { b = cfg.Broker }

	gone := make(chan struct{})
	d, a := openCalls(t, caller, untilDone(0, gone), withBroker)
	var blocking sync.WaitGroup
	blocking.Go(func() {
		for a.calls.Load() == 0 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		block(d)
	})
	got := d.call(t, http.MethodGet, "tools/x", "")
	if r := refusalOf(t, got).Error; got.StatusCode != 403 || r.Reason != string(policy.AgentBlocked) || r.Rule != "agents.demo.blocked" {
		t.Errorf("got %s, want 403 because the agent is blocked", got.wire())
	}
	blocking.Wait()
	<-gone

	gone = make(chan struct{})
	d, _ = openCalls(t, caller, untilDone(200, gone), withBroker)
	resp := do(t, d.request(t, http.MethodGet, "tools/x", nil))
	_, err := io.ReadFull(resp.Body, make([]byte, 4))
	check(t, err)
	block(d)
	if _, err := resp.Body.Read(make([]byte, 1)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want the end of the connection", err)
	}
	<-gone

	d, _ = openCalls(t, caller, emulated, withBroker)
	conn, in := d.webSocket(t)
	block(d)
	if rest, err := io.ReadAll(in); err != nil && !errors.Is(err, syscall.ECONNRESET) || len(rest) > 0 {
		t.Errorf("got %q and %v, want the end of the connection", rest, err)
	}
	check(t, conn.Close())
}

// What moves is not cut, however long it takes: neither by the limit of this
// door, nor by those of the server.
func TestCallOutlivesAllLimits(t *testing.T) {
	const idle = 400 * time.Millisecond
	d, _ := openCalls(t, caller, echoing, func(cfg *localapi.Config) { cfg.CallThrough.Idle = idle })
	d.socket += "2"
	d.serve(t, &http.Server{Handler: d.handler, ConnContext: peer.ConnContext, ReadTimeout: 50 * time.Millisecond, WriteTimeout: 50 * time.Millisecond})
	body, out := io.Pipe()
	req := d.request(t, http.MethodPost, "tools/x", body)
	go func() { _, _ = io.WriteString(out, "x") }() // before the API there is no answer
	resp := do(t, req)
	one := make([]byte, 1)
	for start := time.Now(); time.Since(start) < 2*idle; {
		if _, err := io.ReadFull(resp.Body, one); err != nil {
			t.Fatalf("cut after %s: %v", time.Since(start), err)
		}
		_, err := io.WriteString(out, "x")
		check(t, err)
	}
	check(t, out.Close())
	_, err := io.ReadAll(resp.Body)
	check(t, err)
}

// echoing is an API that sends back what it gets, at once.
func echoing(*door) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for buffer := make([]byte, 1); ; {
			if _, err := io.ReadFull(r.Body, buffer); err != nil {
				return
			}
			_, _ = w.Write(buffer) // the agent may be gone
			_ = http.NewResponseController(w).Flush()
		}
	})
}

// Interim answers of the API stay between the API and the broker.
func TestCallInterimAnswers(t *testing.T) {
	d, _ := openCalls(t, caller, func(*door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", r.Header.Get("Authorization"))
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			w.WriteHeader(http.StatusNoContent)
		})
	})
	conn, in := d.dial(t)
	_, err := io.WriteString(conn, "GET /call/tools/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
	check(t, err)
	if status, err := in.ReadString('\n'); err != nil || status != "HTTP/1.1 204 No Content\r\n" {
		t.Errorf("got %q and %v, want the answer alone", status, err)
	}
}
