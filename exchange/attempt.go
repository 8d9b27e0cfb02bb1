package exchange

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

const (
	// attemptLimit bounds one request, so that one that hangs leaves time for
	// another.
	attemptLimit = 10 * time.Second
	// leastTime is what an attempt needs. One with less would only put a
	// time-out in the place of an error that says more.
	leastTime = time.Second
)

var (
	faultPauses       = [...]time.Duration{200 * time.Millisecond, 800 * time.Millisecond} // at most: full jitter
	propagationPauses = [...]time.Duration{time.Second, 3 * time.Second}
)

// attempt is one request of an exchange.
type attempt struct {
	number        int    // from 0
	correlationID string // of the first attempt, shared by all; "" for the first
}

// exchange asks Entra, again where that can help: see patience.
func (c *Client) exchange(ctx context.Context, a *ask) (Token, *Error) {
	// 1. Nothing is read, sent or waited for while the pair is held back.
	if held := c.patience.held(a); held != nil {
		return Token{}, c.holdBack(ctx, a, held)
	}
	proof, failure := a.prove(ctx, false)
	if failure != nil {
		return Token{}, failure
	}
	var done repeats
	for try := (attempt{}); ; try.number++ {
		// 2. Ask leave, for each request anew: another exchange may have been
		// told to wait in the meantime.
		q := a.question(proof.assertion)
		leave, held := c.patience.admit(a, q)
		if held != nil {
			return Token{}, c.holdBack(ctx, a, held)
		}
		// 3. Ask Entra.
		token, failure := c.send(ctx, a, proof, try)
		if failure == nil {
			c.patience.answered(leave, true)
			return token, nil
		}
		// 4. Learn from the failure.
		pause, again := done.after(a, failure, leave, c.patience.jitter)
		again = again && timeFor(ctx, pause)
		c.learn(ctx, leave, failure, !again, done)
		if !again {
			c.remember(a, q, failure, done)
			return Token{}, failure
		}
		// 5. Once more.
		if err := sleep(ctx, pause); err != nil {
			given := unreachable(ctx, err)
			given.CorrelationID = failure.CorrelationID
			return Token{}, given
		}
		done.count(a, failure)
		try.correlationID = failure.CorrelationID
		if a.renewable(failure) {
			if proof, failure = a.prove(ctx, true); failure != nil {
				return Token{}, failure
			}
		}
	}
}

// learn tells the others of a failure.
func (c *Client) learn(ctx context.Context, l leave, failure *Error, last bool, done repeats) {
	switch {
	case looping(failure):
		c.patience.answered(l, false)
	case failure.Reason == EntraThrottled:
		c.patience.throttled(l, failure)
	case final(failure) && failure.Status != 0, failure.Reason == TokenMismatch:
		c.patience.answered(l, false)
	case !outage(failure):
		c.patience.unknown(l)
	case cutOff(ctx, failure) && (done.faults == 0 || errors.Is(ctx.Err(), context.Canceled)):
		// The context ended, and Entra cannot be blamed for it, unless all the
		// time went into attempts that failed.
		c.patience.unknown(l)
	default:
		c.patience.failed(l, failure, last)
	}
}

// repeats counts what an exchange has repeated, by cause.
type repeats struct{ faults, proofs, propagations int }

// after says whether to repeat an exchange after failure, and when.
func (r repeats) after(a *ask, failure *Error, l leave, jitter func(time.Duration) time.Duration) (time.Duration, bool) {
	switch {
	case outage(failure):
		most := len(faultPauses)
		if failure.Reason == ReplyMalformed {
			most = 1
		}
		if r.faults >= most || l.probe {
			return 0, false
		}
		return max(jitter(faultPauses[r.faults]), min(failure.RetryAfter, breakerMost)), true
	case a.renewable(failure):
		return 0, r.proofs == 0
	case propagating(failure) && l.young && r.propagations < len(propagationPauses):
		return propagationPauses[r.propagations], true
	}
	return 0, false
}

func (r *repeats) count(a *ask, failure *Error) {
	switch {
	case outage(failure):
		r.faults++
	case a.renewable(failure):
		r.proofs++
	case propagating(failure):
		r.propagations++
	}
}

func outage(failure *Error) bool {
	return failure.Reason == EntraUnavailable || failure.Reason == Timeout || failure.Reason == ReplyMalformed
}

// propagating: there is no such federated identity credential, or not yet at
// the replica that answered.
func propagating(failure *Error) bool {
	return failure.Reason == EntraRejected && slices.ContainsFunc(failure.Codes, func(code int) bool {
		return code == 70021 || code == 700211 || code == 700212 || code == 700213 || code == 70025
	})
}

// remember keeps what Entra would say again a moment later. That a workload token has
// expired is not: the platform may replace it at any time.
func (c *Client) remember(a *ask, q question, failure *Error, done repeats) {
	expired := slices.Contains(failure.Codes, assertionExpired)
	switch {
	case looping(failure):
		c.patience.looped(q, failure)
	case !final(failure) || a.renewable(failure) && (expired || done.proofs == 0):
	case a.claims != "" || failure.Claims != "":
		c.patience.remember(q, failure, rememberClaims)
	default:
		c.patience.remember(q, failure, rememberFor)
	}
}

// final: Entra, or the machine's own endpoint, would say no again, or give such a
// token again.
func final(failure *Error) bool {
	return failure.Reason == EntraRejected || failure.Reason == TokenMismatch || failure.Reason == AssertionUnusable
}

// looping: Entra has seen this very request too often. With 429 it throttles the
// client for it.
func looping(failure *Error) bool {
	return slices.Contains(failure.Codes, loopDetected) && failure.Status != http.StatusTooManyRequests
}

// cutOff tells the end of the exchange's context from that of an attempt.
func cutOff(ctx context.Context, failure *Error) bool {
	return ctx.Err() != nil && (failure.Reason == Timeout || failure.Status == 0)
}

func timeFor(ctx context.Context, pause time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() == nil && (!ok || time.Until(deadline) >= pause+leastTime)
}

func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// holdBack records a request that did not leave as a span without duration,
// under the correlation id of the one that was answered.
func (c *Client) holdBack(ctx context.Context, a *ask, held *heldBack) *Error {
	_, span := c.cfg.Tracer.Start(ctx, a.spanName(), trace.WithSpanKind(trace.SpanKindInternal))
	defer span.End()
	call := newCall(ctx, c, a)
	call.correlationID, call.failure = held.why.CorrelationID, held.why
	span.SetAttributes(call.attributes(attempt{})...)
	span.SetAttributes(attribute.String("credfree.exchange.held_back", string(held.kind)))
	endWithError(span, held.why)
	held.why.HeldBack = true
	return held.why
}
