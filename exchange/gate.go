package exchange

import "time"

// heldBack is an answer given in Entra's place.
type heldBack struct {
	kind HoldKind
	why  *Error // a copy: the caller's
}

// gate holds requests back for one reason.
type gate struct {
	inARow  int       // failures without an end to them; 0 holds nobody
	until   time.Time // nobody leaves before, and whoever comes then is the probe
	probing bool
	turn    int // how often it has changed: what left before a change is no news
	why     *Error
}

func (g *gate) holds(now time.Time) bool { return g.inARow > 0 && now.Before(g.until) }

// fade lifts a hold that ended so long ago that it says nothing of today.
func (g *gate) fade(now time.Time) {
	if g.inARow > 0 && now.Sub(g.until) > breakerStale {
		g.lift()
	}
}

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

// shut holds, unless the gate has changed since the failed request left.
func (g *gate) shut(left int, until time.Time, why *Error) {
	if g.turn == left {
		g.hold(until, why)
	}
}

func (g *gate) lift() { *g = gate{turn: g.turn + 1} }

// release lets the next one be the probe, as this one has learnt nothing.
func (g *gate) release(now time.Time) {
	if g.probing {
		g.until, g.probing = now, false
	}
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
