package exchange

import (
	"context"
	"errors"

	"github.com/credfree/credfree/exchange/workload"
)

// Leg names the token of an intermediate leg: the blueprint's token that stands
// in for an agent identity's assertion, or the agent identity's that stands for
// its agent user. Such a token opens no API. It never leaves the process.
type Leg struct {
	Tenant   string
	ClientID string // who asks for it
	AgentID  string // the agent identity that a blueprint asks for; "" when an agent identity asks
	Audience string // of the token exchange
}

// Keeper keeps the tokens of legs between exchanges. Implementations are safe
// for concurrent use.
type Keeper interface {
	// Keep returns the token kept for the leg, or what fetch returns, and keeps
	// that. fetch may be called with another context and for several callers.
	Keep(ctx context.Context, leg Leg, fetch func(context.Context) (Token, error)) (Token, error)
	// Drop forgets the token of the leg.
	Drop(leg Leg)
}

// forgetful is the Keeper of a client that has none.
type forgetful struct{}

func (forgetful) Keep(ctx context.Context, _ Leg, fetch func(context.Context) (Token, error)) (Token, error) {
	return fetch(ctx)
}

func (forgetful) Drop(Leg) {}

// blueprintToken is the token with which a blueprint proves its agent identity:
// https://learn.microsoft.com/entra/agent-id/agent-autonomous-app-oauth-flow.
func (c *Client) blueprintToken(ctx context.Context, agent Agent, again bool) (workload.Assertion, *Error) {
	blueprint := agent.Blueprint
	leg := Leg{Tenant: blueprint.Tenant, ClientID: blueprint.ClientID, AgentID: agent.ID, Audience: c.cfg.Audience}
	token, failure := c.kept(ctx, leg, again, func() *ask {
		a := c.exchangeAsk("blueprint", blueprint.Tenant, blueprint.ClientID)
		a.path, a.want.boundTo = agent.ID, agent.ID
		a.renew = []int{assertionExpired}
		a.prove = func(ctx context.Context, _ bool) (proof, *Error) {
			assertion, failure := c.assertion(ctx, blueprint.Source)
			return proof{assertion: assertion}, failure
		}
		return a
	})
	if failure != nil {
		return workload.Assertion{}, failure
	}
	// Entra's own claims, which need no check against the platform's rules.
	assertion, err := workload.Parse(token.Reveal())
	if err != nil {
		return workload.Assertion{}, fromWorkload(err)
	}
	return assertion, nil
}

// agentToken is the token with which an agent identity vouches for its agent
// user: https://learn.microsoft.com/entra/agent-id/agent-user-oauth-flow.
func (c *Client) agentToken(ctx context.Context, agent Agent, again bool) (Token, *Error) {
	leg := Leg{Tenant: agent.Blueprint.Tenant, ClientID: agent.ID, Audience: c.cfg.Audience}
	return c.kept(ctx, leg, again, func() *ask {
		a := c.exchangeAsk("agent", agent.Blueprint.Tenant, agent.ID)
		a.renew = []int{assertionExpired, assertionUnverified}
		a.prove = func(ctx context.Context, again bool) (proof, *Error) {
			assertion, failure := c.blueprintToken(ctx, agent, again)
			return proof{assertion: assertion}, failure
		}
		return a
	})
}

// exchangeAsk asks for a token for the token exchange itself.
func (c *Client) exchangeAsk(leg, tenant, client string) *ask {
	scopes := []string{c.cfg.Audience + "/.default"}
	return &ask{
		leg: leg, tenant: tenant, client: client, grant: grantClientCredentials, scopes: scopes,
		want: expectation{kind: AppOnly, tenant: tenant, client: client, scopes: scopes, forExchange: true},
	}
}

// kept is the token of a leg. again says that the one that is kept is of no use.
func (c *Client) kept(ctx context.Context, leg Leg, again bool, plan func() *ask) (Token, *Error) {
	if again {
		c.cfg.Legs.Drop(leg)
	}
	fetch := func(ctx context.Context) (Token, error) {
		token, failure := c.exchange(ctx, plan())
		if failure != nil {
			return Token{}, failure
		}
		return token, nil
	}
	token, err := c.cfg.Legs.Keep(ctx, leg, fetch)
	failure, told := errors.AsType[*Error](err)
	if err != nil && !told && ctx.Err() == nil { // revoked for another identity, with which it is shared
		token, err = c.cfg.Legs.Keep(ctx, leg, fetch)
		failure, told = errors.AsType[*Error](err)
	}
	switch {
	case err == nil:
		return token, nil
	case told:
		// Whoever shares the leg shares the error, and completes it.
		own := *failure
		return Token{}, &own
	case ctx.Err() != nil:
		return Token{}, unreachable(ctx, ctx.Err())
	}
	return Token{}, &Error{Reason: Internal, Message: "an intermediate token was revoked while it was being fetched", Err: err, Hint: "ask again"}
}
