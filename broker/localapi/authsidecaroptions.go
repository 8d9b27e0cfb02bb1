package localapi

import (
	"net/http"
	"strings"
)

// SidecarOptions say how the door of Microsoft's own sidecar answers. With the
// zero value, the policy alone says what a request may change.
type SidecarOptions struct {
	// Closed are the routes at which requests may change nothing, by the names of
	// the auth sidecar's own options: GetAuthorizationHeader,
	// GetAuthorizationHeaderUnauthenticated, CallDownstreamApi and
	// CallDownstreamApiUnauthenticated. What they ask for all the same is refused.
	Closed map[string]bool
	// Silent passes over what is refused otherwise, as the auth sidecar does: at
	// closed routes all that a request would change, elsewhere what makes no sense.
	// The answer may then be a token of another identity than was asked for, and is
	// one that the policy allows. It is for trying clients out.
	Silent bool
	// Names are names of APIs as clients write them, with those of the policy, where
	// these are others.
	Names map[string]string
	// Calls are what is settled of the calls of an API, by its name, where a request
	// says nothing else.
	Calls map[string]SidecarCall
}

// SidecarCall is what is settled of an API. The zero value is a GET of the API's
// base URL that accepts JSON.
type SidecarCall struct {
	Method, Path, Accept, ContentType string
	Header                            http.Header       // in canonical form; none that is reserved
	Query                             map[string]string // parameters
	// RequestAppToken asks for the agent's own token, also where a user's comes along.
	RequestAppToken bool
}

// sidecarGates are the names of the auth sidecar's options by route.
var sidecarGates = map[string]string{
	routeHeader: "GetAuthorizationHeader", routeOwnHeader: "GetAuthorizationHeaderUnauthenticated",
	routeCall: "CallDownstreamApi", routeOwnCall: "CallDownstreamApiUnauthenticated",
}

// readQuery reads the parameters of a request, as far as the route is open to
// them. req holds the rule that a refusal goes by.
func (o SidecarOptions) readQuery(text, route string, req *sidecarRequest) (sidecarQuery, *badRequest) {
	gate := sidecarGates[route]
	if !o.Closed[gate] && !o.Silent {
		return readSidecarQuery(text, route)
	}
	q := sidecarQuery{}
	problem := eachParameter(text, func(name, value string) *badRequest {
		switch {
		case o.Closed[gate] && looksMeant(name) && o.Silent:
			return nil
		case o.Closed[gate] && looksMeant(name) && strings.TrimSpace(value) != "":
			req.rule = "Sidecar__AllowOverrides__" + gate
			problem := notOverridden("requests may change nothing at this route", "leave "+override+"… and Agent… out, or have the operator set "+req.rule+"=true")
			problem.status = http.StatusForbidden
			return problem
		case o.Silent:
			return q.addSilently(name, value, route)
		}
		return q.add(name, value, route)
	})
	if o.Silent {
		q.settle()
	}
	return q, problem
}

// addSilently keeps what the auth sidecar would: it passes over what it does not
// know and what is empty, and of several values takes the last.
func (q sidecarQuery) addSilently(name, value, route string) *badRequest {
	p := knownParameter(name)
	if p == nil || strings.TrimSpace(value) == "" {
		return nil
	}
	if !strings.HasSuffix(p.name, ".") && p.name != overrideScopes {
		delete(q, p.name)
	}
	return q.add(name, value, route)
}

// settle takes out what the auth sidecar does not look at.
func (q sidecarQuery) settle() {
	if len(q[agentIdentity]) == 0 {
		delete(q, agentUsername)
		delete(q, agentUserID)
	}
	if len(q[agentUsername]) > 0 {
		delete(q, agentUserID)
	}
	if text := strings.ToLower(strings.TrimSpace(q.one(overrideAppToken))); text != "true" && text != "false" {
		delete(q, overrideAppToken)
	}
}
