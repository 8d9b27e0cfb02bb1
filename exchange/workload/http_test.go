package workload_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/exchange/workload"
)

// bearer is what proves to a platform who asks. It must never be in an error.
const bearer = "hunter2-hunter2-hunter2"

// transport answers in process.
type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

func answering(body string) transport {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
}

func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func authorization() map[string]workload.Header {
	return map[string]workload.Header{"Authorization": {Env: "KEY", Prefix: "Bearer "}}
}

// The request is what was asked for, and its credentials are read anew.
func TestHTTPSends(t *testing.T) {
	type sent struct{ method, query, authorization, key, flavor string }
	var got sent
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = sent{r.Method, r.URL.RawQuery, r.Header.Get("Authorization"), r.Header.Get("X-Key"), r.Header.Get("Metadata-Flavor")}
		_, _ = io.WriteString(w, `{"data":{"token":"`+subject("s")+`"}}`)
	})
	file := filepath.Join(t.TempDir(), "key")
	env := variables{}
	source := workload.HTTP{
		URL: url + "/t?audience=a%20b", Method: http.MethodPost, JSONPointer: "/data/token", Getenv: env.get,
		Headers: map[string]workload.Header{"authorization": {Env: "KEY", Prefix: "Bearer "}, "X-Key": {File: file}, "Metadata-Flavor": {Value: "Google"}},
	}
	for _, round := range []string{"one", "two"} {
		env["KEY"] = "env-" + round
		if err := os.WriteFile(file, []byte("file-"+round+"\r\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		wantSubject(t, source, "s")
		if want := (sent{http.MethodPost, "audience=a%20b", "Bearer env-" + round, "file-" + round, "Google"}); got != want {
			t.Errorf("got the request %+v, want %+v", got, want)
		}
	}
}

func TestHTTPHeaderProblems(t *testing.T) {
	folder := t.TempDir()
	broken := filepath.Join(folder, "broken")
	if err := os.WriteFile(broken, []byte(bearer+"\r\nX-Injected: "+bearer), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		name    string
		header  workload.Header
		problem workload.Problem
		says    string
	}{
		"no variable":        {"A", workload.Header{Env: "UNSET"}, workload.Unavailable, `"UNSET" is not set`},
		"blank variable":     {"A", workload.Header{Env: "BLANK"}, workload.Malformed, "is empty"},
		"injecting variable": {"A", workload.Header{Env: "BROKEN"}, workload.Malformed, "one line"},
		"no file":            {"A", workload.Header{File: filepath.Join(folder, "missing")}, workload.Unavailable, "no such file"},
		"folder":             {"A", workload.Header{File: folder}, workload.Unavailable, "not a regular file"},
		"injecting file":     {"A", workload.Header{File: broken}, workload.Malformed, "one line"},
		"injecting value":    {"A", workload.Header{Value: bearer + "\n" + bearer}, workload.Malformed, "do not print"},
		"injecting prefix":   {"A", workload.Header{Value: bearer, Prefix: "\r\n"}, workload.Malformed, "do not print"},
		"no value":           {"A", workload.Header{Prefix: "Bearer "}, workload.Malformed, "no value"},
		"name with a space":  {"A B", workload.Header{Value: bearer}, workload.Malformed, "cannot be sent"},
		"no name":            {"", workload.Header{Value: bearer}, workload.Malformed, "cannot be sent"},
		"framing":            {"content-length", workload.Header{Value: bearer}, workload.Malformed, "cannot be sent"},
	} {
		t.Run(name, func(t *testing.T) {
			source := workload.HTTP{URL: "https://platform.test", Headers: map[string]workload.Header{test.name: test.header},
				Getenv: variables{"BLANK": " ", "BROKEN": bearer + "\n" + bearer}.get,
				Transport: transport(func(*http.Request) (*http.Response, error) {
					t.Error("the request was sent")
					return nil, errors.New("no")
				})}
			_, err := source.Assertion(t.Context())
			wantError(t, err, test.problem, test.says, bearer)
		})
	}
}

// Whoever is redirected to would get the bearer token.
func TestHTTPFollowsNoRedirect(t *testing.T) {
	var strangers atomic.Int32
	stranger := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		strangers.Add(1)
		_, _ = io.WriteString(w, subject("stranger"))
	})
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, location := range []string{stranger + "/" + bearer, "/" + bearer} {
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" {
					strangers.Add(1)
				}
				http.Redirect(w, r, location, status)
			})
			source := workload.HTTP{URL: url + "/", Headers: authorization(), Getenv: variables{"KEY": bearer}.get}
			_, err := source.Assertion(t.Context())
			wantError(t, err, workload.Malformed, strconv.Itoa(status), bearer)
		}
	}
	if n := strangers.Load(); n != 0 {
		t.Errorf("got %d requests after a redirect, want none", n)
	}
}

