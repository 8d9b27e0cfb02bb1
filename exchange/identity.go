package exchange

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/credfree/credfree/exchange/managedidentity"
	"github.com/credfree/credfree/exchange/secret"
	"github.com/credfree/credfree/exchange/workload"
)

// Identity is what a token is asked as: an [Application], an [Agent], an
// [AgentUser] or a [ManagedIdentity].
type Identity interface {
	// Principal returns the tenant and the client id that Entra knows the
	// identity by. Of a managed identity they are "" where it does not say.
	Principal() (tenant, clientID string)

	// plan turns a request, which has been checked, into what has to be sent.
	plan(c *Client, req Request) (*ask, *Error)
}

// Application is an Entra application registration, or a user-assigned managed
// identity, that trusts Source through a federated identity credential. It gets
// tokens of its own, and acts on behalf of users whose tokens were issued for it.
type Application struct {
	Tenant   string // GUID or verified domain
	ClientID string // GUID
	Source   workload.Source
	// Capabilities are declared to Entra for every token; cp1 says that whoever
	// gets the token can answer claims challenges, and makes Entra issue tokens
	// that live for a day and can be revoked at once:
	// https://learn.microsoft.com/entra/identity-platform/app-resilience-continuous-access-evaluation
	Capabilities []string
}

// Agent is an agent identity. Its blueprint, which has the credentials, proves
// it to Entra: https://learn.microsoft.com/entra/agent-id/. It gets tokens of its
// own, and acts on behalf of users whose tokens were issued for the blueprint.
type Agent struct {
	// Blueprint is asked for in the tenant of the agent identity.
	Blueprint Application
	ID        string // client id of the agent identity, which is its object id; GUID
}

// AgentUser is the user account that belongs to an agent identity. It gets
// tokens of kind Delegated, and acts for nobody but itself.
type AgentUser struct {
	Agent    Agent
	Username string // user principal name; or
	ObjectID string // object id, a GUID: exactly one is set
}

// ManagedIdentity is an identity of the machine itself, whose platform hands out
// tokens. It gets tokens of its own only.
type ManagedIdentity struct {
	ID     managedidentity.ID
	Tenant string // that its tokens have to come from; "" for any
}

// Principal implements Identity.
func (app Application) Principal() (tenant, clientID string) { return app.Tenant, app.ClientID }

// Principal implements Identity.
func (a Agent) Principal() (tenant, clientID string) { return a.Blueprint.Tenant, a.ID }

// Principal implements Identity.
func (u AgentUser) Principal() (tenant, clientID string) { return u.Agent.Principal() }

// Principal implements Identity.
func (m ManagedIdentity) Principal() (tenant, clientID string) { return m.Tenant, m.ID.ClientID }

func (app Application) plan(c *Client, req Request) (*ask, *Error) {
	if failure := app.check(); failure != nil {
		return nil, failure
	}
	a := newAsk(app, req, app.Capabilities)
	a.renew = []int{assertionExpired}
	a.prove = func(ctx context.Context, _ bool) (proof, *Error) {
		assertion, failure := c.assertion(ctx, app.Source)
		return proof{assertion: assertion}, failure
	}
	return a, nil
}

func (a Agent) plan(c *Client, req Request) (*ask, *Error) {
	if failure := a.check(); failure != nil {
		return nil, failure
	}
	plan := newAsk(a, req, a.Blueprint.Capabilities)
	plan.renew = []int{assertionExpired, assertionUnverified}
	plan.prove = func(ctx context.Context, again bool) (proof, *Error) {
		assertion, failure := c.blueprintToken(ctx, a, again)
		return proof{assertion: assertion}, failure
	}
	return plan, nil
}

func (u AgentUser) plan(c *Client, req Request) (*ask, *Error) {
	if failure := u.check(); failure != nil {
		return nil, failure
	}
	if req.forUser() {
		return nil, cannotActForUsers("an agent user", "it is a user itself: use the agent identity it belongs to")
	}
	plan := newAsk(u, req, u.Agent.Blueprint.Capabilities)
	plan.grant, plan.want.kind, plan.want.objectID = grantUserFIC, Delegated, u.ObjectID
	plan.agentUser = u
	plan.renew = []int{assertionExpired, assertionUnverified, userAssertionUnusable, userAssertionExpired}
	plan.prove = func(ctx context.Context, again bool) (proof, *Error) {
		assertion, failure := c.blueprintToken(ctx, u.Agent, again)
		if failure != nil {
			return proof{}, failure
		}
		credential, failure := c.agentToken(ctx, u.Agent, again)
		return proof{assertion: assertion, user: credential.Text}, failure
	}
	return plan, nil
}

func (m ManagedIdentity) plan(c *Client, req Request) (*ask, *Error) {
	if req.forUser() {
		return nil, cannotActForUsers("a managed identity", "give the application a federated identity credential that trusts the managed identity, and use the application")
	}
	if c.cfg.ManagedIdentity == nil {
		return nil, &Error{Reason: BadRequest, Message: "managed identities are not set up here", Hint: "use an identity of another kind"}
	}
	if len(req.Scopes) != 1 || !strings.HasSuffix(req.Scopes[0], "/.default") {
		return nil, &Error{Reason: BadRequest, Message: "a managed identity gets tokens for <resource>/.default only", Hint: "ask for one scope that ends in /.default"}
	}
	a := newAsk(m, req, nil)
	a.grant, a.managed, a.want.objectID = grantManagedIdentity, m.ID, m.ID.ObjectID
	a.prove = func(context.Context, bool) (proof, *Error) { return proof{}, nil }
	return a, nil
}

