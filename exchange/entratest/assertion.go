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
// Only RS256 is accepted in the end, and PS256 from clients that sign their
// assertions themselves; the others get an error of their own.
var parsable = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.HS256, jose.HS384, jose.HS512, jose.EdDSA,
}

// tokenClaims are the claims of any token that comes in.
type tokenClaims struct {
	jwt.Claims
	TenantID string   // tid
	ObjectID string   // oid
	IDType   string   // idtyp
	Scope    string   // scp
	Roles    []string // roles
	AppID    string   // appid
	AZP      string   // azp
	Methods  []string // amr
}

// read takes Entra's own claims from all of them. One of another type is left out:
// in the token of a foreign issuer such a name means something else.
func (c *tokenClaims) read(all map[string]any) {
	for name, to := range map[string]*string{"tid": &c.TenantID, "oid": &c.ObjectID, "idtyp": &c.IDType, "scp": &c.Scope, "appid": &c.AppID, "azp": &c.AZP} {
		*to, _ = all[name].(string)
	}
	for name, to := range map[string]*[]string{"roles": &c.Roles, "amr": &c.Methods} {
		list, _ := all[name].([]any)
		for _, item := range list {
			if text, ok := item.(string); ok {
				*to = append(*to, text)
			}
		}
	}
}

// isUser says that a token was issued for a user. That of an agent may have the
// scope "/", which is none.
func (c tokenClaims) isUser() bool {
	if c.IDType != "" {
		return c.IDType == "user"
	}
	return c.Scope != "" && c.Scope != "/"
}

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
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' }) {
		return unverified{}, false // a parser that skips white space would take it
	}
	tok, err := jwt.ParseSigned(raw, parsable)
	if err != nil || len(tok.Headers) != 1 {
		return unverified{}, false
	}
	u := unverified{token: tok, alg: tok.Headers[0].Algorithm, kid: tok.Headers[0].KeyID}
	var all map[string]any
	if err := tok.UnsafeClaimsWithoutVerification(&u.claims.Claims, &all); err != nil {
		return unverified{}, false
	}
	u.claims.read(all)
	c := u.claims
	return u, c.Issuer != "" && c.Subject != "" && len(c.Audience) > 0 && c.Expiry != nil
}

// all are the claims as they are, also those no flow needs.
func (u unverified) all() map[string]any {
	var all map[string]any
	if u.token.UnsafeClaimsWithoutVerification(&all) != nil {
		return nil
	}
	return all
}

// verify checks the signature with a key the caller trusts.
func (u unverified) verify(key any) bool { return u.token.Claims(key) == nil }

// authenticateFederated accepts or refuses the token of a workload.
//
// The order is inferred, with one certainty: keys are only ever fetched from
// issuers that a federated credential names.
func (s *Server) authenticateFederated(ctx context.Context, g *grant, u unverified) error {
	// 1. Is it signed with an algorithm that counts?
	if u.alg != string(jose.RS256) {
		return refuse(5002738, u.alg)
	}
	// 2. Did the issuer sign it?
	byIssuer := slices.DeleteFunc(slices.Clone(g.app.FederatedCredentials), func(c FederatedCredential) bool {
		return c.Issuer != u.claims.Issuer
	})
	own := s.isOwnIssuer(u.claims.Issuer)
	if own {
		if err := s.verifyOwn(u); err != nil {
			return err
		}
	} else if len(byIssuer) > 0 {
		if err := s.verifyForeign(ctx, u); err != nil {
			return err
		}
	}
	// 3. Is it valid now?
	if err := s.checkTimes(u.claims); err != nil {
		return err
	}
	// 4. Does a federated credential trust it?
	if own {
		if err := s.checkOwnToken(g.app, u.claims, byIssuer); err != nil {
			return err
		}
	}
	if err := matchCredential(g.app, u, byIssuer, own); err != nil {
		return err
	}
	if g.hostile.propagating(s.cfg.Now()) {
		return refuse(70021, u.claims.Issuer, u.claims.Subject, strings.Join(u.claims.Audience, ","))
	}
	return nil
}

// verifyOwn checks the signature of a token of this server.
func (s *Server) verifyOwn(u unverified) error {
	key, ok := s.keys.find(u.kid)
	if !ok {
		return refuse(700027, "The key was not found.")
	}
	if !u.verify(key.private.Public()) {
		return refuse(700027, "The provided signature value did not match the expected signature value.")
	}
	return nil
}

// verifyForeign checks the signature of a token of an issuer that a federated
// credential names.
func (s *Server) verifyForeign(ctx context.Context, u unverified) error {
	key, err := s.issuers.key(ctx, u.claims.Issuer, u.kid)
	switch {
	case errors.Is(err, errUnknownKey):
		return refuse(700027, "The key was not found.")
	case err != nil:
		return refuse(50166)
	case !u.verify(key.Key):
		return refuse(700027, "The provided signature value did not match the expected signature value.")
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

// eid1 begins the subjects of tokens that Entra issues to be assertions.
const eid1 = "/eid1/"

// checkOwnToken refuses the tokens of this server that may not be used as
// assertions: all but those of managed identities, which are no clients of any
// directory and prove applications of their own tenant only, and those with a
// subject made for it.
func (s *Server) checkOwnToken(app *client, c tokenClaims, byIssuer []FederatedCredential) error {
	if c.isUser() {
		return refuse(700229)
	}
	t, ok := s.tenants[c.TenantID]
	if !ok || len(byIssuer) == 0 {
		return refuse(700222)
	}
	if strings.HasPrefix(c.Subject, eid1) && c.AZP != "" {
		return nil
	}
	if _, isClient := t.apps[c.AZP]; c.AZP == "" || isClient {
		return refuse(700222)
	}
	if home, ok := t.apps[app.ClientID]; !ok || home.foreign {
		return refuse(700236, c.Issuer)
	}
	return nil
}

// matchCredential finds the federated credential for a verified token. byIssuer
// are the client's credentials for the issuer of the token.
func matchCredential(app *client, u unverified, byIssuer []FederatedCredential, own bool) error {
	c := u.claims
	switch {
	case len(app.FederatedCredentials) == 0:
		return refuse(70025, app.ClientID, app.Name)
	case len(byIssuer) == 0:
		return refuse(700211, c.Issuer)
	}
	byAudience := slices.DeleteFunc(byIssuer, func(f FederatedCredential) bool {
		// Entra's own tokens carry the GUID of the exchange resource.
		exchange := own && f.Audience == TokenExchangeAudience && slices.Contains(c.Audience, TokenExchangeResourceID)
		return !exchange && !slices.Contains(c.Audience, f.Audience)
	})
	if len(byAudience) == 0 {
		return refuse(700212, strings.Join(c.Audience, ","))
	}
	almost := false
	for _, f := range byAudience {
		if f.ClaimsMatchingExpression != nil {
			if f.ClaimsMatchingExpression.matches(u.all()) {
				return nil
			}
			continue
		}
		if f.Subject == c.Subject {
			return nil
		}
		almost = almost || strings.EqualFold(f.Subject, c.Subject)
	}
	switch {
	case almost:
		return refuse(7002138, c.Subject)
	case own && strings.HasPrefix(c.Subject, eid1):
		return refuse(7002137, c.Subject, c.Subject)
	}
	return refuse(700213, c.Subject)
}
