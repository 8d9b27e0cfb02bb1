package localapi

import (
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/credfree/credfree/broker/policy"
)

// callTarget cuts a path into the API that it names and what stands below,
// which is "" or begins with a slash. ok is false when it is no path of this
// door.
func callTarget(u *url.URL) (api, rest string, ok bool) {
	first, path, ok := strings.Cut(strings.TrimLeft(u.EscapedPath(), "/"), "/")
	path = strings.TrimLeft(path, "/")
	api, _, _ = strings.Cut(path, "/")
	return api, path[len(api):], ok && first == "call" && api != ""
}

// ReadCall reads the method and the path of a call, the path being what an agent
// writes behind the API's name, as the call-through door does. plain is what the
// policy is asked about. problem says why the door would refuse the call, whatever
// the policy says, and hint what to do; both are "" when it would not.
func ReadCall(method, path string) (plain, problem, hint string) {
	refused := badMethod(method)
	if refused == nil {
		_, plain, refused = cleanPath(path)
	}
	if refused != nil {
		return "", refused.message, refused.hint
	}
	return plain, "", ""
}

// badMethod refuses what no API is called with.
func badMethod(method string) *badRequest {
	switch strings.ToUpper(method) { // as some servers do
	case http.MethodConnect, http.MethodTrace, "TRACK": // TRACE would echo the token
		return &badRequest{status: http.StatusMethodNotAllowed, reason: reasonBadRequest, message: "APIs are not called with this method", hint: "use a method that the API documents"}
	}
	return nil
}

// cleanPath makes the path of a call fit to be decided on and to be sent.
// Several slashes in a row count as one, as at every door; one at the end stays.
// escaped is what is sent, and otherwise as the agent wrote it. plain is what
// the policy is asked about: decoded, but for encoded slashes.
//
// What could mean another path to the API than to the policy is refused: dot
// segments and backslashes, however encoded, and text that is not UTF-8.
func cleanPath(rest string) (escaped, plain string, problem *badRequest) {
	var sent, asked strings.Builder
	for segment := range strings.SplitSeq(rest, "/") {
		if segment == "" {
			continue
		}
		decoded, defect := readSegment(segment)
		if defect != "" {
			return "", "", bad("the path of the call "+defect, "write the path in full, as the API documents it")
		}
		sent.WriteString("/" + segment)
		asked.WriteString("/" + strings.ReplaceAll(decoded, "/", "%2F"))
	}
	if strings.HasSuffix(rest, "/") {
		sent.WriteByte('/')
		asked.WriteByte('/')
	}
	if asked.Len() == 0 {
		return "", "/", nil
	}
	return sent.String(), asked.String(), nil
}

// readSegment decodes a segment, and finds what is wrong with it. Some servers
// decode a path twice, so what a second and a third decoding would bring to
// light counts too.
func readSegment(segment string) (decoded, defect string) {
	decoded, err := url.PathUnescape(segment)
	switch {
	case err != nil:
		return "", "has a broken percent-encoding"
	case !utf8.ValidString(decoded):
		return "", "is not UTF-8"
	case strings.ContainsFunc(decoded, unicode.IsControl):
		return "", "has a control character"
	}
	const deepest = 4
	text := decoded
	for range deepest {
		if strings.Contains(text, `\`) {
			return "", "has a backslash"
		}
		for part := range strings.SplitSeq(text, "/") {
			if isDots(part) {
				return "", "has a dot segment"
			}
		}
		next, err := url.PathUnescape(text)
		if err != nil || next == text {
			break
		}
		text = next
	}
	return decoded, ""
}

// isDots reports whether a server may take a segment for "." or "..": some cut
// parameters off, some trailing spaces and further dots.
func isDots(segment string) bool {
	segment, _, _ = strings.Cut(segment, ";")
	segment = strings.TrimRight(segment, " ")
	return segment != "" && strings.Trim(segment, ".") == ""
}

// targetOf is where a call goes: below the API's base URL, whatever escaped is.
// Of asked, it takes the query, as it is.
func targetOf(api policy.API, escaped string, asked *url.URL) (*url.URL, *badRequest) {
	u, err := url.Parse(api.BaseURL + escaped)
	if err != nil || u.EscapedPath() != pathOf(api.BaseURL)+escaped {
		return nil, bad("the path of the call has characters that no path has", "encode them")
	}
	u.RawQuery, u.ForceQuery = asked.RawQuery, asked.ForceQuery
	return u, nil
}

// pathOf is the path of a base URL, which the policy keeps canonical: it is
// "" or begins with a slash, and has no percent-encoding.
func pathOf(baseURL string) string {
	_, rest, _ := strings.Cut(baseURL, "://")
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		return rest[slash:]
	}
	return ""
}

// locationHeaders are those in which APIs say where to go on.
var locationHeaders = []string{"Location", "Content-Location", "Operation-Location", "Azure-Asyncoperation"}

// here is where the agent has found this door: the host, and what stood before
// the path of the door and was taken off it, as credfree exec does with its key.
func (c *call) here() string {
	asked, _, _ := strings.Cut(c.in.RequestURI, "?")
	before, ok := strings.CutSuffix(asked, c.in.URL.EscapedPath())
	if !ok || !strings.HasPrefix(before, "/") || strings.HasPrefix(before, "//") {
		return c.in.Host
	}
	return c.in.Host + before
}

// localOf maps a URL that an API names, relative to the call at target, to this
// door if it is below the API's base URL. Any other stays as it is: whoever
// follows it does so without a token of the broker's.
func localOf(api policy.API, target *url.URL, here, location string) string {
	u, err := target.Parse(location)
	if err != nil {
		return location
	}
	below, ok := strings.CutPrefix(u.EscapedPath(), pathOf(api.BaseURL))
	if !ok || u.Scheme != target.Scheme || !strings.EqualFold(u.Host, target.Host) || u.User != nil || below != "" && below[0] != '/' {
		return location
	}
	local := "http://" + here + "/call/" + api.Name + below
	if u.RawQuery != "" {
		local += "?" + u.RawQuery
	}
	if u.Fragment != "" {
		local += "#" + u.EscapedFragment()
	}
	return local
}
