package entratest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ManagedIdentityConfig configures the endpoints that Azure gives its workloads.
type ManagedIdentityConfig struct {
	// Server issues the tokens. Required.
	Server *Server
	// Tenant is a GUID or a domain. Empty: the only tenant of the directory.
	Tenant string
	// Identities are those assigned to the workload. At least one is required.
	Identities []ManagedIdentity
	// Secret is what the platform puts into IDENTITY_HEADER or MSI_SECRET.
	// Empty: a random one. IMDS, Arc and Cloud Shell have none.
	Secret string
	// KeyDir is the folder for the key files of NewArc, which needs one. The
	// real one is /var/opt/azcmagent/tokens, and clients insist on it.
	KeyDir string
	// Lifetime of the tokens. 0: 24 hours. A client caches a token for that
	// long, and none with less than five minutes to live.
	Lifetime time.Duration
	// LegacyDates makes NewAzureML write expires_on as "06/20/2019 02:57:58
	// +00:00", as this protocol version once did. Many clients cannot read it.
	LegacyDates bool
}

// identityFlavour is how one Azure platform wants to be asked and answers.
type identityFlavour struct {
	method      string
	paths       []string // lower case, without a slash at the end
	versions    []string // of the parameter api-version; nil: the parameter is ignored
	minVersion  string   // instead of versions: this date or a later one
	secret      string   // header with the secret
	metadata    bool     // the header Metadata: true is required
	notProxied  bool     // X-Forwarded-For is refused
	selectors   []string // parameters that name an identity
	failure     func(r *http.Request, status int, code, message string) reply
	answer      func(t identityAnswer) map[string]any
	environment func(e *PlatformEndpoint, baseURL string) map[string]string
}

// identityAnswer is a token before it has the shape of a platform.
type identityAnswer struct {
	token, resource string
	id              ManagedIdentity
	selected        bool // the request named the identity
	from, until     time.Time
	lifetime        time.Duration
}

// identityEndpoint serves one flavour.
type identityEndpoint struct {
	*PlatformEndpoint
	cfg     ManagedIdentityConfig
	flavour identityFlavour
	// challenge, when set, must accept the request before a token is given.
	challenge func(r *http.Request) (reply, bool)
}

func newIdentityEndpoint(cfg ManagedIdentityConfig, flavour identityFlavour) (*identityEndpoint, error) {
	var errs []error
	if cfg.Server == nil {
		return nil, errors.New("entratest: managed identity endpoint: Server is required")
	}
	if _, err := cfg.Server.namedTenant(cfg.Tenant); err != nil {
		errs = append(errs, err)
	}
	if len(cfg.Identities) == 0 {
		errs = append(errs, errors.New("at least one identity is required"))
	}
	for _, id := range cfg.Identities {
		if canonicalGUID(id.ClientID) == "" || canonicalGUID(id.PrincipalID) == "" {
			errs = append(errs, fmt.Errorf("identity %q: ClientID and PrincipalID must be GUIDs", id.ClientID))
		}
	}
	if cfg.Lifetime < 0 {
		errs = append(errs, fmt.Errorf("the lifetime %v is negative", cfg.Lifetime))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("entratest: managed identity endpoint: %w", err)
	}
	if cfg.Lifetime == 0 {
		cfg.Lifetime = 24 * time.Hour
	}
	e := &identityEndpoint{PlatformEndpoint: newPlatformEndpoint(cfg.Secret, cfg.Server.now), cfg: cfg, flavour: flavour}
	e.serve, e.environment = e.token, flavour.environment
	return e, nil
}

