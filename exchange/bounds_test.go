package exchange

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/exchange/secret"
	"github.com/credfree/credfree/exchange/workload"
)

func newTestPatience(t *testing.T, jitter func(time.Duration) time.Duration) *patience {
	t.Helper()
	p, err := newPatience()
	if err != nil {
		t.Fatal(err)
	}
	if jitter != nil {
		p.jitter = jitter
	}
	return p
}

// However many tenants, clients and questions there are, memory is bounded, and
// what was dropped is asked for again.
func TestPatienceIsBounded(t *testing.T) {
	p := newTestPatience(t, nil)
	failure := &Error{Reason: EntraRejected, Message: "no"}
	var first question
	for i := range 3 * maxRefusals {
		a := testAsk(fmt.Sprint(i))
		q := a.question(workload.Assertion{})
		if i == 0 {
			first = q
		}
		l, held := p.admit(a, q)
		if held != nil {
			t.Fatalf("client %d was held back", i)
		}
		p.failed(l, failure, true)
		p.remember(q, failure, rememberFor)
	}
	if pairs, askers, refusals := p.pairs.Len(), p.failing.Len(), p.refusals.Len(); pairs != maxPairs || askers != maxAskers || refusals != maxRefusals {
		t.Errorf("got %d pairs, %d askers and %d refusals, want %d, %d and %d", pairs, askers, refusals, maxPairs, maxAskers, maxRefusals)
	}
	if _, held := p.admit(testAsk("0"), first); held != nil {
		t.Errorf("the oldest was not dropped: held back by %s", held.kind)
	}
}

// What a caller does with its error changes nobody else's.
func TestHeldErrorsAreCopies(t *testing.T) {
	p := newTestPatience(t, nil)
	a := testAsk("c")
	q := a.question(workload.Assertion{})
	l, _ := p.admit(a, q)
	original := &Error{Reason: EntraThrottled, Message: "first", RetryAfter: time.Hour}
	p.throttled(l, original)
	original.Message = "changed"
	held := p.held(a)
	if held == nil || held.why.Message != "first" {
		t.Fatalf("got %+v, want the error as it was", held)
	}
	held.why.Message = "changed"
	if again := p.held(a); again.why.Message != "first" {
		t.Errorf("got %q from one caller's error in another's", again.why.Message)
	}
}

// The windows of the breaker and of one asker, at both ends of the jitter.
func TestBreakerWindows(t *testing.T) {
	for name, test := range map[string]struct {
		jitter  func(time.Duration) time.Duration
		windows []time.Duration
	}{
		"least": {func(time.Duration) time.Duration { return 0 }, []time.Duration{750e6, 1500e6, 3000e6, 3750e6, 3750e6}},
		"most":  {func(most time.Duration) time.Duration { return most }, []time.Duration{1e9, 2e9, 4e9, 5e9, 5e9}},
	} {
		for _, status := range []int{0, 503} {
			synctest.Test(t, func(t *testing.T) {
				p := newTestPatience(t, test.jitter)
				a := testAsk("c")
				for i, window := range test.windows {
					l, held := p.admit(a, question{})
					if held != nil || l.probe != (i > 0) {
						t.Fatalf("failure %d: got held back %v, probe %t", i, held, l.probe)
					}
					p.failed(l, &Error{Reason: EntraUnavailable, Status: status}, true)
					if held := p.held(a); held == nil || held.why.RetryAfter != window {
						t.Fatalf("%s, status %d: failure %d: got %v, want held back for %s", name, status, i, held, window)
					}
					time.Sleep(window)
				}
			})
		}
	}
}

func TestJitterStaysInBounds(t *testing.T) {
	p := newTestPatience(t, nil)
	for _, most := range []time.Duration{0, 1, time.Millisecond, time.Hour} {
		for range 1000 {
			if got := p.jitter(most); got < 0 || got > most {
				t.Fatalf("got %s, want between 0 and %s", got, most)
			}
		}
	}
}

// The parts of a question do not run into each other, and the order of the
// scopes and the case of the ids are none.
func TestQuestionsDiffer(t *testing.T) {
	change := func(changes ...func(*ask)) *ask {
		a := &ask{tenant: "t", client: "c", grant: grantClientCredentials, scopes: []string{"a", "b"}}
		for _, change := range changes {
			change(a)
		}
		return a
	}
	platform := workload.Assertion{Issuer: "i", Subject: "s"}
	one := change().question(platform)
	if change(func(a *ask) { a.tenant, a.client, a.scopes = "T", "C", []string{"b", "a"} }).question(platform) != one {
		t.Error("the same question is two")
	}
	seen := map[question]string{one: "plain"}
	for name, q := range map[string]question{
		"joined":    change(func(a *ask) { a.scopes = []string{`a" "b`} }).question(platform),
		"issuer":    change().question(workload.Assertion{Issuer: "i2", Subject: "s"}),
		"subject":   change().question(workload.Assertion{Issuer: "i", Subject: "s2"}),
		"moved":     change().question(workload.Assertion{Issuer: `i" "s`}),
		"of whom":   change(func(a *ask) { a.want.tenant = "w" }).question(platform),
		"of user":   change(func(a *ask) { a.want.objectID = "w" }).question(platform),
		"claims":    change(func(a *ask) { a.claims = "{}" }).question(platform),
		"client":    change(func(a *ask) { a.client = "d" }).question(platform),
		"tenant":    change(func(a *ask) { a.tenant = "u" }).question(platform),
		"grant":     change(func(a *ask) { a.grant = grantOnBehalfOf }).question(platform),
		"agent":     change(func(a *ask) { a.path = "p" }).question(platform),
		"user":      change(func(a *ask) { a.user.Token = secret.New("u") }).question(platform),
		"session":   change(func(a *ask) { a.user.Session = secret.New("u") }).question(platform),
		"username":  change(func(a *ask) { a.agentUser.Username = "u" }).question(platform),
		"user's id": change(func(a *ask) { a.agentUser.ObjectID = "u" }).question(platform),
	} {
		if other, ok := seen[q]; ok {
			t.Errorf("%s and %s are one question", name, other)
		}
		seen[q] = name
	}
}

func testAsk(client string) *ask {
	return &ask{tenant: "t.example", client: client, grant: grantClientCredentials, scopes: []string{"s"}}
}
