package peer

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
)

var loopbackAddress = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7400}

// parse makes the request that net/http's server would make of text, over a loopback connection.
func parse(t testing.TB, text string) *http.Request {
	t.Helper()
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", "\r\n") + "\r\n\r\n"
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	r.RemoteAddr = "127.0.0.1:50000"
	return from(r, loopbackAddress, r.RemoteAddr)
}

func from(r *http.Request, local net.Addr, remote string) *http.Request {
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
	r.RemoteAddr = remote
	return r
}

func wantRefusal(t *testing.T, g Guard, r *http.Request, reason string) *Refusal {
	t.Helper()
	err := g.Check(r)
	if reason == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return nil
	}
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Reason != reason || refusal.Message == "" || refusal.Hint == "" {
		t.Errorf("got %#v, want a refusal with reason %q, a message and a hint", err, reason)
	}
	return refusal
}

func TestGuardHost(t *testing.T) {
	g := Guard{Hosts: []string{"Broker.internal", "[fd00::1]"}}
	tests := map[string]string{
		"localhost": "", "localhost:7400": "", "LocalHost:1": "", "127.0.0.1": "", "127.0.0.1:7400": "", "[::1]": "", "[::1]:7400": "",
		"broker.internal": "", "BROKER.INTERNAL:80": "", "[fd00::1]:80": "", "[FD00::1]": "",

		"": "host", ":7400": "host", "example.com": "host", "localhost.": "host", "localhost.:7400": "host", "127.0.0.1.": "host",
		"broker.internal.": "host", "localhost.example.com": "host", "example.com:localhost": "host", "alocalhost": "host",
		"127.0.0.1.nip.io": "host", "127.0.0.2": "host", "127.1": "host", "2130706433": "host", "0.0.0.0": "host", "[::]": "host",
		"::1": "host", "[::1": "host", "[::1]x": "host", "[0:0:0:0:0:0:0:1]": "host", "[::ffff:127.0.0.1]": "host", "localhost:": "host",
		"localhost:http": "host", "localhost:123456": "host", "localhost:80:80": "host", "localhost,example.com": "host",
		"localho\u017ft": "host", "brok\u0435r.internal": "host", "broKer.internal": "", "bro\u212aer.internal": "host", " localhost": "host",
		"localhost ": "host", "user@localhost": "host", "[::1]:": "host", "169.254.169.254": "host", "fd00::1": "host",
	}
	for host, reason := range tests {
		t.Run(host, func(t *testing.T) {
			r := parse(t, "GET / HTTP/1.1\nHost: x")
			r.Host = host
			_ = wantRefusal(t, g, r, reason)
		})
	}
	_ = wantRefusal(t, Guard{}, parse(t, "GET / HTTP/1.1\nHost: broker.internal"), "host")
	_ = wantRefusal(t, Guard{Hosts: []string{""}}, parse(t, "GET / HTTP/1.0"), "host")
}