func cannotActForUsers(what, hint string) *Error {
	return &Error{Reason: BadRequest, Message: what + " cannot act on behalf of a user", Hint: hint}
}

var (
	guid   = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	domain = regexp.MustCompile(`^([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]{2,63}$`)
	// upn is what can be a user principal name: it goes into a form, and into hints.
	upn = regexp.MustCompile(`^[\w.'!#^~+-]{1,64}@[a-zA-Z0-9.-]{1,253}$`)
)

// check refuses what must never become part of a URL or of a form. MSAL Go
// would send a tenant such as "../x".
func (app Application) check() *Error {
	if !guid.MatchString(app.Tenant) && !domain.MatchString(app.Tenant) {
		return &Error{Reason: BadRequest, Message: fmt.Sprintf("tenant %.80q is neither a GUID nor a domain", app.Tenant), Hint: "name the tenant by its GUID"}
	}
	if !guid.MatchString(app.ClientID) {
		return &Error{Reason: BadRequest, Message: fmt.Sprintf("client id %.80q is not a GUID", app.ClientID), Hint: "use the application (client) id"}
	}
	return nil
}

func (a Agent) check() *Error {
	if failure := a.Blueprint.check(); failure != nil {
		return failure
	}
	if !guid.MatchString(a.ID) {
		return &Error{Reason: BadRequest, Message: fmt.Sprintf("agent id %.80q is not a GUID", a.ID), Hint: "use the client id of the agent identity"}
	}
	return nil
}

func (u AgentUser) check() *Error {
	if failure := u.Agent.check(); failure != nil {
		return failure
	}
	switch {
	case (u.Username == "") == (u.ObjectID == ""):
		return &Error{Reason: BadRequest, Message: "an agent user needs a user name or an object id, and not both", Hint: "name it by one of them"}
	case u.ObjectID != "" && !guid.MatchString(u.ObjectID):
		return &Error{Reason: BadRequest, Message: fmt.Sprintf("object id %.80q is not a GUID", u.ObjectID), Hint: "use the object id of the agent user"}
	case u.Username != "" && !upn.MatchString(u.Username):
		return &Error{Reason: BadRequest, Message: "the agent user's name is not a user principal name", Hint: "write it like agent@contoso.com"}
	}
	return nil
}

// Request names the token wanted. All scopes belong to one resource.
type Request struct {
	Scopes []string // each without white space; at least one
	Claims string   // claims request to satisfy, a JSON object; "" for none
	// User is whom to act for; zero for the identity itself.
	User User
	// KeepSession asks for a Token.Session, with which to go on acting for the
	// user after the user's token has expired.
	KeepSession bool
}

// User is a user on whose behalf a token is asked for, by one of two proofs.
// Whether the identity may act for that user is the caller's to decide, before.
type User struct {
	Token    secret.Text // access token of the user, issued for the identity; or
	Session  secret.Text // Token.Session of an earlier answer
	ObjectID string      // whose token must come back; "" for anybody's
}

func (req Request) forUser() bool { return req.User.Token.Len() > 0 || req.User.Session.Len() > 0 }

// check refuses what could not be meant. MSAL Go would send a scope list that
// is empty, for which its cache matches any token, and one scope that smuggles a
// second behind a space.
func (req Request) check(exchangeAudience string) *Error {
	if len(req.Scopes) == 0 {
		return &Error{Reason: BadRequest, Message: "no scope was requested", Hint: "name one, like https://graph.microsoft.com/.default"}
	}
	for _, scope := range req.Scopes {
		if scope == "" || strings.ContainsFunc(scope, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return &Error{Reason: BadRequest, Message: fmt.Sprintf("scope %.80q is empty or has white space or unprintable characters in it", scope), Hint: "pass each scope as its own element"}
		}
		if resource := resourceOf(scope); reserved(resource) || strings.EqualFold(resource, exchangeAudience) {
			return &Error{Reason: BadRequest, Message: "tokens for the token exchange itself are not handed out", Hint: "name the resource that is to be called: the broker makes the steps in between"}
		}
	}
	if req.Claims != "" && !isClaimsRequest(req.Claims) {
		return &Error{Reason: BadRequest, Message: "the claims are no claims request", Hint: "pass the claims of the challenge as they are, decoded from base64: a JSON object, in which access_token is one too"}
	}
	if !req.forUser() && (req.User.ObjectID != "" || req.KeepSession) {
		return &Error{Reason: BadRequest, Message: "a user was named without a token or a session", Hint: "give one of them: the identity's own token is no substitute"}
	}
	if req.User.Token.Len() > 0 && req.User.Session.Len() > 0 {
		return &Error{Reason: BadRequest, Message: "a user's token and a session were both given", Hint: "give one of them"}
	}
	return nil
}

// isClaimsRequest reports whether text is a claims request (OpenID Connect Core §5.5)
// that the client's capabilities can be added to.
func isClaimsRequest(text string) bool {
	var request, token map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &request) != nil || request == nil {
		return false
	}
	part, ok := request["access_token"]
	return !ok || json.Unmarshal(part, &token) == nil && token != nil
}
