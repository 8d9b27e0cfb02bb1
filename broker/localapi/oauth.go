package localapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/client"
)

const (
	doorOAuth = "oauth"

	grantClientCredentials = "client_credentials"

	// maxClaimsBytes bounds a claims challenge.
	maxClaimsBytes = 8 << 10
)

// token is the OAuth 2.0 token endpoint (RFC 6749 §3.2).
func (h *Handler) token(w http.ResponseWriter, r *http.Request) {
	ctx := traceContext(r)
	req, problem := readTokenRequest(r)
	var issued broker.Issued
	var err error
	if problem != nil {
		issued, err = h.broker.Refuse(ctx, req, problem.reason, problem.hint)
	} else {
		issued, err = h.broker.Issue(ctx, req)
	}
	w.Header()[client.IssuanceHeader] = []string{issued.ID}
	if err == nil {
		writeToken(w, issued)
		return
	}
	status, wire := describe(err, issued.ID)
	if problem != nil && wire.RefusedBy == client.ByPolicy {
		status, wire = problem.render(wire)
		if problem.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodPost)
		}
	}
	writeError(w, status, wire)
}

// readTokenRequest decodes a request. On a problem the Request holds what is
// known of it, to be recorded.
func readTokenRequest(r *http.Request) (broker.Request, *badRequest) {
	req := broker.Request{Door: doorOAuth}
	if r.Method != http.MethodPost {
		return req, &badRequest{status: http.StatusMethodNotAllowed, reason: reasonBadRequest, message: "tokens are asked for with POST", hint: "use POST " + client.TokenPath + " with a form"}
	}
	form, problem := readForm(r)
	if problem != nil {
		return req, problem
	}
	switch grant := form.get("grant_type"); grant {
	case grantClientCredentials:
		req.Grant = grant
	case "":
		return req, bad("grant_type is missing", "send grant_type=client_credentials")
	default:
		return req, &badRequest{status: http.StatusBadRequest, code: "unsupported_grant_type", reason: reasonBadRequest, message: "this grant type is not supported", hint: "send grant_type=client_credentials"}
	}
	req.Scope, req.Identity, req.Claims = form.get("scope"), form.get("identity"), form.get("claims")
	if req.Claims != "" && (len(req.Claims) > maxClaimsBytes || !isObject(req.Claims)) {
		return req, bad("claims is not a JSON object", "pass the decoded claims of the challenge")
	}
	req.Agent, req.Key, problem = credentials(r, form)
	return req, problem
}

// credentials reads how the client presents itself: by Basic, by form, by
// Bearer, by the header of managed identity clients, or not at all. RFC 6749
// §2.3 allows one way at a time.
func credentials(r *http.Request, form form) (agent, key string, problem *badRequest) {
	agent, key = form.get("client_id"), form.get("client_secret")
	ways := 0
	if key != "" {
		ways++
	}
	if presented := r.Header["X-Identity-Header"]; len(presented) > 0 {
		key = presented[0]
		ways++
	}
	if authorization := r.Header["Authorization"]; len(authorization) > 0 {
		scheme, rest, _ := strings.Cut(authorization[0], " ")
		switch {
		case strings.EqualFold(scheme, "Bearer"):
			key = strings.TrimSpace(rest)
			ways++
		case strings.EqualFold(scheme, "Basic"):
			user, password, ok := r.BasicAuth()
			if !ok {
				return "", "", bad("the Authorization header is not Basic authentication", "encode client_id:client_secret in base64")
			}
			user, password = unescape(user), unescape(password)
			if agent != "" && agent != user {
				return "", "", bad("client_id differs between header and form", "send it once")
			}
			agent = user
			if password != "" {
				key = password
				ways++
			}
		default:
			return "", "", bad("the Authorization scheme is not supported", "use Basic or Bearer, or none where the kernel vouches for the caller")
		}
	}
	if ways > 1 {
		return "", "", bad("the client authenticates in more than one way", "present the key once")
	}
	return agent, key, nil
}

// unescape undoes the form encoding inside Basic credentials (RFC 6749 §2.3.1).
// Clients that do not encode are met half-way.
func unescape(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}

func isObject(text string) bool {
	var object map[string]json.RawMessage
	return json.Unmarshal([]byte(text), &object) == nil && object != nil
}

var (
	jsonType = []string{"application/json"}
	noStore  = []string{"no-store"}
	noCache  = []string{"no-cache"}

	buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}
)

// writeToken writes the answer of RFC 6749 §5.1. The token's text is a
// b64token (package exchange refuses others), so it needs no escaping.
func writeToken(w http.ResponseWriter, issued broker.Issued) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	b := append((*buffer)[:0], `{"access_token":"`...)
	b = append(b, issued.Token.Reveal()...)
	b = append(b, `","token_type":"Bearer","expires_in":`...)
	b = strconv.AppendInt(b, max(0, int64(time.Until(issued.ExpiresAt)/time.Second)), 10)
	b = append(b, `,"scope":`...)
	b = strconv.AppendQuote(b, issued.Scope) // scopes of a policy are printable ASCII
	b = append(b, '}', '\n')
	*buffer = b
	header := w.Header()
	header["Content-Type"] = jsonType
	header["Content-Length"] = []string{strconv.Itoa(len(b))}
	// The connection is the agent's: when it is gone, so is the reader.
	_, _ = w.Write(b)
	clear(b)
}

// metadata describes the door (RFC 8414). The issuer is the host the client
// asked, which the guard has compared.
func (h *Handler) metadata(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writeError(w, http.StatusMethodNotAllowed, client.Error{Code: "invalid_request", RefusedBy: client.ByBroker, Description: "metadata is read with GET"})
		return
	}
	issuer := "http://" + r.Host
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                issuer,
		"token_endpoint":                        issuer + client.TokenPath,
		"grant_types_supported":                 []string{grantClientCredentials},
		"response_types_supported":              []string{},
		"token_endpoint_auth_methods_supported": []string{"none", "client_secret_basic", "client_secret_post"},
	})
}
