package broker

import (
	"context"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
)

// Request is what an agent asks for. It has no field for who asks: that is
// read from the connection, which the context carries (peer.ConnContext).
type Request struct {
	Door     string // which door it came through
	Grant    string // OAuth grant type, if it is one the door knows
	Agent    string // name the agent gives itself; only compared, never believed
	Key      string // key the agent presented; "" for none
	Identity string // identity to act as; "" for the agent's default
	Scope    string // scopes, separated by white space
	Claims   string // claims challenge to satisfy, a JSON object; "" for none
}

// Issued is the answer to a Request. ID is set on errors too.
type Issued struct {
	ID        string // of the issuance; in the audit line and on the span
	Token     exchange.Token
	ExpiresAt time.Time
	Scope     string // granted scopes, separated by spaces
}

// Issue answers one request: it identifies the agent, lets the policy decide,
// reuses a token or exchanges the workload token for one, and records what it
// did before the token leaves. ctx bounds the waiting only; an exchange that
// others may want goes on without its first caller.
//
// The error is a *Denied when the broker said no, an *exchange.Error when
// there was no token to hand out, an *AuditError when the issuance could not
// be recorded, or wraps ctx.Err(). An error means that there is no token.
func (b *Broker) Issue(ctx context.Context, req Request) (Issued, error) {
	// 1. Who asks: the kernel's word, or a key. Never the request's.
	evidence, rec := b.begin(ctx, req)

	// 2. Decide, with the very function that explain runs.
	decision := b.cfg.Policy.Decide(policy.Request{
		Peer: evidence, Agent: req.Agent, Identity: req.Identity, Scope: req.Scope, Now: rec.Start,
	})
	b.describe(rec, decision, req)
	if !decision.Allowed {
		denied := &Denied{ID: rec.ID, Agent: rec.Agent, Reason: decision.Reason, Rule: decision.Rule, Hint: decision.Hint}
		return b.refuse(ctx, rec, denied)
	}

	// 3. Reuse a token, or 4. exchange for one.
	token, expires, err := b.obtain(ctx, rec, decision, req)

	// 5. Record. No audit line, no token.
	b.conclude(rec, token, expires, err)
	if failure := b.cfg.Recorder.Close(ctx, rec); failure != nil {
		return Issued{ID: rec.ID}, &AuditError{Err: failure}
	}
	if err != nil {
		return Issued{ID: rec.ID}, err
	}
	return Issued{ID: rec.ID, Token: token, ExpiresAt: expires, Scope: decision.Scope}, nil
}

// begin reads who is at the other end of the connection and starts the record.
func (b *Broker) begin(ctx context.Context, req Request) (policy.Peer, *issuance.Record) {
	rec := &issuance.Record{ID: issuance.NewID(), Start: b.cfg.Now(), Door: req.Door, Grant: req.Grant, Revision: b.cfg.Policy.Revision}
	process, err := b.cfg.Peer(ctx)
	rec.PeerNet, rec.PeerUID, rec.PeerKnown = process.Network, process.UID, process.Known && err == nil
	evidence := policy.Peer{UID: process.UID, Known: rec.PeerKnown}
	if process.Network != "tcp" {
		// Whatever did not come over TCP names a socket: one that the policy
		// does not know, or none at all, must not pass for a TCP caller.
		evidence.Socket = unknownSocket
		if name, ok := b.cfg.Sockets[process.Socket]; ok {
			rec.PeerSocket, evidence.Socket = filepath.Base(process.Socket), name
		}
	}
	if req.Key != "" && b.cfg.Keys != nil {
		file, ok := b.cfg.Keys.Match(req.Key)
		evidence.KeyFile, evidence.KeyRefused = file, !ok
	}
	return evidence, rec
}

// unknownSocket is no name a policy can hold.
const unknownSocket = "\x00"

