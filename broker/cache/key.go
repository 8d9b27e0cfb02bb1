package cache

// Key says what a token was issued for and to whom. Two requests share an entry,
// or a fetch, only if every field is equal; Agent is among them, so that agents
// never share a token even when all else coincides.
//
// A Key is kept as long as its entry and handed to the match function of
// [Cache.Purge]: it must never hold a raw token. Scopes are expected in canonical
// form (sorted, joined by single spaces): the cache compares text.
type Key struct {
	Agent    string
	Identity string
	Tenant   string
	Client   string // client id, or what else the identity is to Entra
	Scopes   string
	Claims   [32]byte // SHA-256 of the claims challenge; zero: none
	User     [32]byte // SHA-256 of the user's token; zero: no user
	UserID   string   // tenant and object id of that user, for Purge; "": no user
	Keeper   uint64   // of intermediate tokens, which have no agent: whose they are; 0: of all others
}

// WithoutClaims returns the key of what is asked for when there is no challenge.
func (k Key) WithoutClaims() Key {
	k.Claims = [32]byte{}
	return k
}
