package entratest

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
)

// UserTokenRequest describes the token a user's sign-in at a front end would
// have produced for an API of the directory.
type UserTokenRequest struct {
	// Tenant is a GUID or a domain. Empty: the only tenant of the directory.
	Tenant string
	// User is an object id or a user principal name. Required.
	User string
	// Audience is the client id or an identifier URI of the API: our
	// application, whose on-behalf-of request will present the token. Required.
	Audience string
	// Client is the client id the token is issued to (azp, appid). Empty: the
	// audience itself, as when a single application is both.
	Client string
	// Scopes are the values of scp. Empty: access_as_user.
	Scopes []string
	// Roles are the user's app roles.
	Roles []string
	// Lifetime of the token. 0: like any other token of the server. Negative:
	// it expired that long ago.
	Lifetime time.Duration
	// Version of the token, 1 or 2. 0: what the API wants.
	Version int
	// MFA says that the user signed in with more than a password.
	MFA bool
	// IDToken makes an id token instead, which no API should accept.
	IDToken bool
	// Claims are set last, for tokens that Entra would never issue. A nil value
	// removes the claim.
	Claims map[string]any
}

// UserToken signs a user's token as described. It needs no request, and the
// user may be disabled: the token may be older than that. An agent user cannot
// sign in.
func (s *Server) UserToken(req UserTokenRequest) (string, error) {
	t, err := s.describeUserToken(req)
	if err != nil {
		return "", fmt.Errorf("entratest: user token: %w", err)
	}
	claims := s.claims(t)
	if req.IDToken {
		claims = s.idToken(t)
	}
	for name, value := range maps.All(req.Claims) {
		if value == nil {
			delete(claims, name)
			continue
		}
		claims[name] = value
	}
	token, err := s.sign(claims)
	if err != nil {
		return "", fmt.Errorf("entratest: user token: %w", err)
	}
	return token, nil
}

func (s *Server) describeUserToken(req UserTokenRequest) (accessToken, error) {
	tn, err := s.namedTenant(req.Tenant)
	if err != nil {
		return accessToken{}, err
	}
	u, ok := tn.user(req.User)
	if !ok {
		return accessToken{}, fmt.Errorf("tenant %s has no user %q", tn.ID, req.User)
	}
	if u.AgentIdentity != "" {
		return accessToken{}, fmt.Errorf("user %q is an agent user, who cannot sign in: use the grant user_fic", req.User)
	}
	r, ok := tn.resource(req.Audience)
	if !ok {
		return accessToken{}, fmt.Errorf("tenant %s has no application or resource %q", tn.ID, req.Audience)
	}
	t := accessToken{
		tenant:     tn,
		user:       u,
		resource:   r,
		audience:   req.Audience,
		client:     r.ClientID,
		credential: credentialSecret,
		version:    r.TokenVersion,
		scopes:     []string{"access_as_user"},
		roles:      req.Roles,
	}
	if req.Client != "" {
		if t.client = canonicalGUID(req.Client); t.client == "" {
			return accessToken{}, fmt.Errorf("client %q is not a GUID", req.Client)
		}
	}
	if len(req.Scopes) > 0 {
		t.scopes = req.Scopes
	}
	switch req.Version {
	case 0:
	case 1, 2:
		t.version = req.Version
	default:
		return accessToken{}, fmt.Errorf("version %d is neither 1 nor 2", req.Version)
	}
	if req.MFA {
		t.methods = []string{"mfa"}
	}
	lifetime := req.Lifetime
	if lifetime == 0 {
		lifetime = s.lifetime(s.hostility.Load())
	}
	t.span = s.span(lifetime)
	return t, nil
}

func (s *Server) namedTenant(name string) (*tenant, error) {
	if name != "" {
		t, ok := s.tenants[strings.ToLower(name)]
		if !ok {
			return nil, fmt.Errorf("there is no tenant %q", name)
		}
		return t, nil
	}
	if len(s.cfg.Directory.Tenants) != 1 {
		return nil, errors.New("the directory has several tenants: name one")
	}
	return s.tenants[strings.ToLower(s.cfg.Directory.Tenants[0].ID)], nil
}
