package workload

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"time"
)

// httpTimeout bounds one request for a token, from the dial to the last byte.
const httpTimeout = 10 * time.Second

// Hosts that platforms serve without TLS beside loopback: the link never
// leaves the machine's host.
const (
	linkLocalHost = "169.254.169.254"
	googleHost    = "metadata.google.internal"
)

// request asks a platform for a token. Its URL has no secrets but in the query.
type request struct {
	who       string // begins the messages
	method    string
	url       *url.URL
	plain     []string // hosts beside loopback that may be asked without TLS
	header    http.Header
	body      []byte
	pointer   string // to the token in the answer; "" for the forms of tokenIn
	transport http.RoundTripper
	denied    string // hint for 401, 403 and 404
}

// token sends the request once. It follows no redirect: the request carries
// what proves who we are.
func (r request) token(ctx context.Context) (Assertion, error) {
	if err := ctx.Err(); err != nil {
		return Assertion{}, givenUp(err)
	}
	if err := checkURL(r.who, r.url, r.plain); err != nil {
		return Assertion{}, err
	}
	limited, cancel := context.WithTimeout(ctx, httpTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, r.method, r.url.String(), bytes.NewReader(r.body))
	if err != nil {
		return Assertion{}, &Error{Problem: Malformed, Message: r.who + " cannot be asked: the method or the URL is not valid", Hint: "check both"}
	}
	req.Header = r.header
	transport := r.transport
	if transport == nil {
		transport = direct(nil)
	}
	resp, err := transport.RoundTrip(req) // not a Client, which would follow
	if err != nil {
		return Assertion{}, r.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return Assertion{}, r.refused(resp)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenBytes+1))
	if err != nil {
		return Assertion{}, r.unreachable(ctx, err)
	}
	if len(data) > maxTokenBytes {
		return Assertion{}, &Error{Problem: Malformed, Message: r.who + " gave more than any workload token is long", Hint: "check that the URL is that of the token"}
	}
	raw, err := tokenIn(r.who, data, r.pointer)
	if err != nil {
		return Assertion{}, err
	}
	return Parse(raw)
}

// direct is a transport that asks no proxy and keeps nothing open between two
// exchanges. Nil roots are the system's.
func direct(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxTokenBytes,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
}

// parseURL reads a URL that stands in an environment variable or in the policy.
func parseURL(who, raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil { // whose text has the URL
		return nil, &Error{Problem: Malformed, Message: who + " has a URL that cannot be read", Hint: "write https://<host>/<path>"}
	}
	return u, nil
}

// checkURL refuses to send what proves who we are where others can read it.
func checkURL(who string, u *url.URL, plain []string) error {
	host := u.Hostname()
	address, err := netip.ParseAddr(host)
	local := host == "localhost" || err == nil && address.Unmap().IsLoopback()
	for _, allowed := range plain {
		local = local || host == allowed
	}
	switch {
	case host == "" || u.Opaque != "" || u.Scheme != "https" && u.Scheme != "http":
		return &Error{Problem: Malformed, Message: who + " has a URL that is neither https nor http", Hint: "write https://<host>/<path>"}
	case u.User != nil:
		return &Error{Problem: Malformed, Message: who + " has a URL with a user", Hint: "send credentials in a header"}
	case u.Scheme == "http" && !local:
		return &Error{Problem: Malformed, Message: who + " is at " + quote("http://"+u.Host) + ", where others on the network could read the token",
			Hint: "use https; without TLS only this machine and the platform's metadata server are asked"}
	}
	return nil
}

func (r request) refused(resp *http.Response) error {
	status := resp.StatusCode
	text := "status " + strconv.Itoa(status)
	if name := http.StatusText(status); name != "" {
		text += " (" + name + ")"
	}
	e := &Error{Problem: Unavailable, Message: r.who + " answered with " + text, Hint: "the platform may be starting or busy; the broker asks again with the next request",
		RetryAfter: RetryAfter(resp.Header.Get("Retry-After"), time.Now())}
	switch {
	case status >= 300 && status < 400:
		e.Problem, e.Hint = Malformed, "redirects are not followed, because the request carries a credential: name the final URL"
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusNotFound:
		e.Hint = r.denied
	case status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout && status != http.StatusGone:
		e.Hint = "the platform does not understand the request: compare the source with its documentation. " + r.denied
	}
	return e
}

// unreachable says why there was no whole answer. Of net/http's own errors
// nothing is repeated: they quote the URL, and of a malformed answer a part.
func (r request) unreachable(ctx context.Context, err error) error {
	e := &Error{Problem: Unavailable}
	var (
		certificate *tls.CertificateVerificationError
		name        *net.DNSError
		operation   *net.OpError
		system      *os.SyscallError
	)
	switch {
	case ctx.Err() != nil:
		return givenUp(ctx.Err())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		e.Message, e.Hint = r.who+" did not answer within "+httpTimeout.String(), "check that it is the right address, and the network path to it"
		e.Err = context.DeadlineExceeded
	case errors.As(err, &certificate):
		e.Message, e.Hint = r.who+" has a certificate that is not trusted", "check what intercepts TLS, or give the platform's CA"
		e.Err = certificate.Err
	case errors.As(err, &name):
		e.Message, e.Hint = r.who+" cannot be found: "+quote(r.url.Hostname())+" has no address", "check the name, and that this runs on that platform"
		e.Err = name
	case errors.As(err, &system):
		e.Message, e.Hint = r.who+" cannot be reached at "+quote(r.url.Host)+": "+system.Err.Error(), "check the address, and that this runs on that platform"
		e.Err = system.Err
	case errors.As(err, &operation):
		e.Message, e.Hint = r.who+" cannot be reached at "+quote(r.url.Host), "check the address, and that this runs on that platform"
	default:
		e.Message, e.Hint = r.who+" did not give a whole HTTP answer", "check that the address is that of the platform's endpoint; the broker asks again with the next request"
	}
	return e
}
