package broker

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/secret"
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
	// API is the downstream API that the token is for; "" for none. Its scopes
	// stand in for a Scope that is "". Method and Path are those of a call that
	// the door makes itself, as policy.Request wants them; "" for no call.
	API, Method, Path string
	// OnBehalfOf asks for a token to act for the user of UserToken.
	OnBehalfOf bool
	UserToken  secret.Text // access token of the user, issued for the identity
	Raw        bool        // the door hands out the token itself
	// Scoped is for Inspect alone: a user's token without the scopes that
	// onBehalfOf.scopes demands is denied.
	Scoped bool
	Said   Said // only recorded
}

// Said is what a caller says of itself in the baggage of its trace, by the names
// of OpenTelemetry's conventions for generative AI. It decides nothing.
type Said struct{ AgentID, AgentName, Conversation string }

// Issued is the answer to a Request. ID is set on errors too, and so are Tenant
// and ClientID once the policy has allowed the request.
type Issued struct {
	ID string // of the issuance; in the audit line and on the span
	// Tenant and ClientID are those of the identity at Entra. On behalf of a user,
	// ClientID is whom the user's token has to be issued for.
	Tenant, ClientID string
	Token            exchange.Token
	// ExpiresAt is when to ask again at the latest: the end of the token, or
	// earlier where the policy says so (advertise).
	ExpiresAt time.Time
	Scope     string // granted scopes, separated by spaces
	// API is that of the Request, by the rules that allowed it.
	API policy.API
	// Span is that of the issuance, which has ended: what is done with the token
	// belongs below it. It is not valid when there are no traces.
	Span trace.SpanContext

	call *openCall // nil: it is for no call
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
	g := b.rules.Load()

	// 1. Who asks: the kernel's word, or a key. Never the request's.
	evidence, rec := b.begin(ctx, g, req)

	// 2. Decide, with the very function that explain runs.
	question := g.question(evidence, req, rec.Start)
	decision, user, err := b.decide(ctx, rec, g, question, req.UserToken)
	b.describe(rec, g, decision, user, req)
	if b.cfg.Recorder.Remembers() {
		rec.Steps = g.steps(question, decision, user, err)
	}
	if err == nil && !decision.Allowed {
		err = &Denied{Agent: rec.Agent, Reason: decision.Reason, Rule: decision.Rule, Hint: decision.Hint}
	}
	if err != nil {
		return b.refuse(ctx, rec, err)
	}

	// 3. Reuse a token, or exchange for one.
	w := want{Decision: decision, principal: g.principals[member{decision.Identity, decision.Member}], exchange: g.Exchange, claims: req.Claims, user: user}
	issued := Issued{ID: rec.ID, Tenant: w.tenant, ClientID: w.clientID}
	if user != nil {
		issued.ClientID = w.audience
	}
	token, expires, err := b.obtain(ctx, rec, &w)

	// 4. What was allowed before the exchange may not be any more.
	if err == nil {
		err = b.stillAllowed(g, &w, question, rec)
	}

	made := use{rec.Agent, decision.Scope, decision.OnBehalfOf}
	rec.FirstUse = err == nil && b.seen.first(made)

	// 5. Record. No audit line, no token.
	b.conclude(rec, token, expires, err)
	if failure := b.cfg.Recorder.Close(ctx, rec); failure != nil {
		if rec.FirstUse { // of which there is no line
			b.seen.forget(made)
		}
		return issued, &AuditError{Err: failure}
	}
	if err != nil {
		return issued, withID(err, rec.ID)
	}
	if most := decision.Agent.Advertise; most > 0 && expires.After(rec.Start.Add(most)) {
		expires = rec.Start.Add(most)
	}
	issued.Token, issued.ExpiresAt, issued.Scope = token, expires, decision.Scope
	issued.API, issued.Span = g.Policy.APIs[req.API], rec.SpanContext()
	if req.Method != "" {
		issued.call = g.opened(&w, question, rec.Agent)
	}
	rec.Free()
	return issued, nil
}

