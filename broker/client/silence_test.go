package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Who takes the request and never answers, or never ends the answer, is no
// broker. Whoever asks with less patience gets the error of its own context.
func TestSilence(t *testing.T) {
	for name, test := range map[string]struct {
		said    string
		patient time.Duration // of who asks; 0: without end
		want    time.Duration
	}{
		"nothing":             {"", 0, time.Minute},
		"half a header":       {"HTTP/1.1 200 OK\r\nContent-Type: appl", 0, time.Minute},
		"half an answer":      {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{", 0, time.Minute},
		"to who is impatient": {"", time.Second, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, err := New(Config{})
				if err != nil {
					t.Fatal(err)
				}
				c.http.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
					ours, theirs := net.Pipe()
					go answerAndHang(theirs, test.said)
					return ours, nil
				}
				ctx := t.Context()
				if test.patient != 0 {
					var stop context.CancelFunc
					ctx, stop = context.WithTimeout(ctx, test.patient)
					defer stop()
				}
				began := time.Now()
				_, err = c.Token(ctx, TokenRequest{Scope: "https://a/.default"})
				if took := time.Since(began); took != test.want {
					t.Errorf("got an end after %s, want %s", took, test.want)
				}
				if _, ok := errors.AsType[*UnreachableError](err); !ok || errors.Is(err, context.DeadlineExceeded) != (test.patient != 0) || strings.Contains(err.Error(), "nothing came") == (test.patient != 0) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// answerAndHang reads a request, says something, and waits for the other side to
// go.
func answerAndHang(conn net.Conn, said string) {
	defer conn.Close()
	if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(conn, said)
	}
	_, _ = io.Copy(io.Discard, conn)
}
