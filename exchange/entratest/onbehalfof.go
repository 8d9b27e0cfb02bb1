package entratest

import (
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// onBehalfOf issues a user's token for another resource to the application
// that was itself the audience of a user's token.
func (s *Server) onBehalfOf(g *grant) (map[string]any, error) {
	// 1. Is the assertion a user's access token for this application?
	c, err := s.checkUserAssertion(g)
	if err != nil {
		return nil, err
	}
	// 2. What every grant for a user does.
	return s.delegated(g, c.ObjectID, c.Methods)
}

// delegated issues a token for a user who has proven to be one, by signing in
// somewhere with these methods or by acting through an agent.
func (s *Server) delegated(g *grant, userID string, methods []string) (map[string]any, error) {
	resource := g.scope.resource
	if g.app.kind == blueprintClient {
		return nil, refuse(82001, g.app.ClientID, resource.ClientID)
	}
	// 1. Does the user still exist?
	u, ok := g.tenant.user(userID)
	if !ok {
		return nil, refuse(50034, userID, g.tenant.ID)
	}
	if u.Disabled {
		return nil, refuse(50057)
	}
	// 2. Has somebody consented, and is the user assigned?
	granted, err := consented(g)
	if err != nil {
		return nil, err
	}
	if resource.AssignmentRequired && !resource.assigned(u) {
		return nil, refuse(50105, resource.Name, resource.ClientID, u.UserPrincipalName)
	}
	// 3. Do policies allow it?
	if s.looping(g, u.ObjectID) {
		return nil, refuse(50196)
	}
	if err := conditionalAccess(g, u, methods); err != nil {
		return nil, err
	}
	if err := authenticationContext(g, methods); err != nil {
		return nil, err
	}
	if g.hostile.RequireMFA && u.AgentIdentity == "" && !slices.Contains(methods, "mfa") {
		return nil, refuse(50076, resource.ClientID)
	}
	if g.hostile.Code != 0 {
		return nil, refuseForced(g.hostile.Code)
	}
	// 4. The answer.
	return s.answerUser(g, u, granted, methods)
}

// assigned says whether a user may have tokens for a resource that requires
// assignment.
func (r *Resource) assigned(u *User) bool {
	return slices.ContainsFunc(r.Assigned, func(name string) bool {
		return strings.EqualFold(name, u.ObjectID) || strings.EqualFold(name, u.UserPrincipalName) ||
			slices.ContainsFunc(u.Groups, func(id string) bool { return strings.EqualFold(name, id) })
	})
}

// checkUserAssertion applies the rules for the incoming token, in an order
// that is inferred.
func (s *Server) checkUserAssertion(g *grant) (tokenClaims, error) {
	u, ok := parseToken(g.form.Get("assertion"))
	if !ok {
		return tokenClaims{}, refuse(50013, "The assertion is malformed.")
	}
	key, known := s.keys.find(u.kid)
	switch {
	case !known || u.alg != string(jose.RS256):
		return tokenClaims{}, refuse(50013, "The key was not found.")
	case !u.verify(key.private.Public()):
		return tokenClaims{}, refuse(50013, "The provided signature value did not match the expected signature value.")
	}
	c := u.claims
	if c.Issuer != s.issuer(g.tenant.ID, 1) && c.Issuer != s.issuer(g.tenant.ID, 2) {
		return tokenClaims{}, refuse(50013, "The assertion was issued in another tenant.")
	}
	if c.isIDToken() {
		return tokenClaims{}, refuse(240002)
	}
	// The user signed in to an agent's blueprint, not to the agent.
	api := g.app.audience()
	if r, ok := g.tenant.resource(c.Audience[0]); !ok || len(c.Audience) != 1 || r.ClientID != api.ClientID {
		if ok && r.Name == "Microsoft Graph" {
			// Graph's tokens cannot be verified by anyone else, and so fail earlier.
			return tokenClaims{}, refuse(50013, "The provided signature value did not match the expected signature value.")
		}
		return tokenClaims{}, refuse(500131, strings.Join(c.Audience, ","), api.ClientID, api.ClientID, api.Name)
	}
	now := s.now()
	if now.After(c.Expiry.Time().Add(allowedSkew)) || (c.NotBefore != nil && c.NotBefore.Time().After(now.Add(allowedSkew))) {
		return tokenClaims{}, refuse(500133, timeText(now), timeText(c.Expiry.Time()))
	}
	if !c.isUser() {
		return tokenClaims{}, refuse(7000114, g.app.ClientID)
	}
	return c, nil
}

// consented returns the scopes of the token: all that were consented for
// .default, else those that were asked for.
func consented(g *grant) ([]string, error) {
	all := g.tenant.consented(g.app, g.scope.resource)
	if len(all) == 0 {
		return nil, refuse(65001, g.app.ClientID, g.app.Name)
	}
	var granted []string
	for _, name := range g.scope.names {
		i := slices.IndexFunc(all, sameScope(name))
		if i < 0 {
			return nil, refuse(65001, g.app.ClientID, g.app.Name)
		}
		granted = append(granted, all[i])
	}
	if g.scope.def || g.hostile.AllConsentedScopes {
		return all, nil
	}
	return granted, nil
}

// answerUser adds what a delegated answer has beyond the token itself.
func (s *Server) answerUser(g *grant, u *User, granted, methods []string) (map[string]any, error) {
	t := s.appToken(g, nil)
	t.user, t.scopes = u, granted
	if slices.Contains(methods, "mfa") {
		t.methods = []string{"mfa"}
		t.contexts = g.claims.contexts()
	}
	s.setSpan(g, &t, true)
	issued := t
	if g.hostile.WrongGrant {
		issued = s.appToken(g, g.tenant.roles[g.app.ClientID][g.scope.resource.ClientID])
	}
	members, err := s.answer(g, issued)
	if err != nil {
		return nil, err
	}
	members["scope"] = strings.Join(echoed(g.scope, granted), " ")
	if g.scope.openID {
		if members["id_token"], err = s.sign(s.idToken(t)); err != nil {
			return nil, err
		}
	}
	if g.scope.offline || g.kind() == grantRefreshToken {
		if members["refresh_token"], err = s.newRefreshToken(g, u, methods); err != nil {
			return nil, err
		}
	}
	if g.form.Get("client_info") == "1" {
		members["client_info"] = clientInfo(u, g.tenant)
	}
	return members, nil
}

// echoed is the scope member: everything asked for, as it was asked for, and
// the full names of what else was granted. Clients take a missing one for a
// refusal.
func echoed(a asked, granted []string) []string {
	var scopes []string
	for _, sent := range a.sent {
		// Entra grants offline_access by sending a refresh token, not by naming it.
		if !strings.EqualFold(sent, "offline_access") {
			scopes = append(scopes, sent)
		}
	}
	for _, name := range granted {
		if !slices.ContainsFunc(a.names, sameScope(name)) {
			scopes = append(scopes, strings.TrimSuffix(a.audience, "/")+"/"+name)
		}
	}
	return scopes
}
