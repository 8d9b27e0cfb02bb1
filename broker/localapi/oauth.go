package localapi

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/policy"
)

const doorOAuth = "oauth"

// token is the OAuth 2.0 token endpoint (RFC 6749 §3.2).
func (h *Handler) token(w http.ResponseWriter, r *http.Request) {
	asked, problem := readTokenRequest(r, h.broker.Rules().Policy)
	issued, err := h.issue(w, r, asked.Request, problem)
	if err == nil {
		members := oauthMembers
		if asked.issuedType != "" {
			members = asked.members
		}
		writeToken(w, issued, members)
		return
	}
	status, wire := h.describe(err, issued.ID)
	if asked.Grant == grantTokenExchange && wire.Code == invalidGrant && wire.RefusedBy == client.ByPolicy {
		wire.Code = invalidRequest // RFC 8693 §2.2.2 wants it so
	}
	if asked.byTarget && wire.Code == invalidScope && wire.RefusedBy == client.ByPolicy {
		wire.Code = invalidTarget // the client named no scope that could be invalid
	}
	if status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	if wire.Claims != "" {
		challenge(w, h.broker.Rules().Policy.Cloud.Authority, issued, wire.Claims)
	}
	writeError(w, status, wire)
}

// readTokenRequest decodes a request. On a problem it holds what is known of
// it, to be recorded.
func readTokenRequest(r *http.Request, p *policy.Policy) (tokenRequest, *badRequest) {
	req := tokenRequest{Request: broker.Request{Door: doorOAuth, Raw: true}}
	if r.Method != http.MethodPost {
		return req, &badRequest{status: http.StatusMethodNotAllowed, reason: reasonBadRequest, message: "tokens are asked for with POST", hint: "use POST " + client.TokenPath + " with a form"}
	}
	var room [formRoom]parameter
	f, problem := readForm(r, room[:0], "resource", "audience")
	if problem != nil {
		return req, problem
	}
	if problem := req.readGrant(f); problem != nil {
		return req, problem
	}
	if problem := req.readTarget(f); problem != nil {
		return req, problem
	}
	req.Identity = f.get("identity")
	if req.Claims, problem = readClaims(f); problem != nil {
		return req, problem
	}
	if req.Agent, req.Key, problem = credentials(r, f); problem != nil {
		return req, problem
	}
	if req.Identity == "" {
		req.Identity = onlyIdentity(p, req.Agent)
	}
	if tenant := entraTenant(plainPath(r.URL.Path)); tenant != "" && !isTenantOf(p, req.Identity, tenant) {
		return req, bad("the tenant in the path is not that of the identity", "write the tenant as the policy does, or use "+client.TokenPath)
	}
	return req, nil
}

var (
	jsonType = []string{"application/json"}
	noStore  = []string{"no-store"}
	noCache  = []string{"no-cache"}

	buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}
)

// writeToken writes a JSON object with the token, and with what members
// appends. The token's text is a b64token (package exchange refuses others), so
// it needs no escaping.
func writeToken(w http.ResponseWriter, issued broker.Issued, members func([]byte, broker.Issued) []byte) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	b := append((*buffer)[:0], `{"access_token":"`...)
	b = append(b, issued.Token.Reveal()...)
	b = append(b, `","token_type":"Bearer"`...)
	b = append(members(b, issued), '}', '\n')
	*buffer = b
	header := w.Header()
	header["Content-Type"] = jsonType
	header["Content-Length"] = []string{strconv.Itoa(len(b))}
	// The connection is the agent's: when it is gone, so is the reader.
	_, _ = w.Write(b)
	clear(b)
}

// oauthMembers are those of RFC 6749 §5.1.
func oauthMembers(b []byte, issued broker.Issued) []byte {
	b = append(b, `,"expires_in":`...)
	b = strconv.AppendInt(b, secondsLeft(issued), 10)
	b = append(b, `,"scope":"`...)
	b = append(b, issued.Scope...) // nothing in a scope of a policy has to be escaped
	return append(b, '"')
}

// members adds that of RFC 8693 §2.2.1.
func (req tokenRequest) members(b []byte, issued broker.Issued) []byte {
	b = append(oauthMembers(b, issued), `,"issued_token_type":"`...)
	return append(append(b, req.issuedType...), '"')
}

func secondsLeft(issued broker.Issued) int64 {
	return max(0, int64(time.Until(issued.ExpiresAt)/time.Second))
}
