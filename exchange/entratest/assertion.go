package entratest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// allowedSkew is how far the clocks of an issuer and Entra may be apart.
const allowedSkew = 5 * time.Minute

const assertionTypeJWT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// parsable are the algorithms a token may name and still be called a token.
// Only RS256 is accepted in the end; the others get an error of their own.
var parsable = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.HS256, jose.HS384, jose.HS512, jose.EdDSA,
}

// tokenClaims are the claims of any token that comes in.
type tokenClaims struct {
	jwt.Claims
	TenantID string   `json:"tid"`
	ObjectID string   `json:"oid"`
	IDType   string   `json:"idtyp"`
	Scope    string   `json:"scp"`
	Roles    []string `json:"roles"`
	AppID    string   `json:"appid"`
	AZP      string   `json:"azp"`
	Methods  []string `json:"amr"`
}

// isUser says that a token was issued for a user.
func (c tokenClaims) isUser() bool { return c.Scope != "" || c.IDType == "user" }

// isIDToken recognises the id tokens of this server: they name no client.
func (c tokenClaims) isIDToken() bool { return c.AppID == "" && c.AZP == "" }

// unverified is a parsed token whose signature nobody has looked at.
type unverified struct {
	token  *jwt.JSONWebToken
	alg    string
	kid    string
	claims tokenClaims
}

// parseToken reads a compact JWT that has the claims every flow needs.
func parseToken(raw string) (unverified, bool) {
	tok, err := jwt.ParseSigned(raw, parsable)
	if err != nil || len(tok.Headers) != 1 {
		return unverified{}, false
	}
	u := unverified{token: tok, alg: tok.Headers[0].Algorithm, kid: tok.Headers[0].KeyID}
	if err := tok.UnsafeClaimsWithoutVerification(&u.claims); err != nil {
		return unverified{}, false
	}
	c := u.claims
	return u, c.Issuer != "" && c.Subject != "" && len(c.Audience) > 0 && c.Expiry != nil
}

// verify checks the signature with a key the caller trusts.
func (u unverified) verify(key any) bool { return u.token.Claims(key) == nil }

// authenticate accepts or refuses the client assertion of an application.
//
// The order is inferred, with one certainty: keys are only ever fetched from
// issuers that a federated credential names.
func (s *Server) authenticate(ctx context.Context, g *grant) (tokenClaims, error) {
	// 1. Is it a token at all, and signed with an algorithm that counts?
	u, ok := parseToken(g.form.Get("client_assertion"))
	if !ok {
		return tokenClaims{}, refuse(50027)
	}
	if u.alg != string(jose.RS256) {
		return tokenClaims{}, refuse(5002738, u.alg)
	}
	// 2. Did the issuer sign it?
	byIssuer := slices.DeleteFunc(slices.Clone(g.app.FederatedCredentials), func(c FederatedCredential) bool {
		return c.Issuer != u.claims.Issuer
	})
	own := s.isOwnIssuer(u.claims.Issuer)
	if err := s.verifyAssertion(ctx, u, own, len(byIssuer) > 0); err != nil {
		return tokenClaims{}, err
	}
	// 3. Is it valid now?
	if err := s.checkTimes(u.claims); err != nil {
		return tokenClaims{}, err
	}
	// 4. Does a federated credential trust it?
	return u.claims, matchCredential(g.app, u.claims, byIssuer, own)
}

func (s *Server) verifyAssertion(ctx context.Context, u unverified, own, trusted bool) error {
	switch {
	case own:
		key, ok := s.keys.find(u.kid)
		if !ok {
			return refuse(700027, "The key was not found.")
		}
		if !u.verify(key.private.Public()) {
			return refuse(700027, "The provided signature value did not match the expected signature value.")
		}
	case trusted:
		key, err := s.issuers.key(ctx, u.claims.Issuer, u.kid)
		if errors.Is(err, errUnknownKey) {
			return refuse(700027, "The key was not found.")
		}
		if err != nil {
			return refuse(50166)
		}
		if !u.verify(key.Key) {
			return refuse(700027, "The provided signature value did not match the expected signature value.")
		}
	}
	return nil
}

func (s *Server) isOwnIssuer(issuer string) bool {
	return strings.HasPrefix(issuer, v1Issuer) || strings.HasPrefix(issuer, s.cfg.BaseURL+"/")
}

func (s *Server) checkTimes(c tokenClaims) error {
	now := s.now()
	// A missing nbf or iat is the zero time, which is long ago.
	from := c.NotBefore.Time()
	if c.NotBefore == nil {
		from = c.IssuedAt.Time()
	}
	early := now.Add(allowedSkew)
	if now.After(c.Expiry.Time().Add(allowedSkew)) ||
		(c.NotBefore != nil && c.NotBefore.Time().After(early)) ||
		(c.IssuedAt != nil && c.IssuedAt.Time().After(early)) {
		return refuse(700024, timeText(now), timeText(from), timeText(c.Expiry.Time()))
	}
	return nil
}

// matchCredential finds the federated credential for verified claims. byIssuer
// are the application's credentials for the issuer of the claims.
func matchCredential(app *Application, c tokenClaims, byIssuer []FederatedCredential, own bool) error {
	switch {
	case own && c.isUser():
		return refuse(700229)
	case own && len(byIssuer) == 0:
		return refuse(700222)
	case len(app.FederatedCredentials) == 0:
		return refuse(70025, app.ClientID, app.Name)
	case len(byIssuer) == 0:
		return refuse(700211, c.Issuer)
	}
	byAudience := slices.DeleteFunc(byIssuer, func(f FederatedCredential) bool {
		// Entra's own tokens carry the GUID of the exchange resource.
		return !slices.Contains(c.Audience, f.Audience) &&
			!(own && f.Audience == TokenExchangeAudience && slices.Contains(c.Audience, TokenExchangeResourceID))
	})
	if len(byAudience) == 0 {
		return refuse(700212, strings.Join(c.Audience, ","))
	}
	almost := false
	for _, f := range byAudience {
		if f.Subject == c.Subject {
			return nil
		}
		almost = almost || strings.EqualFold(f.Subject, c.Subject)
	}
	if almost {
		return refuse(7002138, c.Subject)
	}
	return refuse(700213, c.Subject)
}