func TestHTTPWithoutTLS(t *testing.T) {
	for url, allowed := range map[string]bool{
		"http://127.0.0.1:1/t": true, "http://127.8.9.10/t": true, "http://[::1]/t": true, "http://[::ffff:127.0.0.1]/t": true,
		"http://localhost:80/t": true, "http://169.254.169.254/t": true, "http://metadata.google.internal/t": true,
		"https://platform.test/t": true, "HTTPS://platform.test/t": true,
		"http://platform.test/t": false, "http://127.0.0.1.platform.test/t": false, "http://localhost.platform.test/t": false,
		"http://10.0.0.1/t": false, "http://0.0.0.0/t": false, "http://[::]/t": false, "http://169.254.169.253/t": false, "http://2130706433/t": false,
		"http://127.0.0.1@platform.test/t": false, "http://" + bearer + "@127.0.0.1/t": false, "https://u:" + bearer + "@platform.test/t": false,
		"http://metadata.google.internal.platform.test/t": false, "http:///t": false, "https://": false, "ftp://127.0.0.1/t": false,
		"file:///t": false, "platform.test/t": false, "": false, "https:platform.test/" + bearer: false, "http://127.0.0.1:" + bearer: false, "https://%zz" + bearer: false,
	} {
		asked := false
		source := workload.HTTP{URL: url, Headers: authorization(), Getenv: variables{"KEY": bearer}.get,
			Transport: transport(func(r *http.Request) (*http.Response, error) {
				asked = true
				return answering(subject("s"))(r)
			})}
		_, err := source.Assertion(t.Context())
		if asked != allowed {
			t.Errorf("%s: asked %t, want %t", url, asked, allowed)
		}
		if allowed && err != nil {
			t.Errorf("%s: got %v", url, err)
		}
		if !allowed {
			wantError(t, err, workload.Malformed, "the token endpoint", bearer)
		}
	}
}

// raw answers each connection with text that need not be HTTP.
func raw(t *testing.T, text string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, text)
			conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return "http://" + listener.Addr().String()
}

