package issuance

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Pseudonyms are keyed hashes that stand for users: the same for the same user
// as long as the key is, and of use to nobody who has not got it. They are safe
// for concurrent use.
type Pseudonyms struct{ key []byte }

// NewPseudonyms returns the pseudonyms of a key, which should have 32 random
// bytes.
func NewPseudonyms(key []byte) *Pseudonyms { return &Pseudonyms{key: key} }

// Of returns the HMAC-SHA-256 of <tenant id>/<object id>, in lower case, in
// hexadecimal.
func (p *Pseudonyms) Of(tenant, object string) string {
	mac := hmac.New(sha256.New, p.key)
	_, _ = mac.Write([]byte(strings.ToLower(tenant + "/" + object))) // a hash takes everything
	return hex.EncodeToString(mac.Sum(nil))
}

// String does not show the key.
func (p *Pseudonyms) String() string { return "pseudonyms" }

// GoString does not either.
func (p *Pseudonyms) GoString() string { return "pseudonyms" }

// hideUser puts the pseudonym in the place of the user.
func (r *Record) hideUser() {
	if r.Pseudonyms == nil || r.UserTenant == "" && r.UserObjectID == "" {
		return
	}
	r.UserHash = r.Pseudonyms.Of(r.UserTenant, r.UserObjectID)
	r.UserTenant, r.UserObjectID = "", ""
}
