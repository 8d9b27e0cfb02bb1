package workload

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/credfree/credfree/exchange/secret"
)

// maxTokenBytes bounds a workload token. Entra refuses assertions long before.
const maxTokenBytes = 64 << 10

// Source hands out the current workload token. Implementations are safe for
// concurrent use, honour ctx, and return a token that is fresh now: callers
// keep none between exchanges. Errors are of type *Error.
type Source interface {
	Assertion(ctx context.Context) (Assertion, error)
}

// Assertion is a workload token with the claims Entra matches against a
// federated identity credential. The claims are read, not verified.
type Assertion struct {
	secret.Text
	Issuer    string    // iss
	Subject   string    // sub
	Audience  []string  // aud
	ExpiresAt time.Time // exp; zero when the token has none
	NotBefore time.Time // nbf; zero when the token has none
	Algorithm string    // alg of the header
	Delegated bool      // scp or idtyp say, as Entra's tokens do, that it is a user's
}

// Parse reads the claims of a compact JWT (RFC 7519) without verifying it.
// Surrounding white space is not part of a token. The error is an *Error and
// holds none of raw.
func Parse(raw string) (Assertion, error) {
	raw = strings.TrimSpace(raw)
	if raw == "" {
		return Assertion{}, &Error{Problem: Malformed, Message: "the workload token is empty",
			Hint: "the platform has not written it yet, or the path names another file"}
	}
	// The decoder below skips line breaks, and nobody decodes the signature: a
	// token with a warning printed around it must not pass for one.
	if strings.ContainsFunc(raw, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return Assertion{}, &Error{Problem: Malformed, Message: "the workload token has white space or other characters that no token has",
			Hint: "the source must give the token alone, without a prefix, a log line or a second token"}
	}
	parts := strings.Split(raw, ".")
	var header struct {
		Algorithm string `json:"alg"`
	}
	var claims struct {
		Issuer    string      `json:"iss"`
		Subject   string      `json:"sub"`
		Audience  audience    `json:"aud"`
		Expires   numericDate `json:"exp"`
		NotBefore numericDate `json:"nbf"`
		Scopes    any         `json:"scp"`
		Type      any         `json:"idtyp"`
	}
	if len(parts) != 3 || !decodePart(parts[0], &header) || !decodePart(parts[1], &claims) {
		return Assertion{}, &Error{Problem: Malformed, Message: "the workload token is not a signed JWT",
			Hint: "it must have three base64url parts separated by dots; check that the source names a service account token and not, say, a certificate or a secret"}
	}
	return Assertion{
		Text:      secret.New(raw),
		Issuer:    claims.Issuer,
		Subject:   claims.Subject,
		Audience:  claims.Audience,
		ExpiresAt: claims.Expires.time,
		NotBefore: claims.NotBefore.time,
		Algorithm: header.Algorithm,
		Delegated: claims.Scopes != nil && claims.Scopes != "" && claims.Scopes != "/" || claims.Type == "user",
	}, nil
}

// clockSkew is what Entra is taken to tolerate between its clock and the issuer's.
const clockSkew = 5 * time.Minute

