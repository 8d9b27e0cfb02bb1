package entratest

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Config configures a Server.
type Config struct {
	// BaseURL is the https origin that clients reach, such as
	// "https://127.0.0.1:8443". It is the authority and the first part of the
	// v2 issuer. Required, without a path.
	BaseURL string
	// Directory holds the tenants. At least one is required.
	Directory Directory
	// HTTPClient fetches the discovery documents and keys of federated issuers.
	// Nil: a client with a timeout of ten seconds.
	HTTPClient *http.Client
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// TokenLifetime is how long tokens live. 0: 60 to 90 minutes at random, as
	// Entra does.
	TokenLifetime time.Duration
}

// Server is an emulated Entra ID. It is an http.Handler, safe for concurrent
// use, and starts nothing in the background.
type Server struct {
	cfg       Config
	tenants   index
	keys      *keyring
	issuers   *issuerKeys
	requests  recorder
	posts     atomic.Int64
	hostility atomic.Pointer[hostility]
	sealer    cipher.AEAD // of refresh tokens
	sessions  sessions
	challenge atomic.Pointer[claimsChallenge] // of the API
}

// New makes a well-behaved Server. The error joins everything wrong with cfg.
func New(cfg Config) (*Server, error) {
	base, baseErr := origin(cfg.BaseURL)
	tenants, dirErr := indexDirectory(cfg.Directory)
	var lifeErr error
	if cfg.TokenLifetime < 0 {
		lifeErr = fmt.Errorf("TokenLifetime is negative: %v", cfg.TokenLifetime)
	}
	if err := errors.Join(baseErr, dirErr, lifeErr); err != nil {
		return nil, fmt.Errorf("entratest: %w", err)
	}
	cfg.BaseURL = base
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = &http.Client{Timeout: 10 * time.Second}
	}
	sealer, err := newSealer()
	if err != nil {
		return nil, fmt.Errorf("entratest: %w", err)
	}
	s := &Server{
		cfg:     cfg,
		tenants: tenants,
		keys:    newKeyring(newEntraKey, cfg.Now),
		issuers: newIssuerKeys(cfg.HTTPClient, cfg.Now),
		sealer:  sealer,
	}
	s.SetBehavior(Behavior{})
	return s, nil
}

// origin checks and returns scheme://host of a base URL.
func origin(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("BaseURL: %w", err)
	}
	if u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("BaseURL %q is not an https origin without a path", raw)
	}
	return "https://" + strings.ToLower(u.Host), nil
}

// RotateKeys makes a new signing key. Earlier keys stay published, so that
// tokens signed with them can still be verified; only the newest five do.
func (s *Server) RotateKeys() { s.keys.rotate() }

// TokenRequests is the number of POSTs to token endpoints since New, whatever
// became of them.
func (s *Server) TokenRequests() int { return int(s.posts.Load()) }

// Requests returns what was asked since New, newest last. Only the last 10,000
// are kept. Nothing in it is secret.
func (s *Server) Requests() []Request { return s.requests.all() }

// now is the server's own idea of the time.
func (s *Server) now() time.Time {
	return s.cfg.Now().Add(s.hostility.Load().ClockSkew)
}

// reply is an answer before it is written.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// ServeHTTP answers the endpoints of every tenant of the directory.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := s.newRequest(r)
	rep := s.route(r, rec)
	rec.Status = rep.status
	s.requests.add(*rec)

	maps.Copy(w.Header(), rep.header)
	s.setCommonHeaders(w.Header(), r)
	w.Header().Set("Content-Length", strconv.Itoa(len(rep.body)))
	w.WriteHeader(rep.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(rep.body) // the client may be gone, which is its right
	}
}

// route finds the endpoint. The tenant is part of the path, and so it must be
// split before unescaping: a tenant cannot smuggle in further segments.
func (s *Server) route(r *http.Request, rec *Request) reply {
	tenantName, endpoint, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	tenantName, err := url.PathUnescape(tenantName)
	if err != nil {
		return notFound()
	}
	if endpoint == "oauth2/v2.0/token" {
		return s.tokenEndpoint(r, tenantName, rec)
	}
	if endpoint == "oauth2/v2.0/authorize" || endpoint == "oauth2/v2.0/devicecode" {
		return s.interactive(r, tenantName, rec)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return reply{status: http.StatusMethodNotAllowed, header: http.Header{"Allow": {"GET, HEAD"}}}
	}
	switch endpoint {
	case "discovery/instance":
		if tenantName != "common" {
			return notFound()
		}
		return s.instanceDiscovery(r, rec)
	case "v2.0/.well-known/openid-configuration":
		return s.metadata(r, tenantName, 2, rec)
	case ".well-known/openid-configuration":
		return s.metadata(r, tenantName, 1, rec)
	case "discovery/v2.0/keys":
		return s.jwks(r, tenantName, 2, rec)
	case "discovery/keys":
		return s.jwks(r, tenantName, 1, rec)
	}
	return notFound()
}

func notFound() reply {
	return reply{
		status: http.StatusNotFound,
		header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}},
		body:   []byte("not an endpoint of this emulator\n"),
	}
}