func TestGuardRequests(t *testing.T) {
	tests := []struct {
		name, text, reason string
	}{
		{"get", "GET / HTTP/1.1\nHost: localhost", ""},
		{"post", "POST /oauth2/token HTTP/1.1\nHost: localhost:7400\nContent-Length: 0\nAuthorization: Bearer x\nUser-Agent: agent", ""},
		{"path with two slashes", "GET //example.com/ HTTP/1.1\nHost: localhost", ""},
		{"typed into a browser", "GET / HTTP/1.1\nHost: localhost\nSec-Fetch-Site: none", ""},
		{"options without preflight headers", "OPTIONS / HTTP/1.1\nHost: localhost", ""},
		{"header that begins alike", "GET / HTTP/1.1\nHost: localhost\nX-Forward: 1\nOriginal: 1\nVia-Something: 1", ""},

		{"no host", "GET / HTTP/1.0", "host"},
		{"rebinding page", "GET / HTTP/1.1\nHost: evil.example", "host"},
		{"origin", "GET / HTTP/1.1\nHost: localhost\nOrigin: https://evil.example", "origin"},
		{"own origin", "GET / HTTP/1.1\nHost: localhost\nOrigin: http://localhost:7400", "origin"},
		{"null origin", "GET / HTTP/1.1\nHost: localhost\nOrigin: null", "origin"},
		{"empty origin", "GET / HTTP/1.1\nHost: localhost\nOrigin:", "origin"},
		{"lower-case origin", "GET / HTTP/1.1\nHost: localhost\norigin: null", "origin"},
		{"cross-site", "GET / HTTP/1.1\nHost: localhost\nSec-Fetch-Site: cross-site", "fetch_site"},
		{"same-origin", "GET / HTTP/1.1\nHost: localhost\nSec-Fetch-Site: same-origin", "fetch_site"},
		{"same-site", "GET / HTTP/1.1\nHost: localhost\nSec-Fetch-Site: same-site", "fetch_site"},
		{"empty fetch site", "GET / HTTP/1.1\nHost: localhost\nSec-Fetch-Site:", "fetch_site"},
		{"two fetch sites", "GET / HTTP/1.1\nHost: localhost\nSec-Fetch-Site: none\nSec-Fetch-Site: cross-site", "fetch_site"},
		{"x-forwarded-for", "GET / HTTP/1.1\nHost: localhost\nX-Forwarded-For: 127.0.0.1", "forwarded"},
		{"x-forwarded-host", "GET / HTTP/1.1\nHost: localhost\nx-forwarded-host: localhost", "forwarded"},
		{"x-forwarded-anything", "GET / HTTP/1.1\nHost: localhost\nX-FORWARDED-ANYTHING: 1", "forwarded"},
		{"empty x-forwarded-for", "GET / HTTP/1.1\nHost: localhost\nX-Forwarded-For:", "forwarded"},
		{"forwarded", "GET / HTTP/1.1\nHost: localhost\nForwarded: for=127.0.0.1", "forwarded"},
		{"via", "GET / HTTP/1.1\nHost: localhost\nVia: 1.1 proxy", "forwarded"},
		{"x-real-ip", "GET / HTTP/1.1\nHost: localhost\nX-Real-IP: 127.0.0.1", "forwarded"},
		{"absolute form", "GET http://localhost/ HTTP/1.1\nHost: localhost", "target"},
		{"absolute form to elsewhere", "GET http://evil.example/ HTTP/1.1\nHost: localhost", "target"},
		{"other scheme", "GET file:///etc/passwd HTTP/1.1\nHost: localhost", "target"},
		{"opaque", "GET mailto:a@b HTTP/1.1\nHost: localhost", "target"},
		{"connect", "CONNECT localhost:443 HTTP/1.1\nHost: localhost:443", "target"},
		{"connect to a path", "CONNECT /path HTTP/1.1\nHost: localhost", "target"},
		{"asterisk", "OPTIONS * HTTP/1.1\nHost: localhost", "target"},
		{"preflight", "OPTIONS / HTTP/1.1\nHost: localhost\nAccess-Control-Request-Method: POST", "preflight"},
		{"private network preflight", "OPTIONS / HTTP/1.1\nHost: localhost\nAccess-Control-Request-Private-Network: true", "preflight"},
		{"several: the first in the documented order",
			"OPTIONS / HTTP/1.1\nHost: localhost\nVia: 1.1 x\nSec-Fetch-Site: cross-site\nOrigin: null\nAccess-Control-Request-Method: GET", "preflight"},
		{"several: origin before proxy", "GET / HTTP/1.1\nHost: localhost\nVia: 1.1 x\nSec-Fetch-Site: cross-site\nOrigin: null", "origin"},
		{"several: host before origin", "GET / HTTP/1.1\nHost: evil.example\nOrigin: null", "host"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { _ = wantRefusal(t, Guard{}, parse(t, tt.text), tt.reason) })
	}
}

