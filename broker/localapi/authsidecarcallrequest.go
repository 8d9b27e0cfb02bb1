package localapi

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/credfree/credfree/broker/policy"
)

// sidecarMethods are what APIs are called with.
var sidecarMethods = []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}

// readCall reads which call is to be made; settled is what holds where the
// request says nothing. The path is decided on as call-through decides.
func (req *sidecarRequest) readCall(q sidecarQuery, p *policy.Policy, settled SidecarCall) *badRequest {
	req.Method = strings.ToUpper(strings.TrimSpace(cmp.Or(q.one(overrideMethod), settled.Method, http.MethodGet)))
	if !slices.Contains(sidecarMethods, req.Method) {
		return bad(overrideMethod+" is not a method that APIs are called with", "send one of "+strings.Join(sidecarMethods, ", "))
	}
	path, query, hasQuery := strings.Cut(strings.TrimSpace(cmp.Or(q.one(overridePath), settled.Path)), "?")
	if strings.Contains(path+query, "#") {
		return bad(overridePath+" has a fragment", "leave the # and what follows out, or encode it as %23")
	}
	var problem *badRequest
	if req.call.escaped, req.Path, problem = cleanPath("/" + path); problem != nil {
		return problem
	}
	if path == "" {
		req.call.escaped = ""
	}
	if hasQuery && strings.ContainsFunc(query, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return bad(overridePath+" has characters in its query that no query has", "encode them, or send "+extraQuery+"<name>")
	}
	req.call.query = withQuery(query, settled.Query, q)
	if req.call.header, problem = callHeader(settled, q); problem != nil {
		return problem
	}
	req.call.ofType = cmp.Or(q.one(overrideType), settled.ContentType)
	return req.keepResource(p)
}

// withQuery appends the parameters that are settled, and those of the request,
// which count where both have one.
func withQuery(query string, settled map[string]string, q sidecarQuery) string {
	parameters := map[string]string{}
	maps.Copy(parameters, settled)
	for key, values := range q {
		if name, ok := strings.CutPrefix(key, extraQuery); ok {
			parameters[name] = values[0]
		}
	}
	parts := make([]string, 0, 1+len(parameters))
	if query != "" {
		parts = append(parts, query)
	}
	for _, name := range sortedKeys(parameters) {
		parts = append(parts, percentEncoded(name)+"="+percentEncoded(parameters[name]))
	}
	return strings.Join(parts, "&")
}

func percentEncoded(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// callHeader makes the headers of a call. Those that the auth sidecar leaves out
// without a word are refused, and so are those that are the broker's to write.
func callHeader(settled SidecarCall, q sidecarQuery) (http.Header, *badRequest) {
	header := http.Header{}
	for name, values := range settled.Header {
		header[name] = slices.Clone(values)
	}
	for key, values := range q {
		name, ok := strings.CutPrefix(key, extraHeader)
		if !ok {
			continue
		}
		if IsReservedHeader(name) {
			return nil, notOverridden("a header of the call is reserved", "leave it out: it is the broker's to write, or has a parameter of its own ("+overrideAccept+", "+overrideType+")")
		}
		if !isToken(name) {
			return nil, bad("a header of the call has a name that no header has", "write "+extraHeader+"<name>")
		}
		header[name] = []string{values[0]}
	}
	header["Accept"] = []string{cmp.Or(q.one(overrideAccept), settled.Accept, "application/json")}
	for _, values := range header {
		if !isFieldValue(values[0]) || !isFieldValue(q.one(overrideType)) {
			return nil, bad("a header of the call has a control character", "send its value in one line of text")
		}
	}
	return header, nil
}

// IsReservedHeader reports whether a header, in canonical form, cannot be set for
// a call: it authenticates somebody, says how the request came here, belongs to
// the connection, or is written by the broker.
func IsReservedHeader(name string) bool {
	name = asVariable(name)
	return isWithheld(name) || strings.HasPrefix(name, "Proxy-") || slices.Contains(hopByHop, name) || slices.Contains([]string{"Accept", "Accept-Encoding", "Content-Type", "Content-Length", "Host"}, name)
}

// isToken reports whether a text is a token (RFC 9110 §5.6.2).
func isToken(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}

func isFieldValue(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

// keepResource refuses scopes of another resource than the API's: the token
// would be sent to somebody whom it is not for.
func (req *sidecarRequest) keepResource(p *policy.Policy) *badRequest {
	api, ok := p.APIs[req.API]
	if !ok {
		return nil // to be denied
	}
	for scope := range strings.FieldsSeq(req.Scope) {
		if trimSlash(resourceOf(scope)) != resourceOf(api.Scopes[0]) {
			req.rule = "apis." + api.Name + ".scopes"
			return notOfAPI()
		}
	}
	return nil
}

func notOfAPI() *badRequest {
	return notOverridden("the scopes are of another resource than the API's", "leave "+overrideScopes+" out, or send scopes of the API")
}

// resourceOf is what stands before the last slash of a scope.
func resourceOf(scope string) string { return scope[:max(0, strings.LastIndexByte(scope, '/'))] }