// begin reads who is at the other end of the connection and starts the record.
func (b *Broker) begin(ctx context.Context, g *generation, req Request) (policy.Peer, *issuance.Record) {
	rec := issuance.NewRecord()
	rec.ID, rec.Start, rec.Door, rec.Grant, rec.Revision = issuance.NewID(), b.cfg.Now(), req.Door, req.Grant, g.Policy.Revision
	rec.Pseudonyms, rec.BestEffort = g.Pseudonyms, g.Policy.Recording.BestEffort
	if req.Said != (Said{}) {
		rec.SaidAgentID, rec.SaidAgentName = issuance.Word(req.Said.AgentID, req.Key), issuance.Word(req.Said.AgentName, req.Key)
		rec.SaidConversation = issuance.Word(req.Said.Conversation, req.Key)
	}
	process, err := b.cfg.Peer(ctx)
	rec.PeerNet, rec.PeerUID, rec.PeerKnown = process.Network, process.UID, process.Known && err == nil
	evidence := policy.Peer{UID: process.UID, Known: rec.PeerKnown}
	if process.Network != "tcp" {
		// Whatever did not come over TCP names a socket: one that the policy
		// does not know, or none at all, must not pass for a TCP caller.
		evidence.Socket = unknownSocket
		if name, ok := g.Sockets[process.Socket]; ok {
			rec.PeerSocket, evidence.Socket = filepath.Base(process.Socket), name
		}
	}
	if req.Key != "" && g.Keys != nil {
		file, ok := g.Keys.Match(req.Key)
		evidence.KeyFile, evidence.KeyRefused = file, !ok
	}
	return evidence, rec
}

// unknownSocket is no name a policy can hold.
const unknownSocket = "\x00"

// question is what the policy is asked. The request is counted here, whatever
// the answer.
func (g *generation) question(evidence policy.Peer, req Request, now time.Time) policy.Request {
	r := policy.Request{
		Peer: evidence, Agent: req.Agent, Identity: req.Identity, Scope: req.Scope,
		API: req.API, Method: req.Method, Path: req.Path,
		OnBehalfOf: req.OnBehalfOf, Raw: req.Raw, Now: now,
	}
	if len(g.limits) > 0 {
		if agent := g.Policy.Agent(evidence); agent != nil {
			r.Over = g.over(agent.Name, req.Identity, req.OnBehalfOf)
		}
	}
	return r
}

// describe puts the decision on the record.
func (b *Broker) describe(rec *issuance.Record, g *generation, d policy.Decision, user *verified, req Request) {
	judge(rec, d)
	rec.Identity, rec.OnBehalfOf = d.Identity, d.OnBehalfOf
	rec.Call = req.Method != ""
	if d.Agent != nil {
		rec.Agent, rec.Owner = d.Agent.Name, d.Agent.Owner
	}
	// User names are not recorded, and object ids of users not where hashes stand for them.
	if !hides(g, d) && !strings.Contains(d.Member, "@") {
		rec.Member = d.Member
	}
	if _, known := g.Policy.APIs[req.API]; known { // else it is the caller's own word
		rec.API = req.API
	}
	if user != nil {
		rec.UserTenant, rec.UserObjectID, rec.UserClient, rec.Session = user.Tenant, user.ObjectID, user.Client, user.inSession
	}
	if !d.Allowed {
		rec.Decision = issuance.Deny
		rec.Scopes = issuance.Scopes(strings.Fields(req.Scope))
		if req.Scope == "" {
			rec.Scopes = g.Policy.APIs[req.API].Scopes
		}
		return
	}
	rec.Decision, rec.Scopes = issuance.Allow, d.Scopes
	p := g.principals[member{d.Identity, d.Member}]
	rec.Tenant, rec.ClientID = p.tenant, p.clientID
}

// judge puts on the record which rule decided, and why not; where only audit mode
// allows it, what would have denied it.
func judge(rec *issuance.Record, d policy.Decision) {
	rec.Reason, rec.Rule, rec.Audited = string(d.Reason), d.Rule, d.Allowed && d.Audited
	if rec.Audited {
		rec.Reason, rec.Rule = string(d.AuditedReason), d.AuditedRule
	}
}

// hides reports whether hashes stand for users, of whom the identity's member is one.
func hides(g *generation, d policy.Decision) bool {
	return g.Pseudonyms != nil && g.Policy.Identities[d.Identity].AgentUser != nil
}

