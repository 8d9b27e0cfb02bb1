package policy

import (
	"regexp"
	"slices"
	"strings"
)

const (
	maxScopes     = 16  // in one request
	maxScopeBytes = 512 // of one scope, in a request and in the file
)

// splitScope cuts a scope at its last slash and checks that both parts are
// canonical: that there is one way only to write what the scope means.
//
//	scope    = resource "/" name
//	resource = "https://" lower-case host *("/" segment)
//	         / "api://" segment *("/" segment)
//	         / lower-case GUID
//
// A segment, and the name, is one of RFC 3986 without percent-encoding and
// asterisks. None begins with a dot but the name .default.
// defect says what is wrong, in words that follow "the scope"; "" when nothing
// is. splitScope does not allocate: it is on the path of every decision.
func splitScope(scope string) (resource, defect string) {
	if len(scope) > maxScopeBytes {
		return "", "is longer than 512 bytes"
	}
	if defect := badByte(scope); defect != "" {
		return "", defect
	}
	cut := strings.LastIndexByte(scope, '/')
	if cut < 0 {
		return "", "has no resource"
	}
	resource, name := scope[:cut], scope[cut+1:]
	if defect := badResource(resource); defect != "" {
		return "", defect
	}
	if name == "" {
		return "", "has no name after its resource"
	}
	if name[0] == '.' && name != ".default" {
		return "", "has a name that begins with a dot and is not .default"
	}
	return resource, ""
}

// oneSlash makes one slash of the two that Entra wants before .default where the
// identifier of a resource ends in one: here none does.
func oneSlash(scope string) string {
	resource, ok := strings.CutSuffix(scope, "//.default")
	if !ok || strings.HasSuffix(resource, "/") {
		return scope
	}
	return resource + "/.default"
}

// badByte names the first byte that no canonical scope contains.
func badByte(scope string) string {
	for i := range len(scope) {
		switch c := scope[i]; {
		case c >= 0x80:
			return "has a character that is not ASCII"
		case c < 0x20 || c == 0x7f:
			return "has a control character"
		case c == ' ':
			return "has a space"
		case c == '*':
			return "has an asterisk, and there are no wildcards"
		case c == '%':
			return "has percent-encoding"
		case c == '\\':
			return "has a backslash"
		case c == '?':
			return "has a query"
		case c == '#':
			return "has a fragment"
		case !isAlphanumeric(c) && strings.IndexByte("-._~!$&'()+,;=:@/", c) < 0:
			return "has a character that no scope may have"
		}
	}
	return ""
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// badResource is given what stands before the last slash of a scope.
func badResource(resource string) string {
	if rest, ok := strings.CutPrefix(resource, "https://"); ok {
		host, path, hasPath := strings.Cut(rest, "/")
		if defect := badHost(host); defect != "" {
			return defect
		}
		if !hasPath {
			return ""
		}
		return badSegments(path)
	}
	if rest, ok := strings.CutPrefix(resource, "api://"); ok {
		// What follows api:// is compared by the directory as a whole, so its
		// case is significant here; but it is an authority to every URL parser.
		authority, _, _ := strings.Cut(rest, "/")
		if defect := badAuthority(authority); defect != "" {
			return defect
		}
		return badSegments(rest)
	}
	switch {
	case isGUID(resource):
		return ""
	case isGUID(strings.ToLower(resource)):
		return "has upper-case letters in its resource"
	case resource == "https:/" || resource == "api:/":
		return "has no name after its resource"
	case hasUpper(resource[:max(0, strings.Index(resource, "://"))]):
		return "has upper-case letters in its scheme"
	}
	return "has a resource that is neither https://, nor api://, nor a lower-case GUID"
}

// badHost accepts what RFC 1123 calls a host name, in lower case.
func badHost(host string) string {
	switch {
	case host == "":
		return "has no host"
	case len(host) > 253:
		return "has a host that is too long"
	case hasUpper(host):
		return "has upper-case letters in its host"
	case strings.HasSuffix(host, "."):
		return "has a host that ends with a dot"
	}
	if defect := badAuthority(host); defect != "" {
		return defect
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "has a host that is not a host name"
		}
		for i := range len(label) {
			if c := label[i]; c != '-' && !isAlphanumeric(c) {
				return "has a host that is not a host name"
			}
		}
	}
	return ""
}

// badAuthority finds what a URL parser would cut off the authority.
func badAuthority(authority string) string {
	switch {
	case strings.IndexByte(authority, '@') >= 0:
		return "has user information in its host"
	case strings.IndexByte(authority, ':') >= 0:
		return "has a port"
	}
	return ""
}

func badSegments(path string) string {
	for segment := range strings.SplitSeq(path, "/") {
		switch {
		case segment == "":
			return "has an empty path segment"
		case segment[0] == '.':
			return "has a path segment that begins with a dot"
		}
	}
	return ""
}

func hasUpper(s string) bool {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return true
		}
	}
	return false
}

// isGUID reports whether s is a GUID in its one form with lower-case digits.
func isGUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}

// oidcScopes ask for the user's sign-in, and not for an API.
var oidcScopes = []string{"openid", "profile", "offline_access", "email"}

var originPort = regexp.MustCompile(`^(https://[^/:@]+):443(/|$)`)

// canonicalScope guesses what a scope that is not canonical was meant to be;
// "" when there is no good guess. It is for hints only: nothing is ever
// decided about its result.
func canonicalScope(scope string, cloud *Cloud) string {
	if len(scope) > maxScopeBytes {
		return ""
	}
	guess := scope
	if scheme, rest, ok := strings.Cut(guess, "://"); ok {
		authority, path, _ := strings.Cut(rest, "/")
		if scheme = strings.ToLower(scheme); scheme == "http" || scheme == "https" {
			scheme, authority = "https", strings.ToLower(strings.TrimSuffix(authority, "."))
		}
		guess = scheme + "://" + strings.TrimSuffix(authority+"/"+path, "/")
		guess = originPort.ReplaceAllString(guess, "$1$2")
		// A resource alone: what is meant is all of it.
		if !strings.Contains(guess[len(scheme)+3:], "/") {
			guess += "/.default"
		}
	} else if head, name, hasName := strings.Cut(guess, "/"); isGUID(strings.ToLower(head)) {
		if !hasName || name == "" {
			name = ".default"
		}
		guess = strings.ToLower(head) + "/" + name
	} else if strings.LastIndexByte(guess, '.') > 0 && !strings.Contains(guess, "/") && !hasUpper(guess) {
		guess = "https://" + guess + "/.default" // a host: permissions have capitals
	} else if guess != "" && !strings.Contains(guess, "/") && !isOIDC(guess) {
		// A short name is one of Microsoft Graph's by Microsoft's own custom.
		guess = cloud.graph() + "/" + guess
	}
	if cut := strings.LastIndexByte(guess, '/'); cut >= 0 && strings.EqualFold(guess[cut+1:], ".default") {
		guess = guess[:cut] + "/.default"
	}
	if _, defect := splitScope(guess); defect != "" || guess == scope {
		return ""
	}
	return guess
}

func isOIDC(scope string) bool { return slices.Contains(oidcScopes, scope) }