// Check says whether Entra can accept the assertion at all, for the exchange
// audience of its cloud: algorithm, issuer, kind, audience and times. It is a
// courtesy that explains common mistakes, not a verification. Hints speak of the
// platform that the token seems to come from. The error is an *Error.
func (a Assertion) Check(wantAudience string, now time.Time) error {
	from := a.platform()
	switch {
	case a.Algorithm != "RS256":
		return &Error{Problem: WrongAlgorithm, Message: "the workload token is signed with " + quote(a.Algorithm) + ", and Entra accepts RS256 only",
			Hint: cmp.Or(from.rsa, "configure the issuer to sign with an RSA key")}
	case a.Issuer == "" || a.Subject == "":
		return &Error{Problem: Malformed, Message: "the workload token has no issuer or no subject",
			Hint: cmp.Or(from.issuer, "Entra matches iss, sub and aud with a federated identity credential; the token needs all three")}
	case strings.ContainsFunc(a.Issuer, unicode.IsSpace):
		return &Error{Problem: Malformed, Message: "the issuer of the workload token, " + quote(a.Issuer) + ", has white space in it",
			Hint: "Entra finds no federated identity credential for such an issuer: take the white space out of its configuration"}
	case !isHTTPS(a.Issuer):
		return &Error{Problem: Malformed, Message: "the issuer of the workload token, " + quote(a.Issuer) + ", is not an https URL",
			Hint: cmp.Or(from.issuer, "Entra fetches the issuer's keys from <issuer>/.well-known/openid-configuration: the issuer must be a public https URL")}
	case a.Delegated && entra.MatchString(a.origin()):
		return &Error{Problem: WrongKind, Message: "the workload token is a user's, and Entra accepts tokens of its own only from managed identities and service connections",
			Hint: "use the token of a managed identity (Entra's own word would be AADSTS700229)"}
	case !a.isFor(wantAudience):
		return &Error{Problem: WrongAudience,
			Message: "the workload token is meant for audience " + quote(strings.Join(a.Audience, " ")) + ", not for " + quote(wantAudience),
			Hint:    "request the token with audience " + wantAudience + cmp.Or(from.audience, " where the platform lets it be chosen")}
	case a.ExpiresAt.IsZero():
		return &Error{Problem: Malformed, Message: "the workload token has no expiry",
			Hint: "Entra needs an exp claim; legacy service account token secrets have none, use a projected token"}
	case !now.Before(a.ExpiresAt):
		return &Error{Problem: Expired,
			Message: "the workload token expired at " + a.ExpiresAt.UTC().Format(time.RFC3339) + "; it is " + now.UTC().Format(time.RFC3339) + " here",
			Hint:    "the platform should have replaced it: check that it still does (kubelet, the pod's volume) and that this machine's clock is right"}
	case now.Add(clockSkew).Before(a.NotBefore):
		return &Error{Problem: NotYetValid,
			Message: "the workload token is not valid before " + a.NotBefore.UTC().Format(time.RFC3339) + "; it is " + now.UTC().Format(time.RFC3339) + " here",
			Hint:    "check this machine's clock and the issuer's"}
	}
	return nil
}

// exchangeIDs are the client ids of the resources behind the audiences of
// federated credentials, which Entra writes into its own v2 tokens in place of the
// name. That of the public cloud is all that is published:
// https://learn.microsoft.com/entra/identity/conditional-access/agent-id
var exchangeIDs = map[string]string{"api://AzureADTokenExchange": "fb60f99c-7a34-4190-8149-302f77469936"}

var guid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// isFor compares the audience as Entra does: exactly. Of Entra's own tokens a client
// id is taken too, and where the right one is not known, any but those of other clouds.
func (a Assertion) isFor(audience string) bool {
	id, known := exchangeIDs[audience]
	own := entra.MatchString(a.origin())
	return slices.ContainsFunc(a.Audience, func(aud string) bool {
		switch {
		case aud == audience:
			return true
		case known:
			return own && aud == id
		}
		return own && guid.MatchString(aud) && !slices.Contains(slices.Collect(maps.Values(exchangeIDs)), aud)
	})
}

func isHTTPS(issuer string) bool {
	u, err := url.Parse(issuer)
	return err == nil && u.Scheme == "https" && u.Hostname() != ""
}

func decodePart(part string, into any) bool {
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(part, "="))
	return err == nil && json.Unmarshal(data, into) == nil
}

// audience is one string or a list of them (RFC 7519 §4.1.3).
type audience []string

func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// numericDate is seconds since the epoch, whole or not (RFC 7519 §2).
type numericDate struct{ time time.Time }

// latestDate keeps dates inside what time.Time prints with four-digit years.
const latestDate = 253402300799

func (d *numericDate) UnmarshalJSON(data []byte) error {
	var seconds float64
	if err := json.Unmarshal(data, &seconds); err != nil {
		return err
	}
	d.time = time.Unix(int64(min(max(seconds, 0), latestDate)), 0)
	return nil
}

// origin tells platforms apart: the issuer, a space and the subject.
func (a Assertion) origin() string { return a.Issuer + " " + a.Subject }

// entra is how Entra names itself in v2 tokens, at any authority, and in v1 tokens.
var entra = regexp.MustCompile(`^https://([^/ ]+/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/v2\.0|sts\.windows\.net/[0-9a-f-]{36}/) `)

// platform is where a token seems to come from, with what to change there. The
// hints are "" where there is nothing to say.
type platform struct {
	from     *regexp.Regexp // matches the origin
	audience string         // where the audience is set; follows "request the token with audience …"
	rsa      string         // how to get a token that is signed with RS256
	issuer   string         // how to get a token with an https issuer
}

