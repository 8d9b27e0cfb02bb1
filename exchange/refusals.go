package exchange

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/credfree/credfree/exchange/workload"
)

// question is a digest of all that decides a refusal; that of an asker, of all that
// an outage can be about.
type question [sha256.Size]byte

// remembered is a refusal, or a loop, and the answer to the same question.
type remembered struct {
	until  time.Time
	kind   HoldKind
	inARow int // loops that Entra has seen
	why    *Error
}

// remember keeps a copy of a refusal.
func (p *patience) remember(q question, failure *Error, keep time.Duration) {
	kept := *failure
	until := time.Now().Add(keep)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusals.Add(q, remembered{until: until, kind: Remembered, why: &kept})
}

// looped: Entra sees a loop of this very request, which is nobody else's. It
// completes failure.RetryAfter.
func (p *patience) looped(q question, failure *Error) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.refusals.Get(q)
	if !ok || known.kind != Throttled || now.Sub(known.until) > throttleMost {
		known = remembered{kind: Throttled}
	}
	if failure.RetryAfter == 0 {
		failure.RetryAfter = doubled(throttleFirst, throttleMost, known.inARow)
	}
	kept := *failure
	known.until, known.inARow, known.why = now.Add(failure.RetryAfter), known.inARow+1, &kept
	p.refusals.Add(q, known)
}

func (r remembered) answer(now time.Time) *heldBack {
	why := *r.why
	if r.kind == Throttled {
		why.RetryAfter = r.until.Sub(now)
	}
	return &heldBack{r.kind, &why}
}

// question digests an ask, with whose token is expected. The proof is in it by its issuer and
// subject, which do not change when it is replaced; a user's is in it whole.
func (a *ask) question(assertion workload.Assertion) question {
	scopes := slices.Sorted(slices.Values(a.scopes))
	return sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q %q %q %q %q %q %q %q", a.pair(), a.want.tenant, a.want.objectID, a.grant, scopes, a.claims, a.path, assertion.Issuer, assertion.Subject,
		a.user.Token.Reveal(), a.user.Session.Reveal(), a.agentUser.Username, a.agentUser.ObjectID))
}

// asker digests whom an outage can be about: a user, whatever is asked for, or else
// the scopes. Claims are not in it, which a caller can make up.
func (a *ask) asker() question {
	user := cmp.Or(a.user.ObjectID, a.user.Token.Reveal(), a.user.Session.Reveal(), a.agentUser.ObjectID, a.agentUser.Username)
	var scopes []string
	if a.want.kind != Delegated {
		scopes = slices.Sorted(slices.Values(a.scopes))
	}
	return sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q", a.pair(), a.grant, a.path, user, scopes))
}
