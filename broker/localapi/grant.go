package localapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/exchange/secret"
)

// The grants of the OAuth door.
const (
	grantClientCredentials = "client_credentials"
	grantTokenExchange     = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693
	// RFC 7523, in the form in which Entra takes it on behalf of users:
	// https://learn.microsoft.com/entra/identity-platform/v2-oauth2-on-behalf-of-flow
	grantJWTBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
)

// The token types of RFC 8693 §3 that an access token of Entra has.
const (
	typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
	typeJWT         = "urn:ietf:params:oauth:token-type:jwt"
)

const onBehalfOf = "on_behalf_of"

// tokenRequest is a request of the OAuth door.
type tokenRequest struct {
	broker.Request
	issuedType string // to be named in the answer (RFC 8693); "" for no such member
	byTarget   bool   // Scope was made of the resource or the audience
}

// readGrant reads what kind of token is asked for, and for whom. The words it keeps
// are its own: one that is cut out of the request would keep all of it in memory,
// with a user's token, for as long as it is remembered.
func (req *tokenRequest) readGrant(f form) *badRequest {
	switch f.get("grant_type") {
	case grantClientCredentials:
		req.Grant = grantClientCredentials
		if f.get("subject_token") != "" || f.get("assertion") != "" {
			// The agent's own token may open more than the user's.
			return bad("a user's token comes with a grant that is not for users", "send grant_type="+grantTokenExchange+" to act for the user, or leave the user's token out")
		}
		return nil
	case grantTokenExchange:
		req.Grant = grantTokenExchange
		return req.readTokenExchange(f)
	case grantJWTBearer:
		req.Grant = grantJWTBearer
		return req.readJWTBearer(f)
	case "":
		return bad("grant_type is missing", "send grant_type="+grantClientCredentials)
	}
	return &badRequest{status: http.StatusBadRequest, code: "unsupported_grant_type", reason: reasonBadRequest, message: "this grant type is not supported",
		hint: "send grant_type=" + grantClientCredentials + " for the agent itself, or grant_type=" + grantTokenExchange + " for a user"}
}

// readTokenExchange reads a request of RFC 8693 §2.1. The acting party is the
// agent: it is known from the connection or by its key, and by no token.
func (req *tokenRequest) readTokenExchange(f form) *badRequest {
	subject := f.get("subject_token")
	if subject == "" {
		return bad("subject_token is missing", "send the user's access token as subject_token")
	}
	if kind := f.get("subject_token_type"); kind != typeAccessToken && kind != typeJWT {
		return bad("subject_token_type is not that of an access token", "send the user's access token, and subject_token_type="+typeAccessToken)
	}
	if f.get("actor_token") != "" || f.get("actor_token_type") != "" {
		return bad("an actor_token is not taken", "leave it out: the actor is the agent itself, which is known from its connection or by its key")
	}
	switch f.get("requested_token_type") {
	case "", typeAccessToken:
		req.issuedType = typeAccessToken
	case typeJWT:
		req.issuedType = typeJWT
	default:
		return bad("this requested_token_type is not issued", "leave it out, or send "+typeAccessToken)
	}
	req.OnBehalfOf, req.UserToken = true, secret.New(subject)
	return nil
}

// readJWTBearer reads what Entra itself is asked on behalf of users, so that
// code written for Entra works with another URL.
func (req *tokenRequest) readJWTBearer(f form) *badRequest {
	if f.get("requested_token_use") != onBehalfOf {
		return bad("requested_token_use is not "+onBehalfOf, "send requested_token_use="+onBehalfOf+" with the user's access token as assertion; an agent needs no assertion of its own")
	}
	assertion := f.get("assertion")
	if assertion == "" {
		return bad("assertion is missing", "send the user's access token as assertion")
	}
	req.OnBehalfOf, req.UserToken = true, secret.New(assertion)
	return nil
}

// withoutSignIn leaves out the scopes that ask for tokens of the sign-in.
// Entra's own examples send them along on behalf of users; the answer's scope
// says what was granted.
func withoutSignIn(scope string) string {
	asks := false
	for s := range strings.FieldsSeq(scope) {
		asks = asks || isSignIn(s)
	}
	if !asks {
		return scope
	}
	rest := slices.DeleteFunc(strings.Fields(scope), isSignIn)
	if len(rest) == 0 {
		return scope
	}
	return strings.Join(rest, " ")
}

func isSignIn(scope string) bool {
	return scope == "openid" || scope == "profile" || scope == "email" || scope == "offline_access"
}
