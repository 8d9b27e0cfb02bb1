package usertoken

import (
	"crypto/rsa"
	"crypto/sha256"
)

// Bounds of what a Verifier remembers of tokens.
const (
	maxKnown       = 512
	maxKnownBytes  = 4 << 20 // of all of them, in memory
	maxKnownLength = 8 << 10 // of a token; a longer one is read and verified each time
)

// digest stands for a token, all of it.
type digest [sha256.Size]byte

// known is a token that was read, and whose signature was good. All else is checked
// each time: for whom it is, whether its tenant still has the key, and whether it is
// valid now. There is no part of the token's text in it.
type known struct {
	keyID  string
	claims claims
	key    *rsa.PublicKey // with which the signature was verified
	user   User
	bytes  int
}

// weigh is about how many bytes of memory it takes to remember a token of this
// length, rather more: its texts are parts of the token, and each in a list is
// pointed to twice and rounded up.
func (k *known) weigh(length int) int {
	const each, inList = 1 << 10, 64
	c := &k.claims
	return each + length + inList*(len(c.Audience)+len(c.Roles)+len(c.Groups)+len(c.Contexts)+len(c.Methods)+len(c.ClaimNames)+len(k.user.Scopes))
}

// recall returns what is known of a token; nil when that is nothing.
func (v *Verifier) recall(of digest) *known {
	v.mu.Lock()
	defer v.mu.Unlock()
	k, _ := v.known.Get(of)
	return k
}

// remember keeps a token that was read from text of this length, and forgets those
// that were not asked for the longest where it takes their room.
func (v *Verifier) remember(of digest, length int, k *known) {
	if length > maxKnownLength {
		return
	}
	k.bytes = k.weigh(length)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.known.Remove(of) // what was known of it before counts no more
	v.known.Add(of, k)
	v.knownBytes += k.bytes
	for v.knownBytes > maxKnownBytes {
		v.known.RemoveOldest()
	}
}
