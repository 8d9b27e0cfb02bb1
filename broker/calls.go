package broker

import (
	"maps"
	"slices"
	"sync"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/policy"
)

// openCall is a call of an API that was allowed, and goes on for as long as both
// sides have something to say.
type openCall struct {
	g        *generation // whose rules allowed it
	w        want
	question policy.Request
	agent    string
	end      func(why error)
}

// calls are those that are open. The zero value has none.
type calls struct {
	mu   sync.Mutex // guards open, and the rules and time of each
	open map[*openCall]struct{}
}

// While has end called, once at most, when the rules no longer allow the call that
// issued is for, or would have it made in another way: with what Issue would return
// now. stop says that the call is over; end may be running then. What was not issued
// for a call is not watched.
func (b *Broker) While(issued Issued, end func(why error)) (stop func()) {
	c := issued.call
	if c == nil {
		return func() {}
	}
	c.end = end
	b.calls.mu.Lock()
	if b.calls.open == nil {
		b.calls.open = map[*openCall]struct{}{}
	}
	b.calls.open[c] = struct{}{}
	b.calls.mu.Unlock()
	b.endForbidden(c) // by rules that came before it was open
	return func() {
		b.calls.mu.Lock()
		defer b.calls.mu.Unlock()
		delete(b.calls.open, c)
	}
}

// endForbiddenCalls ends the calls that the rules in force do not allow.
func (b *Broker) endForbiddenCalls() {
	b.calls.mu.Lock()
	open := slices.Collect(maps.Keys(b.calls.open))
	b.calls.mu.Unlock()
	for _, c := range open {
		b.endForbidden(c)
	}
}

// endForbidden ends a call, if the rules in force do not allow it and nobody else has.
func (b *Broker) endForbidden(c *openCall) {
	if err := b.forbids(c); err != nil {
		c.end(err)
	}
}

// forbids says why an open call is to end, once.
func (b *Broker) forbids(c *openCall) error {
	b.calls.mu.Lock()
	defer b.calls.mu.Unlock()
	now := b.rules.Load()
	if _, open := b.calls.open[c]; !open || c.g == now {
		return nil
	}
	c.question.Now = b.cfg.Now()
	_, err := now.still(c.g, &c.w, c.question, c.agent)
	if err != nil {
		delete(b.calls.open, c)
		return err
	}
	c.g = now
	return nil
}

// opened is a call that was allowed by these rules.
func (g *generation) opened(w *want, question policy.Request, agent string) *openCall {
	return &openCall{g: g, w: *w, question: w.ask(question), agent: agent}
}

// ask is the question with what was found out about the user.
func (w *want) ask(question policy.Request) policy.Request {
	if w.user != nil {
		question.User = &w.user.User
	}
	return question
}

// still decides again what the rules of before have allowed. The error is a *Denied,
// or says that the same request would get something else.
func (g *generation) still(before *generation, w *want, question policy.Request, agent string) (policy.Decision, error) {
	d := g.Policy.Decide(question)
	if !d.Allowed {
		return d, &Denied{Agent: agent, Reason: d.Reason, Rule: d.Rule, Hint: d.Hint}
	}
	if p := g.principals[member{d.Identity, d.Member}]; d.Agent.Name != agent || p.key != w.key || p.tenant != w.tenant || p.entra != w.entra || g.Exchange != before.Exchange {
		return d, cache.ErrPurged
	}
	// The API of that name may be another by now.
	if d.Scope != w.Scope || g.Policy.APIs[question.API].BaseURL != before.Policy.APIs[question.API].BaseURL {
		return d, cache.ErrPurged
	}
	return d, nil
}
