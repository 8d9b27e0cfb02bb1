package entratest

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
)

const discoveryPath = "/.well-known/openid-configuration"

// Workload asks an Issuer for a token of its Platform.
type Workload struct {
	// Form names the subject form, one of Platform.Forms. Empty: the usual one.
	Form string
	// Parameters fill the subject and the claims. Those left out have the values
	// of Platform.Parameters; one the platform does not know is an error.
	Parameters map[string]string
	// Subject replaces the subject, as a customised one or a wrong one.
	Subject string
	// Audience of the token. Empty: api://AzureADTokenExchange.
	Audience string
	// Lifetime of the token. 0: what the platform gives. Negative: it expired
	// that long ago.
	Lifetime time.Duration
	// Algorithm is one of the issuer's. Empty: its first one.
	Algorithm string
	// Claims are set last, for tokens the platform would never issue. A nil
	// value removes the claim.
	Claims map[string]any
}

// Subject returns the subject a token for w would have, for the federated
// credential that trusts it.
func (i *Issuer) Subject(w Workload) (string, error) {
	if w.Subject != "" {
		return w.Subject, nil
	}
	values, form, err := i.describe(w)
	if err != nil {
		return "", err
	}
	return replacer(values, i.spec.escapeSubject).Replace(form.subject), nil
}

// FederatedCredential returns the credential that trusts a token for w.
func (i *Issuer) FederatedCredential(w Workload) (FederatedCredential, error) {
	subject, err := i.Subject(w)
	if err != nil {
		return FederatedCredential{}, err
	}
	if w.Audience == "" {
		w.Audience = TokenExchangeAudience
	}
	return FederatedCredential{Issuer: i.cfg.URL, Subject: subject, Audience: w.Audience}, nil
}

// WorkloadToken signs a token with the claims, the header and the lifetime of
// the issuer's Platform.
func (i *Issuer) WorkloadToken(w Workload) (string, error) {
	values, form, err := i.describe(w)
	if err != nil {
		return "", err
	}
	subject, err := i.Subject(w)
	if err != nil {
		return "", err
	}
	if w.Audience == "" {
		w.Audience = TokenExchangeAudience
	}
	plain, claims := replacer(values, nil), map[string]any{}
	for _, templates := range []map[string]any{i.spec.claims, form.claims} {
		for name, template := range templates {
			claims[name] = expand(template, plain, i.cfg.URL)
		}
	}
	issued, expires := i.span(w.Lifetime, i.spec.lifetime)
	claims["iss"], claims["sub"], claims["aud"] = i.cfg.URL, subject, any(w.Audience)
	claims["iat"], claims["exp"] = jwt.NewNumericDate(issued), jwt.NewNumericDate(expires)
	if i.spec.audienceList {
		claims["aud"] = []string{w.Audience}
	}
	if i.spec.nbf {
		claims["nbf"] = jwt.NewNumericDate(issued)
	}
	if i.spec.jti {
		claims["jti"] = uuid.NewString()
	}
	maps.Copy(claims, w.Claims)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	return i.sign(w.Algorithm, claims)
}

func (i *Issuer) describe(w Workload) (map[string]string, subjectForm, error) {
	values, err := i.spec.fill(w.Parameters)
	if err != nil {
		return nil, subjectForm{}, fmt.Errorf("entratest: workload: %w", err)
	}
	form, err := i.spec.form(w.Form)
	if err != nil {
		return nil, subjectForm{}, fmt.Errorf("entratest: workload: %w", err)
	}
	return values, form, nil
}

// span is when a token of this lifetime was issued and when it expires.
func (i *Issuer) span(lifetime, usual time.Duration) (issued, expires time.Time) {
	issued = i.cfg.Now()
	switch {
	case lifetime == 0:
		return issued, issued.Add(usual)
	case lifetime < 0:
		expires = issued.Add(lifetime)
		return expires.Add(-usual), expires
	}
	return issued, issued.Add(lifetime)
}

// IssuersRoundTripper reaches all of the issuers in process, each at its own
// URL, and nothing else: for Config.HTTPClient. Issuers may share an origin, as
// the clusters of a region do.
func IssuersRoundTripper(issuers ...*Issuer) http.RoundTripper {
	return issuersTransport(issuers)
}

type issuersTransport []*Issuer

func (t issuersTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	asked := inProcess{origin: "https://", handler: http.NotFoundHandler()}
	for _, i := range t {
		keys := i.jwks.Scheme + "://" + strings.ToLower(i.jwks.Host)
		switch origin := r.URL.Scheme + "://" + strings.ToLower(r.URL.Host); {
		case origin == i.origin && r.URL.Path == i.path+discoveryPath, origin == keys && r.URL.Path == i.jwks.Path:
			return inProcess{origin: origin, handler: i}.RoundTrip(r)
		case origin == i.origin, asked.origin == "https://":
			asked.origin = i.origin // the error names an origin that is served
		}
	}
	return asked.RoundTrip(r)
}
