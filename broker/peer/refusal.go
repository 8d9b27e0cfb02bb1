package peer

import (
	"fmt"
	"net/http"
	"strings"
)

// Refusal says why [Guard.Check] refused a request. What it quotes of the request is short printable ASCII.
type Refusal struct {
	// Reason is one of "not_loopback", "target", "host", "preflight", "origin", "fetch_site", "forwarded".
	Reason string
	// Message is one sentence that says what was wrong.
	Message string
	// Hint is one sentence that says what to change.
	Hint string
}

// Error returns the message and the hint.
func (r *Refusal) Error() string { return r.Message + " " + r.Hint }

func refuseAddress(what, addr string) *Refusal {
	return &Refusal{
		Reason:  "not_loopback",
		Message: fmt.Sprintf("%s (%s); only this machine is served.", what, quote(addr)),
		Hint:    "Connect to 127.0.0.1 or [::1] from the same machine or pod, or use the unix socket.",
	}
}

func refuseTarget(r *http.Request) *Refusal {
	return &Refusal{
		Reason:  "target",
		Message: fmt.Sprintf("The target of the %s request is not a path, as if to a proxy.", quote(r.Method)),
		Hint:    "Exclude localhost and 127.0.0.1 from the client's proxy settings (NO_PROXY) and send the path only.",
	}
}

func refuseHost(host string) *Refusal {
	message := "The Host header is missing."
	if host != "" {
		message = fmt.Sprintf("The Host header %s is not an allowed name.", quote(host))
	}
	return &Refusal{
		Reason:  "host",
		Message: message,
		Hint:    "Use localhost, 127.0.0.1 or [::1] in the URL, or add the name to the allowed hosts.",
	}
}

// refuseHeaders reports the first of the signs, in the order that Check documents.
func refuseHeaders(h http.Header, found sign) *Refusal {
	const browserHint = "Web pages are not served: call from a program that sends no browser headers."
	switch {
	case found&signPreflight != 0:
		return &Refusal{Reason: "preflight", Message: "The request is a browser's cross-origin preflight.", Hint: browserHint}
	case found&signOrigin != 0:
		hint := browserHint
		if strings.EqualFold(h.Get("Upgrade"), "websocket") {
			// No exception for our own address: what an API answers may be a page, and a browser would open it there.
			hint = "Web pages are not served: a program opens a WebSocket without Origin, which in Python's websocket-client is suppress_origin=True."
		}
		return &Refusal{Reason: "origin", Message: fmt.Sprintf("The request comes from a web page (Origin %s).", quote(h.Get("Origin"))), Hint: hint}
	case found&signFetchSite != 0:
		return &Refusal{
			Reason:  "fetch_site",
			Message: fmt.Sprintf("The request comes from a web page (Sec-Fetch-Site %s).", quote(strings.Join(h["Sec-Fetch-Site"], ", "))),
			Hint:    browserHint,
		}
	default:
		return &Refusal{
			Reason:  "forwarded",
			Message: "The request passed through a proxy (it has Forwarded, Via, X-Real-IP or X-Forwarded-*).",
			Hint:    "Connect directly, without a proxy, and send none of these headers.",
		}
	}
}

// quote makes untrusted text safe to show: quoted, at most 40 bytes, everything but printable ASCII replaced.
func quote(s string) string {
	const limit = 40
	var b strings.Builder
	b.WriteByte('"')
	for i := range min(len(s), limit) {
		c := s[i]
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			c = '?'
		}
		b.WriteByte(c)
	}
	b.WriteByte('"')
	if len(s) > limit {
		b.WriteString("...")
	}
	return b.String()
}
