package usertoken

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The versions of Entra's access tokens (claim ver).
const (
	version1 = "1.0"
	version2 = "2.0"
)

// clockSkew is how far the issuer's clock may be ahead. There is none for expiry: what
// is asked on a user's behalf never outlives the user's token.
const clockSkew = 5 * time.Minute

var guid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// Expectation says which tokens are taken. The zero value takes none.
type Expectation struct {
	// Tenants are the GUIDs of the tenants whose users are taken.
	Tenants []string
	// Audiences are the applications that a token may be for. A client id (GUID) also
	// stands for the App ID URI api://{client id}; another App ID URI is compared letter
	// for letter.
	Audiences []string
	// Cause returns the context of what wants to know, when keys have to be fetched for
	// it: the span of the fetch is linked to the span in that. Nil: it is Verify's own.
	Cause func() context.Context
}

// checkAddress checks whose token it is and for whom, by what it claims. After it, the
// tenant is one of those expected, and in the issuer.
func (v *Verifier) checkAddress(c *claims, want Expectation) *Error {
	if !guid.MatchString(c.TenantID) {
		if !strings.HasPrefix(c.Issuer, v.cfg.Authority+"/") && !strings.HasPrefix(c.Issuer, v.cfg.V1Issuer+"/") {
			return v.wrongIssuer(c)
		}
		return noUser("the user token does not say which tenant the user is of")
	}
	if c.Issuer != v.issuer(c.TenantID, c.Version) {
		return v.wrongIssuer(c)
	}
	if c.Version != version1 && c.Version != version2 {
		return malformed("the user token's version "+quote(c.Version)+" is neither 1.0 nor 2.0", "pass an access token that Entra issued")
	}
	if !slices.ContainsFunc(want.Tenants, func(tenant string) bool { return strings.EqualFold(tenant, c.TenantID) }) {
		return &Error{Problem: WrongTenant, Message: "the user token is of tenant " + c.TenantID + ", which is not one of those expected",
			Hint: "sign the user in to an expected tenant, or have this one added to the configuration"}
	}
	if len(c.Audience) != 1 || !want.hasAudience(c.Audience[0]) {
		return &Error{Problem: WrongAudience, Message: "the user token is for " + quote(strings.Join(c.Audience, " ")) + ", not for " + quote(strings.Join(want.Audiences, " ")),
			Hint: "the front end must ask for a token for this application (scope api://{client id}/…), not for Microsoft Graph or another API"}
	}
	return nil
}

func (want Expectation) hasAudience(audience string) bool {
	return slices.ContainsFunc(want.Audiences, func(wanted string) bool {
		if guid.MatchString(wanted) {
			return strings.EqualFold(audience, wanted) || strings.EqualFold(audience, "api://"+wanted)
		}
		return wanted != "" && audience == wanted
	})
}

func (v *Verifier) wrongIssuer(c *claims) *Error {
	return &Error{Problem: WrongIssuer, Message: "the user token's issuer " + quote(c.Issuer) + " is not that of its tenant at " + v.cfg.Authority,
		Hint: "pass an access token of this cloud's Entra ID; tokens of other identity providers, of Azure AD B2C and of other clouds are not taken"}
}

func (c *claims) checkTimes(now time.Time) *Error {
	expires, from := c.Expires.time, c.NotBefore.time
	if c.IssuedAt.time.After(from) {
		from = c.IssuedAt.time
	}
	switch {
	case expires.IsZero():
		return &Error{Problem: NoExpiry, Message: "the user token has no expiry", Hint: "pass an access token that Entra issued; all of them expire"}
	case !now.Before(expires):
		return &Error{Problem: Expired, Message: "the user token expired at " + timeText(expires) + "; it is " + timeText(now) + " here",
			Hint: "the front end must get a new access token for the user and pass that"}
	case now.Add(clockSkew).Before(from):
		return &Error{Problem: NotYetValid, Message: "the user token is not valid before " + timeText(from) + "; it is " + timeText(now) + " here",
			Hint: "check this machine's clock"}
	}
	return nil
}

func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// checkKind accepts access tokens with which a user delegated something to the API.
func (c *claims) checkKind() *Error {
	scopes := strings.TrimSpace(c.Scopes)
	delegated := scopes != "" && scopes != "/" // Entra writes "/" for none
	switch {
	case c.Type == "app":
		return appOnly()
	case c.Nonce != nil || c.AccessTokenHash != nil || c.CodeHash != nil, !delegated && c.client() == "":
		return &Error{Problem: IDToken, Message: "the user token is an id token, which only tells a client who signed in",
			Hint: "pass the access token that the front end got for this application (scope api://{client id}/…)"}
	case !delegated && (len(c.Roles) > 0 || c.ObjectID != "" && c.Subject == c.ObjectID):
		return appOnly()
	case !delegated || c.Type != "" && c.Type != "user":
		return &Error{Problem: NotDelegated, Message: "the user token has no scope: the user delegated nothing to this application",
			Hint: "expose a scope on the application, and have the front end ask for it"}
	case !guid.MatchString(c.ObjectID):
		return noUser("the user token does not say which user it is of")
	case !guid.MatchString(c.client()):
		return malformed("the user token does not say which client it was issued to", "pass an access token that Entra issued; it has azp or appid")
	}
	return nil
}

func appOnly() *Error {
	return &Error{Problem: AppOnly, Message: "the user token is of an application, not of a user",
		Hint: "nothing can be asked on behalf of an application: ask for a token for the agent itself, or pass a token of a user"}
}

func noUser(message string) *Error {
	return &Error{Problem: NoUser, Message: message, Hint: "pass an access token that Entra issued; it has tid and oid, the tenant and the user as GUIDs"}
}
