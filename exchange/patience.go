package exchange

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/credfree/credfree/exchange/workload"
)

const (
	throttleFirst, throttleMost = 2 * time.Second, 60 * time.Second // without a Retry-After
	breakerFirst, breakerMost   = time.Second, 5 * time.Second
	breakerStale                = time.Minute // an outage that long ago says nothing of today
	rememberFor                 = 10 * time.Second
	youngFor                    = 10 * time.Minute

	// A probe that does not come back holds the others back this long. After a
	// throttling that is as long as an attempt can take; after an outage it is
	// shorter, so that a probe that hangs does not prolong it.
	throttleLease, breakerLease = attemptLimit, breakerMost
	// probeNews is when the others may ask what became of a probe.
	probeNews = time.Second

	maxPairs, maxRefusals = 1 << 10, 1 << 12
)

// patience is what a Client remembers of exchanges, so that it asks Entra
// neither too often nor too late. A pair is a tenant and a client.
//
//	what comes back               this exchange                      the next ones
//	----------------------------  ---------------------------------  -------------------------------------------
//	a token                       ends                               leave; all holds of the pair are lifted
//	429, 90055, 50196             ends                               of the pair: held back for Retry-After, or
//	                                                                 2 s doubling to 60 s; then one leaves first
//	5xx, time-out, no connection  repeated within 200 ms and 800 ms  of the pair: once this one has failed, held
//	                                                                 back for 1 s doubling to 5 s; then one
//	                                                                 leaves first
//	what is no token answer       repeated once, within 200 ms       the same
//	700024; of an agent also      repeated once, with the workload   leave
//	700027, 50013, 500133         token, or the legs before, anew
//	70021, 700211, 700212,        repeated after 1 s and 3 s while   as after any refusal
//	700213, 70025                 the pair is young: no token yet,
//	                              or one in the last 10 minutes
//	another refusal               ends                               with the same scopes, issuer and subject:
//	                                                                 the same error for 10 s
//	a refusal that asks for       ends                               leave: a challenge and its answer always
//	claims, or answers some                                          reach Entra
//	no usable workload token      ends, nothing was sent             leave
//	the end of the context        ends                               leave
//
// An exchange is repeated only while its context has time for it, and after an
// outage not before the Retry-After of that, up to 5 s. The one that leaves first
// is a probe, which no outage makes repeat itself. Requests that were under way
// together count as one failure. What Entra answers at all ends an outage.
type patience struct {
	jitter func(most time.Duration) time.Duration // between 0 and most

	mu       sync.Mutex // guards the rest, and is never held across I/O
	pairs    *simplelru.LRU[pair, *standing]
	refusals *simplelru.LRU[question, remembered]
}

// pair is whom Entra throttles, in lower case.
type pair struct{ tenant, client string }

// standing is how a pair stands with Entra.
type standing struct {
	throttle, breaker gate
	succeeded         time.Time // of the last token; zero before the first
}

// question is a digest of all that decides a refusal.
type question [sha256.Size]byte

type remembered struct {
	until time.Time
	why   *Error
}

func newPatience() (*patience, error) {
	pairs, err := simplelru.NewLRU[pair, *standing](maxPairs, nil)
	if err != nil {
		return nil, err
	}
	refusals, err := simplelru.NewLRU[question, remembered](maxRefusals, nil)
	if err != nil {
		return nil, err
	}
	jitter := func(most time.Duration) time.Duration { return rand.N(most + 1) }
	return &patience{jitter: jitter, pairs: pairs, refusals: refusals}, nil
}

// HoldKind says why a request was not sent. The set is closed, so that it can
// be a metric label.
type HoldKind string

// The kinds of holds.
const (
	Throttled   HoldKind = "throttled"  // Entra asked to wait
	BreakerOpen HoldKind = "breaker"    // exchanges failed, and it is too early to try again
	Remembered  HoldKind = "remembered" // Entra refused the very same request a moment ago
)

// Hold is a tenant and client for which no request leaves until then.
type Hold struct {
	Tenant, ClientID string // in lower case
	Kind             HoldKind
	Until            time.Time
}

// Holds returns the holds in force, sorted: those of kind Throttled and
// BreakerOpen. A pair can have both.
func (c *Client) Holds() []Hold {
	p, now := c.patience, time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	var holds []Hold
	for _, key := range p.pairs.Keys() {
		at, _ := p.pairs.Peek(key)
		if at.throttle.holds(now) {
			holds = append(holds, Hold{Tenant: key.tenant, ClientID: key.client, Kind: Throttled, Until: at.throttle.until})
		}
		if at.breaker.holds(now) {
			holds = append(holds, Hold{Tenant: key.tenant, ClientID: key.client, Kind: BreakerOpen, Until: at.breaker.until})
		}
	}
	slices.SortFunc(holds, func(a, b Hold) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ClientID, b.ClientID), cmp.Compare(a.Kind, b.Kind))
	})
	return holds
}

// heldBack is an answer given in Entra's place.
type heldBack struct {
	kind HoldKind
	why  *Error // a copy: the caller's
}

// gate holds the requests of a pair back for one reason.
type gate struct {
	inARow  int       // failures without an end to them; 0 holds nobody
	until   time.Time // nobody leaves before, and whoever comes then is the probe
	probing bool
	turn    int // how often it has changed: what left before a change is no news
	why     *Error
}

func (g *gate) holds(now time.Time) bool { return g.inARow > 0 && now.Before(g.until) }

