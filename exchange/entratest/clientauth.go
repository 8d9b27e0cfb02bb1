package entratest

import (
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// authenticateClient has the client prove who it is. An assertion counts
// before a secret.
func (s *Server) authenticateClient(r *http.Request, tenantName string, g *grant) error {
	if g.app.Public {
		return refuse(700025, g.app.ClientID, g.app.Name)
	}
	raw := g.form.Get("client_assertion")
	if raw == "" {
		g.credential = credentialSecret
		return s.authenticateSecret(g)
	}
	g.credential = credentialAssertion
	u, ok := parseToken(raw)
	switch {
	case !ok:
		return refuse(50027)
	case g.app.kind == agentClient:
		return s.authenticateAgent(g, u)
	case canonicalGUID(u.claims.Issuer) != "":
		// The issuer of a workload token is a URL, that of a token which the
		// client signed itself is a client id.
		return s.authenticateCertificate(g, u, tenantName)
	}
	return s.authenticateFederated(r.Context(), g, u)
}

func (s *Server) authenticateSecret(g *grant) error {
	sent, expired := []byte(g.form.Get("client_secret")), false
	for _, c := range g.app.ClientSecrets {
		if subtle.ConstantTimeCompare(sent, []byte(c.Value)) != 1 {
			continue
		}
		if c.ExpiresAt.IsZero() || s.now().Before(c.ExpiresAt) {
			return nil
		}
		expired = true
	}
	if expired {
		return refuse(7000222, g.app.ClientID)
	}
	return refuse(7000215, g.app.ClientID)
}

// authenticateCertificate accepts or refuses an assertion that the client
// signed with the key of one of its certificates.
func (s *Server) authenticateCertificate(g *grant, u unverified, tenantName string) error {
	// 1. With which certificate?
	if u.alg != string(jose.RS256) && u.alg != string(jose.PS256) {
		return refuse(5002738, u.alg)
	}
	i := slices.IndexFunc(g.app.certificates, func(c clientCertificate) bool {
		short, long := thumbprint(u, "x5t"), thumbprint(u, "x5t#S256")
		return (short != "" || long != "") && (short == "" || short == c.x5t) && (long == "" || long == c.x5tS256)
	})
	if i < 0 {
		return refuse(700027, "The key was not found.")
	}
	c, now := g.app.certificates[i], s.now()
	if c.revoked {
		return refuse(7000214)
	}
	if now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return refuse(1000502)
	}
	// 2. Did its key sign the assertion?
	if !u.verify(c.PublicKey) {
		return refuse(700027, "The provided signature value did not match the expected signature value.")
	}
	// 3. Is it valid now, for this client and for this server?
	if err := s.checkTimes(u.claims); err != nil {
		return err
	}
	switch {
	case !strings.EqualFold(u.claims.Issuer, g.app.ClientID):
		return refuse(700021)
	case u.claims.Subject != u.claims.Issuer:
		return refuse(50048)
	}
	for _, aud := range u.claims.Audience {
		if aud == s.issuer(g.tenant.ID, 2) || aud == s.tokenURL(g.tenant.ID) || aud == s.tokenURL(tenantName) {
			return nil
		}
	}
	return refuse(700023)
}

// thumbprint reads a header that names a certificate. RFC 7515 wants base64url
// without padding; of Microsoft's own libraries some pad it and some send plain
// base64, and Entra takes them all.
func thumbprint(u unverified, header string) string {
	text, _ := u.token.Headers[0].ExtraHeaders[jose.HeaderKey(header)].(string)
	return strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(text), "=")
}

func (s *Server) tokenURL(tenantName string) string {
	return s.cfg.BaseURL + "/" + tenantName + "/oauth2/v2.0/token"
}

// authenticateAgent accepts or refuses the token with which a blueprint acts as
// an agent. No federated credential is stored for this: the agent trusts its
// parent, in its own tenant, and nobody else.
func (s *Server) authenticateAgent(g *grant, u unverified) error {
	if u.alg != string(jose.RS256) {
		return refuse(5002738, u.alg)
	}
	c := u.claims
	own := s.isOwnIssuer(c.Issuer)
	if own {
		if err := s.verifyOwn(u); err != nil {
			return err
		}
		if err := s.checkTimes(c); err != nil {
			return err
		}
	}
	expected := agentSubject(g.tenant.ID, g.app.parent.ClientID, g.app.ClientID)
	switch {
	case own && c.isUser():
		return refuse(700229)
	case c.Issuer != s.issuer(g.tenant.ID, 2):
		return refuse(700211, c.Issuer)
	case len(c.Audience) != 1 || c.Audience[0] != TokenExchangeResourceID:
		return refuse(700212, strings.Join(c.Audience, ","))
	case c.Subject == expected && c.AZP == g.app.parent.ClientID:
		return nil
	case c.Subject != expected && strings.EqualFold(c.Subject, expected):
		return refuse(7002138, c.Subject)
	}
	return refuse(7002137, c.Subject, expected)
}
