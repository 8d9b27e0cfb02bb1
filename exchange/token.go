package exchange

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/credfree/credfree/exchange/secret"
	"github.com/credfree/credfree/exchange/workload"
)

// Token is an Entra access token with what Entra said about it. Its text is a
// secret.Text: no printer and no encoder shows it.
type Token struct {
	secret.Text
	Lifetime      time.Duration // from the moment the request was made; always positive
	RefreshIn     time.Duration // when Entra suggests a refresh; 0 when it does not
	Kind          Kind
	Roles         []string // app roles in the token
	Scopes        []string // delegated scopes in the token (scp)
	UniqueID      string   // uti: Entra's id of this token, the one in its sign-in log
	CorrelationID string   // client-request-id of the request
	RequestID     string   // x-ms-request-id of the answer
}

// Kind tells an application's token from a user's.
type Kind string

// The kinds of access tokens.
const (
	AppOnly   Kind = "app"
	Delegated Kind = "user"
)

// token checks the token of a successful answer and makes it a Token.
func (c *call) token(app Application, want Kind) (Token, error) {
	claims, err := readClaims(c.answer.AccessToken)
	if err != nil {
		return Token{}, err
	}
	if err := claims.check(app, want); err != nil {
		return Token{}, err
	}
	return Token{
		Text:          secret.New(c.answer.AccessToken),
		Lifetime:      time.Duration(c.answer.ExpiresIn),
		RefreshIn:     time.Duration(c.answer.RefreshIn),
		Kind:          want,
		Roles:         claims.Roles,
		Scopes:        strings.Fields(claims.Scopes),
		UniqueID:      headerWord(claims.UniqueID),
		CorrelationID: c.correlationID,
		RequestID:     c.requestID,
	}, nil
}

// claims are those of an access token that say whose it is. A client should
// take a token as opaque; the broker reads it because it answers for its kind.
type claims struct {
	Type     string   `json:"idtyp"`
	Scopes   string   `json:"scp"`
	Roles    []string `json:"roles"`
	AppID    string   `json:"appid"` // v1
	Party    string   `json:"azp"`   // v2
	Tenant   string   `json:"tid"`
	UniqueID string   `json:"uti"`
}

func readClaims(token string) (claims, error) {
	var c claims
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, mismatch("it is not a signed JWT, so its kind cannot be told")
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil || json.Unmarshal(payload, &c) != nil {
		return c, mismatch("its claims cannot be read, so its kind cannot be told")
	}
	return c, nil
}

// kind follows Entra's own rule: scp is for users. Tokens of agents carry
// idtyp, and an empty scp or "/" when they are application tokens.
func (c claims) kind() Kind {
	if delegated := c.Scopes != "" && c.Scopes != "/"; delegated || c.Type == string(Delegated) {
		return Delegated
	}
	return AppOnly
}

func (c claims) check(app Application, want Kind) error {
	switch {
	case c.kind() != want:
		return mismatch("it is a token of kind " + string(c.kind()) + " where " + string(want) + " was asked for")
	case !strings.EqualFold(c.AppID, app.ClientID) && !strings.EqualFold(c.Party, app.ClientID):
		return mismatch("it was issued to another client")
	case guid.MatchString(app.Tenant) && !strings.EqualFold(c.Tenant, app.Tenant):
		return mismatch("it was issued by another tenant")
	}
	return nil
}

func mismatch(why string) *Error {
	return &Error{Reason: TokenMismatch, Message: "the issued token is withheld: " + why,
		Hint: "check which authority answered; a real Entra never does this for this request"}
}

// attributes describe the request and its answer on the span entra.token.
func (c *call) attributes(app Application, req Request, try attempt) []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		attribute.String("credfree.entra.tenant_id", c.tenant),
		attribute.String("credfree.entra.client_id", app.ClientID),
		attribute.String("credfree.entra.correlation_id", c.correlationID),
		attribute.String("credfree.grant", c.grant),
		attribute.StringSlice("credfree.scopes", slices.Clone(req.Scopes)),
	}
	if try.number > 0 {
		attrs = append(attrs, attribute.Int("http.request.resend_count", try.number))
	}
	if c.requestID != "" {
		attrs = append(attrs, attribute.String("azure.service.request.id", c.requestID))
	}
	if c.status != 0 {
		attrs = append(attrs, attribute.Int("http.response.status_code", c.status))
	}
	if f := c.failure; f != nil && f.Code != "" {
		attrs = append(attrs, attribute.String("credfree.entra.error", f.Code))
		if len(f.Codes) > 0 {
			attrs = append(attrs, attribute.Int("credfree.entra.error_code", f.Codes[0]))
		}
	}
	return attrs
}

// assertionAttributes describe a workload token on the span workload.token.
func assertionAttributes(a workload.Assertion, now time.Time) []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		attribute.String("credfree.assertion.issuer", claim(a.Issuer)),
		attribute.String("credfree.assertion.subject", claim(a.Subject)),
	}
	if !a.ExpiresAt.IsZero() {
		attrs = append(attrs, attribute.Int64("credfree.assertion.expires_in", int64(a.ExpiresAt.Sub(now)/time.Second)))
	}
	return attrs
}
