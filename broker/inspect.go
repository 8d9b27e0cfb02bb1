package broker

import (
	"context"

	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/secret"
)

// GrantInspection stands in the records of inspections where those of issuances
// have the OAuth grant.
const GrantInspection = "inspection"

// Inspection is what a user's token says, verified. ID is set on errors too.
type Inspection struct {
	ID string // of the record; in the audit line and on the span
	// Tenant is that of the identity. Audience is the application, or of an agent
	// identity the blueprint, that the token is issued for.
	Tenant, Audience string
	User             policy.User
	UniqueID         string // uti; "" without one
	// Claims is the payload of the token, a JSON object. It may name the user, so it
	// is for the agent that has presented the token, and for no log.
	Claims secret.Text
}

// Inspect verifies the user's token of a request for an agent, and issues
// nothing. Of the request it reads Door, Agent, Key, Identity, UserToken and
// Scoped. It is recorded as an issuance is, and answers nobody before that.
//
// The agent has to be known, in order, within its limit of all requests, and
// made for users (onBehalfOf); the token has to be one that it could act with:
// issued by a tenant of its users for the application or blueprint of the
// identity, valid now, of a user who is not blocked. Whether onBehalfOf lets the
// agent act for this user, from this client and with these scopes, is not asked:
// that is decided when it does. A session that outlives a token does not make
// the token good.
//
// The error is a *Denied when the broker said no: its Reason begins with user_
// when the token is to blame, and the caller is then known. It is an
// *exchange.Error when the tenant's keys are not at hand, an *AuditError when
// the inspection could not be recorded, or wraps ctx.Err().
func (b *Broker) Inspect(ctx context.Context, req Request) (Inspection, error) {
	g := b.rules.Load()

	// 1. Who asks.
	req = Request{Door: req.Door, Grant: GrantInspection, Agent: req.Agent, Key: req.Key, Identity: req.Identity, UserToken: req.UserToken, Scoped: req.Scoped}
	evidence, rec := b.begin(ctx, g, req)
	rec.Inspection = true

	// 2. Whether the agent may know, and then what the token says.
	question := g.question(evidence, req, rec.Start)
	question.Inspect, question.Scoped = true, req.Scoped
	decision := g.Policy.Decide(question)
	var user *verified
	var found Inspection
	var err error
	if decision.Reason == policy.UserUnverified {
		if found, err = b.inspect(ctx, rec, g, decision, req.UserToken); err == nil {
			user = &verified{User: found.User}
			question.User = &user.User
			decision = g.Policy.Decide(question)
		}
	}
	found.ID = rec.ID
	b.describe(rec, g, decision, user, req)
	if b.cfg.Recorder.Remembers() {
		rec.Steps = g.steps(question, decision, user, err)
	}
	if err == nil && !decision.Allowed {
		err = &Denied{Agent: rec.Agent, Reason: decision.Reason, Rule: decision.Rule, Hint: decision.Hint}
	}
	if err == nil {
		w := want{Decision: decision, principal: g.principals[member{decision.Identity, decision.Member}], user: user}
		err = b.stillAllowed(g, &w, question, rec)
	}

	// 3. Record. No audit line, no answer.
	b.conclude(rec, exchange.Token{UniqueID: found.UniqueID}, found.User.Expires, err)
	if failure := b.cfg.Recorder.Close(ctx, rec); failure != nil {
		return Inspection{ID: rec.ID}, &AuditError{Err: failure}
	}
	if err != nil {
		return Inspection{ID: rec.ID}, withID(err, rec.ID)
	}
	return found, nil
}

// inspect verifies the user's token for the identity that was decided on.
func (b *Broker) inspect(ctx context.Context, rec *issuance.Record, g *generation, d policy.Decision, userToken secret.Text) (Inspection, error) {
	p := g.principals[member{d.Identity, d.Member}]
	user, claims, err := g.Users.VerifyClaims(ctx, userToken.Reveal(), b.expected(ctx, rec, d, p))
	b.countVerified(ctx, err)
	if err != nil {
		return Inspection{}, notVerified(d, err)
	}
	return Inspection{Tenant: p.tenant, Audience: p.audience, User: userOf(user), UniqueID: user.UniqueID, Claims: claims}, nil
}
