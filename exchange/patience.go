package exchange

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	throttleFirst, throttleMost = 2 * time.Second, 60 * time.Second // without a Retry-After
	breakerFirst, breakerMost   = time.Second, 5 * time.Second
	breakerStale                = time.Minute // an outage that long ago says nothing of today
	rememberFor                 = 10 * time.Second
	rememberClaims              = 2 * time.Second // or until they are satisfied, which takes a user
	youngFor                    = 10 * time.Minute

	// A probe that does not come back holds the others back this long. After a
	// throttling that is as long as an attempt can take; after an outage it is
	// shorter, so that a probe that hangs does not prolong it.
	throttleLease, breakerLease = attemptLimit, breakerMost
	// probeNews is when the others may ask what became of a probe.
	probeNews = time.Second

	maxPairs, maxAskers, maxRefusals = 1 << 10, 1 << 12, 1 << 12
)

// patience is what a Client remembers of exchanges, so that it asks Entra
// neither too often nor too late. A pair is a tenant and a client.
//
//	what comes back               this exchange                      the next ones
//	----------------------------  ---------------------------------  -------------------------------------------
//	a token                       ends                               leave; all holds of the pair are lifted
//	429, 90055                    ends                               of the pair: held back for Retry-After, or
//	                                                                 2 s doubling to 60 s; then one leaves first
//	50196, a loop of one request  ends                               the very same: the same error for as long
//	5xx, time-out                 repeated within 200 ms and 800 ms  of this asker: once this one has failed, held
//	                                                                 back for 1 s doubling to 5 s; then one
//	                                                                 leaves first. When another asker fails too,
//	                                                                 of all that failed: the same together, and
//	                                                                 half of it of others than the last; of
//	                                                                 those that did not: 1 s at a time
//	no connection                 the same                           of the pair: the same
//	what is no token answer       repeated once, within 200 ms       as after a 5xx
//	700024; of an agent also      repeated once, with the workload   leave; but when it was repeated in vain,
//	700027, 50013, 500133         token, or the legs before, anew    all but 700024 are as any refusal
//	70021, 700211, 700212,        repeated after 1 s and 3 s while   as after any refusal
//	700213, 70025                 the pair is young: no token yet,
//	                              or one in the last 10 minutes
//	another refusal, or a token   ends                               with the same scopes, issuer and subject:
//	of another kind, or of                                           the same error for 10 s
//	somebody else
//	a refusal that asks for       ends                               the same for the same user, and with the
//	claims, or answers some                                          same claims: 2 s. With others they leave
//	no usable workload token      ends, nothing was sent             leave
//	the end of the context        ends                               leave
//
// An exchange is repeated only while its context has time for it, and after an
// outage not before the Retry-After of that, up to 5 s. The one that leaves first
// is a probe, which no outage makes repeat itself. Requests that were under way
// together count as one failure. What Entra answers at all ends an outage of the
// pair, but not that of another asker: Entra can be out of order for one user, and
// that user's requests must neither hold the others back nor be their probe.
type patience struct {
	jitter func(most time.Duration) time.Duration // between 0 and most

	mu       sync.Mutex // guards the rest, and is never held across I/O
	pairs    *simplelru.LRU[pair, *standing]
	failing  *simplelru.LRU[question, *asker]
	refusals *simplelru.LRU[question, remembered]
}

// pair is whom Entra throttles, in lower case.
type pair struct{ tenant, client string }

// standing is how a pair stands with Entra.
type standing struct {
	throttle  gate
	breaker   gate      // of the askers that failed themselves
	newcomers gate      // of the others
	failed    question  // the last asker to fail since Entra answered anybody; zero for none
	others    time.Time // when the breaker lets others than that leave, if it is open
	succeeded time.Time // of the last token; zero before the first
}

// asker is a user, or a client with its scopes, for whom an exchange has failed.
type asker struct {
	gate
	pair   pair
	user   bool
	shared bool // others failed with it: the breaker held it, and not this gate
}

func newPatience() (*patience, error) {
	pairs, err := simplelru.NewLRU[pair, *standing](maxPairs, nil)
	if err != nil {
		return nil, err
	}
	failing, err := simplelru.NewLRU[question, *asker](maxAskers, nil)
	if err != nil {
		return nil, err
	}
	refusals, err := simplelru.NewLRU[question, remembered](maxRefusals, nil)
	if err != nil {
		return nil, err
	}
	jitter := func(most time.Duration) time.Duration { return rand.N(most + 1) }
	return &patience{jitter: jitter, pairs: pairs, failing: failing, refusals: refusals}, nil
}

// leave is the permission of one request. Its holder reports how it ended, by
// one of the methods of patience that take one.
type leave struct {
	at       *standing // guarded by patience.mu
	ask      *ask
	who      question
	newcomer bool  // the asker had not failed
	left     turns // of the gates when it left
	probe    bool  // it stands for others
	young    bool  // a refused federation may be one that is not known everywhere yet
}

type turns struct{ throttle, breaker, newcomers, own int }

// held says whether a request would be held back, whatever its workload token.
func (p *patience) held(a *ask) *heldBack {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	who := a.asker()
	return p.standing(a.pair()).held(now, who, p.own(who))
}

// admit lets a request leave, or answers it.
func (p *patience) admit(a *ask, q question) (leave, *heldBack) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	at, who := p.standing(a.pair()), a.asker()
	own := p.own(who)
	if h := at.held(now, who, own); h != nil {
		return leave{}, h
	}
	if known, ok := p.refusals.Get(q); ok && now.Before(known.until) {
		return leave{}, known.answer(now)
	}
	l := leave{
		at: at, ask: a, who: who, newcomer: own.inARow == 0,
		young: at.succeeded.IsZero() || now.Sub(at.succeeded) < youngFor,
	}
	lease := breakerLease
	if l.newcomer {
		lease = breakerFirst
	}
	throttled, broken := at.throttle.probe(now, throttleLease), at.outage(own).probe(now, lease)
	l.probe = throttled || broken || !l.newcomer
	if !own.shared {
		own.probe(now, breakerLease)
	}
	l.left = turns{at.throttle.turn, at.breaker.turn, at.newcomers.turn, own.turn}
	return l, nil
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

