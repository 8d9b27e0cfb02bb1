package broker

import (
	"context"
	"crypto/sha256"
	"errors"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/secret"
	"github.com/credfree/credfree/exchange/usertoken"
)

// verified is a user whose token we have verified, now or when a session began.
type verified struct {
	policy.User
	unlisted  bool // the token does not list the groups: Microsoft Graph told them
	token     secret.Text
	hash      [sha256.Size]byte // of the token
	inSession bool              // the token has expired, and a session goes on
}

// decide lets the policy decide, and finds out about the user where it has to
// know. The error is a *Denied when the user's token is refused. A user who was
// verified is returned with an error, too: the record says for whom it was.
func (b *Broker) decide(ctx context.Context, rec *issuance.Record, g *generation, r policy.Request, userToken secret.Text) (policy.Decision, *verified, error) {
	d := g.Policy.Decide(r)
	if d.Reason != policy.UserUnverified {
		return d, nil, nil
	}
	user, err := b.verify(ctx, rec, g, d, userToken)
	if err != nil {
		return d, nil, err
	}
	d, err = b.decideFor(ctx, rec, g, r, user)
	return d, user, err
}

// decideFor lets the policy decide about a user, whose groups it looks up when the
// token does not list them.
func (b *Broker) decideFor(ctx context.Context, rec *issuance.Record, g *generation, r policy.Request, user *verified) (policy.Decision, error) {
	r.User = &user.User
	d := g.Policy.Decide(r)
	if !d.ResolveGroups {
		return d, nil
	}
	if err := b.resolveGroups(ctx, rec, g, d, user); err != nil {
		return d, err
	}
	return g.Policy.Decide(r), nil
}

// said is the user as the token said. What Microsoft Graph told since does not
// hold for as long.
func (v *verified) said() policy.User {
	user := v.User
	if v.unlisted {
		user.Groups, user.GroupsOverage = nil, true
	}
	return user
}

// verify verifies the user's token for the identity that was decided on.
func (b *Broker) verify(ctx context.Context, rec *issuance.Record, g *generation, d policy.Decision, userToken secret.Text) (*verified, error) {
	p := g.principals[member{d.Identity, d.Member}]
	raw := userToken.Reveal()
	got, err := g.Users.Verify(ctx, raw, b.expected(ctx, rec, d, p))
	b.countVerified(ctx, err)
	if err == nil {
		return &verified{User: userOf(got), token: userToken, hash: got.Digest}, nil
	}
	if failure, ok := errors.AsType[*usertoken.Error](err); ok && failure.Problem == usertoken.Expired {
		hash := sha256.Sum256([]byte(raw))
		if known, ends, ok := b.sessions.find(sessionKey{d.Agent.Name, p.key, hash}, d.Agent.OnBehalfOf.LongRunning, b.cfg.Now()); ok {
			known.Expires = ends
			return &verified{User: known, token: userToken, hash: hash, inSession: true}, nil
		}
	}
	return nil, notVerified(d, err)
}

// expected is what a user's token has to be. Keys that are fetched for it are the
// record's doing.
func (b *Broker) expected(ctx context.Context, rec *issuance.Record, d policy.Decision, p *principal) usertoken.Expectation {
	return usertoken.Expectation{Tenants: d.UserTenants, Audiences: []string{p.audience}, Cause: func() context.Context { return b.cfg.Recorder.Open(ctx, rec) }}
}

// countVerified counts a user's token that was looked at, by what is wrong with it.
func (b *Broker) countVerified(ctx context.Context, err error) {
	failure, ok := errors.AsType[*usertoken.Error](err)
	switch {
	case err == nil:
		b.cfg.Recorder.Verified(ctx, "")
	case ok:
		b.cfg.Recorder.Verified(ctx, string(failure.Problem))
	}
}

func userOf(got usertoken.User) policy.User {
	return policy.User{
		Tenant: got.Tenant, ObjectID: got.ObjectID, Client: got.Client, Guest: got.Guest, Groups: got.Groups, GroupsOverage: got.GroupsOverage,
		Roles: got.Roles, Scopes: got.Scopes, ACRS: got.ACRS, AMR: got.AMR, Expires: got.ExpiresAt,
	}
}

// notVerified says why a user's token is refused, or cannot be verified now.
func notVerified(d policy.Decision, err error) error {
	failure, ok := errors.AsType[*usertoken.Error](err)
	if !ok {
		return err
	}
	if failure.Temporary() {
		return &exchange.Error{Reason: exchange.EntraUnavailable, Message: failure.Message, Hint: failure.Hint, Err: failure.Err}
	}
	return &Denied{Agent: d.Agent.Name, Reason: refusal(failure.Problem), Rule: d.Rule, Hint: failure.Message + ": " + failure.Hint}
}

// refusal is the reason of a denial for what is wrong with a user's token.
func refusal(problem usertoken.Problem) policy.Reason { return policy.Reason("user_token_" + problem) }

const userTokenExpired = policy.Reason("user_token_" + usertoken.Expired)

// proofOf is what the exchange shows Entra: the user's token while it is valid,
// then the session.
func (b *Broker) proofOf(key cache.Key, w *want) exchange.User {
	user := exchange.User{Token: w.user.token, ObjectID: w.user.ObjectID}
	if w.user.inSession {
		user.Token, user.Session = secret.Text{}, b.sessions.proof(sessionKey{key.Agent, key.Identity, w.user.hash})
	}
	return user
}
