package broker

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/exchange"
)

// Legs keeps the tokens of intermediate legs in the cache, under keys of their
// own that no agent has. Their refreshes are recorded as those of no agent.
// Each Keeper is for one client of one Entra, and finds nothing of another's.
func Legs(c *cache.Cache[exchange.Token], r *issuance.Recorder) exchange.Keeper {
	return legs{c, r, keepers.Add(1)}
}

// keepers counts the calls of Legs.
var keepers atomic.Uint64

type legs struct {
	cache    *cache.Cache[exchange.Token]
	recorder *issuance.Recorder
	number   uint64
}

// key has no agent, so that no request can ever look it up.
func (l legs) key(leg exchange.Leg) cache.Key {
	return cache.Key{Identity: leg.AgentID, Tenant: leg.Tenant, Client: leg.ClientID, Scopes: leg.Audience, Keeper: l.number}
}

// Keep implements exchange.Keeper.
func (l legs) Keep(ctx context.Context, leg exchange.Leg, fetch func(context.Context) (exchange.Token, error)) (exchange.Token, error) {
	entry := func(ctx context.Context) (cache.Entry[exchange.Token], error) {
		token, err := fetch(ctx)
		return cache.Entry[exchange.Token]{Value: token, Lifetime: token.Lifetime, RefreshIn: token.RefreshIn, Bytes: token.Len() + tokenOverhead}, err
	}
	return keep(ctx, l.cache, l.recorder, l.key(leg), entry)
}

// keep returns a token of the broker's own, which has no agent in its key.
func keep(ctx context.Context, c *cache.Cache[exchange.Token], r *issuance.Recorder, key cache.Key, fetch cache.Fetch[exchange.Token]) (exchange.Token, error) {
	token, _, due, ok := c.Lookup(key)
	if ok {
		if due {
			c.Refresh(ctx, key, refresh(r, "", key.Client, fetch))
		}
		return token, nil
	}
	token, _, how, err := c.Get(ctx, key, fetch)
	linkJoined(ctx, how)
	return token, err
}

// linkJoined links the span of ctx to that of whoever started what was joined.
func linkJoined(ctx context.Context, how cache.How) {
	if how.Outcome != cache.Joined {
		return
	}
	if leader := trace.SpanContextFromContext(how.Leader); leader.IsValid() {
		trace.SpanFromContext(ctx).AddLink(trace.Link{SpanContext: leader})
	}
}

// Drop implements exchange.Keeper.
func (l legs) Drop(leg exchange.Leg) { l.cache.Drop(l.key(leg)) }
