package policy

import (
	"slices"
	"strings"
)

// Hints about calls name what the file says. The method and the path are the
// caller's own words, and a path may hold anything.

func unknownAPIHint(allow *allowance, name string) string {
	return "name one of the APIs of " + allow.rule + ".apis; " + DidYouMean(name, allow.apis)
}

// apiHint is about an API that the file has, so its name is no secret.
func apiHint(allow *allowance, name string) string {
	return "add " + name + " to " + allow.rule + ".apis if the agent may call it; " + DidYouMean("", allow.apis)
}

func methodHint(api *API, method string) string {
	if !slices.Contains(methods, method) {
		method = "the method"
	}
	return "use " + strings.Join(api.Methods, " or ") + ", or add " + method + " to apis." + api.Name + ".methods"
}

func pathHint(api *API) string {
	return "call a path of apis." + api.Name + ".paths, such as " + clip(api.Paths[0]) + ", or add this one there; paths are compared exactly, and below those that end in /*"
}