// describe puts the decision on the record.
func (b *Broker) describe(rec *issuance.Record, d policy.Decision, req Request) {
	rec.Reason, rec.Rule, rec.Identity = string(d.Reason), d.Rule, d.Identity
	if d.Agent != nil {
		rec.Agent, rec.Owner = d.Agent.Name, d.Agent.Owner
	}
	if !d.Allowed {
		rec.Decision = issuance.Deny
		rec.Scopes = issuance.Scopes(strings.Fields(req.Scope))
		return
	}
	rec.Decision, rec.Scopes = issuance.Allow, d.Scopes
	rec.Tenant, rec.ClientID = b.cfg.Policy.Tenant, b.applications[d.Identity].ClientID
}

// obtain finds a token in the cache, joins an exchange in flight, or starts one.
func (b *Broker) obtain(ctx context.Context, rec *issuance.Record, d policy.Decision, req Request) (exchange.Token, time.Time, error) {
	app := b.applications[d.Identity]
	key := cache.Key{Agent: rec.Agent, Identity: d.Identity, Tenant: app.Tenant, Client: app.ClientID, Scopes: d.Scope}
	if req.Claims != "" {
		key.Claims = sha256.Sum256([]byte(req.Claims))
	}
	token, expires, refresh, ok := b.cfg.Cache.Lookup(key)
	if ok {
		rec.Cache = issuance.Hit
		if refresh {
			ctx = b.cfg.Recorder.Open(ctx, rec)
			b.cfg.Cache.Refresh(ctx, key, b.refresh(rec.Agent, b.fetch(app, exchange.Request{Scopes: d.Scopes, Claims: req.Claims})))
		}
		return token, expires, nil
	}
	rec.Cache = issuance.Miss
	ctx = b.cfg.Recorder.Open(ctx, rec)
	token, expires, how, err := b.cfg.Cache.Get(ctx, key, b.fetch(app, exchange.Request{Scopes: d.Scopes, Claims: req.Claims}))
	switch how.Outcome {
	case cache.Joined:
		rec.Cache = issuance.Joined
		b.cfg.Recorder.Link(rec, how.Leader)
	case cache.Hit: // somebody's exchange ended between the two look-ups
		rec.Cache = issuance.Hit
	case cache.Miss:
	}
	return token, expires, err
}

// conclude puts the outcome of the exchange on the record.
func (b *Broker) conclude(rec *issuance.Record, token exchange.Token, expires time.Time, err error) {
	var failure *exchange.Error
	switch {
	case err == nil:
		rec.TokenKind, rec.ExpiresAt, rec.UniqueID = string(token.Kind), expires, token.UniqueID
		rec.CorrelationID, rec.RequestID = token.CorrelationID, token.RequestID
		return
	case errors.As(err, &failure):
		rec.Reason = string(failure.Reason)
		rec.CorrelationID, rec.RequestID = failure.CorrelationID, failure.RequestID
		rec.EntraError, rec.EntraCodes = failure.Code, failure.Codes
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		rec.Reason = ReasonCallerGone
	case errors.Is(err, cache.ErrPurged):
		rec.Reason = ReasonPurged
	case errors.Is(err, cache.ErrClosed):
		rec.Reason = ReasonShutdown
	default:
		rec.Reason = ReasonInternal
	}
	rec.Decision = issuance.Fail
}

// Refuse records a request that a door would not even put to the policy, such
// as one a browser sent. It returns the *Denied to render, or an *AuditError.
func (b *Broker) Refuse(ctx context.Context, req Request, reason policy.Reason, hint string) (Issued, error) {
	_, rec := b.begin(ctx, Request{Door: req.Door, Grant: req.Grant})
	rec.Decision, rec.Reason = issuance.Deny, string(reason)
	return b.refuse(ctx, rec, &Denied{ID: rec.ID, Reason: reason, Hint: hint})
}

func (b *Broker) refuse(ctx context.Context, rec *issuance.Record, denied *Denied) (Issued, error) {
	if err := b.cfg.Recorder.Close(ctx, rec); err != nil {
		return Issued{ID: rec.ID}, &AuditError{Err: err}
	}
	return Issued{ID: rec.ID}, denied
}
