package entratest

// clientCredentials issues an app-only token.
func (s *Server) clientCredentials(g *grant) (map[string]any, error) {
	if s.looping(g, "") {
		// App-only loops are throttled, unlike those of users, which get 50196.
		return nil, refuseLoop()
	}
	resource := g.scope.resource
	roles := g.tenant.roles[g.app.ClientID][resource.ClientID]
	if resource.AssignmentRequired && len(roles) == 0 {
		return nil, refuse(501051, g.app.ClientID, g.app.Name, resource.ClientID, resource.Name)
	}
	if g.hostile.Code != 0 {
		return nil, refuseForced(g.hostile.Code)
	}
	t := s.appToken(g, roles)
	if g.hostile.DelegatedInstead || g.hostile.WrongGrant {
		t.user, t.roles, t.scopes = anyUser(g.tenant), nil, []string{"user_impersonation"}
	}
	// Never scope, client_info or id_token here: clients would file the token
	// under a user.
	return s.answer(g, t)
}

// appToken describes the app-only token of the request.
func (s *Server) appToken(g *grant, roles []string) accessToken {
	return accessToken{
		tenant:     g.tenant,
		client:     g.app.ClientID,
		credential: credentialAssertion,
		resource:   g.scope.resource,
		audience:   g.scope.audience,
		version:    g.scope.resource.TokenVersion,
		principal:  g.app.ObjectID,
		roles:      roles,
		span:       s.span(s.lifetime(g.hostile)),
	}
}

// looping counts the request and says whether it is one too many.
func (s *Server) looping(g *grant, user string) bool {
	limit := g.hostile.LoopLimit
	return limit > 0 && g.hostile.loops.seen(s.cfg.Now(),
		g.tenant.ID, g.app.ClientID, g.form.Get("grant_type"), g.form.Get("scope"), g.form.Get("claims"), user) > limit
}
