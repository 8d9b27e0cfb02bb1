package entratest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// Entra's refresh tokens begin like this, and so can be recognised.
	refreshTokenPrefix = "1.AVYA"
	refreshTokenIdle   = 90 * 24 * time.Hour
	maxSealedScope     = 4 << 10
)

// refreshToken is what a refresh token says. Clients see it sealed; nothing is
// kept on the server, so old ones stay valid when new ones are handed out, and
// memory does not grow.
type refreshToken struct {
	Tenant, Client, User string
	// Scope is what was asked for, for redeeming it without a scope.
	Scope      string
	Methods    []string
	Issued     time.Time
	Generation int // of the user's sessions
}

func newSealer() (cipher.AEAD, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails, by its documentation
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make refresh token key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// newRefreshToken binds a token to the user and the client. It is good for any
// resource.
func (s *Server) newRefreshToken(g *grant, u *User, methods []string) (string, error) {
	scope := strings.Join(g.scope.sent, " ")
	if len(scope) > maxSealedScope {
		scope = ""
	}
	_, generation := s.sessions.of(g.tenant.ID, u.ObjectID)
	plain, err := json.Marshal(refreshToken{
		Tenant: g.tenant.ID, Client: g.app.ClientID, User: u.ObjectID,
		Scope: scope, Methods: methods, Issued: s.now(), Generation: generation,
	})
	if err != nil {
		return "", fmt.Errorf("make refresh token: %w", err)
	}
	sealed := s.sealer.Seal(nil, nil, plain, nil) //nolint:gosec // The cipher makes the nonce itself.
	return refreshTokenPrefix + base64.RawURLEncoding.EncodeToString(sealed), nil
}

// openRefreshToken checks the refresh token of the request.
func (s *Server) openRefreshToken(g *grant) (refreshToken, error) {
	var rt refreshToken
	text, found := strings.CutPrefix(g.form.Get("refresh_token"), refreshTokenPrefix)
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || !found {
		return rt, refuse(9002313)
	}
	plain, err := s.sealer.Open(nil, nil, sealed, nil)
	if err != nil || json.Unmarshal(plain, &rt) != nil {
		return rt, refuse(9002313)
	}
	revoked, generation := s.sessions.of(rt.Tenant, rt.User)
	switch {
	case rt.Tenant != g.tenant.ID:
		return rt, refuse(700005)
	case rt.Client != g.app.ClientID:
		return rt, refuse(70000, g.app.ClientID)
	case rt.Generation != generation:
		return rt, refuse(50173, timeText(rt.Issued), timeText(revoked))
	case s.now().Sub(rt.Issued) >= refreshTokenIdle:
		return rt, refuse(700082, timeText(rt.Issued))
	}
	return rt, nil
}

// refresh issues a new token to the user of a refresh token, which was checked
// before. Consent and policies are looked at again.
func (s *Server) refresh(g *grant) (map[string]any, error) {
	return s.delegated(g, g.redeemed.User, g.redeemed.Methods)
}

// sessions counts how often users' sessions were revoked.
type sessions struct {
	mu      sync.Mutex // guards revoked
	revoked map[[2]string]revocation
}

type revocation struct {
	at         time.Time
	generation int
}

func (c *sessions) of(tenantID, userID string) (time.Time, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.revoked[[2]string{tenantID, userID}]
	return r.at, r.generation
}

func (c *sessions) revoke(tenantID, userID string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.revoked == nil {
		c.revoked = map[[2]string]revocation{}
	}
	key := [2]string{tenantID, userID}
	c.revoked[key] = revocation{now, c.revoked[key].generation + 1}
}

// RevokeSignInSessions makes all refresh tokens of a user worthless (50173), as
// the function of that name in Microsoft Graph does. tenant is a GUID or a
// domain, or empty for the only tenant; user is an object id or a user
// principal name. Access tokens live on.
func (s *Server) RevokeSignInSessions(tenant, user string) error {
	t, err := s.namedTenant(tenant)
	if err != nil {
		return fmt.Errorf("entratest: revoke sign-in sessions: %w", err)
	}
	u, ok := t.user(user)
	if !ok {
		return fmt.Errorf("entratest: revoke sign-in sessions: tenant %s has no user %q", t.ID, user)
	}
	s.sessions.revoke(t.ID, u.ObjectID, s.now())
	return nil
}
