package managedidentity

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/credfree/credfree/exchange/workload"
)

// phrases tell some refusals from others, in lower case. Each stands in answers
// with a status below 500; the words are looked for, and never shown.
var phrases = []struct {
	any     []string
	problem Problem
	message string
	hint    string
}{
	{[]string{"multiple user assigned identities exist", "multiple user-assigned identities exist"}, Refused,
		"knows several identities, and none was named", "name the identity by its client id"},
	{[]string{"identity not found", "identity_not_found", "managedidentitynotfound", "no msi found", "managed identity found for"}, NoIdentity,
		"does not have this identity", "assign the identity to this machine or app, or correct its id; a system-assigned one has to be switched on"},
	{[]string{"invalid_resource", "aadsts500011"}, Refused,
		"says that the tenant has no such resource", "check the resource's name, and that its service principal exists in the tenant"},
	{[]string{"a socket operation was attempted to an unreachable"}, NoEndpoint,
		"is not there: a container runtime answers in its place", "use another kind of credential on a developer's machine"},
}

// refusal reads an answer that is not 200. began is when it was asked for.
func (p platform) refusal(resp *http.Response, body []byte, began time.Time) *Error {
	status := resp.StatusCode
	what := p.who + " answered with status " + strconv.Itoa(status)
	if name := http.StatusText(status); name != "" {
		what += " (" + name + ")"
	}
	if status >= 400 && status < 500 {
		words := strings.ToLower(string(body))
		for _, phrase := range phrases {
			if slices.ContainsFunc(phrase.any, func(s string) bool { return strings.Contains(words, s) }) {
				return &Error{Problem: phrase.problem, Message: p.who + " " + phrase.message, Hint: phrase.hint}
			}
		}
	}
	switch {
	case status >= 300 && status < 400:
		return malformed(what + ", and redirects are not followed")
	case status == http.StatusTooManyRequests:
		return &Error{Problem: Throttled, Message: p.who + " is throttling this machine", Hint: "wait before asking again; if it lasts, something on this machine asks without a cache",
			RetryAfter: workload.RetryAfter(resp.Header.Get("Retry-After"), began)}
	case p.starting && status == http.StatusGone:
		return &Error{Problem: Unavailable, Message: what, Hint: "it is being updated, which takes up to 70 seconds; ask again"}
	case p.starting && status == http.StatusNotFound:
		return &Error{Problem: Unavailable, Message: what, Hint: "an identity that was just assigned takes a while to be there; if it lasts, this may be the metadata service of another cloud"}
	case status >= 500, status == http.StatusRequestTimeout:
		return &Error{Problem: Unavailable, Message: what, Hint: "it may be starting or busy; ask again", RetryAfter: workload.RetryAfter(resp.Header.Get("Retry-After"), began)}
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound:
		return &Error{Problem: Refused, Message: what, Hint: p.address}
	}
	return &Error{Problem: Refused, Message: what, Hint: "check the identity's id and the resource"}
}
