package exchange

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

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
	req := Request{Scopes: []string{"s"}}
	var first question
	for i := range 3 * maxRefusals {
		app := Application{Tenant: "t.example", ClientID: fmt.Sprint(i)}
		q := questionOf(app, req, workload.Assertion{})
		if i == 0 {
			first = q
		}
		l, held := p.admit(app, req, q)
		if held != nil {
			t.Fatalf("client %d was held back", i)
		}
		p.failed(l, failure, true)
		p.remember(q, failure)
	}
	if pairs, refusals := p.pairs.Len(), p.refusals.Len(); pairs != maxPairs || refusals != maxRefusals {
		t.Errorf("got %d pairs and %d refusals, want %d and %d", pairs, refusals, maxPairs, maxRefusals)
	}
	if _, held := p.admit(Application{Tenant: "t.example", ClientID: "0"}, req, first); held != nil {
		t.Errorf("the oldest was not dropped: held back by %s", held.kind)
	}
}

// What a caller does with its error changes nobody else's.
func TestHeldErrorsAreCopies(t *testing.T) {
	p := newTestPatience(t, nil)
	app, req := Application{Tenant: "t.example", ClientID: "c"}, Request{Scopes: []string{"s"}}
	q := questionOf(app, req, workload.Assertion{})
	l, _ := p.admit(app, req, q)
	original := &Error{Reason: EntraThrottled, Message: "first", RetryAfter: time.Hour}
	p.throttled(l, original)
	original.Message = "changed"
	held := p.held(app)
	if held == nil || held.why.Message != "first" {
		t.Fatalf("got %+v, want the error as it was", held)
	}
	held.why.Message = "changed"
	if again := p.held(app); again.why.Message != "first" {
		t.Errorf("got %q from one caller's error in another's", again.why.Message)
	}
}

// The windows of the breaker at both ends of the jitter.
func TestBreakerWindows(t *testing.T) {
	for name, test := range map[string]struct {
		jitter  func(time.Duration) time.Duration
		windows []time.Duration
	}{
		"least": {func(time.Duration) time.Duration { return 0 }, []time.Duration{750e6, 1500e6, 3000e6, 3750e6, 3750e6}},
		"most":  {func(most time.Duration) time.Duration { return most }, []time.Duration{1e9, 2e9, 4e9, 5e9, 5e9}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newTestPatience(t, test.jitter)
				app, req := Application{Tenant: "t.example", ClientID: "c"}, Request{Scopes: []string{"s"}}
				for i, window := range test.windows {
					l, held := p.admit(app, req, question{})
					if held != nil || l.probe != (i > 0) {
						t.Fatalf("failure %d: got held back %v, probe %t", i, held, l.probe)
					}
					p.failed(l, &Error{Reason: EntraUnavailable}, true)
					if held := p.held(app); held == nil || held.why.RetryAfter != window {
						t.Fatalf("failure %d: got %v, want held back for %s", i, held, window)
					}
					time.Sleep(window)
				}
			})
		})
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
	one := questionOf(Application{Tenant: "t", ClientID: "c"}, Request{Scopes: []string{"a", "b"}}, workload.Assertion{})
	if questionOf(Application{Tenant: "T", ClientID: "C"}, Request{Scopes: []string{"b", "a"}}, workload.Assertion{}) != one {
		t.Error("the same question is two")
	}
	seen := map[question]string{}
	for name, q := range map[string]question{
		"plain":   questionOf(Application{Tenant: "t", ClientID: "c"}, Request{Scopes: []string{"a", "b"}}, workload.Assertion{Issuer: "i", Subject: "s"}),
		"joined":  questionOf(Application{Tenant: "t", ClientID: "c"}, Request{Scopes: []string{`a" "b`}}, workload.Assertion{Issuer: "i", Subject: "s"}),
		"issuer":  questionOf(Application{Tenant: "t", ClientID: "c"}, Request{Scopes: []string{"a", "b"}}, workload.Assertion{Issuer: "i2", Subject: "s"}),
		"subject": questionOf(Application{Tenant: "t", ClientID: "c"}, Request{Scopes: []string{"a", "b"}}, workload.Assertion{Issuer: "i", Subject: "s2"}),
		"moved":   questionOf(Application{Tenant: "t", ClientID: "c"}, Request{Scopes: []string{"a", "b"}}, workload.Assertion{Issuer: `i" "s`, Subject: ""}),
		"client":  questionOf(Application{Tenant: "t", ClientID: "d"}, Request{Scopes: []string{"a", "b"}}, workload.Assertion{Issuer: "i", Subject: "s"}),
		"tenant":  questionOf(Application{Tenant: "u", ClientID: "c"}, Request{Scopes: []string{"a", "b"}}, workload.Assertion{Issuer: "i", Subject: "s"}),
	} {
		if other, ok := seen[q]; ok {
			t.Errorf("%s and %s are one question", name, other)
		}
		seen[q] = name
	}
}
