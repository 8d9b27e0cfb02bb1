package usertoken

import (
	"crypto/rsa"
	"crypto/sha256"
)

// Bounds of what a Verifier remembers of tokens.
const (
	maxKnown      = 512
	maxKnownBytes = 8 << 10 // of a token; a larger one is read and verified each time
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
}

// recall returns what is known of a token; nil when that is nothing.
func (v *Verifier) recall(of digest) *known {
	v.mu.Lock()
	defer v.mu.Unlock()
	k, _ := v.known.Get(of)
	return k
}

// remember keeps a token that was read from text of this size.
func (v *Verifier) remember(of digest, size int, k *known) {
	if size > maxKnownBytes {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.known.Add(of, k)
}
