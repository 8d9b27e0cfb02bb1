package entratest

import (
	"cmp"
	"crypto"
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
	// URL is the iss claim, exactly: a trailing slash matters. It is https.
	// Required, except that a Platform has a real one to fall back on:
	// Platform.IssuerURL with its example parameters.
	URL string
	// Platform is what the issuer looks like. Empty: Kubernetes.
	Platform Platform
	// Algorithms are those the issuer signs with, the first one unless a token
	// asks for another: RS256, ES256, ES384. Empty: those of the Platform.
	Algorithms []string
	// Key is the first signing key of its algorithm: RSA, or ECDSA on P-256 or
	// P-384. Issuers may share it, which saves tests the time to make one each.
	// Nil: a random key.
	Key crypto.Signer
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Issuer signs workload tokens like the API server of a Kubernetes cluster, or
// like another Platform, and serves its own discovery document and keys. It is
// an http.Handler, safe for concurrent use.
type Issuer struct {
	cfg    IssuerConfig
	spec   platform
	origin string
	path   string // of the URL, without trailing slash
	jwks   *url.URL
	keys   *workloadKeys
}

// NewIssuer makes an Issuer.
func NewIssuer(cfg IssuerConfig) (*Issuer, error) {
	spec, err := cfg.Platform.spec()
	if err != nil {
		return nil, fmt.Errorf("entratest: issuer: %w", err)
	}
	if cfg.URL == "" && cfg.Platform != "" {
		if cfg.URL, err = cfg.Platform.IssuerURL(nil); err != nil {
			return nil, err
		}
	}
	cfg.Platform = cmp.Or(cfg.Platform, Kubernetes)
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
	algorithms := spec.algorithms
	if len(cfg.Algorithms) > 0 {
		algorithms = nil
		for _, alg := range cfg.Algorithms {
			algorithms = append(algorithms, jose.SignatureAlgorithm(alg))
		}
	}
	keys, err := newWorkloadKeys(algorithms, cfg.Key, spec.keyID)
	if err != nil {
		return nil, fmt.Errorf("entratest: issuer: %w", err)
	}
	i := &Issuer{cfg: cfg, spec: spec, keys: keys, origin: "https://" + strings.ToLower(u.Host), path: strings.TrimSuffix(u.Path, "/")}
	if i.jwks, err = i.jwksURL(); err != nil {
		return nil, fmt.Errorf("entratest: issuer: %w", err)
	}
	return i, nil
}

// URL is the iss claim.
func (i *Issuer) URL() string { return i.cfg.URL }

// places are the templates of URLs.
func (i *Issuer) places(origin string) *strings.Replacer {
	return strings.NewReplacer("{issuer}", i.origin+i.path, "{origin}", origin)
}

// jwksURL is where the keys are. An issuer that is not the real one has them on
// its own origin, where a Host can serve them.
func (i *Issuer) jwksURL() (*url.URL, error) {
	origin := i.origin
	if i.spec.jwksOrigin != "" && i.cfg.URL == i.spec.issuer {
		origin = i.spec.jwksOrigin
	}
	return url.Parse(i.places(origin).Replace(i.spec.jwks))
}

// RotateKeys makes new signing keys. Earlier keys stay published; only the
// newest five of each algorithm do.
func (i *Issuer) RotateKeys() { i.keys.rotate() }

// RoundTripper calls the issuer in process, like Server.RoundTripper.
func (i *Issuer) RoundTripper() http.RoundTripper { return IssuersRoundTripper(i) }

// ServeHTTP serves the discovery document and the keys.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	switch r.URL.Path {
	case i.path + discoveryPath:
		writeDocument(w, "application/json", i.discovery())
	case i.jwks.Path:
		if i.spec.jwksType != "" && !accepts(r, i.spec.jwksType) {
			w.WriteHeader(http.StatusNotAcceptable)
			return
		}
		rounds, err := i.keys.published()
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		set, err := i.spec.keySet(rounds)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		writeDocument(w, cmp.Or(i.spec.jwksType, "application/json"), set)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// accepts reports whether a request takes a media type: the API server of
// Kubernetes looks.
func accepts(r *http.Request, mediaType string) bool {
	lists := r.Header.Values("Accept")
	for part := range strings.SplitSeq(strings.Join(lists, ","), ",") {
		name, _, _ := strings.Cut(part, ";")
		if name = strings.TrimSpace(name); name == mediaType || name == "*/*" || name == "application/*" {
			return true
		}
	}
	return len(lists) == 0
}

// discovery is the document as the platform publishes it.
func (i *Issuer) discovery() map[string]any {
	doc := map[string]any{
		"issuer":                                i.cfg.URL,
		"jwks_uri":                              i.jwks.String(),
		"id_token_signing_alg_values_supported": i.keys.algorithms,
	}
	urls := i.places(i.origin)
	for name, value := range i.spec.discovery {
		doc[name] = expand(value, urls, i.cfg.URL)
	}
	return doc
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
	issued, expires := i.span(t.Lifetime, time.Hour)
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

// Sign signs any claims with the issuer's key, for workload tokens that no
// Platform issues and for malformed ones.
func (i *Issuer) Sign(claims map[string]any) (string, error) {
	return i.sign("", claims)
}

// sign signs with the current key of an algorithm; "" is the issuer's usual one.
func (i *Issuer) sign(algorithm string, claims map[string]any) (string, error) {
	key, err := i.keys.current(algorithm)
	if err != nil {
		return "", fmt.Errorf("entratest: %w", err)
	}
	token, err := key.sign(claims, i.spec.header)
	if err != nil {
		return "", fmt.Errorf("entratest: %w", err)
	}
	return token, nil
}
