package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
)

const (
	maxGroupUsers = 1 << 10
	maxGroupBytes = 16 << 20
	groupsFor     = 5 * time.Minute  // a user who leaves a group is noticed that late
	noGroupsFor   = 10 * time.Second // for what Graph refuses to tell
)

// groups remembers the groups of users whose tokens do not list them, as Microsoft
// Graph told an identity. Who wants to know the same at the same time shares one
// question.
type groups struct {
	told *cache.Cache[membership]

	mu   sync.Mutex // guards held
	held map[pair]hold
}

// membership is what Graph told, or why it did not.
type membership struct {
	groups []string
	err    error // an untold, or an *exchange.Error for what passes
}

// untold says why Graph does not tell what somebody would have to change first.
type untold string

func (u untold) Error() string { return string(u) }

// pair is an identity as Graph knows it, and as it throttles.
type pair struct{ tenant, clientID string }

// hold is how long nothing is asked for an identity.
type hold struct {
	why   *exchange.Error
	until time.Time
}

func newGroups() (*groups, error) {
	told, err := cache.New[membership](cache.Config{MaxEntries: maxGroupUsers, MaxBytes: maxGroupBytes})
	return &groups{told: told, held: map[pair]hold{}}, err
}

// resolveGroups puts the user's groups in the place of the overage. When they
// cannot be had, the overage stays, and with it the denial, or the failure where
// it passes.
func (b *Broker) resolveGroups(ctx context.Context, rec *issuance.Record, g *generation, d policy.Decision, user *verified) error {
	list, err := b.groupsOf(ctx, rec, g, d, policy.UserID{Tenant: user.Tenant, ObjectID: user.ObjectID})
	if why, ok := errors.AsType[untold](err); ok {
		return &Denied{Agent: d.Agent.Name, Reason: policy.GroupsOverage, Rule: d.Rule,
			Hint: "the user is in more groups than the token lists, and Microsoft Graph did not tell which: " + string(why) +
				"; grant the identity GroupMember.Read.All, or assign groups to the application so that the token lists those alone"}
	}
	if err != nil {
		return err
	}
	user.Groups, user.GroupsOverage, user.unlisted = list, false, true
	return nil
}

// groupsOf returns what is known of the user's groups, or asks.
func (b *Broker) groupsOf(ctx context.Context, rec *issuance.Record, g *generation, d policy.Decision, id policy.UserID) ([]string, error) {
	p := g.principals[member{d.Identity, d.Member}]
	key := cache.Key{Tenant: p.tenant, Client: p.clientID, UserID: id.Tenant + "/" + id.ObjectID}
	if known, until, _, ok := b.groups.told.Lookup(key); ok {
		return known.groups, heldBack(known.err, until.Sub(b.cfg.Now()))
	}
	if held, ok := b.groups.holds(pair{p.tenant, p.clientID}, b.cfg.Now()); ok {
		return nil, heldBack(held.why, held.until.Sub(b.cfg.Now()))
	}
	ctx, end := b.cfg.Recorder.Work(ctx, rec, "user.groups")
	known, _, how, err := b.groups.told.Get(ctx, key, func(ctx context.Context) (cache.Entry[membership], error) {
		return b.fetchGroups(ctx, g, p, id)
	})
	linkJoined(ctx, how)
	if err == nil {
		err = known.err
	}
	end(reasonOf(err))
	return known.groups, err
}

// heldBack is a failure that is remembered, for as long as it is.
func heldBack(err error, left time.Duration) error {
	why, ok := errors.AsType[*exchange.Error](err)
	if !ok {
		return err
	}
	held := *why
	held.HeldBack, held.RetryAfter = true, left
	return &held
}

// fetchGroups asks Graph, and says how long the answer counts.
func (b *Broker) fetchGroups(ctx context.Context, g *generation, p *principal, id policy.UserID) (cache.Entry[membership], error) {
	began := b.cfg.Now()
	told, err := b.askGraph(ctx, g, p, id)
	if err == nil && b.rules.Load().Exchange != g.Exchange { // as fetch sees to
		err = cache.ErrPurged
	}
	if err != nil { // no answer of Graph's, and remembered by whom it is of
		return cache.Entry[membership]{}, err
	}
	entry := cache.Entry[membership]{Value: told, Lifetime: groupsFor, NoRefresh: true}
	for _, group := range told.groups {
		entry.Bytes += len(group) + 16
	}
	if told.err == nil {
		return entry, nil
	}
	now, most := b.cfg.Now(), noGroupsFor
	if why, ok := errors.AsType[*exchange.Error](told.err); ok {
		most = why.RetryAfter
		if why.Reason == exchange.EntraThrottled {
			b.groups.hold(pair{p.tenant, p.clientID}, hold{why, now.Add(most)})
		}
	}
	entry.Lifetime = now.Sub(began) + most
	return entry, nil
}

func (g *groups) hold(who pair, h hold) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h.until.After(g.held[who].until) { // of those asked together, the longest wait counts
		g.held[who] = h
	}
}

// holds returns how long nothing is asked for an identity; ok is false when it may be.
func (g *groups) holds(who pair, now time.Time) (h hold, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	h, ok = g.held[who]
	if ok && !now.Before(h.until) {
		delete(g.held, who)
		return hold{}, false
	}
	return h, ok
}

// forget makes what Graph told of the users of these ids unknown.
func (g *groups) forget(match func(userID string) bool) {
	g.told.Purge(func(key cache.Key) bool { return match(key.UserID) })
}
