package localapi

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/exchange/secret"
)

// read reads what is asked for: everything but the body.
func (c *call) read() *badRequest {
	name, rest, _ := callTarget(c.in.URL)
	c.req = broker.Request{Door: doorCallThrough, API: name, Method: c.in.Method}
	problem := badMethod(c.in.Method)
	if problem != nil {
		c.w.Header().Set("Allow", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")
		return problem
	}
	if c.escaped, c.req.Path, problem = cleanPath(rest); problem != nil {
		return problem
	}
	if c.req.Identity, problem = c.own(identityHeader); problem != nil {
		return problem
	}
	userToken, problem := c.own(userTokenHeader)
	if problem != nil {
		return problem
	}
	c.req.OnBehalfOf, c.req.UserToken = userToken != "", secret.New(userToken)
	claims, problem := c.own(claimsHeader)
	if problem != nil {
		return problem
	}
	if c.req.Claims, problem = readClaims(form{{"claims", decodeClaims(claims)}}); problem != nil {
		return problem
	}
	c.req.Agent, c.req.Key, problem = callerOf(c.in)
	return problem
}

// own returns one of the broker's own headers, or "" when it is absent. One
// that is there and says nothing is a mistake: without the user's token, the
// call would be the agent's own.
func (c *call) own(name string) (string, *badRequest) {
	values := c.in.Header[name]
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 || strings.TrimSpace(values[0]) == "" {
		return "", bad("the header "+name+" is empty or given twice", "send it once, with its value, or leave it out")
	}
	return values[0], nil
}

// callerOf reads how the agent presents itself. SDKs of language models insist
// on a key, and have headers of their own for it.
func callerOf(r *http.Request) (agent, key string, problem *badRequest) {
	if agent, key, problem = credentials(r, nil); problem != nil {
		return "", "", problem
	}
	if key == noKey {
		key = ""
	}
	for _, name := range []string{"Api-Key", "X-Api-Key"} {
		for _, presented := range r.Header[name] {
			switch {
			case presented == noKey, presented == key:
			case key != "":
				return "", "", bad("the client authenticates in more than one way", "present the key once")
			default:
				key = presented
			}
		}
	}
	return agent, key, nil
}

// withheld are the request headers that an API does not get: what authenticates
// the agent to the broker or to somebody else, what says how the request came
// here, and what would make an API take another method or path than the one
// that was decided on.
var withheld = map[string]bool{
	"Authorization": true, "Api-Key": true, "X-Api-Key": true, "X-Identity-Header": true, "Cookie": true, "Cookie2": true,
	"Forwarded": true, "Via": true, "X-Real-Ip": true, "Expect": true, "Http2-Settings": true,
	"Proxy":       true, // which CGI programs take for the proxy to use
	"Traceparent": true, "Tracestate": true, "Baggage": true,
	"X-Http-Method": true, "X-Http-Method-Override": true, "X-Method-Override": true, "X-Original-Url": true, "X-Rewrite-Url": true, "X-Original-Uri": true,
}

// withheldPrefixes are those of further headers: by some, front ends such as App
// Service's tell an API who calls.
var withheldPrefixes = []string{"X-Forwarded", "X-Ms-Token-", "X-Ms-Client-Principal", "Credfree-"}

func isWithheld(name string) bool {
	name = asVariable(name)
	return withheld[name] || slices.ContainsFunc(withheldPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// asVariable is a name in canonical form, with a dash for all that is no letter or
// digit: servers that make variables of headers (CGI, WSGI) tell no more apart.
func asVariable(name string) string {
	odd := func(c rune) bool { return c != '-' && (c > 'z' || !isAlphanumeric(byte(c))) }
	if !strings.ContainsFunc(name, odd) {
		return name
	}
	return http.CanonicalHeaderKey(strings.Map(func(c rune) rune {
		if odd(c) {
			return '-'
		}
		return c
	}, name))
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// rewrite makes the request to the API, but for its token. The proxy has taken
// the hop-by-hop headers off.
func (c *call) rewrite(r *httputil.ProxyRequest) {
	for name := range r.Out.Header {
		if isWithheld(name) {
			delete(r.Out.Header, name)
		}
	}
	if !strings.EqualFold(r.Out.Header.Get("Upgrade"), "websocket") {
		// An API that speaks h2c would take further requests, which nobody decides on.
		r.Out.Header.Del("Upgrade")
		r.Out.Header.Del("Connection")
	}
	// The proxy has dropped what net/url does not understand of the query.
	r.Out.URL = &url.URL{RawQuery: c.in.URL.RawQuery, ForceQuery: c.in.URL.ForceQuery}
}
