package entratest

import "slices"

// clientCredentials issues an app-only token.
func (s *Server) clientCredentials(g *grant) (map[string]any, error) {
	if s.looping(g, "") {
		// App-only loops are throttled, unlike those of users, which get 50196.
		return nil, refuseLoop()
	}
	roles, err := rolesOf(g)
	if err != nil {
		return nil, err
	}
	if err := conditionalAccess(g, nil, nil); err != nil {
		return nil, err
	}
	if g.hostile.Code != 0 {
		return nil, refuseForced(g.hostile.Code)
	}
	t := s.appToken(g, roles)
	if path := g.form.Get("fmi_path"); path != "" {
		t.subject = agentSubject(g.tenant.ID, g.app.ClientID, path)
	}
	if g.hostile.DelegatedInstead || g.hostile.WrongGrant {
		t.user, t.roles, t.scopes = anyUser(g.tenant), nil, []string{"user_impersonation"}
	}
	// Never scope, client_info or id_token here: clients would file the token
	// under a user.
	return s.answer(g, t)
}

// rolesOf returns the roles of an app-only token, or why there is none.
func rolesOf(g *grant) ([]string, error) {
	resource := g.scope.resource
	path := g.form.Get("fmi_path")
	if g.app.kind != blueprintClient {
		if path != "" {
			return nil, refuse(90023, "fmi_path is only for agent identity blueprints")
		}
		roles := g.tenant.roles[g.app.ClientID][resource.ClientID]
		if resource.AssignmentRequired && len(roles) == 0 {
			return nil, refuse(501051, g.app.ClientID, g.app.Name, resource.ClientID, resource.Name)
		}
		return roles, nil
	}
	switch {
	case resource.ClientID == TokenExchangeResourceID && path != "":
		if !childPath(path) {
			return nil, refuse(90023, "fmi_path is malformed")
		}
		return nil, nil
	case resource.ClientID == graphClientID && path == "" && g.app.principal.CreateAsManager:
		return []string{roleCreateAsManager}, nil
	}
	return nil, refuse(82001, g.app.ClientID, resource.ClientID)
}

// appToken describes the app-only token of the request.
func (s *Server) appToken(g *grant, roles []string) accessToken {
	t := accessToken{
		tenant:     g.tenant,
		client:     g.app.ClientID,
		credential: g.credential,
		resource:   g.scope.resource,
		audience:   g.scope.audience,
		version:    g.scope.resource.TokenVersion,
		principal:  g.app.ObjectID,
		roles:      roles,
	}
	if g.app.kind == agentClient {
		t.blueprint = g.app.parent.ClientID
	}
	// Single-tenant applications get long-lived tokens for Graph and nothing else.
	s.setSpan(g, &t, g.app.kind == ordinaryClient && !g.app.MultiTenant && t.resource.ClientID == graphClientID)
	return t
}

// looping counts the request and says whether it is one too many.
func (s *Server) looping(g *grant, user string) bool {
	limit := g.hostile.LoopLimit
	parts := []string{g.tenant.ID, g.app.ClientID, user}
	for _, name := range []string{"grant_type", "scope", "claims", "fmi_path"} {
		parts = append(parts, g.form.Get(name))
	}
	return limit > 0 && g.hostile.loops.seen(s.cfg.Now(), parts...) > limit
}

// anyUser is a user of the tenant, or one who is in no directory.
func anyUser(t *tenant) *User {
	if i := slices.IndexFunc(t.Users, func(u User) bool { return !u.Disabled && u.AgentIdentity == "" }); i >= 0 {
		return &t.Users[i]
	}
	return &User{ObjectID: derivedGUID(t.ID, "nobody"), UserPrincipalName: "nobody@" + t.ID}
}
