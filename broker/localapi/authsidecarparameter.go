package localapi

import (
	"net/http"
	"strings"
)

// What becomes of a parameter of the auth sidecar.
type treatment int

const (
	honoured treatment = iota
	ignored            // it changes no token
	ofCalls            // it is part of a call, and ignored where there is none
	refused            // it would change the token in a way that the policy has no word for
)

// sidecarParameter is one parameter that the auth sidecar reads.
type sidecarParameter struct {
	name      string // in the case in which clients write it; a final dot stands for all that begin with it
	treatment treatment
	// selects: it says whose token is asked for. Where such a parameter is empty,
	// the client meant somebody, and does not know whom.
	selects bool
	text    string // what it is, or why it is refused
}

const (
	agentIdentity = "AgentIdentity"
	agentUsername = "AgentUsername"
	agentUserID   = "AgentUserId"

	override         = "optionsOverride."
	acquire          = override + "AcquireTokenOptions."
	overrideScopes   = override + "Scopes"
	overrideAppToken = override + "RequestAppToken"
	overrideTenant   = acquire + "Tenant"
	overrideClaims   = acquire + "Claims"
	overrideMachine  = acquire + "ManagedIdentity.UserAssignedClientId"
	overridePath     = override + "RelativePath"
	overrideMethod   = override + "HttpMethod"
	overrideAccept   = override + "AcceptHeader"
	overrideType     = override + "ContentType"
	extraHeader      = override + "ExtraHeaderParameters."
	extraQuery       = override + "ExtraQueryParameters."
)

// sidecarParameters are all that the auth sidecar reads, and ours.
var sidecarParameters = []sidecarParameter{
	{agentIdentity, honoured, true, "Id of the agent identity to act as."},
	{agentUsername, honoured, true, "With " + agentIdentity + ": user principal name of its user account."},
	{agentUserID, honoured, true, "With " + agentIdentity + ": object id of its user account."},
	{overrideScopes, honoured, false, "Scopes instead of those of the API; each has to be allowed. May be repeated."},
	{overrideAppToken, honoured, false, "true: a token of the agent itself, although a user's token comes along."},
	{overrideTenant, honoured, false, "Tenant of the token; no other than that of the identity."},
	{overrideClaims, honoured, false, "Claims challenge to satisfy, a JSON object."},
	{overrideMachine, honoured, true, "Client id of the managed identity to act as."},
	{byName, honoured, true, "Identity to act as, by its name in the policy: <name>, or of a fleet <name>/<member>."},
	{"claims", honoured, false, "Claims challenge to satisfy, a JSON object."},

	{acquire + "ForceRefresh", ignored, false, "Tokens are refreshed ahead of their end; one that an API no longer takes is replaced by passing its claims challenge on."},
	{acquire + "CorrelationId", ignored, false, "Exchanges carry an id of the trace; the answer names it in " + correlationHeader + "."},
	{override + "BaseUrl", ignored, false, "Where an API is stands in the policy."},
	{overridePath, ofCalls, false, "Path of the call below the API's base URL, and its query if there is one."},
	{overrideMethod, ofCalls, false, "Method of the call; GET when absent."},
	{overrideAccept, ofCalls, false, "Accept header of the call; application/json when absent."},
	{overrideType, ofCalls, false, "Content-Type of the call; that of the request when absent."},
	{extraHeader, ofCalls, false, "A header of the call."},
	{extraQuery, ofCalls, false, "A parameter of the call's query."},

	{acquire + "LongRunningWebApiSessionKey", refused, false, "leave it out: onBehalfOf.longRunning in the policy lets the agent go on with the token that it has"},
	{acquire + "FmiPath", refused, false, "send " + agentIdentity + ": the blueprint's own tokens stay in the broker"},
	{acquire + "PopPublicKey", refused, false, "leave it out: tokens are bearer tokens"},
}

// sidecarQuery has the honoured parameters by their names in the table.
type sidecarQuery map[string][]string

// one returns the value of a parameter that is not repeated.
func (q sidecarQuery) one(name string) string {
	if values := q[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// readSidecarQuery reads the parameters of a request; names are taken in any
// case. Of what is not known, only that is passed over which does not look like
// a choice of identity or an option.
func readSidecarQuery(text, route string) (sidecarQuery, *badRequest) {
	q := sidecarQuery{}
	problem := eachParameter(text, func(name, value string) *badRequest { return q.add(name, value, route) })
	return q, problem
}

// eachParameter decodes a query, within limits, until add finds a problem.
func eachParameter(text string, add func(name, value string) *badRequest) *badRequest {
	if len(text) > maxQueryBytes {
		return &badRequest{status: http.StatusRequestURITooLong, reason: reasonBadRequest, message: "the query is larger than 16 KiB", hint: "send only the parameters of the token request"}
	}
	count := 0
	for pair := range strings.SplitSeq(text, "&") {
		if pair == "" {
			continue
		}
		if count++; count > 64 {
			return bad("there are too many parameters", "send only those of the token request")
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err1 := decode(name)
		value, err2 := decode(value)
		if err1 != nil || err2 != nil {
			return bad("a parameter has a broken percent-encoding", "encode parameters as application/x-www-form-urlencoded")
		}
		if problem := add(name, value); problem != nil {
			return problem
		}
	}
	return nil
}

// add keeps what a parameter says. What is one of many, of the call's headers and
// query, is kept under the name in the table with its own behind it.
func (q sidecarQuery) add(name, value, route string) *badRequest {
	p := knownParameter(name)
	blank := strings.TrimSpace(value) == ""
	switch {
	case p == nil && looksMeant(name):
		return notOverridden("an option or a choice of identity is not known", "use the parameters of "+openAPIPath)
	case p == nil, p.treatment == ignored, p.treatment == ofCalls && !isCall(route):
	case blank && p.selects:
		return bad(p.name+" is empty", "send it with its value, or leave it out for the agent's own identity")
	case blank:
	case p.treatment == refused:
		return notOverridden(p.name+" is not taken", p.text)
	default:
		key := p.name
		switch key {
		case extraQuery:
			key += name[len(key):]
		case extraHeader:
			key += http.CanonicalHeaderKey(name[len(key):])
		}
		if len(q[key]) > 0 && key != overrideScopes {
			return bad(p.name+" is given twice", "give each parameter once, but for "+overrideScopes)
		}
		q[key] = append(q[key], value)
	}
	return nil
}

func knownParameter(name string) *sidecarParameter {
	for i := range sidecarParameters {
		p := &sidecarParameters[i]
		n := len(p.name)
		if equalWord(name, p.name) || p.name[n-1] == '.' && len(name) > n && equalWord(name[:n], p.name) {
			return p
		}
	}
	return nil
}

// looksMeant reports whether a parameter that nobody knows was meant to change
// whose token it is, or what it is good for.
func looksMeant(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "agent") || strings.HasPrefix(name, "optionsoverride")
}

const reasonOverride = "override_not_allowed"

func notOverridden(message, hint string) *badRequest {
	return &badRequest{status: http.StatusBadRequest, reason: reasonOverride, message: message, hint: hint}
}
