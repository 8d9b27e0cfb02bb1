package usertoken

import (
	"crypto/sha256"
	"slices"
	"strings"
	"time"
)

// User is who a verified token is of, and what it says about the user. Ids are GUIDs in
// lower case. A user is known by Tenant and ObjectID together and by nothing else.
type User struct {
	Tenant   string // tid
	ObjectID string // oid
	Client   string // application that the token was issued to (azp, appid)
	// Guest is true when any of the token's signs says so: acct, xms_idrel, or an identity
	// provider other than the tenant itself. acct and xms_idrel are optional: an
	// application that is to tell its guests reliably must be set up to emit acct.
	Guest bool
	// Groups are the object ids of the user's groups. Members of the claim that are no
	// GUIDs, such as names, are left out. Empty when GroupsOverage is true.
	Groups []string
	// GroupsOverage says that the user is in more groups than the token can hold, so that
	// Groups says nothing.
	GroupsOverage bool
	Roles         []string // app roles of the user
	Scopes        []string // what the user delegated to the audience (scp); at least one
	ACRS          []string // authentication contexts satisfied
	AMR           []string // authentication methods used
	ExpiresAt     time.Time
	Version       string // 1.0 or 2.0
	UniqueID      string // uti, which Entra's sign-in log has as well; "" without one
	// Digest is the SHA-256 of the token, all of it, to keep things by. It is for no
	// record: who has the token can tell it from the digest.
	Digest [sha256.Size]byte
}

// user tells what the verified claims say.
func (v *Verifier) user(c *claims) User {
	u := User{
		Tenant:        strings.ToLower(c.TenantID),
		ObjectID:      strings.ToLower(c.ObjectID),
		Client:        strings.ToLower(c.client()),
		Guest:         v.isGuest(c),
		GroupsOverage: c.groupsOverage(),
		Roles:         c.Roles,
		Scopes:        strings.Fields(c.Scopes),
		ACRS:          c.Contexts,
		AMR:           c.Methods,
		ExpiresAt:     c.Expires.time,
		Version:       c.Version,
		UniqueID:      c.UniqueID,
	}
	if u.GroupsOverage {
		return u
	}
	for _, group := range c.Groups {
		if guid.MatchString(group) {
			u.Groups = append(u.Groups, strings.ToLower(group))
		}
	}
	return u
}

// isGuest believes the sign that says guest when signs disagree: a guest whom the
// tenant made a member in name still signs in elsewhere.
func (v *Verifier) isGuest(c *claims) bool {
	const guestRelation = "5"
	own := []string{"", c.Issuer, v.issuer(c.TenantID, version1), v.issuer(c.TenantID, version2)}
	return c.Account != nil && string(c.Account) != "0" ||
		slices.Contains(strings.Fields(c.Relations), guestRelation) ||
		!slices.Contains(own, c.IdentityProvider)
}

// groupsOverage recognises both ways in which Entra says that the groups do not fit:
// a reference in their place, and hasgroups in tokens of the implicit flow.
func (c *claims) groupsOverage() bool {
	_, elsewhere := c.ClaimNames["groups"]
	return elsewhere || c.HasGroups != nil && string(c.HasGroups) != "false"
}