// own is an asker with its gate, which holds nobody and is kept nowhere if none has
// failed. It is called with mu held.
func (p *patience) own(who question) *asker {
	if known, ok := p.failing.Peek(who); ok {
		return known
	}
	return &asker{}
}

// outage is the gate of the pair's outage for an asker. Those who failed already
// cannot tell their own trouble from Entra's, so the others do not wait for them.
func (s *standing) outage(own *asker) *gate {
	if own.inARow == 0 {
		return &s.newcomers
	}
	return &s.breaker
}

func (s *standing) held(now time.Time, who question, own *asker) *heldBack {
	// Before the gates are asked: whoever fades on the way out would take no turn.
	s.breaker.fade(now)
	own.fade(now)
	if s.breaker.inARow == 0 { // else those who failed a minute ago would all be newcomers at once
		s.newcomers.fade(now)
	}
	if s.throttle.holds(now) {
		return s.throttle.answer(Throttled, now)
	}
	g, broken := &own.gate, *s.outage(own)
	if own.inARow > 0 && s.breaker.inARow > 0 && !broken.probing && s.failed != (question{}) && s.failed != who {
		// The last to fail comes after the others, or its trouble could be theirs
		// for ever.
		broken.until = s.others
	}
	if broken.until.After(own.until) {
		g = &broken
	}
	if g.holds(now) {
		return g.answer(BreakerOpen, now)
	}
	return nil
}

// answered: Entra is there, and gave a token or a refusal.
func (p *patience) answered(l leave, withToken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard(l)
	if l.at.throttle.turn == l.left.throttle { // else it left before Entra said to wait
		l.at.throttle.lift()
	}
	if withToken {
		l.at.succeeded = time.Now()
	}
}

// heard ends the outage of the pair, and of whoever asked. It is called with mu held.
func (p *patience) heard(l leave) {
	l.at.breaker.lift()
	l.at.newcomers.lift()
	l.at.failed = question{}
	p.own(l.who).lift()
}

// throttled: Entra asked to wait. It completes failure.RetryAfter.
func (p *patience) throttled(l leave, failure *Error) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard(l)
	g, wait := &l.at.throttle, failure.RetryAfter
	switch {
	case g.turn == l.left.throttle || g.inARow == 0:
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
	if l.at.throttle.turn == l.left.throttle {
		l.at.throttle.lift()
	}
	at := l.at
	switch {
	case !last:
	case failure.Reason == EntraUnavailable && failure.Status == 0: // no connection: whoever asks
		until := now.Add(p.window(max(at.breaker.inARow, at.newcomers.inARow), failure))
		at.breaker.shut(l.left.breaker, until, failure)
		at.newcomers.shut(l.left.newcomers, until, failure)
		at.failed = question{}
		p.releaseOwn(l, now)
	case !p.shared(l, now):
		p.blame(l, false).shut(l.left.own, now.Add(p.window(p.own(l.who).inARow, failure)), failure)
	default:
		p.blame(l, true).shut(l.left.own, now, failure)
		if !l.newcomer || at.breaker.inARow == 0 {
			window := p.window(at.breaker.inARow, failure)
			if at.breaker.turn == l.left.breaker {
				at.failed, at.others = l.who, now.Add(window/2)
			}
			at.breaker.shut(l.left.breaker, now.Add(window), failure)
		}
		if l.newcomer {
			at.newcomers.shut(l.left.newcomers, now.Add(p.window(0, failure)), failure)
		}
	}
}

// shared says whether others fail too, and notes that this one does. One that left
// before Entra last answered says nothing of the others.
func (p *patience) shared(l leave, now time.Time) bool {
	at := l.at
	if at.breaker.inARow > 0 {
		return true
	}
	if at.breaker.turn != l.left.breaker {
		return false
	}
	other := p.own(at.failed)
	other.fade(now)
	shared := at.failed != l.who && other.inARow > 0
	at.failed = l.who
	return shared
}

// blame is the gate of the asker, which is kept from now on.
func (p *patience) blame(l leave, shared bool) *gate {
	known, ok := p.failing.Get(l.who)
	if !ok {
		known = &asker{pair: l.ask.pair(), user: l.ask.want.kind == Delegated}
		p.failing.Add(l.who, known)
	}
	known.shared = shared
	return &known.gate
}

// window is how long to hold back after so many failures in a row before this one.
func (p *patience) window(inARow int, failure *Error) time.Duration {
	window := doubled(breakerFirst, breakerMost, inARow)
	window = window*3/4 + p.jitter(window/4)
	return max(window, min(failure.RetryAfter, breakerMost))
}

// unknown: the request was given up, or never left.
func (p *patience) unknown(l leave) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.at.throttle.turn == l.left.throttle {
		l.at.throttle.release(now)
	}
	if l.at.breaker.turn == l.left.breaker {
		l.at.breaker.release(now)
	}
	if l.at.newcomers.turn == l.left.newcomers {
		l.at.newcomers.release(now)
	}
	p.releaseOwn(l, now)
}

// releaseOwn: it was no news of the asker.
func (p *patience) releaseOwn(l leave, now time.Time) {
	if own := p.own(l.who); own.turn == l.left.own {
		own.release(now)
	}
}
