package entratest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// API returns small resource APIs that really validate the tokens they get:
// signature, issuer, times and audience.
//
//	GET  /v1.0/me, /v1.0/users, /v1.0/users/{id or name}   as in Microsoft Graph,
//	GET  …/memberOf, …/transitiveMemberOf                  with Graph's tokens,
//	POST …/getMemberObjects                                permissions and paging
//	POST /openai/v1/chat/completions, /openai/v1/responses  as in Azure OpenAI,
//	POST /openai/deployments/{name}/chat/completions       with its tokens: a model that repeats
//	ANY  /echo/…   what arrived, without the token
//	GET  /sse      a stream of events (?events=, ?interval=)
//	GET  /ws       a WebSocket that sends back what it gets, until the token expires
//
// The others take a token for any resource of the directory, except the token
// exchange. See SetClaimsChallenge.
func (s *Server) API() http.Handler {
	mux := http.NewServeMux()
	a := api{s}
	mux.Handle("GET /v1.0/me", a.graph(a.me))
	mux.Handle("GET /v1.0/users", a.graph(a.userList))
	mux.Handle("GET /v1.0/users/{id}", a.graph(a.user))
	for _, of := range []string{"/v1.0/me", "/v1.0/users/{id}"} {
		mux.Handle("GET "+of+"/memberOf", a.graph(a.memberOf))
		mux.Handle("GET "+of+"/transitiveMemberOf", a.graph(a.memberOf))
		mux.Handle("POST "+of+"/getMemberObjects", a.graph(a.memberObjects))
	}
	a.openAI(mux)
	mux.Handle("/echo/", a.authorized(a.echo))
	mux.Handle("GET /sse", a.authorized(a.stream))
	mux.Handle("GET /ws", a.authorized(a.webSocket))
	return mux
}

// SetClaimsChallenge makes the API refuse tokens without these claims with 401,
// insufficient_claims and the request itself, as continuous access evaluation
// does. claims is a claims request such as
//
//	{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}
//
// nbf is satisfied by a token issued at that time or later, any other claim by
// having one of the values. Only essential claims count. Empty: no challenge.
func (s *Server) SetClaimsChallenge(claims string) error {
	request, err := parseClaimsRequest(claims)
	if err != nil || claims != "" && len(request) == 0 {
		return fmt.Errorf("entratest: claims challenge: %q asks for no claim of an access token", claims)
	}
	s.challenge.Store(&claimsChallenge{raw: claims, request: request})
	return nil
}

// claimsChallenge is what the API asks for beyond a valid token.
type claimsChallenge struct {
	raw     string
	request claimsRequest
}

func (c *claimsChallenge) satisfied(claims map[string]any) bool {
	for name, r := range c.request {
		switch {
		case !r.Essential:
		case name == "nbf":
			issued, _ := claims["nbf"].(float64)
			if time.Unix(int64(issued), 0).Before(c.request.notBefore()) {
				return false
			}
		case !slices.ContainsFunc(r.texts(), func(want string) bool { return hasValue(claims[name], want) }):
			return false
		}
	}
	return true
}

// hasValue says whether a claim is want or a list with it.
func hasValue(claim any, want string) bool {
	switch v := claim.(type) {
	case string:
		return v == want
	case []any:
		return slices.Contains(v, any(want))
	}
	return false
}

// api serves API.
type api struct{ *Server }

// caller is who a valid token was issued for.
type caller struct {
	tokenClaims
	all    map[string]any
	tenant *tenant
}

type apiHandler func(w http.ResponseWriter, r *http.Request, c caller)

