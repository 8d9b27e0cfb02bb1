package peer

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Guard refuses the requests that a browser, a proxy or a DNS-rebinding page sends. It belongs in front of everything else, on
// every listener. The zero value allows the names of this machine only. Safe for concurrent use as long as Hosts is not changed.
type Guard struct {
	// Hosts are further host names that the Host header may have, without port; an IPv6 address is written in brackets.
	// Always allowed: localhost, 127.0.0.1 and [::1].
	Hosts []string
	// SameOrigin lets the listener's own pages ask: an Origin header that is http and the Host header's value, letter for
	// letter, and Sec-Fetch-Site "same-origin" pass. Agents' doors have no pages, and leave it false.
	SameOrigin bool
}

// Check returns nil, or a *[Refusal] that says what is wrong with the request. It refuses
//
//   - a TCP connection whose ends are not both loopback addresses, by the addresses of the socket (reason "not_loopback");
//   - a request target that is not a path: absolute form, CONNECT, * (reason "target");
//   - a Host header that is missing or not allowed; the port is ignored, ASCII case too, everything else must be exact (reason "host");
//   - a preflight: any Access-Control-Request-* header (reason "preflight");
//   - an Origin header, whatever its value (reason "origin");
//   - a Sec-Fetch-Site header other than "none" (reason "fetch_site");
//   - a trace of a proxy: Forwarded, Via, X-Real-IP, X-Forwarded-* (reason "forwarded").
//
// If several apply, the first of this list is given. A request that passes costs no allocation.
func (g Guard) Check(r *http.Request) error {
	if refusal := checkAddresses(r); refusal != nil {
		return refusal
	}
	if r.URL == nil || r.Method == http.MethodConnect || r.URL.Scheme != "" || r.URL.Host != "" || r.URL.Opaque != "" ||
		(r.RequestURI != "" && r.RequestURI[0] != '/') {
		return refuseTarget(r)
	}
	if !g.allows(r.Host) {
		return refuseHost(r.Host)
	}
	found := headerSigns(r.Header)
	if g.SameOrigin && found != 0 {
		found = foreign(r, found)
	}
	if found != 0 {
		return refuseHeaders(r.Header, found)
	}
	return nil
}

// foreign is found without the signs that a page of our own makes.
func foreign(r *http.Request, found sign) sign {
	if all(r.Header["Origin"], "http://"+r.Host) {
		found &^= signOrigin
	}
	if sites := r.Header["Sec-Fetch-Site"]; all(sites, "same-origin") || all(sites, "none") {
		found &^= signFetchSite
	}
	return found
}

// checkAddresses looks at the socket's addresses only. Whether the socket is a unix one is read from our own end: the
// address of the other end is a name that the client chose.
func checkAddresses(r *http.Request) *Refusal {
	switch local := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.UnixAddr:
		return nil
	case *net.TCPAddr:
		if !local.IP.IsLoopback() {
			return refuseAddress("The request arrived at a network address", local.String())
		}
	}
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !remote.Addr().Unmap().IsLoopback() {
		return refuseAddress("The request comes from another machine", r.RemoteAddr)
	}
	return nil
}

// allows compares the Host header with the allowed names.
func (g Guard) allows(host string) bool {
	name, ok := withoutPort(host)
	if !ok {
		return false
	}
	if equalFoldASCII(name, "localhost") || name == "127.0.0.1" || name == "[::1]" {
		return true
	}
	for _, h := range g.Hosts {
		if equalFoldASCII(name, h) {
			return true
		}
	}
	return false
}

// withoutPort cuts ":digits" off. It is not net.SplitHostPort, which takes the brackets off and allocates its errors.
func withoutPort(host string) (name string, ok bool) {
	end := strings.LastIndexByte(host, ':')
	if end < 0 || strings.HasSuffix(host, "]") {
		return host, host != ""
	}
	port := host[end+1:]
	if port == "" || len(port) > 5 {
		return "", false
	}
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return "", false
		}
	}
	return host[:end], end > 0
}

// equalFoldASCII is not strings.EqualFold, for which "localho\u017ft" is "localhost".
func equalFoldASCII(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// sign is a set of suspicious headers.
type sign uint8

const (
	signPreflight sign = 1 << iota
	signOrigin
	signFetchSite
	signForwarded
)

// headerSigns looks at every header once. Names are canonical: net/http makes them so.
func headerSigns(h http.Header) (found sign) {
	for name, values := range h {
		switch {
		case name == "Origin":
			found |= signOrigin
		case name == "Sec-Fetch-Site":
			if !all(values, "none") {
				found |= signFetchSite
			}
		case name == "Via", name == "Forwarded", name == "X-Real-Ip", strings.HasPrefix(name, "X-Forwarded"):
			found |= signForwarded
		case strings.HasPrefix(name, "Access-Control-Request-"):
			found |= signPreflight
		}
	}
	return found
}

func all(values []string, want string) bool {
	for _, v := range values {
		if v != want {
			return false
		}
	}
	return true
}
