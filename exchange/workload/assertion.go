package workload

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

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
	}, nil
}

// clockSkew is what Entra is taken to tolerate between its clock and the issuer's.
const clockSkew = 5 * time.Minute

// Check says whether Entra can accept the assertion at all, for the exchange
// audience of its cloud: algorithm, audience and times. It is a courtesy that
// explains common mistakes, not a verification. The error is an *Error.
func (a Assertion) Check(wantAudience string, now time.Time) error {
	switch {
	case a.Algorithm != "RS256":
		return &Error{Problem: WrongAlgorithm, Message: "the workload token is signed with " + quote(a.Algorithm) + ", and Entra accepts RS256 only",
			Hint: "configure the issuer to sign with an RSA key (SPIRE: jwt_key_type = \"rsa-2048\")"}
	case a.Issuer == "" || a.Subject == "":
		return &Error{Problem: Malformed, Message: "the workload token has no issuer or no subject",
			Hint: "Entra matches iss, sub and aud with a federated identity credential; the token needs all three"}
	case !slices.Contains(a.Audience, wantAudience):
		return &Error{Problem: WrongAudience,
			Message: "the workload token is meant for audience " + quote(strings.Join(a.Audience, " ")) + ", not for " + quote(wantAudience),
			Hint:    "request the token with audience " + wantAudience + " (Kubernetes: serviceAccountToken.audience of the projected volume)"}
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
