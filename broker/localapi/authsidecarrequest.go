package localapi

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/secret"
)

// sidecarRequest is a request of the auth sidecar's clients.
type sidecarRequest struct {
	broker.Request
	rule string // path in the policy of what an override would go against; "" for none
	call sidecarCall
}

// readSidecarRequest decodes a request. On a problem it holds what is known of
// it, to be recorded.
func (o SidecarOptions) readRequest(r *http.Request, p *policy.Policy, route, api string) (sidecarRequest, *badRequest) {
	if name, ok := o.Names[api]; ok {
		api = name
	}
	req := sidecarRequest{Request: broker.Request{Door: doorAuthSidecar, API: api, Raw: !isCall(route)}}
	switch {
	case isCall(route) && r.Method != http.MethodPost:
		return req, &badRequest{status: http.StatusMethodNotAllowed, reason: reasonBadRequest, message: "calls are asked for with POST", hint: "use POST, and " + overrideMethod + " for the method of the call"}
	case !isCall(route) && r.Method != http.MethodGet:
		return req, &badRequest{status: http.StatusMethodNotAllowed, reason: reasonBadRequest, message: "authorization headers are asked for with GET", hint: "use GET"}
	}
	q, problem := o.readQuery(r.URL.RawQuery, route, &req)
	if problem != nil {
		return req, problem
	}
	own, problem := req.readIdentity(q, p)
	if problem != nil {
		return req, problem
	}
	own = own || o.Calls[api].RequestAppToken
	if isForUser(route) {
		problem = req.readUser(r, own)
	} else {
		req.Agent, req.Key, problem = ownCaller(r)
	}
	if problem != nil {
		return req, problem
	}
	if problem = req.readOptions(q, p); problem == nil && isCall(route) {
		problem = req.readCall(q, p, o.Calls[api])
	}
	return req, problem
}

// readIdentity reads whom to act as. own says that the token is not on behalf of
// the user whose token comes along: it is the application's, or that of the
// agent's own user account.
func (req *sidecarRequest) readIdentity(q sidecarQuery, p *policy.Policy) (own bool, problem *badRequest) {
	if text := q.one(overrideAppToken); text != "" {
		var err error
		if own, err = strconv.ParseBool(strings.ToLower(strings.TrimSpace(text))); err != nil {
			return false, bad(overrideAppToken+" is neither true nor false", "send true for a token of the agent itself, or leave it out")
		}
	}
	ways := 0
	for _, way := range []string{byName, agentIdentity, overrideMachine} {
		if len(q[way]) > 0 {
			ways++
		}
	}
	username, id := q.one(agentUsername), q.one(agentUserID)
	switch agent := q.one(agentIdentity); {
	case ways > 1:
		return false, bad("several parameters select an identity", "send one of "+agentIdentity+", "+overrideMachine+" and "+byName)
	case agent == "" && username+id != "":
		return false, bad("an agent's user comes without its agent", "send "+agentIdentity+" too")
	case username != "" && id != "":
		return false, bad("an agent's user is given by name and by id", "send one of "+agentUsername+" and "+agentUserID)
	case username+id != "" && own:
		return false, bad("a token of an application cannot be that of a user", "leave out "+overrideAppToken+", or "+agentUsername+" and "+agentUserID)
	case id != "":
		if id = normalGUID(id); id == "" {
			return false, bad(agentUserID+" must be a non-empty GUID.", "send the object id of the agent's user account")
		}
		req.Identity, own = agentUserNamed(p, agent, id), true
	case username != "":
		req.Identity, own = agentUserNamed(p, agent, username), true
	case agent != "":
		req.Identity = agentNamed(p, agent)
	case q.one(overrideMachine) != "":
		req.Identity, own = machineNamed(p, q.one(overrideMachine)), true
	default:
		req.Identity = q.one(byName)
	}
	return own, nil
}

// readUser reads the user's token, which stands where others present the
// agent's key; that has its own header here. The auth sidecar wants the user's
// token even where it makes no use of it.
func (req *sidecarRequest) readUser(r *http.Request, own bool) *badRequest {
	var problem *badRequest
	if req.Key, problem = sidecarKey(r); problem != nil {
		return problem
	}
	user, problem := userBearer(r)
	if problem == nil && !own {
		req.OnBehalfOf, req.UserToken = true, secret.New(user)
	}
	return problem
}

// sidecarKey is the agent's key where Authorization is the user's.
func sidecarKey(r *http.Request) (string, *badRequest) {
	switch presented := r.Header["X-Identity-Header"]; {
	case len(presented) > 1:
		return "", bad("the client authenticates in more than one way", "present the key once")
	case len(presented) == 1 && presented[0] != noKey:
		return presented[0], nil
	}
	return "", nil
}

// userBearer is the user's token (RFC 6750 §2.1).
func userBearer(r *http.Request) (string, *badRequest) {
	authorization := r.Header["Authorization"]
	if len(authorization) > 1 {
		return "", bad("there are several Authorization headers", "send the user's token once")
	}
	text := ""
	if len(authorization) == 1 {
		if scheme, rest, _ := strings.Cut(authorization[0], " "); strings.EqualFold(scheme, "Bearer") {
			text = strings.TrimSpace(rest)
		}
	}
	if text == "" {
		return "", &badRequest{status: http.StatusUnauthorized, reason: reasonNoUserToken, message: "the user's token is missing",
			hint: "send it as Authorization: Bearer, or ask " + routeOwnHeader + "{api} for a token of the agent itself"}
	}
	return text, nil
}

const reasonNoUserToken policy.Reason = "user_token_missing"

// ownCaller reads how the agent presents itself where no user is. The auth
// sidecar acts for a user whose token comes to this route, or else for itself:
// here it is either a key or a mistake.
func ownCaller(r *http.Request) (agent, key string, problem *badRequest) {
	agent, key, problem = credentials(r, nil)
	switch {
	case problem != nil:
		return "", "", problem
	case strings.HasPrefix(key, "eyJ") && strings.Contains(key, "."):
		return "", "", bad("a user's token comes to the route that is not for users", "ask "+routeHeader+"{api} to act for the user, or leave the user's token out")
	case key == noKey:
		key = ""
	}
	return agent, key, nil
}

// readOptions reads what the token is for.
func (req *sidecarRequest) readOptions(q sidecarQuery, p *policy.Policy) *badRequest {
	req.Scope = strings.Join(q[overrideScopes], " ")
	claims := q.one(overrideClaims)
	if other := q.one("claims"); claims == "" {
		claims = other
	} else if other != "" {
		return bad("claims are given twice", "send one of claims and "+overrideClaims)
	}
	var problem *badRequest
	if req.Claims, problem = readClaims(form{{"claims", claims}}); problem != nil {
		return problem
	}
	if tenant := strings.TrimSpace(q.one(overrideTenant)); tenant != "" {
		return req.keepTenant(p, tenant)
	}
	return nil
}

// keepTenant refuses a tenant that is not the identity's, see isTenantOf.
func (req *sidecarRequest) keepTenant(p *policy.Policy, tenant string) *badRequest {
	if isTenantOf(p, req.Identity, tenant) {
		return nil
	}
	req.rule = "tenant"
	if name, _, _ := strings.Cut(req.Identity, "/"); name != "" {
		req.rule = "identities." + name
	}
	return notOverridden("this is not the tenant of the identity", "leave "+overrideTenant+" out, write the tenant as the policy does, or send "+byName+" with the name of an identity in that tenant")
}