func TestHTTPAnswers(t *testing.T) {
	secretToken := subject(bearer)
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, test := range map[string]struct {
		answer  string // on the wire
		pointer string
		problem workload.Problem
		says    string
	}{
		"nothing":               {"", "", workload.Unavailable, "whole HTTP answer"},
		"the token for HTTP":    {secretToken + "\r\n\r\n", "", workload.Unavailable, "whole HTTP answer"},
		"the token as status":   {"HTTP/1.1 " + secretToken + "\r\n\r\n", "", workload.Unavailable, "whole HTTP answer"},
		"the token as header":   {ok + secretToken + "\r\n\r\n", "", workload.Unavailable, "whole HTTP answer"},
		"the token as length":   {ok + "Content-Length: " + secretToken + "\r\n\r\n", "", workload.Unavailable, "whole HTTP answer"},
		"endless header":        {ok + "A: " + strings.Repeat(bearer, 1<<13) + "\r\n\r\n", "", workload.Unavailable, "whole HTTP answer"},
		"truncated":             {ok + "Content-Length: 9999\r\n\r\n" + secretToken, "", workload.Unavailable, "whole HTTP answer"},
		"no body":               {ok + "Content-Length: 0\r\n\r\n", "", workload.Malformed, "gave nothing"},
		"too much":              {ok + "\r\n" + strings.Repeat(bearer, 1<<13), "", workload.Malformed, "more than"},
		"a page":                {ok + "\r\n<html>" + bearer, "", workload.Malformed, "no token has|signed JWT"},
		"two tokens":            {ok + "\r\n" + secretToken + "\n" + secretToken, "", workload.Malformed, "white space"},
		"half of JSON":          {ok + "\r\n" + `{"token":"` + secretToken, "", workload.Malformed, "not JSON"},
		"JSON and more":         {ok + "\r\n" + `{"token":"` + secretToken + `"} ` + bearer, "", workload.Malformed, "not JSON"},
		"no token":              {ok + "\r\n" + `{"secret":"` + secretToken + `"}`, "", workload.Malformed, "without a token"},
		"two tokens in JSON":    {ok + "\r\n" + `{"token":"` + secretToken + `","value":"` + subject("other") + `"}`, "", workload.Malformed, "two different"},
		"a number":              {ok + "\r\n" + `{"value":12}`, "/value", workload.Malformed, `no text at "/value"`},
		"an object":             {ok + "\r\n" + `{"value":{"token":"` + secretToken + `"}}`, "/value", workload.Malformed, `no text at "/value"`},
		"null":                  {ok + "\r\n" + `{"value":null}`, "/value", workload.Malformed, `no text at "/value"`},
		"empty":                 {ok + "\r\n" + `{"value":""}`, "/value", workload.Malformed, `no text at "/value"`},
		"nothing at pointer":    {ok + "\r\n" + `{"token":"` + secretToken + `"}`, "/value", workload.Malformed, `without "/value"`},
		"text, with a pointer":  {ok + "\r\n" + secretToken, "/value", workload.Malformed, "not JSON"},
		"no JWT":                {ok + "\r\n" + `{"value":"` + bearer + `"}`, "/value", workload.Malformed, "signed JWT"},
		"no SAML":               {ok + "\r\n" + `{"version":1,"success":true,"saml_response":"` + bearer + `"}`, "", workload.Malformed, "without id_token"},
		"no success":            {ok + "\r\n" + `{"version":1,"success":false,"code":"401","message":"` + bearer + `"}`, "", workload.Unavailable, "says that it has no token"},
		"another version":       {ok + "\r\n" + `{"version":2,"success":true,"id_token":"` + secretToken + `"}`, "", workload.Malformed, "version 1"},
		"success as text":       {ok + "\r\n" + `{"version":1,"success":"true","id_token":"` + secretToken + `"}`, "", workload.Malformed, "version 1"},
		"unauthorized":          {"HTTP/1.1 401 " + bearer + "\r\n\r\n" + bearer, "", workload.Unavailable, "401 (Unauthorized)"},
		"no such thing":         {"HTTP/1.1 404 Not Found\r\n\r\n" + bearer, "", workload.Unavailable, "404"},
		"bad request":           {"HTTP/1.1 400 Bad Request\r\n\r\n" + bearer, "", workload.Unavailable, "400"},
		"busy":                  {"HTTP/1.1 429 Busy\r\n\r\n" + bearer, "", workload.Unavailable, "429"},
		"broken":                {"HTTP/1.1 500 Broken\r\n\r\n" + secretToken, "", workload.Unavailable, "500"},
		"no content":            {"HTTP/1.1 204 None\r\n\r\n", "", workload.Unavailable, "204"},
		"a status of its own":   {"HTTP/1.1 799 " + bearer + "\r\n\r\n", "", workload.Unavailable, "status 799"},
		"redirect to nowhere":   {"HTTP/1.1 302 Found\r\nLocation: %zz" + bearer + "\r\n\r\n", "", workload.Malformed, "302"},
		"redirect with nothing": {"HTTP/1.1 302 Found\r\n\r\n", "", workload.Malformed, "302"},
	} {
		t.Run(name, func(t *testing.T) {
			source := workload.HTTP{URL: raw(t, test.answer) + "/?key=" + bearer, JSONPointer: test.pointer, Headers: authorization(), Getenv: variables{"KEY": bearer}.get}
			_, err := source.Assertion(t.Context())
			says, other, _ := strings.Cut(test.says, "|")
			if err != nil && other != "" && strings.Contains(err.Error(), other) {
				says = other
			}
			wantError(t, err, test.problem, says, bearer, secretToken, "aHVudGVyMi1odW50ZXIy")
		})
	}
}

func TestHTTPWellKnownForms(t *testing.T) {
	for _, answer := range []string{
		" T\n", "T", `"T"`, `{"token":"T","expiry":"2026-01-01T00:00:00Z"}`, `{"value":"T","count":7}`, `{"id_token":"T"}`, `{"WebIdentityToken":"T","Expiration":"x"}`,
		`{"kind":"ExecCredential","status":{"token":"T"}}`, `{"version":1,"success":true,"token_type":"urn:ietf:params:oauth:token-type:id_token","id_token":"T","expiration_time":1}`,
		`{"token":"T","value":"T"}`, `{"token":"T","value":7}`,
	} {
		answer = regexp.MustCompile(`\bT\b`).ReplaceAllLiteralString(answer, subject("s"))
		wantSubject(t, workload.HTTP{URL: "https://platform.test", Transport: answering(answer)}, "s")
	}
}

