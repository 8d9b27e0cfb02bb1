package entratest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
)

// IssuerConfig configures an Issuer.
type IssuerConfig struct {
	// URL is the iss claim, exactly: a trailing slash matters. Required, https.
	URL string
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Issuer signs workload tokens like the API server of a Kubernetes cluster and
// serves its own discovery document and keys. It is an http.Handler, safe for
// concurrent use.
type Issuer struct {
	cfg    IssuerConfig
	origin string
	path   string // of the URL, without trailing slash
	keys   *keyring
}

// NewIssuer makes an Issuer with a random key.
func NewIssuer(cfg IssuerConfig) (*Issuer, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("entratest: issuer URL: %w", err)
	}
	if u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("entratest: issuer URL %q is not an https URL without query and fragment", cfg.URL)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Issuer{
		cfg:    cfg,
		origin: "https://" + strings.ToLower(u.Host),
		path:   strings.TrimSuffix(u.Path, "/"),
		keys:   newKeyring(newKubernetesKey, cfg.Now),
	}, nil
}

// RotateKeys makes a new signing key. Earlier keys stay published; only the
// newest five do.
func (i *Issuer) RotateKeys() { i.keys.rotate() }

// RoundTripper calls the issuer in process, like Server.RoundTripper.
func (i *Issuer) RoundTripper() http.RoundTripper {
	return inProcess{origin: i.origin, handler: i}
}

// ServeHTTP serves the discovery document and the keys below the path of the
// issuer's URL.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	switch r.URL.Path {
	case i.path + "/.well-known/openid-configuration":
		writeDocument(w, "application/json", map[string]any{
			"issuer":                                i.cfg.URL,
			"jwks_uri":                              i.origin + i.path + "/openid/v1/jwks",
			"response_types_supported":              []string{"id_token"},
			"subject_types_supported":               []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	case i.path + "/openid/v1/jwks":
		keys, err := i.keys.published()
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		var set jose.JSONWebKeySet
		for _, k := range keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: "RS256", Use: "sig"})
		}
		writeDocument(w, "application/jwk-set+json", set)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func writeDocument(w http.ResponseWriter, contentType string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "public, max-age=3600")
	_, _ = w.Write(body) // the client may be gone
}

// ServiceAccountToken asks for the token the kubelet would project into a pod.
type ServiceAccountToken struct {
	// Namespace and ServiceAccount make the subject. Required.
	Namespace, ServiceAccount string
	// Pod and Node are the bound objects. Empty: the token is not bound to one.
	Pod, Node string
	// Audience of the token. Empty: api://AzureADTokenExchange.
	Audience string
	// Lifetime of the token. 0: one hour. Negative: it expired that long ago.
	Lifetime time.Duration
}

// ServiceAccountToken signs a token with the claims and the header of a
// Kubernetes API server's projected tokens. The uids of the objects depend only
// on their names.
func (i *Issuer) ServiceAccountToken(t ServiceAccountToken) (string, error) {
	if t.Namespace == "" || t.ServiceAccount == "" {
		return "", errors.New("entratest: a service account token needs Namespace and ServiceAccount")
	}
	if t.Audience == "" {
		t.Audience = TokenExchangeAudience
	}
	issued, expires := i.cfg.Now(), i.cfg.Now().Add(t.Lifetime)
	switch {
	case t.Lifetime == 0:
		expires = issued.Add(time.Hour)
	case t.Lifetime < 0:
		issued = expires.Add(-time.Hour)
	}
	type ref struct {
		Name string `json:"name"`
		UID  string `json:"uid"`
	}
	named := func(kind, name string) ref {
		return ref{Name: name, UID: derivedGUID(i.cfg.URL, kind, t.Namespace, name)}
	}
	bound := map[string]any{
		"namespace":      t.Namespace,
		"serviceaccount": named("serviceaccount", t.ServiceAccount),
	}
	if t.Pod != "" {
		bound["pod"] = named("pod", t.Pod)
	}
	if t.Node != "" {
		bound["node"] = named("node", t.Node)
	}
	return i.Sign(map[string]any{
		"aud":           []string{t.Audience},
		"exp":           jwt.NewNumericDate(expires),
		"iat":           jwt.NewNumericDate(issued),
		"iss":           i.cfg.URL,
		"jti":           uuid.NewString(),
		"kubernetes.io": bound,
		"nbf":           jwt.NewNumericDate(issued),
		"sub":           "system:serviceaccount:" + t.Namespace + ":" + t.ServiceAccount,
	})
}

// Sign signs any claims with the issuer's key, for workload tokens of another
// shape (a CI system's, a SPIFFE identity's) and for malformed ones.
func (i *Issuer) Sign(claims map[string]any) (string, error) {
	key, err := i.keys.current()
	if err != nil {
		return "", fmt.Errorf("entratest: %w", err)
	}
	token, err := key.sign(claims, nil)
	if err != nil {
		return "", fmt.Errorf("entratest: %w", err)
	}
	return token, nil
}
