package localapi

import (
	"net/http"
	"strings"
	"unicode"
)

// readTarget reads the scopes that are asked for. They may be named by the
// resource that they belong to, be it called resource (RFC 8707 §2.2) or
// audience (RFC 8693 §2.1). Both may be given several times; Entra's tokens are
// for one API, and so is every answer.
func (req *tokenRequest) readTarget(f form) *badRequest {
	target := ""
	for _, p := range f {
		switch {
		case p.name != "resource" && p.name != "audience", p.value == "":
		case target != "" && trimSlash(target) != trimSlash(p.value):
			return badTarget("several resources or audiences are named", "name the one API that the token is for, once; ask for a token of another API in a request of its own")
		default:
			target = p.value
		}
	}
	req.Scope = f.get("scope")
	if req.Grant == grantJWTBearer {
		req.Scope = withoutSignIn(req.Scope)
	}
	switch {
	case target == "":
		return nil
	case strings.TrimSpace(req.Scope) == "":
		var problem *badRequest
		req.Scope, problem = scopeOfResource(target)
		req.byTarget = problem == nil
		return problem
	}
	for scope := range strings.FieldsSeq(req.Scope) {
		// A scope without a resource is for the policy to explain.
		if cut := strings.LastIndexByte(scope, '/'); cut >= 0 && trimSlash(scope[:cut]) != trimSlash(target) {
			return badTarget("a scope does not belong to the resource", "send scopes of the resource, or the resource alone for all that is granted of it")
		}
	}
	return nil
}

// scopeOfResource is all that is granted of a resource. Who sees the resource
// as an address puts a slash at its end, and a scope has none there.
func scopeOfResource(resource string) (string, *badRequest) {
	if strings.ContainsFunc(resource, unicode.IsSpace) {
		return "", badTarget("the resource has white space in it", "name one resource, e.g. https://graph.microsoft.com")
	}
	resource = trimSlash(resource)
	if strings.HasSuffix(resource, "/") { // with .default, it would be taken for Entra's form
		return "", badTarget("the resource has an empty path segment at its end", "name one resource, e.g. https://graph.microsoft.com")
	}
	return resource + "/.default", nil
}

func trimSlash(resource string) string { return strings.TrimSuffix(resource, "/") }

func badTarget(message, hint string) *badRequest {
	return &badRequest{status: http.StatusBadRequest, code: invalidTarget, reason: reasonBadRequest, message: message, hint: hint}
}
