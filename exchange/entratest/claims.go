package entratest

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// How a client proved itself, for appidacr and azpacr.
const (
	credentialSecret    = "1"
	credentialAssertion = "2"
)

// maxGroups is how many groups fit into a JWT before the claim is replaced.
const maxGroups = 200

// accessToken describes a token before it is signed. user is nil for app-only
// tokens.
type accessToken struct {
	tenant     *tenant
	client     string // client id the token is issued to
	credential string
	resource   *Resource
	audience   string // aud of v1 tokens
	version    int
	principal  string // object id of the service principal
	user       *User
	scopes     []string
	roles      []string
	methods    []string // amr
	span       span
	// subject is sub where it is not the principal: when a blueprint acts as
	// one of its agents.
	subject string
	// blueprint is the parent of the client, when that is an agent identity.
	blueprint    string
	capabilities []string // xms_cc
	contexts     []string // acrs
	refreshIn    time.Duration
}

// span is the time in which a token is valid; lifetime is what is left of it
// when it is issued.
type span struct {
	from, until time.Time
	lifetime    time.Duration
}

// span dates tokens back five minutes, as Entra does for the benefit of
// resources whose clocks are late.
func (s *Server) span(lifetime time.Duration) span {
	now := s.now()
	if lifetime < 0 {
		return span{from: now.Add(lifetime - time.Hour), until: now.Add(lifetime), lifetime: lifetime}
	}
	return span{from: now.Add(-allowedSkew), until: now.Add(lifetime), lifetime: lifetime}
}

func (s *Server) lifetime(h *hostility) time.Duration {
	if fixed := cmp.Or(h.Lifetime, s.cfg.TokenLifetime); fixed != 0 {
		return fixed
	}
	return time.Hour + rand.N(30*time.Minute).Truncate(time.Second)
}

// setSpan dates the token. Where access is evaluated continuously and the
// client can handle the challenges that come of it, a token of somebody
// eligible lives for about a day; an explicit lifetime wins. A claims request
// for nbf gets a token that says it was issued since.
func (s *Server) setSpan(g *grant, t *accessToken, eligible bool) {
	lifetime := s.lifetime(g.hostile)
	if t.resource.ContinuousAccess && g.claims.handlesChallenges() {
		t.capabilities = g.claims.capabilities()
		if eligible && cmp.Or(g.hostile.Lifetime, s.cfg.TokenLifetime) == 0 {
			lifetime = 24 * time.Hour
			if t.user != nil {
				lifetime = 20*time.Hour + rand.N(8*time.Hour).Truncate(time.Second)
			}
			t.refreshIn = lifetime / 2
		}
	}
	t.span = s.span(lifetime)
	if asked := g.claims.notBefore(); asked.After(t.span.from) && asked.Before(t.span.until) && !asked.After(s.now()) {
		t.span.from = asked
	}
}

// claims are those of §1.6 of the protocol: the resource decides the format.
func (s *Server) claims(t accessToken) map[string]any {
	c := map[string]any{
		"aud":     t.resource.ClientID,
		"iss":     s.issuer(t.tenant.ID, t.version),
		"iat":     t.span.from.Unix(),
		"nbf":     t.span.from.Unix(),
		"exp":     t.span.until.Unix(),
		"aio":     randomText(36),
		"rh":      "1." + randomText(24) + ".",
		"tid":     t.tenant.ID,
		"uti":     randomText(16),
		"xms_ftd": randomText(33),
	}
	if t.version == 1 {
		c["aud"], c["ver"] = t.audience, "1.0"
		c["appid"], c["appidacr"] = t.client, t.credential
		c["idp"] = c["iss"]
	} else {
		c["ver"] = "2.0"
		c["azp"], c["azpacr"] = t.client, t.credential
	}
	if len(t.roles) > 0 {
		c["roles"] = t.roles
	}
	if len(t.capabilities) > 0 {
		c["xms_cc"] = t.capabilities
	}
	if t.user == nil {
		c["idtyp"], c["oid"], c["sub"] = "app", t.principal, cmp.Or(t.subject, t.principal)
	} else {
		s.addUserClaims(c, t)
	}
	addAgentClaims(c, t)
	return c
}