// The cases are those of RFC 6901 that are easy to get wrong.
func TestHTTPPointers(t *testing.T) {
	for _, test := range []struct {
		document, pointer string // T is the token
		found             bool
	}{
		{`{"a":{"b":T}}`, "/a/b", true},
		{`{"a/b":T}`, "/a~1b", true},
		{`{"a/b":T}`, "/a/b", false},
		{`{"m~n":T}`, "/m~0n", true},
		{`{"~1":T}`, "/~01", true},
		{`{"/":T}`, "/~01", false},
		{`{"~1":T}`, "/~1", false},
		{`{"a~b":T}`, "/a~b", false},
		{`{"a~":T}`, "/a~", false},
		{`{"a~2":T}`, "/a~2", false},
		{`{"":T}`, "/", true},
		{`{"":{"":T}}`, "//", true},
		{`{" ":T}`, "/ ", true},
		{`{"a%20b":T}`, "/a%20b", true},
		{`{"a b":T}`, "/a%20b", false},
		{`{"a":T}`, "a", false},
		{`{"a":T}`, "#/a", false},
		{`{"a":T}`, "/A", false},
		{`{"a":T}`, "/a/", false},
		{`[7,T]`, "/1", true},
		{`{"list":[[],[{"x":T}]]}`, "/list/1/0/x", true},
		{`[7,T]`, "/01", false},
		{`[7,T]`, "/+1", false},
		{`[7,T]`, "/-1", false},
		{`[7,T]`, "/-", false},
		{`[7,T]`, "/2", false},
		{`[T]`, "/", false},
		{`[T]`, "/99999999999999999999", false},
		{`{"0":T}`, "/0", true},
		{`T`, "/0", false},
	} {
		source := workload.HTTP{URL: "https://platform.test", JSONPointer: test.pointer,
			Transport: answering(strings.Replace(test.document, "T", `"`+subject("s")+`"`, 1))}
		a, err := source.Assertion(t.Context())
		if found := err == nil && a.Subject == "s"; found != test.found {
			t.Errorf("%s of %s: got %t (%v), want %t", test.pointer, test.document, found, err, test.found)
		}
	}
}

// slow is a body that never ends, until the request does.
type slow struct{ ctx context.Context } //nolint:containedctx // it is the request's own

func (s slow) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		return copy(p, "e"), nil
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
}

func (slow) Close() error { return nil }

func TestHTTPIsLimitedInTime(t *testing.T) {
	for name, hostile := range map[string]transport{
		"silence": func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
		"a byte a second": func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: slow{r.Context()}, Request: r}, nil
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			source := workload.HTTP{URL: "https://platform.test/?key=" + bearer, Transport: hostile}
			began := time.Now()
			_, err := source.Assertion(t.Context())
			wantError(t, err, workload.Unavailable, "did not answer within 10s", bearer)
			if took := time.Since(began); took != 10*time.Second {
				t.Errorf("%s: took %s, want 10s", name, took)
			}
			impatient, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began = time.Now()
			_, err = source.Assertion(impatient)
			wantError(t, err, workload.Unavailable, "given up", bearer)
			if took := time.Since(began); took != time.Second || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: took %s and got %v, want the caller's second", name, took, err)
			}
		})
	}
}

// endless counts what is read of it.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'e'
	}
	e.read += len(p)
	if e.read > 16<<20 {
		return 0, io.ErrUnexpectedEOF
	}
	return len(p), nil
}

func (*endless) Close() error { return nil }

func TestHTTPReadsNoMoreThanATokenCanBe(t *testing.T) {
	body := &endless{}
	_, err := workload.HTTP{URL: "https://platform.test", Transport: transport(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: body, Request: r}, nil
	})}.Assertion(t.Context())
	wantError(t, err, workload.Malformed, "more than")
	if body.read > 128<<10 {
		t.Errorf("got %d bytes read, want little more than 64 KiB", body.read)
	}
}

func TestHTTPUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + listener.Addr().String() + "/?key=" + bearer
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = workload.HTTP{URL: closed}.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "connection refused", bearer)

	stranger := httptest.NewUnstartedServer(http.NotFoundHandler())
	stranger.Config.ErrorLog = log.New(io.Discard, "", 0)
	stranger.StartTLS()
	defer stranger.Close()
	_, err = workload.HTTP{URL: stranger.URL + "/?key=" + bearer}.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "not trusted", bearer)

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = workload.HTTP{URL: closed}.Assertion(gone)
	wantError(t, err, workload.Unavailable, "given up", bearer)
}

// Whatever a server answers: no panic, no secret in the error, and nothing that
// could not stand in a form is taken for a token.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{"", "a.b.c", subject(bearer), `{"token":"` + subject(bearer) + `"}`, `{"version":1,"success":false,"message":"` + bearer + `"}`,
		`{"a":[{"b~/":"` + subject("s") + `"}]}`, `"` + bearer + `"`, `{"status":{"token":7}}`, strings.Repeat("[", 20000)} {
		for _, pointer := range []string{"", "/token", "/a/0/b~0~1", "~"} {
			f.Add([]byte(body), pointer)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, pointer string) {
		if strings.Contains(pointer, bearer[:8]) {
			return // the pointer is the policy's, and is shown
		}
		a, err := workload.HTTP{URL: "https://platform.test", JSONPointer: pointer, Transport: answering(string(body))}.Assertion(t.Context())
		if err == nil {
			if strings.ContainsAny(a.Reveal(), " \t\r\n") || a.Len() == 0 {
				t.Errorf("got the token %q", a.Reveal())
			}
			return
		}
		problem, ok := errors.AsType[*workload.Error](err)
		if !ok || problem.Hint == "" {
			t.Fatalf("got %T, want *workload.Error with a hint", err)
		}
		hides(t, problem, bearer)
	})
}
