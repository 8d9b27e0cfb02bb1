package exchange

import (
	"context"
	"slices"
	"strings"

	"github.com/credfree/credfree/exchange/managedidentity"
	"github.com/credfree/credfree/exchange/secret"
	"github.com/credfree/credfree/exchange/workload"
)

// The grants, by their names on the wire, and one that is ours.
const (
	grantClientCredentials = "client_credentials"
	grantOnBehalfOf        = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	grantRefreshToken      = "refresh_token"
	grantUserFIC           = "user_fic"
	grantManagedIdentity   = "managed_identity"
)

// Numbers of refusals: one of a request that comes again and again, and those that
// a new proof may turn.
const (
	loopDetected          = 50196
	assertionExpired      = 700024
	assertionUnverified   = 700027
	userAssertionUnusable = 50013
	userAssertionExpired  = 500133
)

// ask is one request for one token: who asks, with which grant, for what. An
// identity may take several to get to its token, and each is one leg.
type ask struct {
	leg          string // name of the leg on its span
	tenant       string
	client       string
	grant        string
	scopes       []string
	claims       string
	capabilities []string
	path         string             // fmi_path: the agent a blueprint asks for
	user         User               // on whose behalf
	agentUser    AgentUser          // of the grant user_fic
	managed      managedidentity.ID // of the grant managed_identity
	want         expectation

	// prove gets what the request proves itself with. again says that Entra
	// would not have what it returned last.
	prove func(ctx context.Context, again bool) (proof, *Error)
	renew []int // numbers of refusals after which to prove again, once
}

// proof is what a request proves itself with.
type proof struct {
	assertion workload.Assertion // client_assertion
	user      secret.Text        // user_federated_identity_credential
}

// newAsk is the last leg of an identity, for itself or for a user.
func newAsk(id Identity, req Request, capabilities []string) *ask {
	tenant, client := id.Principal()
	a := &ask{
		leg: "resource", tenant: tenant, client: client, grant: grantClientCredentials,
		scopes: req.Scopes, claims: req.Claims, capabilities: capabilities, user: req.User,
		want: expectation{kind: AppOnly, tenant: tenant, client: client, scopes: req.Scopes, session: req.KeepSession},
	}
	switch {
	case req.User.Token.Len() > 0:
		a.grant = grantOnBehalfOf
	case req.User.Session.Len() > 0:
		a.grant = grantRefreshToken
	default:
		return a
	}
	a.want.kind, a.want.objectID = Delegated, req.User.ObjectID
	return a
}

// pair is whom Entra throttles.
func (a *ask) pair() pair {
	if a.grant == grantManagedIdentity {
		return pair{"managed identity", strings.ToLower(a.managed.ClientID + a.managed.ObjectID + a.managed.ResourceID)}
	}
	return pair{strings.ToLower(a.tenant), strings.ToLower(a.client)}
}

// renewable reports whether another proof may get another answer.
func (a *ask) renewable(failure *Error) bool {
	return failure.Reason == EntraRejected && slices.ContainsFunc(failure.Codes, func(code int) bool { return slices.Contains(a.renew, code) })
}

// Token gets an access token for id: its own or, with a user in req, one to act
// on behalf of that user. It takes the legs that the identity needs, repeats what
// can be repeated while ctx has time for it, and answers at once, with what Entra
// said before, where asking could not help. Errors are of type *Error; those of
// reason BadRequest mean that nothing was sent.
func (c *Client) Token(ctx context.Context, id Identity, req Request) (Token, error) {
	if failure := req.check(c.cfg.Audience); failure != nil {
		return Token{}, failure
	}
	a, failure := id.plan(c, req)
	if failure != nil {
		return Token{}, failure
	}
	token, failure := c.exchange(ctx, a)
	if failure != nil {
		return Token{}, failure
	}
	return token, nil
}

// assertion fetches the platform's workload token and checks what can be
// checked here.
func (c *Client) assertion(ctx context.Context, source workload.Source) (workload.Assertion, *Error) {
	ctx, span := c.cfg.Tracer.Start(ctx, "workload.token")
	defer span.End()
	assertion, err := source.Assertion(ctx)
	if err == nil {
		span.SetAttributes(assertionAttributes(assertion, c.cfg.Now())...)
		err = assertion.Check(c.cfg.Audience, c.cfg.Now())
	}
	if err != nil {
		failure := fromWorkload(err)
		endWithError(span, failure)
		return workload.Assertion{}, failure
	}
	return assertion, nil
}
