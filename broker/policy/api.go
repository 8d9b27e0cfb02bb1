package policy

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// API is a named downstream API: where it is, which token it wants, and what of
// it may be called.
type API struct {
	Name    string
	BaseURL string   // without a final slash; http on this machine only
	Scopes  []string // canonical, of one resource; never empty
	Methods []string // in capitals; nil for any
	Paths   []string // below BaseURL: /a/b alone, or /a/* for all that begins with /a/; nil for any
	// RewriteLinks says that links to further pages in answers lead through the broker.
	RewriteLinks bool
}

var (
	methods = []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
	apiForm = fieldsOf(
		required("baseURL", matching(baseURLPattern), "https URL that every path is below; http for this machine only."),
		required("scopes", some(scopeText), "Scopes of the token that the API wants, all of one resource."),
		optional("methods", some(oneOf(methods...)), "HTTP methods that may be used; any when absent."),
		optional("paths", some(matching(apiPathForm.String())), "Paths below baseURL that may be called, exact or ending in /*; any when absent."),
		optional("rewriteLinks", trueFalse, "Links to further pages in JSON answers (nextLink, @odata.nextLink, @odata.deltaLink) lead through the broker, not past it; answers stay as they are when absent."),
	)
	roleForm = some(scopeText)
)

// readRoles reads the named sets of scopes.
func (r *reader) readRoles(entries []entry, cloud *Cloud) map[string][]string {
	roles := make(map[string][]string, len(entries))
	for _, e := range entries {
		before := r.found
		roles[e.name], _ = r.scopes(e.value, cloud)
		if len(roles[e.name]) == 0 && r.found == before {
			r.problem(e.value, "the role has no scopes", "list its scopes, or remove it")
		}
	}
	return roles
}

// readAPIs reads the named downstream APIs.
func (r *reader) readAPIs(entries []entry, cloud *Cloud) map[string]API {
	apis := make(map[string]API, len(entries))
	for _, e := range entries {
		apis[e.name] = r.api(e, cloud)
	}
	return apis
}

func (r *reader) api(e entry, cloud *Cloud) API {
	api := API{Name: e.name}
	fields, ok := r.fields(e.value, &apiForm)
	if !ok {
		return api
	}
	api.BaseURL = r.baseURL(fields["baseURL"])
	r.members(fields["scopes"])
	var places []place
	api.Scopes, places = r.scopes(fields["scopes"], cloud)
	for i := range places {
		first, _ := splitScope(api.Scopes[0])
		if resource, _ := splitScope(api.Scopes[i]); resource != first {
			r.problem(places[i], "this scope is of "+quote(resource)+", and the first one of "+quote(first), "keep scopes of one resource: a token is for one")
		}
	}
	if len(api.Scopes) > maxScopes {
		r.problem(fields["scopes"], "the API has more than 16 scopes, and no request can have them", "list the scopes of the API's token alone")
	}
	for _, item := range r.members(fields["methods"]) {
		if method, ok := r.text(item); ok {
			if !slices.Contains(methods, method) {
				r.problem(item, "want one of "+strings.Join(methods, ", ")+", got "+quote(method), "write it in capitals")
			}
			api.Methods = append(api.Methods, method)
		}
	}
	for _, item := range r.members(fields["paths"]) {
		if path, ok := r.text(item); ok {
			if !apiPathForm.MatchString(path) {
				r.problem(item, quote(path)+" is not a path", "write /<segment>/<segment>, or /<segment>/* for all that is below; no dot segments, percent-encoding, query or final slash")
			}
			api.Paths = append(api.Paths, path)
		}
	}
	api.RewriteLinks, _ = r.boolean(fields["rewriteLinks"])
	r.warnAPI(api, e.key)
	return api
}

// apiPathForm has no segment that begins with a dot, none that is empty, and
// an asterisk as the last one only.
var apiPathForm = patternOf(`^(/|(/[A-Za-z0-9_~!$&'()+,;=:@-][A-Za-z0-9._~!$&'()+,;=:@-]*)+|(/[A-Za-z0-9_~!$&'()+,;=:@-][A-Za-z0-9._~!$&'()+,;=:@-]*)*/\*)$`)

// baseURLPattern is what a schema can say of what baseURL reads.
const baseURLPattern = `^(https://[^/?#@\s]+|http://(localhost|127\.[0-9.]+|\[[^\]/?#@\s]+\])(:[0-9]*)?)(/[^?#*%\s]*[^?#*%/\s])?$`

// baseURL reads where an API is: tokens are sent there.
func (r *reader) baseURL(at place) string {
	text, ok := r.text(at)
	if !ok {
		return ""
	}
	u, err := url.Parse(text)
	var path string
	if err == nil {
		path = u.EscapedPath()
	}
	switch {
	case err != nil || !printable(text) || u.Opaque != "" || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || !isPort(u.Port()):
		r.problem(at, "this is not an https URL", "write https://<host>/<path>")
	case u.User != nil:
		r.problem(at, "the URL has a user", "remove it: the broker sends a token")
	case strings.Contains(text, "?") || strings.Contains(text, "#"):
		r.problem(at, "the URL has a query or a fragment", "remove the ? or # and what follows it")
	case hasUpper(u.Host) || !strings.HasPrefix(text, u.Scheme+"://"):
		r.problem(at, "the URL has upper-case letters in its scheme or host", "write "+quote(strings.ToLower(u.Scheme+"://"+u.Host)+path))
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		r.problem(at, "without TLS, others on the way to "+quote(u.Host)+" could read the token", "write https; http is for this machine")
	case path != "" && (path == "/" || !apiPathForm.MatchString(path) || strings.HasSuffix(path, "*")):
		r.problem(at, "the URL has a final slash, a dot segment, percent-encoding or an asterisk in its path", "write https://<host>/<segment>/<segment>")
	default:
		return text
	}
	return ""
}

// isLoopback reports whether host never leaves this machine.
func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.Unmap().IsLoopback()
}