var platforms = []platform{
	{from: regexp.MustCompile(` system:serviceaccount:[^:]+:[^:]+$`),
		audience: " (serviceAccountToken.audience of the projected volume)",
		rsa:      "have the API server sign with an RSA key (--service-account-signing-key-file)",
		issuer:   "give the API server an https --service-account-issuer that is public; the tokens in service account secrets have none, use a projected token"},
	{from: regexp.MustCompile(`^https://token\.actions\.| repo:`),
		audience: " (the audience parameter of ACTIONS_ID_TOKEN_REQUEST_URL; GitHub's default is the owner's URL)"},
	{from: regexp.MustCompile(` project_path:`),
		audience: " (aud below id_tokens in .gitlab-ci.yml)"},
	{from: entra,
		audience: " as the resource that the managed identity is asked for"},
	{from: regexp.MustCompile(` spiffe://`),
		audience: " (the audience of FetchJWTSVID)",
		rsa:      `set jwt_key_type = "rsa-2048" in the SPIRE server's configuration; its default is an elliptic curve`,
		issuer:   "set jwt_issuer in the SPIRE server's configuration to the https URL of its OIDC discovery provider"},
	{from: regexp.MustCompile(`^https://[^/]+\.tokens\.sts\.global\.api\.aws | arn:aws`),
		audience: " (Audience of sts:GetWebIdentityToken)",
		rsa:      "ask sts:GetWebIdentityToken for SigningAlgorithm RS256"},
	{from: regexp.MustCompile(`^https://accounts\.google\.com `),
		audience: " (the audience parameter of the metadata server's identity endpoint)"},
	{from: regexp.MustCompile(` organization:[^:]+:project:`),
		audience: " (TFC_WORKLOAD_IDENTITY_AUDIENCE of the workspace)"},
	{from: regexp.MustCompile(`^https://oidc\.circleci\.com/`),
		audience: " (an OIDC custom claim of the organization or project)"},
	{from: regexp.MustCompile(`^https://agent\.buildkite\.com `),
		audience: " (--audience of buildkite-agent oidc request-token)"},
	{from: regexp.MustCompile(`/v1/identity/oidc `),
		audience: " (client_id of the Vault role)",
		rsa:      "have the Vault role's key use the algorithm RS256",
		issuer:   "set the issuer of Vault's identity tokens (identity/oidc/config) to a public https URL"},
}

func (a Assertion) platform() platform {
	for _, p := range platforms {
		if p.from.MatchString(a.origin()) {
			return p
		}
	}
	return platform{}
}

// notes are what to know of a token that Entra could accept.
var notes = []struct {
	about *regexp.Regexp // matches the origin
	text  string
}{
	{regexp.MustCompile(`^https://[^ ]*/ `),
		"the issuer ends with a slash, which counts: the federated credential must have it too"},
	{regexp.MustCompile(`^https://(localhost|(10|127)\.[0-9.]+|192\.168\.[0-9.]+|172\.(1[6-9]|2[0-9]|3[01])\.[0-9.]+|\[[0-9a-f:]+\]|[^./: ]+|[^/: ]+\.(local|internal|svc))(:[0-9]+)?[/ ]`),
		"the issuer has an address that only its own network knows: Entra fetches its keys over the Internet"},
	{regexp.MustCompile(` repo:[^/:@]+@[0-9]+/[^/:@]+@[0-9]+:`),
		"the subject has GitHub's immutable form, as all repositories made, renamed or transferred since 15 July 2026: a federated credential for repo:<owner>/<repository> does not match it"},
	{regexp.MustCompile(` repo:[^/:@]+/[^/:@]+:`),
		"GitHub gives the subject the immutable form repo:<owner>@<id>/<repository>@<id> once the repository is renamed or transferred: the federated credential must follow"},
	{regexp.MustCompile(` repo:.*:pull_request$`),
		"every pull request of the repository has this subject, whatever its branch"},
	{regexp.MustCompile(` system:serviceaccount:[^:]+:default$`),
		"every pod of the namespace that names no service account has this subject"},
	{entra,
		"the token is Entra's own: it proves a managed identity or a service connection to an application of the same tenant, and to no other managed identity (AADSTS700222)"},
}

// Notes says what to mind when the federated credential for the token is made, in
// whole sentences. They hold none of the token.
func (a Assertion) Notes() []string {
	var texts []string
	for _, note := range notes {
		if note.about.MatchString(a.origin()) {
			texts = append(texts, note.text)
		}
	}
	return texts
}
