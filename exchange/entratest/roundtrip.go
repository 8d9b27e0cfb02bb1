package entratest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// RoundTripper calls the server in process: no sockets, no goroutines, and so
// usable inside a testing/synctest bubble. Requests for any other origin than
// Config.BaseURL fail. The context of a request, and with it the Timeout of an
// http.Client, ends Delay and Hang.
func (s *Server) RoundTripper() http.RoundTripper {
	return inProcess{origin: s.cfg.BaseURL, handler: s}
}

// inProcess is a transport that reaches one origin without a network.
type inProcess struct {
	origin  string
	handler http.Handler
}

func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	if got := r.URL.Scheme + "://" + strings.ToLower(r.URL.Host); got != t.origin {
		return nil, fmt.Errorf("entratest: %s is not served here, only %s", originOf(r.URL), t.origin)
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	in.RemoteAddr = "127.0.0.1:0"
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/1.1", 1, 1
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := &answer{header: http.Header{}}
	t.handler.ServeHTTP(w, in)
	if err := r.Context().Err(); err != nil {
		// A socket would have been torn down before the answer was read.
		return nil, err
	}
	return w.response(r), nil
}

// originOf names the host of a URL and nothing that might be secret.
func originOf(u *url.URL) string { return u.Scheme + "://" + u.Host }

// answer collects what a handler writes.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *answer) Header() http.Header { return w.header }

func (w *answer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *answer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

func (w *answer) response(r *http.Request) *http.Response {
	w.WriteHeader(http.StatusOK)
	w.header.Set("Content-Length", strconv.Itoa(w.body.Len()))
	return &http.Response{
		Status:        strconv.Itoa(w.status) + " " + http.StatusText(w.status),
		StatusCode:    w.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        w.header,
		Body:          io.NopCloser(&w.body),
		ContentLength: int64(w.body.Len()),
		Request:       r,
	}
}
