package entratest

import (
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// userFIC issues an agent user's token to its agent identity, which proves
// itself with its blueprint's token and brings its own as the user's.
func (s *Server) userFIC(g *grant) (map[string]any, error) {
	if g.app.kind != agentClient {
		return nil, refuse(70003, grantUserFIC)
	}
	if err := s.checkUserCredential(g); err != nil {
		return nil, err
	}
	// A name is no id and an id is no name, although the directory has both.
	id := canonicalGUID(g.form.Get("user_id"))
	if name := g.form.Get("username"); canonicalGUID(name) == "" && name != "" {
		id = name
	}
	u, ok := g.tenant.user(id)
	if !ok {
		return nil, refuse(50034, g.form.Get("username")+g.form.Get("user_id"), g.tenant.ID)
	}
	if u.AgentIdentity != g.app.ClientID {
		return nil, refuse(700213, g.app.ClientID)
	}
	return s.delegated(g, u.ObjectID, nil)
}

// checkUserCredential accepts or refuses the agent identity's own token for the
// exchange. Which codes Entra has for this is not public.
func (s *Server) checkUserCredential(g *grant) error {
	u, ok := parseToken(g.form.Get("user_federated_identity_credential"))
	if !ok {
		return refuse(50013, "The assertion is malformed.")
	}
	key, known := s.keys.find(u.kid)
	switch {
	case !known || u.alg != string(jose.RS256):
		return refuse(50013, "The key was not found.")
	case !u.verify(key.private.Public()):
		return refuse(50013, "The provided signature value did not match the expected signature value.")
	}
	c, now := u.claims, s.now()
	switch {
	case c.Issuer != s.issuer(g.tenant.ID, 2):
		return refuse(50013, "The assertion was issued in another tenant.")
	case c.isUser():
		return refuse(700229)
	case len(c.Audience) != 1 || c.Audience[0] != TokenExchangeResourceID:
		return refuse(500131, strings.Join(c.Audience, ","), TokenExchangeResourceID, g.app.ClientID, g.app.Name)
	case now.After(c.Expiry.Time().Add(allowedSkew)):
		return refuse(500133, timeText(now), timeText(c.Expiry.Time()))
	case c.Subject != g.app.ClientID || c.AZP != g.app.ClientID:
		return refuse(7002137, c.Subject, g.app.ClientID)
	}
	return nil
}
