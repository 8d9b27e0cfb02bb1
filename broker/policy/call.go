package policy

import (
	"slices"
	"strings"
)

// mayUse is the beginning of step 4 for a request that names an API: there is
// one of that name, and the agent may call it.
func (a *Agent) mayUse(d *Decision, name string, allow *allowance, t *trace) bool {
	if _, ok := a.policy.APIs[name]; !ok {
		return t.deny(d, stepScope, APIUnknown, "apis", unknownAPIHint(allow, name))
	}
	_, listed := allow.apiRules[name]
	return listed || t.refuse(d, stepScope, APINotAllowed, allow.rule+".apis", apiHint(allow, name))
}

// mayCall is step 6 of a call that the broker makes itself: the API may be
// called with this method, and on this path.
func (a *Agent) mayCall(d *Decision, r *Request, t *trace) bool {
	api, ok := a.policy.APIs[r.API]
	if !ok {
		return t.deny(d, stepCall, APIUnknown, "apis", unknownAPIHint(&a.forItself, r.API))
	}
	if !api.takes(r.Method) && !t.refuse(d, stepCall, APIMethodNotAllowed, "apis."+api.Name+".methods", methodHint(&api, r.Method)) {
		return false
	}
	if !api.has(r.Path) && !t.refuse(d, stepCall, APIPathNotAllowed, "apis."+api.Name+".paths", pathHint(&api)) {
		return false
	}
	if t != nil {
		t.pass(stepCall, "apis."+api.Name, "the broker calls "+api.Name+" itself")
	}
	return true
}

func (a *API) takes(method string) bool {
	return a.Methods == nil || slices.Contains(a.Methods, method)
}

// has reports whether a path is listed, or is below one that ends in /*.
func (a *API) has(path string) bool {
	for _, listed := range a.Paths {
		prefix, all := strings.CutSuffix(listed, "*")
		if all && strings.HasPrefix(path, prefix) || path == listed {
			return true
		}
	}
	return a.Paths == nil
}
