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
	UserTenant    string   // tenant of the user, in lower case; "" unless Kind is Delegated
	UserObjectID  string   // object id of the user, in lower case; "" unless Kind is Delegated
	CorrelationID string   // client-request-id of the request; "" of a managed identity
	RequestID     string   // x-ms-request-id of the answer
	// Session goes on acting for the user when the user's token has expired. It
	// is empty unless it was asked for, and never to be handed out.
	Session secret.Text
}

// Kind tells an application's token from a user's.
type Kind string

// The kinds of access tokens.
const (
	AppOnly   Kind = "app"
	Delegated Kind = "user"
)

// expectation is what an issued token has to be to be released.
type expectation struct {
	kind        Kind
	tenant      string // GUID or domain; "" for any
	client      string // "" for any
	scopes      []string
	objectID    string // of the user or of the managed identity; "" for anybody's
	forExchange bool   // for the token exchange: an intermediate leg
	boundTo     string // agent identity that an intermediate leg is for
	session     bool   // keep the refresh token
}

// token checks the token of a successful answer and makes it a Token.
func (c *call) token() (Token, *Error) {
	claims, failure := readClaims(c.answer.AccessToken)
	if failure != nil {
		return Token{}, failure
	}
	want := c.ask.want
	if failure := claims.check(want); failure != nil {
		return Token{}, failure
	}
	token := Token{
		Text:          secret.New(c.answer.AccessToken),
		Lifetime:      time.Duration(c.answer.ExpiresIn),
		RefreshIn:     time.Duration(c.answer.RefreshIn),
		Kind:          want.kind,
		Roles:         claims.Roles,
		Scopes:        strings.Fields(claims.Scopes),
		UniqueID:      headerWord(claims.UniqueID),
		CorrelationID: c.correlationID,
		RequestID:     c.requestID,
	}
	if want.kind == Delegated {
		token.UserTenant, token.UserObjectID = strings.ToLower(claims.Tenant), strings.ToLower(claims.ObjectID)
	}
	if want.session && c.answer.RefreshToken != "" {
		token.Session = secret.New(c.answer.RefreshToken)
	}
	return token, nil
}

// claims are those of an access token that say whose it is. A client should
// take a token as opaque; the broker reads it because it answers for its kind.
type claims struct {
	Type     string   `json:"idtyp"`
	Scopes   string   `json:"scp"`
	Roles    []string `json:"roles"`
	AppID    string   `json:"appid"` // v1
	Party    string   `json:"azp"`   // v2
	Audience string   `json:"aud"`
	Tenant   string   `json:"tid"`
	ObjectID string   `json:"oid"`
	Subject  string   `json:"sub"`
	UniqueID string   `json:"uti"`
}

func readClaims(token string) (claims, *Error) {
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

func (c claims) check(want expectation) *Error {
	switch {
	case c.kind() != want.kind:
		return mismatch("it is a token of kind " + string(c.kind()) + " where " + string(want.kind) + " was asked for")
	case want.client != "" && !strings.EqualFold(c.AppID, want.client) && !strings.EqualFold(c.Party, want.client):
		return mismatch("it was issued to another client")
	case guid.MatchString(want.tenant) && !strings.EqualFold(c.Tenant, want.tenant):
		return mismatch("it was issued by another tenant")
	case want.objectID != "" && !strings.EqualFold(c.ObjectID, want.objectID) && want.kind == AppOnly:
		return mismatch("it is a token of another identity")
	case want.objectID != "" && !strings.EqualFold(c.ObjectID, want.objectID):
		return mismatch("it is a token of another user")
	case want.kind == Delegated && (!guid.MatchString(c.ObjectID) || !guid.MatchString(c.Tenant)):
		return mismatch("it does not say which user's it is")
	case want.boundTo != "" && !strings.HasSuffix(strings.ToLower(c.Subject), "/"+strings.ToLower(want.boundTo)):
		return mismatch("it stands for another agent identity")
	case reserved(c.Audience) && !want.forExchange:
		return mismatch("it is meant for the token exchange itself")
	case !audienceFits(c.Audience, resourceOf(want.scopes[0])):
		return mismatch("it is meant for another resource")
	}
	return c.checkScopes(want)
}

// checkScopes wants every scope that was asked for by name. What comes with
// .default is what was consented to, and may be more than an answer can say.
func (c claims) checkScopes(want expectation) *Error {
	if want.kind != Delegated {
		return nil
	}
	granted := strings.Fields(c.Scopes)
	for _, scope := range want.scopes {
		name := scope[strings.LastIndexByte(scope, '/')+1:]
		if name != ".default" && !slices.ContainsFunc(granted, func(s string) bool { return strings.EqualFold(s, name) }) {
			return mismatch("it lacks a scope that was asked for")
		}
	}
	return nil
}

func mismatch(why string) *Error {
	return &Error{Reason: TokenMismatch, Message: "the issued token is withheld: " + why,
		Hint: "check which authority answered; a real Entra never does this for this request"}
}

// attributes describe the request and its answer on its span.
func (c *call) attributes(try attempt) []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		attribute.String("credfree.entra.client_id", c.ask.client),
		attribute.String("credfree.entra.leg", c.ask.leg),
		attribute.String("credfree.grant", c.ask.grant),
		attribute.StringSlice("credfree.scopes", slices.Clone(c.ask.scopes)),
	}
	if c.ask.grant != grantManagedIdentity {
		attrs = append(attrs,
			attribute.String("credfree.entra.tenant_id", c.tenant),
			attribute.String("credfree.entra.correlation_id", c.correlationID))
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