func (s *Server) addUserClaims(c map[string]any, t accessToken) {
	u := t.user
	c["idtyp"], c["oid"], c["sub"] = "user", u.ObjectID, pairwise(u.ObjectID, t.resource.ClientID)
	c["scp"] = strings.Join(t.scopes, " ")
	c["amr"] = append([]string{"pwd"}, t.methods...)
	c["acct"] = 0
	if u.DisplayName != "" {
		c["name"] = u.DisplayName
	}
	if t.version == 1 {
		c["upn"], c["unique_name"], c["acr"] = u.UserPrincipalName, u.UserPrincipalName, "1"
	} else {
		c["preferred_username"] = u.UserPrincipalName
	}
	if u.Guest {
		c["acct"] = 1
		c["idp"] = v1Issuer + derivedGUID("home tenant", u.ObjectID) + "/"
	}
	if len(t.contexts) > 0 {
		c["acrs"] = t.contexts
	}
	if u.AgentIdentity != "" {
		c["sub"] = u.ObjectID
		delete(c, "amr") // there is nothing to sign in with
	}
	addGroups(c, u, t.tenant.memberships(u.ObjectID))
}

func addGroups(c map[string]any, u *User, groups []string) {
	switch {
	case len(groups) == 0:
	case len(groups) <= maxGroups:
		c["groups"] = groups
	default:
		c["_claim_names"] = map[string]string{"groups": "src1"}
		c["_claim_sources"] = map[string]any{"src1": map[string]string{
			"endpoint": graphURI + "/v1.0/users/" + u.ObjectID + "/getMemberObjects",
		}}
	}
}

// idToken makes the claims of an id token for the client of t.
func (s *Server) idToken(t accessToken) map[string]any {
	return map[string]any{
		"aud":                t.client,
		"iss":                s.issuer(t.tenant.ID, 2),
		"iat":                t.span.from.Unix(),
		"nbf":                t.span.from.Unix(),
		"exp":                t.span.until.Unix(),
		"aio":                randomText(36),
		"name":               t.user.DisplayName,
		"oid":                t.user.ObjectID,
		"preferred_username": t.user.UserPrincipalName,
		"rh":                 "1." + randomText(24) + ".",
		"sub":                pairwise(t.user.ObjectID, t.client),
		"tid":                t.tenant.ID,
		"uti":                randomText(16),
		"ver":                "2.0",
	}
}

// sign signs claims with the current key. Only v1 tokens carry x5t.
func (s *Server) sign(claims map[string]any) (string, error) {
	key, err := s.keys.current()
	if err != nil {
		return "", err
	}
	headers := map[jose.HeaderKey]any{"typ": "JWT"}
	if claims["ver"] == "1.0" {
		headers["x5t"] = key.id
	}
	return key.sign(claims, headers)
}

// answer makes the members that every successful answer has.
func (s *Server) answer(g *grant, t accessToken) (map[string]any, error) {
	token, err := s.sign(s.claims(t))
	if err != nil {
		return nil, err
	}
	number := func(d time.Duration) any {
		seconds := max(0, int64(d/time.Second))
		if g.hostile.ExpiresInAsString {
			return strconv.FormatInt(seconds, 10)
		}
		return seconds
	}
	// One second less than exp says, because time passes on the way.
	left := t.span.lifetime - time.Second
	members := map[string]any{
		"token_type":     "Bearer",
		"expires_in":     number(left),
		"ext_expires_in": number(left),
		"access_token":   token,
		// A client must ignore what it does not know. It is no object, because
		// one of Microsoft's own libraries loses what follows an unknown object.
		"x_unknown_" + randomText(3): []any{"ignore me", 1, nil},
	}
	if refreshIn := cmp.Or(g.hostile.RefreshIn, t.refreshIn); refreshIn > 0 {
		members["refresh_in"] = number(refreshIn)
	}
	return members, nil
}

// clientInfo names the user's home account.
func clientInfo(u *User, t *tenant) string {
	doc, err := json.Marshal(map[string]string{"uid": u.ObjectID, "utid": t.ID})
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(doc)
}
