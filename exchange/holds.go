package exchange

import (
	"cmp"
	"slices"
	"time"
)

// HoldKind says why a request was not sent. The set is closed, so that it can
// be a metric label.
type HoldKind string

// The kinds of holds.
const (
	Throttled   HoldKind = "throttled"  // Entra asked to wait
	BreakerOpen HoldKind = "breaker"    // exchanges failed, and it is too early to try again
	Remembered  HoldKind = "remembered" // Entra refused the very same request a moment ago
)

// Hold is a tenant and client of which no request leaves until then, or none of its
// own for some scopes. What is held back of a single user is no hold.
type Hold struct {
	Tenant, ClientID string // in lower case
	Kind             HoldKind
	Until            time.Time
}

// Holds returns the holds in force, sorted: those of kind Throttled and
// BreakerOpen. A pair can have both, and no more: the longest of a kind counts.
func (c *Client) Holds() []Hold {
	p, now := c.patience, time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	longest := map[Hold]time.Time{}
	add := func(key pair, kind HoldKind, g *gate) {
		if hold := (Hold{Tenant: key.tenant, ClientID: key.client, Kind: kind}); g.holds(now) && g.until.After(longest[hold]) {
			longest[hold] = g.until
		}
	}
	for _, key := range p.pairs.Keys() {
		at, _ := p.pairs.Peek(key)
		add(key, Throttled, &at.throttle)
		add(key, BreakerOpen, &at.breaker)
		add(key, BreakerOpen, &at.newcomers)
	}
	for _, who := range p.failing.Values() {
		if !who.user {
			add(who.pair, BreakerOpen, &who.gate)
		}
	}
	var holds []Hold
	for hold, until := range longest {
		hold.Until = until
		holds = append(holds, hold)
	}
	slices.SortFunc(holds, func(a, b Hold) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ClientID, b.ClientID), cmp.Compare(a.Kind, b.Kind))
	})
	return holds
}