// token answers one request.
func (e *identityEndpoint) token(r *http.Request, rec *PlatformRequest) reply {
	fail := func(status int, code, message string) reply {
		rec.Error = code
		return e.flavour.failure(r, status, code, message)
	}
	// 1. Is it the endpoint? Some clients double a slash, some add one.
	if !slices.Contains(e.flavour.paths, identityPath(r.URL.Path)) {
		return fail(http.StatusNotFound, "not_found", "No endpoint has this path")
	}
	if r.Method != e.flavour.method {
		rep := fail(http.StatusMethodNotAllowed, "method_not_allowed", "The method is not allowed")
		rep.header.Set("Allow", e.flavour.method)
		return rep
	}
	// 2. Does it come from the workload itself?
	if e.flavour.notProxied && r.Header.Get("X-Forwarded-For") != "" {
		return fail(http.StatusBadRequest, "invalid_request", "A forwarded request is not answered")
	}
	if e.flavour.metadata && !strings.EqualFold(r.Header.Get("Metadata"), "true") {
		return fail(http.StatusBadRequest, "bad_request_102", "Required metadata header not specified")
	}
	if e.flavour.secret != "" && r.Header.Get(e.flavour.secret) == "" {
		return fail(http.StatusUnauthorized, "SecretHeaderNotFound", "The request has no header "+e.flavour.secret)
	}
	if e.flavour.secret != "" && !e.knows(r.Header.Get(e.flavour.secret)) {
		return fail(http.StatusUnauthorized, "unknown_source", "The header "+e.flavour.secret+" is wrong")
	}
	// 3. What does it ask for, and for which identity?
	query, err := e.parameters(r)
	if err != nil {
		return fail(http.StatusBadRequest, "invalid_request", "The parameters are malformed")
	}
	rec.Audience = query.Get("resource")
	if !e.flavour.takesVersion(query.Get("api-version")) {
		return fail(http.StatusBadRequest, "InvalidApiVersion", "The api-version is missing or not supported")
	}
	if rec.Audience == "" {
		return fail(http.StatusBadRequest, "invalid_request", "Required query variable 'resource' is missing")
	}
	id, selected, problem := e.choose(query, rec)
	if problem != "" {
		return fail(http.StatusBadRequest, "invalid_request", problem)
	}
	if e.challenge != nil {
		if rep, done := e.challenge(r); done {
			return rep
		}
	}
	// 4. The token.
	return e.issue(identityAnswer{resource: rec.Audience, id: id, selected: selected, lifetime: e.cfg.Lifetime}, fail)
}

func (e *identityEndpoint) issue(t identityAnswer, fail func(int, string, string) reply) reply {
	var err error
	t.token, err = e.cfg.Server.ManagedIdentityToken(e.cfg.Tenant, t.id, t.resource, t.lifetime)
	switch {
	case errors.Is(err, errNoResource):
		return fail(http.StatusBadRequest, "invalid_resource", "AADSTS500011: The resource principal named "+t.resource+" was not found in the tenant.")
	case err != nil:
		return fail(http.StatusInternalServerError, "unknown", "The token could not be issued")
	}
	span := e.cfg.Server.span(t.lifetime)
	t.from, t.until = span.from, span.until
	return jsonReply(http.StatusOK, e.flavour.answer(t))
}

// identityPath brings a path into the form of identityFlavour.paths. Only the
// first segment is case-insensitive on the real IMDS.
func identityPath(path string) string {
	var parts []string
	for part := range strings.SplitSeq(path, "/") {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if len(parts) > 0 {
		parts[0] = strings.ToLower(parts[0])
	}
	return "/" + strings.Join(parts, "/")
}

// parameters are in the URL, or in the form of a POST.
func (e *identityEndpoint) parameters(r *http.Request) (url.Values, error) {
	if e.flavour.method != http.MethodPost {
		return url.ParseQuery(r.URL.RawQuery)
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxForm))
	if err != nil {
		return nil, err
	}
	return url.ParseQuery(string(body))
}

func (f identityFlavour) takesVersion(version string) bool {
	if f.minVersion != "" {
		_, err := time.Parse(time.DateOnly, version)
		return err == nil && version >= f.minVersion
	}
	return f.versions == nil || slices.Contains(f.versions, version)
}

// choose finds the identity the request names, and never another one. Or it says
// what is wrong, in the platform's words.
func (e *identityEndpoint) choose(query url.Values, rec *PlatformRequest) (id ManagedIdentity, selected bool, problem string) {
	var by string
	for _, name := range e.flavour.selectors {
		value := query.Get(name)
		switch {
		case value == "":
		case by != "":
			return id, false, "Only one of client_id, object_id and msi_res_id may be given"
		default:
			by, rec.Identity = name, value
		}
	}
	if by == "" {
		id, problem = e.onlyIdentity()
		return id, false, problem
	}
	for _, id := range e.cfg.Identities {
		value := id.ResourceID
		switch by {
		case "client_id", "clientid":
			value = id.ClientID
		case "object_id", "principal_id", "principalId":
			value = id.PrincipalID
		}
		if value != "" && strings.EqualFold(value, rec.Identity) {
			return id, true, ""
		}
	}
	return id, false, "Identity not found"
}

func (e *identityEndpoint) onlyIdentity() (id ManagedIdentity, problem string) {
	for _, id := range e.cfg.Identities {
		if id.SystemAssigned {
			return id, ""
		}
	}
	if len(e.cfg.Identities) > 1 {
		return ManagedIdentity{}, "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"
	}
	return e.cfg.Identities[0], ""
}

// seconds and epoch are numbers as Azure sends them: in strings.
func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }
func epoch(t time.Time) string       { return strconv.FormatInt(t.Unix(), 10) }