// stillAllowed decides again when the rules have changed since. What was found
// out about the user holds still.
func (b *Broker) stillAllowed(g *generation, w *want, question policy.Request, rec *issuance.Record) error {
	now := b.rules.Load()
	if now == g {
		return nil
	}
	question = w.ask(question)
	d, err := now.still(g, w, question, rec.Agent)
	rec.Revision, rec.Pseudonyms, rec.BestEffort = now.Policy.Revision, now.Pseudonyms, now.Policy.Recording.BestEffort
	if hides(now, d) {
		rec.Member = ""
	}
	if b.cfg.Recorder.Remembers() {
		rec.Steps = now.steps(question, d, w.user, nil)
	}
	judge(rec, d)
	return err
}

// conclude puts the outcome of the exchange on the record.
func (b *Broker) conclude(rec *issuance.Record, token exchange.Token, expires time.Time, err error) {
	if err == nil {
		rec.Asked = rec.Cache == issuance.Miss
		rec.TokenKind, rec.ExpiresAt, rec.UniqueID = string(token.Kind), expires, token.UniqueID
		rec.Age = max(0, token.Lifetime-expires.Sub(rec.Start))
		rec.CorrelationID, rec.RequestID = token.CorrelationID, token.RequestID
		if rec.UserObjectID == "" { // of an agent user
			rec.UserTenant, rec.UserObjectID = token.UserTenant, token.UserObjectID
		}
		return
	}
	var failure *exchange.Error
	var denied *Denied
	rec.Decision = issuance.Fail
	rec.Asked = rec.Cache == issuance.Miss && asked(err)
	switch {
	case errors.As(err, &denied):
		rec.Decision, rec.Reason, rec.Rule, rec.Hint, rec.Audited = issuance.Deny, string(denied.Reason), denied.Rule, denied.Hint, false
	case errors.As(err, &failure):
		rec.Reason, rec.Hint = string(failure.Reason), failure.Hint
		rec.CorrelationID, rec.RequestID = failure.CorrelationID, failure.RequestID
		rec.EntraError, rec.EntraCodes = failure.Code, failure.Codes
	default:
		rec.Reason = reasonOf(err)
	}
}

// reasonOf is why something did not come, in one word; "" of no error.
func reasonOf(err error) string {
	var failure *exchange.Error
	var why untold
	switch {
	case err == nil:
		return ""
	case errors.As(err, &failure):
		return string(failure.Reason)
	case errors.As(err, &why):
		return string(policy.GroupsOverage)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return ReasonCallerGone
	case errors.Is(err, errUserExpired):
		return string(userTokenExpired)
	case errors.Is(err, cache.ErrPurged):
		return ReasonPurged
	case errors.Is(err, cache.ErrClosed):
		return ReasonShutdown
	}
	return ReasonInternal
}

// Refuse records a request that a door would not even put to the policy, such
// as one a browser sent. It returns the *Denied to render, or an *AuditError.
// What the caller says of itself is not recorded: the door may not have got as far
// as the key, which may stand there too.
func (b *Broker) Refuse(ctx context.Context, req Request, reason policy.Reason, hint string) (Issued, error) {
	g := b.rules.Load()
	evidence, rec := b.begin(ctx, g, Request{Door: req.Door, Grant: req.Grant, Key: req.Key})
	if agent := g.Policy.Agent(evidence); agent != nil {
		rec.Agent, rec.Owner = agent.Name, agent.Owner
	}
	return b.refuse(ctx, rec, &Denied{Reason: reason, Hint: hint})
}

// refuse records why nothing was exchanged, and returns it.
func (b *Broker) refuse(ctx context.Context, rec *issuance.Record, why error) (Issued, error) {
	b.conclude(rec, exchange.Token{}, time.Time{}, why)
	if err := b.cfg.Recorder.Close(ctx, rec); err != nil {
		return Issued{ID: rec.ID}, &AuditError{Err: err}
	}
	return Issued{ID: rec.ID}, withID(why, rec.ID)
}

// withID puts the issuance into a denial.
func withID(err error, id string) error {
	if denied, ok := errors.AsType[*Denied](err); ok {
		denied.ID = id
	}
	return err
}
