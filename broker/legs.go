package broker

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/exchange"
)

// Legs keeps the tokens of intermediate legs in the cache, under keys of their
// own that no agent has. Their refreshes are recorded as those of no agent.
func Legs(c *cache.Cache[exchange.Token], r *issuance.Recorder) exchange.Keeper { return legs{c, r} }

type legs struct {
	cache    *cache.Cache[exchange.Token]
	recorder *issuance.Recorder
}

// legKey has no agent, so that no request can ever look it up.
func legKey(leg exchange.Leg) cache.Key {
	return cache.Key{Identity: leg.AgentID, Tenant: leg.Tenant, Client: leg.ClientID, Scopes: leg.Audience}
}

// Keep implements exchange.Keeper.
func (l legs) Keep(ctx context.Context, leg exchange.Leg, fetch func(context.Context) (exchange.Token, error)) (exchange.Token, error) {
	key := legKey(leg)
	entry := func(ctx context.Context) (cache.Entry[exchange.Token], error) {
		token, err := fetch(ctx)
		return cache.Entry[exchange.Token]{Value: token, Lifetime: token.Lifetime, RefreshIn: token.RefreshIn, Bytes: token.Len() + tokenOverhead}, err
	}
	token, _, due, ok := l.cache.Lookup(key)
	if ok {
		if due {
			l.cache.Refresh(ctx, key, refresh(l.recorder, "", entry))
		}
		return token, nil
	}
	token, _, how, err := l.cache.Get(ctx, key, entry)
	if how.Outcome == cache.Joined {
		if leader := trace.SpanContextFromContext(how.Leader); leader.IsValid() {
			trace.SpanFromContext(ctx).AddLink(trace.Link{SpanContext: leader})
		}
	}
	return token, err
}

// Drop implements exchange.Keeper.
func (l legs) Drop(leg exchange.Leg) { l.cache.Drop(legKey(leg)) }
