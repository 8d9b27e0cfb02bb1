package entratest

import (
	"cmp"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

const (
	grantClientCredentials = "client_credentials"
	grantJWTBearer         = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	grantRefreshToken      = "refresh_token"
	grantUserFIC           = "user_fic"

	maxForm = 256 << 10
)

// grant is one token request on its way through the endpoint.
type grant struct {
	hostile    *hostility
	form       url.Values
	tenant     *tenant
	app        *client
	credential string // how the client proved itself
	claims     claimsRequest
	scope      asked
	redeemed   refreshToken // of the grant refresh_token
}

func (g *grant) kind() string { return g.form.Get("grant_type") }

// tokenEndpoint reads the request, lets the Behavior have its way and serves
// the rest.
func (s *Server) tokenEndpoint(r *http.Request, tenantName string, rec *Request) reply {
	rec.Tenant = recordable(tenantName)
	g := &grant{hostile: s.hostility.Load()}
	var formErr error
	if r.Method == http.MethodPost {
		s.posts.Add(1)
		g.form, formErr = readForm(r)
		rec.Grant = recordable(g.form.Get("grant_type"))
		rec.ClientID = recordable(g.form.Get("client_id"))
		rec.Scope = recordable(g.form.Get("scope"))
	}
	if rep, done := g.hostile.intercept(r.Context()); done {
		return rep
	}
	members, err := s.token(r, tenantName, g, formErr, rec)
	if err != nil {
		return g.hostile.deform(s.refused(err, rec))
	}
	return g.hostile.deform(s.document(http.StatusOK, rec, members))
}

// token is the whole of the endpoint, in the order in which Entra is thought to
// look at a request. It returns the members of the answer.
func (s *Server) token(r *http.Request, tenantName string, g *grant, formErr error, rec *Request) (members map[string]any, err error) {
	// 1. Is it a request the endpoint takes?
	if r.Method != http.MethodPost {
		return nil, refuse(900561, r.Method)
	}
	if formErr != nil {
		return nil, formErr
	}
	// 2. For which tenant?
	if g.tenant, err = s.tenantOfGrant(tenantName, g.form, rec); err != nil {
		return nil, err
	}
	// 3. Which grant, and is everything there?
	if err = checkParameters(g.form); err != nil {
		return nil, err
	}
	if g.claims, err = parseClaimsRequest(g.form.Get("claims")); err != nil {
		return nil, err
	}
	// 4. Is the client known and able to prove it?
	if g.app, err = g.tenant.client(g.form.Get("client_id")); err != nil {
		return nil, err
	}
	if err = s.authenticateClient(r, tenantName, g); err != nil {
		return nil, err
	}
	// 5. What does it ask for?
	scope := g.form.Get("scope")
	if g.kind() == grantRefreshToken {
		if g.redeemed, err = s.openRefreshToken(g); err != nil {
			return nil, err
		}
		scope = cmp.Or(strings.TrimSpace(scope), g.redeemed.Scope)
	}
	if g.scope, err = parseScope(g.tenant, scope, g.kind() == grantClientCredentials); err != nil {
		return nil, err
	}
	// 6. The rules of the grant, and the answer.
	switch g.kind() {
	case grantClientCredentials:
		return s.clientCredentials(g)
	case grantRefreshToken:
		return s.refresh(g)
	case grantUserFIC:
		return s.userFIC(g)
	}
	return s.onBehalfOf(g)
}

// readForm reads the body. Parameters in the URL do not count.
func readForm(r *http.Request) (url.Values, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxForm))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, refuse(90023, "the request body is too large")
	}
	if err != nil {
		return nil, refuse(90023, "the request body could not be read")
	}
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		// Entra reads no form in it and misses the first parameter.
		return nil, refuse(900144, "grant_type")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, refuse(90023, "the request body is malformed")
	}
	for name, values := range form {
		if len(values) > 1 {
			return nil, refuse(9000411, name)
		}
	}
	return form, readBasic(r, form)
}

// readBasic puts the client id and secret of an Authorization header where
// those of a form would be.
func readBasic(r *http.Request, form url.Values) error {
	user, password, ok := r.BasicAuth()
	if !ok {
		return nil
	}
	// Both are form-encoded first (RFC 6749 section 2.3.1), which not every
	// client does.
	decoded := func(s string) string {
		if text, err := url.QueryUnescape(s); err == nil {
			return text
		}
		return s
	}
	id := decoded(user)
	if in := form.Get("client_id"); in != "" && !strings.EqualFold(in, id) {
		return refuse(90023, "the client_id of the Authorization header is another")
	}
	form.Set("client_id", id)
	if password != "" {
		form.Set("client_secret", decoded(password))
	}
	return nil
}

// tenantOfGrant refuses the shared names: an app-only or on-behalf-of token
// belongs to one tenant.
func (s *Server) tenantOfGrant(name string, form url.Values, rec *Request) (*tenant, error) {
	switch shared := strings.ToLower(name); shared {
	case "common", "consumers":
		rec.Tenant = shared
		return nil, refuse(9001023)
	case "organizations":
		rec.Tenant = shared
		return nil, refuse(50194, form.Get("client_id"), form.Get("client_id"))
	}
	return s.findTenant(name, rec)
}

// checkParameters refuses what is missing, in a fixed order.
func checkParameters(form url.Values) error {
	required := []string{"client_id", "scope"}
	switch kind := form.Get("grant_type"); kind {
	case "":
		return refuse(900144, "grant_type")
	case grantClientCredentials:
	case grantJWTBearer:
		required = append(required, "assertion", "requested_token_use")
	case grantRefreshToken:
		required = []string{"client_id", "refresh_token"} // without a scope it is the one of before
	case grantUserFIC:
		required = append(required, "user_federated_identity_credential")
	default:
		return refuse(70003, kind)
	}
	for _, name := range required {
		if strings.TrimSpace(form.Get(name)) == "" {
			return refuse(900144, name)
		}
	}
	if form.Get("grant_type") == grantUserFIC {
		switch name, id := form.Get("username"), form.Get("user_id"); {
		case name == "" && id == "":
			return refuse(900144, "username")
		case name != "" && id != "":
			return refuse(90023, "username and user_id exclude each other")
		}
	}
	if use := form.Get("requested_token_use"); use != "" && use != "on_behalf_of" {
		return refuse(90023, "requested_token_use is not on_behalf_of")
	}
	switch {
	case form.Get("client_assertion") != "":
		if form.Get("client_assertion_type") == "" {
			return refuse(900144, "client_assertion_type")
		}
		if form.Get("client_assertion_type") != assertionTypeJWT {
			return refuse(7000218)
		}
	case form.Get("client_secret") == "":
		return refuse(7000218)
	}
	return nil
}

// client finds a client that may sign in.
func (t *tenant) client(id string) (*client, error) {
	c, ok := t.apps[strings.ToLower(id)]
	if !ok {
		return nil, refuse(700016, id, t.ID)
	}
	// An agent is of no use without its blueprint.
	for _, it := range []*client{c, c.parent} {
		switch {
		case it == nil:
		case it.kind == blueprintClient && it.principal == nil:
			return nil, refuse(7000229, it.ClientID, t.ID)
		case it.Disabled || it.principal != nil && it.principal.Disabled:
			return nil, refuse(7000112, it.ClientID, it.Name)
		}
	}
	return c, nil
}