// answer is what those who are held back get.
func (g *gate) answer(kind HoldKind, now time.Time) *heldBack {
	why := *g.why
	why.RetryAfter = g.until.Sub(now)
	if g.probing {
		why.RetryAfter = min(why.RetryAfter, probeNews)
	}
	return &heldBack{kind, &why}
}

// probe makes the request that leaves now the only one, and what an older probe
// that hangs will have to say no news.
func (g *gate) probe(now time.Time, lease time.Duration) bool {
	if g.inARow == 0 {
		return false
	}
	g.until, g.probing = now.Add(lease), true
	g.turn++
	return true
}

// hold keeps a copy of why: the original belongs to a caller.
func (g *gate) hold(until time.Time, why *Error) {
	kept := *why
	*g = gate{inARow: g.inARow + 1, until: until, turn: g.turn + 1, why: &kept}
}

func (g *gate) lift() { *g = gate{turn: g.turn + 1} }

// release lets the next one be the probe, as this one has learnt nothing.
func (g *gate) release(now time.Time) {
	if g.probing {
		g.until, g.probing = now, false
	}
}

// leave is the permission of one request. Its holder reports how it ended, by
// one of the methods of patience that take one.
type leave struct {
	at                *standing // guarded by patience.mu
	throttle, breaker int       // turns of the gates when it left
	probe             bool      // it stands for all others
	young             bool      // a refused federation may be one that is not known everywhere yet
}

// held says whether a request would be held back, whatever its workload token.
func (p *patience) held(key pair) *heldBack {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.standing(key).held(now)
}

// admit lets a request leave, or answers it.
func (p *patience) admit(a *ask, q question) (leave, *heldBack) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.standing(a.pair())
	if h := at.held(now); h != nil {
		return leave{}, h
	}
	if known, ok := p.refusals.Get(q); ok && a.claims == "" {
		if now.Before(known.until) {
			why := *known.why
			return leave{}, &heldBack{Remembered, &why}
		}
		p.refusals.Remove(q)
	}
	if at.breaker.inARow > 0 && now.Sub(at.breaker.until) > breakerStale {
		at.breaker.lift()
	}
	throttled, broken := at.throttle.probe(now, throttleLease), at.breaker.probe(now, breakerLease)
	return leave{
		at: at, throttle: at.throttle.turn, breaker: at.breaker.turn, probe: throttled || broken,
		young: at.succeeded.IsZero() || now.Sub(at.succeeded) < youngFor,
	}, nil
}

// standing is called with mu held.
func (p *patience) standing(key pair) *standing {
	at, ok := p.pairs.Get(key)
	if !ok {
		at = &standing{}
		p.pairs.Add(key, at)
	}
	return at
}

func (s *standing) held(now time.Time) *heldBack {
	switch {
	case s.throttle.holds(now):
		return s.throttle.answer(Throttled, now)
	case s.breaker.holds(now):
		return s.breaker.answer(BreakerOpen, now)
	}
	return nil
}

// answered: Entra is there, and gave a token or a refusal.
func (p *patience) answered(l leave, withToken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.at.breaker.lift()
	if l.at.throttle.turn == l.throttle { // else it left before Entra said to wait
		l.at.throttle.lift()
	}
	if withToken {
		l.at.succeeded = time.Now()
	}
}

// throttled: Entra asked to wait. It completes failure.RetryAfter.
func (p *patience) throttled(l leave, failure *Error) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	l.at.breaker.lift()
	g, wait := &l.at.throttle, failure.RetryAfter
	switch {
	case g.turn == l.throttle || g.inARow == 0:
		if wait == 0 {
			wait = doubled(throttleFirst, throttleMost, g.inARow)
		}
		g.hold(now.Add(wait), failure)
	case now.Add(wait).After(g.until): // of those that left together, the longest wait counts
		g.until, g.probing = now.Add(wait), false
	}
	failure.RetryAfter = max(g.until.Sub(now), 0)
}

// failed: no answer, or none of Entra's. last says that the exchange ends.
func (p *patience) failed(l leave, failure *Error, last bool) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.at.throttle.turn == l.throttle {
		l.at.throttle.lift()
	}
	if g := &l.at.breaker; last && g.turn == l.breaker {
		window := doubled(breakerFirst, breakerMost, g.inARow)
		window = window*3/4 + p.jitter(window/4)
		g.hold(now.Add(max(window, min(failure.RetryAfter, breakerMost))), failure)
	}
}

// unknown: the request was given up, or never left.
func (p *patience) unknown(l leave) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.at.throttle.turn == l.throttle {
		l.at.throttle.release(now)
	}
	if l.at.breaker.turn == l.breaker {
		l.at.breaker.release(now)
	}
}

// remember keeps a copy of a refusal.
func (p *patience) remember(q question, failure *Error) {
	kept := *failure
	until := time.Now().Add(rememberFor)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusals.Add(q, remembered{until, &kept})
}

// question digests an ask without claims. The proof is in it by its issuer and
// subject, which do not change when it is replaced; a user's is in it whole.
func (a *ask) question(assertion workload.Assertion) question {
	scopes := slices.Sorted(slices.Values(a.scopes))
	return sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q %q %q %q %q", a.pair(), a.grant, scopes, a.path, assertion.Issuer, assertion.Subject,
		a.user.Token.Reveal(), a.user.Session.Reveal(), a.agentUser.Username, a.agentUser.ObjectID))
}

// doubled returns first, doubled times times, or most.
func doubled(first, most time.Duration, times int) time.Duration {
	for range times {
		if first >= most/2 {
			return most
		}
		first *= 2
	}
	return first
}
