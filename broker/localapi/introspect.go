package localapi

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/exchange/secret"
)

const introspectionPath = "/oauth2/introspect"

// introspect is the endpoint of RFC 7662. The client authenticates as at the
// token endpoint.
func (h *Handler) introspect(w http.ResponseWriter, r *http.Request) {
	req, problem := readIntrospection(r)
	issuedID, found, err := h.ask(w, r, req, problem)
	if err == nil {
		writeJSON(w, http.StatusOK, introspectionOf(found))
		return
	}
	status, wire := h.describe(err, issuedID)
	if status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	writeError(w, status, wire)
}

// ask puts a token to the broker, or has recorded what could not be put to it.
func (h *Handler) ask(w http.ResponseWriter, r *http.Request, req broker.Request, problem *badRequest) (id string, found broker.Introspection, err error) {
	if problem != nil {
		issued, err := h.issue(w, r, req, problem)
		return issued.ID, broker.Introspection{}, err
	}
	token := req.UserToken
	req.UserToken = secret.Text{}
	found, err = h.broker.Introspect(traceContext(r), req, token)
	w.Header()[client.IssuanceHeader] = []string{found.ID}
	return found.ID, found, err
}

// readIntrospection decodes a request (RFC 7662 §2.1).
func readIntrospection(r *http.Request) (broker.Request, *badRequest) {
	req := broker.Request{Door: doorOAuth, Grant: broker.GrantInspection}
	if r.Method != http.MethodPost {
		return req, &badRequest{status: http.StatusMethodNotAllowed, reason: reasonBadRequest, message: "tokens are introspected with POST", hint: "use POST " + introspectionPath + " with a form"}
	}
	f, problem := readForm(r, nil)
	if problem != nil {
		return req, problem
	}
	token := f.get("token")
	if token == "" {
		return req, bad("token is missing", "send the token that is asked about as token")
	}
	req.UserToken = secret.New(token)
	req.Identity = f.get("identity")
	req.Agent, req.Key, problem = credentials(r, f)
	return req, problem
}

// introspection is an answer of RFC 7662 §2.2. The zero value says that the token
// is not active, and nothing more.
type introspection struct {
	Active    bool   `json:"active"`
	TokenType string `json:"token_type,omitempty"`
	Scope     string `json:"scope,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	Subject   string `json:"sub,omitempty"`
	Audience  string `json:"aud,omitempty"`
	Issuer    string `json:"iss,omitempty"`
	Expires   int64  `json:"exp,omitempty"`
	IssuedAt  int64  `json:"iat,omitempty"`
	Tenant    string `json:"tid,omitempty"`
	ObjectID  string `json:"oid,omitempty"`
	Party     string `json:"azp,omitempty"`
}

// introspectionOf tells what a token says. Names and addresses of the user, which
// it may hold, are left out. A token that cannot be read is not active.
func introspectionOf(found broker.Introspection) introspection {
	var claims struct {
		Issuer   string   `json:"iss"`
		Subject  string   `json:"sub"`
		Audience string   `json:"aud"`
		Expires  int64    `json:"exp"`
		IssuedAt int64    `json:"iat"`
		Tenant   string   `json:"tid"`
		ObjectID string   `json:"oid"`
		Party    string   `json:"azp"`   // of version 2
		AppID    string   `json:"appid"` // of version 1
		Scope    string   `json:"scp"`   // delegated
		Roles    []string `json:"roles"` // an application's own
	}
	if !found.Active || json.Unmarshal([]byte(found.Claims.Reveal()), &claims) != nil { //nolint:forbidigo // it is the answer
		return introspection{}
	}
	answer := introspection{
		Active: true, TokenType: "Bearer", Scope: claims.Scope, ClientID: claims.Party, Subject: claims.Subject, Audience: claims.Audience, Issuer: claims.Issuer,
		Expires: claims.Expires, IssuedAt: claims.IssuedAt, Tenant: claims.Tenant, ObjectID: claims.ObjectID,
	}
	if answer.ClientID == "" {
		answer.ClientID = claims.AppID
	}
	if answer.Scope == "" {
		answer.Scope = strings.Join(claims.Roles, " ")
	}
	answer.Party = answer.ClientID
	return answer
}
