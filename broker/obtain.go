package broker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/secret"
)

// want is a decision that allows, with what it takes to carry it out.
type want struct {
	policy.Decision
	*principal
	exchange *exchange.Client
	claims   string
	user     *verified // nil: the identity's own token
	ahead    bool      // of need: nobody waits, and nothing was challenged
}

// obtain finds a token in the cache, joins an exchange in flight, or starts one.
func (b *Broker) obtain(ctx context.Context, rec *issuance.Record, w *want) (exchange.Token, time.Time, error) {
	token, expires, err := b.take(ctx, rec, w)
	if err == nil || !errors.Is(err, errUserExpired) {
		return token, expires, err
	}
	// The exchange may have begun a session, which goes on from here.
	if _, ends, ok := b.sessions.find(sessionKey{rec.Agent, w.key, w.user.hash}, w.LongRunning, b.cfg.Now()); ok {
		user := *w.user
		user.Expires, user.inSession, rec.Session = ends, true, true
		w.user = &user
		if token, expires, err = b.take(ctx, rec, w); !errors.Is(err, errUserExpired) {
			return token, expires, err
		}
	}
	return exchange.Token{}, time.Time{}, &Denied{Agent: rec.Agent, Reason: userTokenExpired, Rule: w.Rule, Hint: "the user's token expired while Entra was asked: get a fresh one, and send that"}
}

// take is obtain with one proof of the user. The error wraps errUserExpired when that
// was over before there was a token.
func (b *Broker) take(ctx context.Context, rec *issuance.Record, w *want) (exchange.Token, time.Time, error) {
	key := w.cacheKey(rec.Agent)
	token, expires, due, ok := b.cfg.Cache.Lookup(key)
	if ok && !due {
		rec.Cache = issuance.Hit
		return token, expires, nil
	}
	ctx = b.cfg.Recorder.Open(ctx, rec)
	kept := *w // the exchange may outlive the request
	if ok {
		rec.Cache, kept.ahead = issuance.Hit, true
		b.cfg.Cache.Refresh(ctx, key, refresh(b.cfg.Recorder, key.Agent, w.clientID, b.fetch(key, &kept)))
		return token, expires, nil
	}
	rec.Cache = issuance.Miss
	token, expires, how, err := b.cfg.Cache.Get(ctx, key, b.counted(b.fetch(key, &kept)))
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

// errUserExpired says that there is a token for a user whose own has expired during
// the exchange.
var errUserExpired = errors.New("the user's token has expired")

// errSessionOver says that nothing was exchanged, because a session had ended before.
var errSessionOver = fmt.Errorf("the session is over: %w", cache.ErrPurged)

// asked reports whether Entra was, by how an exchange ended.
func asked(err error) bool {
	failure, ok := errors.AsType[*exchange.Error](err)
	return (!ok || failure.Asked()) && !errors.Is(err, errSessionOver)
}

func (w *want) cacheKey(agent string) cache.Key {
	key := cache.Key{Agent: agent, Identity: w.key, Tenant: w.tenant, Client: w.entra, Scopes: w.Scope}
	if w.claims != "" {
		key.Claims = sha256.Sum256([]byte(w.claims))
	}
	if w.user != nil {
		key.User, key.UserID = w.user.hash, w.user.Tenant+"/"+w.user.ObjectID
	}
	return key
}

// counted counts an exchange when it ends, whoever still waits for it.
func (b *Broker) counted(fetch cache.Fetch[exchange.Token]) cache.Fetch[exchange.Token] {
	return func(ctx context.Context) (cache.Entry[exchange.Token], error) {
		start := time.Now()
		entry, err := fetch(ctx)
		if asked(err) {
			b.cfg.Recorder.Exchanged(start, reasonOf(err))
		}
		return entry, err
	}
}

// fetch is the exchange behind a cache entry. Whoever waits for it, and
// whether anybody still does, it runs to its own end.
func (b *Broker) fetch(key cache.Key, w *want) cache.Fetch[exchange.Token] {
	return func(ctx context.Context) (cache.Entry[exchange.Token], error) {
		req := exchange.Request{Scopes: w.Scopes, Claims: w.claims}
		var session *beginning
		if w.user != nil {
			session = b.sessions.begin(key, w.user, w.Agent)
			defer b.sessions.leave(session)
			req.User, req.KeepSession = b.proofOf(key, w), w.LongRunning > 0
			if w.user.inSession && req.User.Session.Len() == 0 { // ended since the user was verified
				return cache.Entry[exchange.Token]{}, errSessionOver
			}
		}
		began := b.cfg.Now()
		token, err := w.exchange.Token(ctx, w.principal.Identity, req)
		b.exchanged(w.exchange, err)
		if err != nil {
			return cache.Entry[exchange.Token]{}, err
		}
		// Use puts its rules in force before it purges: a reload after this line
		// finds the flight, and one before it is seen here.
		if b.rules.Load().Exchange != w.exchange {
			return cache.Entry[exchange.Token]{}, cache.ErrPurged
		}
		if w.user != nil {
			b.sessions.keep(session, token.Session, b.cfg.Now())
		}
		if w.claims != "" && !w.ahead {
			// The token without the claims is what was challenged: nobody gets it again.
			b.cfg.Cache.Drop(key.WithoutClaims())
		}
		if w.user != nil && since(w.user.Expires, b.cfg.Now()) >= 0 {
			return cache.Entry[exchange.Token]{}, errUserExpired
		}
		entry := w.entry(token, began)
		b.remember(key, w, token, began.Add(entry.Lifetime))
		return entry, nil
	}
}

// entry bounds the life of a token for a user, which counts from when the exchange
// began, by that of the user's token or of the session. What is bounded so is not
// refreshed: the next one would end at
// the same moment.
func (w *want) entry(token exchange.Token, began time.Time) cache.Entry[exchange.Token] {
	token.Session = secret.Text{} // kept apart, and with it the right to go on
	entry := cache.Entry[exchange.Token]{Value: token, Lifetime: token.Lifetime, RefreshIn: token.RefreshIn, Bytes: token.Len() + tokenOverhead}
	if w.user == nil {
		return entry
	}
	if left := w.user.Expires.Sub(began); left < entry.Lifetime {
		entry.Lifetime, entry.NoRefresh = left, true
	}
	return entry
}

// refresh is a fetch that nobody waits for. It has a trace of its own, linked
// to the issuance that found the token to be ageing.
func refresh(r *issuance.Recorder, agent, clientID string, fetch cache.Fetch[exchange.Token]) cache.Fetch[exchange.Token] {
	return func(ctx context.Context) (cache.Entry[exchange.Token], error) {
		ctx, end := r.Refresh(ctx, agent, clientID)
		entry, err := fetch(ctx)
		end(reasonOf(err), asked(err))
		return entry, err
	}
}

// tokenOverhead is what an exchange.Token takes beside its text: the struct,
// its ids and a few roles or scopes.
const tokenOverhead = 640
