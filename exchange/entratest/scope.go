package entratest

import (
	"slices"
	"strings"
)

// asked is what a scope parameter asks for.
type asked struct {
	resource *Resource
	// audience is the resource as the client named it: aud of v1 tokens.
	audience string
	// def says that the scope is {resource}/.default.
	def bool
	// names are the delegated scopes without their resource.
	names []string
	// sent are the scopes as they were sent, OIDC scopes included.
	sent []string
	// openID and offline ask for an id token and a refresh token.
	openID, offline bool
}

// parseScope resolves a scope parameter. appOnly applies the rules of
// client_credentials, where only {resource}/.default will do.
func parseScope(t *tenant, raw string, appOnly bool) (asked, error) {
	a := asked{sent: strings.Fields(raw)}
	var wanted []string
	for _, scope := range a.sent {
		switch strings.ToLower(scope) {
		case "openid":
			a.openID = true
		case "offline_access":
			a.offline = true
		case "profile", "email":
		default:
			wanted = append(wanted, scope)
		}
	}
	if len(wanted) == 0 {
		if appOnly {
			return asked{}, refuse(1002012, raw)
		}
		return asked{}, refuse(70011, raw)
	}
	for _, scope := range wanted {
		resource, name := splitScope(scope)
		if appOnly && name != ".default" {
			return asked{}, refuse(1002012, raw)
		}
		if name == "" {
			return asked{}, refuse(70011, scope)
		}
		if a.audience != "" && resourceKey(resource) != resourceKey(a.audience) {
			return asked{}, refuse(700022, raw)
		}
		a.audience = resource
		if name == ".default" {
			a.def = true
		} else {
			a.names = append(a.names, name)
		}
	}
	if a.def && len(a.names) > 0 {
		return asked{}, refuse(70011, raw)
	}
	r, ok := t.resource(a.audience)
	if !ok {
		return asked{}, refuse(500011, a.audience, t.ID)
	}
	if r.Disabled {
		return asked{}, refuse(50001, a.audience, t.ID)
	}
	a.resource = r
	for _, name := range a.names {
		if len(r.DelegatedScopes) == 0 || !slices.ContainsFunc(r.DelegatedScopes, sameScope(name)) {
			return asked{}, refuse(70011, name)
		}
	}
	return a, nil
}

// splitScope cuts a scope at its last slash. The resource of a scope without
// one is Microsoft Graph. "https://x" has no scope name: the name is empty.
func splitScope(scope string) (resource, name string) {
	i := strings.LastIndexByte(scope, '/')
	if i < 0 {
		return graphURI, scope
	}
	if strings.HasSuffix(scope[:i+1], "://") || i == 0 {
		return scope, ""
	}
	return scope[:i], scope[i+1:]
}

// sameScope compares scope names the way Entra does, without regard to case.
func sameScope(name string) func(string) bool {
	return func(other string) bool { return strings.EqualFold(name, other) }
}
