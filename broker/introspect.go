package broker

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/secret"
)

// Introspection is what a token is to an agent (RFC 7662). ID is set on errors
// too. The rest is set when Active is.
type Introspection struct {
	ID     string // of the record; in the audit line and on the span
	Active bool
	// Claims is the payload of the token, a JSON object. It is for the agent that
	// has presented the token, and for no log.
	Claims secret.Text
}

// Introspect says whether a token is good: one that was got for this very agent
// and that it may still have, or a user's that Inspect takes. Of the request it
// reads Door, Agent, Key and, for users' tokens, Identity. It is recorded as an
// issuance is, and answers nobody before that. A token of another agent is no
// more active than one that never was.
//
// The error is one of Inspect, and never about the token.
func (b *Broker) Introspect(ctx context.Context, req Request, token secret.Text) (Introspection, error) {
	g := b.rules.Load()
	evidence, rec := b.begin(ctx, g, Request{Door: req.Door, Grant: GrantInspection, Key: req.Key})
	var known *released
	if agent := g.Policy.Agent(evidence); agent != nil {
		known = b.released.find(agent.Name, token, rec.Start)
	}
	if known == nil {
		req.UserToken = token
		found, err := b.Inspect(ctx, req)
		if denied, ok := errors.AsType[*Denied](err); ok && isOfToken(denied.Reason) {
			err = nil
		}
		return Introspection{ID: found.ID, Active: found.Claims.Len() > 0, Claims: found.Claims}, err
	}

	// Whether the agent would get it again.
	rec.Inspection = true
	key := known.key
	question := g.question(evidence, Request{Agent: req.Agent, Identity: key.Identity, Scope: key.Scopes, OnBehalfOf: known.user != nil}, rec.Start)
	decision, user, err := b.decideAgain(ctx, rec, g, question, known.user)
	if user != nil {
		question.User = &user.User
	}
	switch {
	case decision.Allowed && !g.permits(key.Agent, key.Identity, key.Tenant, key.Client, key.Scopes, known.user != nil):
		decision.Allowed, decision.Reason = false, policy.IdentityNotAllowed
	case b.cfg.Recorder.Remembers():
		rec.Steps = stepsOf(g.Policy.Explain(question))
	}
	b.describe(rec, g, decision, user, Request{Scope: key.Scopes})
	if err == nil && !decision.Allowed {
		err = &Denied{Agent: rec.Agent, Reason: decision.Reason, Rule: decision.Rule, Hint: decision.Hint}
	}
	b.conclude(rec, exchange.Token{Kind: known.kind, UniqueID: known.uniqueID}, known.expires, err)
	if failure := b.cfg.Recorder.Close(ctx, rec); failure != nil {
		return Introspection{ID: rec.ID}, &AuditError{Err: failure}
	}
	_, denied := errors.AsType[*Denied](err)
	switch {
	case err == nil:
		return Introspection{ID: rec.ID, Active: true, Claims: payload(token)}, nil
	case !denied || isOfCaller(decision.Reason):
		return Introspection{ID: rec.ID}, withID(err, rec.ID)
	}
	return Introspection{ID: rec.ID}, nil
}

// decideAgain decides about a token that was got before; user is nil for the
// agent's own.
func (b *Broker) decideAgain(ctx context.Context, rec *issuance.Record, g *generation, r policy.Request, user *policy.User) (policy.Decision, *verified, error) {
	if user == nil {
		return g.Policy.Decide(r), nil, nil
	}
	v := &verified{User: *user}
	d, err := b.decideFor(ctx, rec, g, r, v)
	return d, v, err
}

// isOfCaller reports whether a denial would be the same whatever the token.
func isOfCaller(reason policy.Reason) bool {
	return slices.Contains([]policy.Reason{policy.UnknownAgent, policy.AgentMismatch, policy.AgentBlocked, policy.AgentExpired, policy.OverLimit}, reason)
}

// isOfToken reports whether an inspection was refused because the token is none
// that the agent could act with, which is all that it is told.
func isOfToken(reason policy.Reason) bool {
	return strings.HasPrefix(string(reason), "user_") ||
		slices.Contains([]policy.Reason{policy.OnBehalfOfNotAllowed, policy.IdentityNotForUsers}, reason)
}

// payload is the second part of a JWT, or empty.
func payload(token secret.Text) secret.Text {
	parts := strings.SplitN(token.Reveal(), ".", 3) //nolint:forbidigo // it stays a secret
	if len(parts) != 3 {
		return secret.Text{}
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return secret.Text{}
	}
	return secret.New(string(text))
}

// remember keeps what introspection has to know of a token that was got for an
// agent.
func (b *Broker) remember(key cache.Key, w *want, token exchange.Token, expires time.Time) {
	if key.Agent == "" { // the broker's own
		return
	}
	r := &released{key: key, kind: token.Kind, uniqueID: token.UniqueID, expires: expires}
	if w.user != nil {
		r.user = asNeeded(w.user.said(), w.Agent)
	}
	b.released.add(token.Text, r, b.cfg.Now())
}
