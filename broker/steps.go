package broker

import (
	"errors"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/broker/recent"
	"github.com/credfree/credfree/exchange"
)

// maxExplained bounds the explanations that are kept, and so do 16 scopes of 256
// bytes each of them.
const maxExplained = 128

// explained keeps the steps of decisions that allow, as long as the rules are
// in force: explaining is for people, and must not cost each cache hit what it
// costs once.
type explained struct {
	mu    sync.Mutex // guards steps
	steps *simplelru.LRU[explainedKey, []recent.Step]
}

// explainedKey is all that the steps of an allowed request depend on. Its texts
// are the policy's own, so that none keeps a request in memory.
type explainedKey struct {
	peer                         policy.Peer
	identity, member, scope, api string
	rule                         string
	call, onBehalfOf, raw        bool
	inspect, scoped              bool
	user                         [32]byte
}

func newExplained() *explained {
	steps, err := simplelru.NewLRU[explainedKey, []recent.Step](maxExplained, nil)
	if err != nil {
		panic(err) // only of a size below one
	}
	return &explained{steps: steps}
}

// steps are those of the decision that was just made, by the very function that
// made it. why is the error of verifying the user, or nil.
func (g *generation) steps(question policy.Request, d policy.Decision, user *verified, why error) []recent.Step {
	if user != nil {
		question.User = &user.User
	}
	if !d.Allowed || d.Audited {
		steps := stepsOf(g.Policy.Explain(question))
		if last := len(steps) - 1; why != nil && last >= 0 {
			steps[last].OK, steps[last].Detail = false, toldOf(why)
		}
		return steps
	}
	key := explainedKey{
		peer: question.Peer, identity: d.Identity, member: d.Member, scope: d.Scope, api: g.Policy.APIs[question.API].Name, rule: d.Rule,
		call: question.Method != "", onBehalfOf: d.OnBehalfOf, raw: question.Raw,
		inspect: question.Inspect, scoped: question.Scoped,
	}
	if user != nil {
		key.user = user.hash
	}
	e := g.explained
	e.mu.Lock()
	defer e.mu.Unlock()
	if steps, ok := e.steps.Get(key); ok {
		return steps
	}
	steps := stepsOf(g.Policy.Explain(question))
	e.steps.Add(key, steps)
	return steps
}

func stepsOf(e policy.Explanation) []recent.Step {
	steps := make([]recent.Step, len(e.Steps))
	for i, step := range e.Steps {
		steps[i] = recent.Step(step)
		// A user name of an agent's account is not recorded; and how users are is the
		// record's own business.
		switch member := e.Decision.Member; {
		case step.Name == "identity" && strings.Contains(member, "@"):
			steps[i].Detail = "acts as " + e.Decision.Identity + ", by the user name of one of its accounts"
		case step.Name == "user" && step.OK && !step.Audited:
			steps[i].Detail = "acts for a user who was verified, and passes the rules"
		}
	}
	return steps
}

// toldOf is what the user's token was refused for.
func toldOf(err error) string {
	if denied, ok := errors.AsType[*Denied](err); ok {
		return denied.Hint
	}
	if failure, ok := errors.AsType[*exchange.Error](err); ok {
		return failure.Message
	}
	return "the user could not be verified"
}
