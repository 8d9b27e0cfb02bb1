package policy

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// HTTPSource is a workload token that a server hands out.
type HTTPSource struct {
	URL     string // https, or http on this machine or its host
	Method  string // GET or POST
	Headers map[string]HeaderSource
	Pointer string // JSON pointer to the token in the answer; "" for a form that platforms use
}

// HeaderSource is the value of a request header. Exactly one of Value, Env and
// File is set.
type HeaderSource struct {
	Value  string // the value itself
	Env    string // the environment variable that has it
	File   string // the file that has it
	Prefix string // stands before what the variable or file has
}

func (r *reader) httpSource(at place) *HTTPSource {
	fields, ok := r.fields(at, &httpForm)
	if !ok {
		return nil
	}
	source := &HTTPSource{Method: "GET", Headers: map[string]HeaderSource{}}
	source.URL, _ = r.tokenURL(fields["url"])
	if at := fields["method"]; at.present() {
		if source.Method, ok = r.text(at); ok && source.Method != "GET" && source.Method != "POST" {
			r.problem(at, "want GET or POST, got "+quote(source.Method), "write GET or POST, or remove the line for GET")
		}
	}
	if at := fields["pointer"]; at.present() {
		if source.Pointer, ok = r.text(at); ok && !pointerForm.MatchString(source.Pointer) {
			r.problem(at, quote(source.Pointer)+" is not a JSON pointer", "write /<name>/<name> as in RFC 6901, with ~1 for a slash in a name and ~0 for a tilde")
		}
	}
	if at := fields["headers"]; at.present() {
		r.headers(at, source.Headers)
	}
	return source
}

var pointerForm = patternOf(`^(/([^/~]|~[01])*)+$`)

// plainHosts are asked without TLS beside loopback: platforms serve tokens
// there on a link that never leaves the machine's host.
var plainHosts = []string{"169.254.169.254", "metadata.google.internal"}

// tokenURL reads where a token is fetched. Messages show the host only:
// queries have been known to hold secrets.
func (r *reader) tokenURL(at place) (string, bool) {
	text, ok := r.text(at)
	if !ok {
		return "", false
	}
	u, err := url.Parse(text)
	if err != nil || !printable(text) || u.Opaque != "" || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || !isPort(u.Port()) {
		r.problem(at, "this is not an https URL", "write https://<host>/<path>")
		return "", false
	}
	local := isLoopback(u.Hostname()) || slices.Contains(plainHosts, u.Hostname())
	switch {
	case u.User != nil:
		r.problem(at, "the URL has a user", "send credentials in a header, from a variable or a file")
	case u.Fragment != "":
		r.problem(at, "the URL has a fragment, which is never sent", "remove the # and what follows it; pointer says where the token is in the answer")
	case u.Scheme == "http" && !local:
		r.problem(at, "without TLS, others on the way to "+quote(u.Host)+" could read the token", "write https; http is for this machine, "+strings.Join(plainHosts, " and "))
	default:
		return text, true
	}
	return "", false
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return text == "" || err == nil && n > 0
}

var headerForm = patternOf("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")

// framing are headers that belong to the connection and not to the request.
var framing = []string{"connection", "content-length", "host", "te", "trailer", "transfer-encoding", "upgrade"}

// headers reads header names with their values into into.
func (r *reader) headers(at place, into map[string]HeaderSource) {
	entries, _ := r.entries(at)
	lines := make(map[string]int, len(entries))
	for _, e := range entries {
		lower := strings.ToLower(e.name)
		line, twice := lines[lower]
		lines[lower] = e.key.node.Line
		switch {
		case !headerForm.MatchString(e.name):
			r.problem(e.key, quote(e.name)+" is not the name of a header", "write a name such as Authorization")
		case slices.Contains(framing, lower):
			r.problem(e.key, "the header "+e.name+" cannot be chosen", "remove it; it follows from the request")
		case twice:
			r.problem(e.key, "the header "+e.name+" is already on line "+strconv.Itoa(line), "keep one of the two: case does not matter in names of headers")
		default:
			into[e.name] = r.header(lower, e.value)
		}
	}
}

// header reads a value that is written out, or where to read it.
func (r *reader) header(name string, at place) HeaderSource {
	if at.node.Kind != yaml.MappingNode {
		value, ok := r.headerText(at)
		if ok && secretHeader.MatchString(name) {
			r.warning(at, "a credential may stand here for everybody who reads the policy", "write {env: <variable>} or {file: <path>}, with a prefix such as \"Bearer \"")
		}
		return HeaderSource{Value: value}
	}
	fields, ok := r.fields(at, &headerSourceForm)
	if !ok {
		return HeaderSource{}
	}
	var header HeaderSource
	if fields["prefix"].present() {
		header.Prefix, _ = r.headerText(fields["prefix"])
	}
	env, file := fields["env"], fields["file"]
	switch {
	case env.present() && file.present():
		r.problem(at, "the header has env and file; it can have one of them", "remove one of the two")
	case env.present():
		header.Env, _ = r.variable(env)
	case file.present():
		header.File, _ = r.filePath(file)
	default:
		r.problem(at, "the header does not say where its value comes from", "add env: <variable> or file: <path>, or write the value itself in place of the braces")
	}
	return header
}

// secretHeader matches, in lower case, names of headers that carry a secret.
var secretHeader = regexp.MustCompile(`authorization|cookie|token|secret|password|api-?key`)

func (r *reader) headerText(at place) (string, bool) {
	value, ok := r.text(at)
	if ok && strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }) {
		r.problem(at, "the value of a header is printable ASCII", "write it without other characters")
		return "", false
	}
	return value, ok
}