func TestGuardAddresses(t *testing.T) {
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 7400} }
	unixEnd := &net.UnixAddr{Net: "unix", Name: "/run/a.sock"}
	tests := []struct {
		name   string
		local  net.Addr
		remote string
		reason string
	}{
		{"IPv4", tcp("127.0.0.1"), "127.0.0.1:1", ""},
		{"IPv4, another loopback address", tcp("127.0.0.2"), "127.8.0.1:1", ""},
		{"IPv6", tcp("::1"), "[::1]:1", ""},
		{"mapped", tcp("::ffff:127.0.0.1"), "[::ffff:127.0.0.1]:1", ""},
		{"unix", unixEnd, "@", ""},
		{"unix, name chosen by the client", unixEnd, "192.0.2.1:1", ""},

		{"another machine", tcp("127.0.0.1"), "192.0.2.1:1", "not_loopback"},
		{"another machine, mapped", tcp("127.0.0.1"), "[::ffff:192.0.2.1]:1", "not_loopback"},
		{"another machine, IPv6", tcp("::1"), "[2001:db8::1]:1", "not_loopback"},
		{"network address of this machine", tcp("192.0.2.2"), "127.0.0.1:1", "not_loopback"},
		{"every address", tcp("0.0.0.0"), "127.0.0.1:1", "not_loopback"},
		{"no remote address", tcp("127.0.0.1"), "", "not_loopback"},
		{"host name", tcp("127.0.0.1"), "localhost:1", "not_loopback"},
		{"TCP end, unix-like remote", tcp("127.0.0.1"), "@", "not_loopback"},
		{"unknown own end, unix-like remote", nil, "@", "not_loopback"},
		{"unknown own end", nil, "127.0.0.1:1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := from(parse(t, "GET / HTTP/1.1\nHost: localhost"), tt.local, tt.remote)
			// What a header says about the sender changes nothing.
			_ = wantRefusal(t, Guard{}, r, tt.reason)
		})
	}
	r := from(parse(t, "GET / HTTP/1.1\nHost: localhost\nX-Forwarded-For: 127.0.0.1\nX-Real-IP: 127.0.0.1"), tcp("127.0.0.1"), "192.0.2.1:1")
	_ = wantRefusal(t, Guard{}, r, "not_loopback")
}

// A WebSocket client that sends an Origin by itself is refused like a browser, be
// it our own address, and told how to send none.
func TestWebSocketWithOrigin(t *testing.T) {
	const text = "GET / HTTP/1.1\nHost: localhost:7400\nOrigin: http://localhost:7400"
	for headers, hinted := range map[string]bool{"": false, "\nConnection: Upgrade\nUpgrade: WebSocket": true} {
		refusal := wantRefusal(t, Guard{}, parse(t, text+headers), "origin")
		if strings.Contains(refusal.Hint, "suppress_origin=True") != hinted {
			t.Errorf("%q: got the hint %q", headers, refusal.Hint)
		}
	}
}

func TestRefusalQuotesLittle(t *testing.T) {
	r := parse(t, "GET / HTTP/1.1\nHost: localhost")
	r.Host = "evil\r\nSet-Cookie: a=b\x1b[31m\"<script>" + strings.Repeat("x", 1000) + "\u202e"
	refusal := wantRefusal(t, Guard{}, r, "host")
	text := refusal.Error()
	if len(text) > 300 {
		t.Errorf("%d bytes: %q", len(text), text)
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			t.Fatalf("byte %#x in %q", text[i], text)
		}
	}
	if strings.Count(text, `"`) != 2 || !strings.Contains(text, `"evil??Set-Cookie`) {
		t.Errorf("got %q, want one quoted, filtered beginning", text)
	}
	if got := quote("short"); got != `"short"` {
		t.Errorf("got %s", got)
	}
}

func goodRequest(t testing.TB) *http.Request {
	return parse(t, `POST /oauth2/token HTTP/1.1
Host: broker.internal:7400
User-Agent: azsdk-go-azidentity/1.8.0
Content-Type: application/x-www-form-urlencoded
Content-Length: 0
Accept-Encoding: gzip
Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
X-Identity-Header: 0123456789abcdef`)
}

func TestGuardAllocatesNothing(t *testing.T) {
	g := Guard{Hosts: []string{"other.internal", "broker.internal"}}
	for name, r := range map[string]*http.Request{
		"tcp":  goodRequest(t),
		"unix": from(goodRequest(t), &net.UnixAddr{Net: "unix", Name: "/run/a.sock"}, "@"),
		"ipv6": from(goodRequest(t), &net.TCPAddr{IP: net.IPv6loopback}, "[::1]:50000"),
	} {
		var err error
		if n := testing.AllocsPerRun(100, func() { err = g.Check(r) }); n != 0 || err != nil {
			t.Errorf("%s: %v allocations, %v", name, n, err)
		}
	}
}

func BenchmarkGuardCheck(b *testing.B) {
	g := Guard{Hosts: []string{"other.internal", "broker.internal"}}
	r := goodRequest(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := g.Check(r); err != nil {
			b.Fatal(err)
		}
	}
}