// authorized lets requests with a valid token through. resources are the client
// ids of what the token may be for; none means any.
func (a api) authorized(next apiHandler, resources ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		scheme, raw, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || raw == "" {
			// RFC 6750 section 3.1: no error for who did not try.
			a.unauthorized(w, "common", "")
			return
		}
		c, problem := a.validate(raw, resources)
		if problem != "" {
			a.unauthorized(w, "common", `, error="invalid_token", error_description="`+problem+`"`)
			return
		}
		if ch := a.challenge.Load(); ch != nil && !ch.satisfied(c.all) {
			a.unauthorized(w, c.tenant.ID, `, client_id="`+c.Audience[0]+`", error="insufficient_claims", claims="`+
				base64.StdEncoding.EncodeToString([]byte(ch.raw))+`"`)
			return
		}
		next(w, r, c)
	})
}

func (a api) unauthorized(w http.ResponseWriter, tenantName, rest string) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="", authorization_uri="`+a.cfg.BaseURL+"/"+tenantName+`/oauth2/v2.0/authorize"`+rest)
	apiError(w, http.StatusUnauthorized, "InvalidAuthenticationToken", "Access token is missing or cannot be used here.")
}

// validate returns who the token is for, or what is wrong with it.
func (a api) validate(raw string, resources []string) (caller, string) {
	u, ok := parseToken(raw)
	if !ok {
		return caller{}, "The token is malformed"
	}
	c := caller{tokenClaims: u.claims, all: u.all()}
	key, known := a.keys.find(u.kid)
	if u.alg != string(jose.RS256) || !known || !u.verify(key.private.Public()) {
		return caller{}, "The signature is invalid"
	}
	if c.tenant, ok = a.tenants[c.TenantID]; !ok || (c.Issuer != a.issuer(c.TenantID, 1) && c.Issuer != a.issuer(c.TenantID, 2)) {
		return caller{}, "The issuer is invalid"
	}
	if c.isIDToken() {
		return caller{}, "An ID token is no access token"
	}
	r, ok := c.tenant.resource(c.Audience[0])
	if !ok || len(c.Audience) != 1 || r.ClientID == TokenExchangeResourceID || len(resources) > 0 && !slices.Contains(resources, r.ClientID) {
		return caller{}, "The audience is invalid"
	}
	now := a.now()
	if now.After(c.Expiry.Time().Add(allowedSkew)) {
		return caller{}, "The token has expired"
	}
	if c.NotBefore != nil && c.NotBefore.Time().After(now.Add(allowedSkew)) {
		return caller{}, "The token is not valid yet"
	}
	return c, ""
}

// apiError answers in the form of Microsoft Graph.
func apiError(w http.ResponseWriter, status int, code, message string) {
	apiJSON(w, status, map[string]any{"error": map[string]string{"code": code, "message": message}})
}

func apiJSON(w http.ResponseWriter, status int, doc any) {
	body, err := json.Marshal(doc)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone, which is its right
}

// echoedHeaders are the request headers that /echo repeats.
var echoedHeaders = []string{
	"Accept", "Api-Key", "Baggage", "Client-Request-Id", "Content-Type", "Prefer", "Traceparent", "Tracestate", "User-Agent", "X-Api-Key", "X-Forwarded-For", "X-Forwarded-Host", "X-Request-Id",
}

// summarisedClaims are the claims that /echo repeats: who and what for.
var summarisedClaims = []string{
	"acrs", "amr", "appid", "aud", "azp", "idtyp", "iss", "oid", "roles", "scp", "sub", "tid", "ver",
	"xms_act_fct", "xms_cc", "xms_idrel", "xms_par_app_azp", "xms_sub_fct",
}

func (a api) echo(w http.ResponseWriter, r *http.Request, c caller) {
	headers, claims := map[string]string{}, map[string]any{}
	for _, name := range echoedHeaders {
		if v := r.Header.Get(name); v != "" {
			headers[name] = recordable(v)
		}
	}
	for _, name := range summarisedClaims {
		if v, ok := c.all[name]; ok {
			claims[name] = v
		}
	}
	apiJSON(w, http.StatusOK, map[string]any{
		"method": r.Method, "path": recordable(r.URL.Path), "query": recordable(r.URL.RawQuery), "headers": headers, "claims": claims,
	})
}
