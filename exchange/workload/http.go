package workload

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// HTTP asks a server for the workload token: one request for each exchange, with a
// time limit of ten seconds. It follows no redirects and reads at most 64 KiB.
// Without TLS it asks nobody but loopback, 169.254.169.254 and
// metadata.google.internal.
type HTTP struct {
	// URL is required. It has no user; what is secret belongs into a header.
	URL string
	// Method is GET when empty. A request has no body.
	Method string
	// Headers are sent as they are. Names are not case-sensitive.
	Headers map[string]Header
	// JSONPointer (RFC 6901) leads to the token in the answer. Empty: the answer
	// is the token, or JSON of a form that platforms use (token, value, id_token).
	JSONPointer string
	// Transport sends the request. Nil: without a proxy, to servers that the
	// system's roots vouch for. One that asks a proxy shows it what is sent
	// without TLS.
	Transport http.RoundTripper
	// Getenv reads the variables that Headers name. Nil: os.Getenv.
	Getenv func(string) string
}

// Header is the value of a request header. At most one of Value, Env and File is
// set; a variable or file is read at each exchange, and it is an error
// when it is empty.
type Header struct {
	Value  string // the value itself, no secret
	Env    string // the variable that has the value
	File   string // the file that has the value
	Prefix string // stands before the value, such as "Bearer "
}

// Assertion implements Source.
func (h HTTP) Assertion(ctx context.Context) (Assertion, error) {
	u, err := parseURL("the token endpoint", h.URL)
	if err != nil {
		return Assertion{}, err
	}
	header := http.Header{}
	for name, value := range h.Headers {
		text, err := value.read(name, h.Getenv)
		if err != nil {
			return Assertion{}, err
		}
		header.Set(name, text)
	}
	return request{
		who: "the token endpoint", method: h.Method, url: u, plain: []string{linkLocalHost, googleHost}, header: header,
		pointer: h.JSONPointer, transport: h.Transport, denied: "check the URL, and what the headers prove",
	}.token(ctx)
}

func (h Header) read(name string, getenv func(string) string) (string, error) {
	what := "the header " + quote(name)
	if !headerName.MatchString(name) || slices.Contains(framing, http.CanonicalHeaderKey(name)) {
		return "", &Error{Problem: Malformed, Message: what + " cannot be sent", Hint: "headers that frame the request are not for sources to set"}
	}
	value := h.Value
	var err error
	switch {
	case h.Env != "":
		value, err = variable(h.Env, getenv)
	case h.File != "":
		value, err = credentialFile(h.File)
	}
	if err != nil {
		return "", err
	}
	if value == "" {
		return "", &Error{Problem: Malformed, Message: what + " has no value", Hint: "give it a value, a variable or a file, or leave it out"}
	}
	if !printable(h.Prefix + value) {
		return "", &Error{Problem: Malformed, Message: what + " has characters that do not print", Hint: "write its value on one line of plain text"}
	}
	return h.Prefix + value, nil
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// framing are the headers that net/http sets itself or that belong to the
// connection.
var framing = []string{"Connection", "Content-Length", "Host", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// variable reads what proves who we are to the platform from the environment.
func variable(name string, read func(string) string) (string, error) {
	value := getenv(read, name)
	if value == "" {
		return "", unset(name, "set it for the broker")
	}
	return line("the variable "+quote(name), value)
}

// credentialFile is variable for a file.
func credentialFile(path string) (string, error) {
	what := "the file " + quote(path)
	raw, err := readFile(path, maxTokenBytes)
	if err != nil {
		return "", &Error{Problem: Unavailable, Message: what + " cannot be read: " + reason(err), Hint: "the platform is asked with what it holds: check the path, and that the broker's user may read it", Err: err}
	}
	return line(what, raw)
}

// line takes the white space from a credential that editors and echo put
// around it.
func line(what, raw string) (string, error) {
	value := strings.TrimSpace(raw)
	if value == "" || !printable(value) {
		return "", &Error{Problem: Malformed, Message: what + " is empty or not one line of plain text", Hint: "it must hold the value alone"}
	}
	return value, nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}
