package broker_test

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/recent"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/secret"
)

// remembering is a world whose issuances are remembered.
func remembering(t testing.TB) (*world, *recent.Memory) {
	t.Helper()
	memory, audit := recent.New(time.Now()), &sink{}
	w := newWorld(t, func(cfg *broker.Config, _ *broker.Rules) {
		recorder, err := issuance.NewRecorder(issuance.Config{Audit: audit, Memory: memory})
		check(t, err)
		cfg.Recorder = recorder
	})
	w.audit = audit
	return w, memory
}

// newest is what is remembered of the last issuance: the names of its steps, and
// what the step says.
func newest(t testing.TB, m *recent.Memory) (i recent.Issuance, steps map[string]recent.Step) {
	t.Helper()
	found, _ := m.Find(recent.Query{Limit: 1})
	if len(found) == 0 {
		t.Fatal("nothing is remembered")
	}
	steps = map[string]recent.Step{}
	for _, step := range found[0].Steps {
		steps[step.Name] = step
	}
	return found[0], steps
}

// Steps that are kept are those of the request: of its user, its agent, its
// identity and its scope, whatever others like it there were.
func TestStepsAreOfTheRequest(t *testing.T) {
	w, memory := remembering(t)
	w.use(t, assistant("")+"  other:\n    identity: demo\n    callers: [{tcp: {uids: [10002]}}]\n    allow: {scopes: ["+graph+"]}\n")
	ada := w.userToken(t, nil)
	again := w.userToken(t, func(r *entratest.UserTokenRequest) { r.MFA = true })
	for range 2 { // the second time from what was kept
		for _, user := range []secret.Text{ada, again} {
			_, err := w.actFor(as(t, 10001), user, userRead)
			check(t, err)
			if i, steps := newest(t, memory); i.UserObjectID != entratest.DemoUserID || strings.Contains(steps["user"].Detail, i.UserObjectID) || !steps["user"].OK || !strings.HasPrefix(steps["scope"].Rule, "agents.assistant.onBehalfOf") {
				t.Errorf("got %+v for %s", i.Steps, i.User())
			}
		}
		_, err := w.ask(as(t, 10001), graph)
		check(t, err)
		if _, steps := newest(t, memory); len(steps) != 4 || !strings.Contains(steps["caller"].Detail, "uid 10001") || steps["scope"].Rule != "agents.assistant.allow.scopes[0]" {
			t.Errorf("got %+v", steps)
		}
		_, err = w.ask(as(t, 10002), graph)
		check(t, err)
		if _, steps := newest(t, memory); !strings.Contains(steps["caller"].Detail, "agent other") || steps["scope"].Rule != "agents.other.allow.scopes[0]" {
			t.Errorf("got %+v", steps)
		}
		_, err = w.Issue(as(t, 10001), broker.Request{Scope: graph, Identity: "agent-user"})
		check(t, err)
		if i, steps := newest(t, memory); steps["identity"].Detail == "" || strings.Contains(steps["identity"].Detail, "@") || i.Member != "" {
			t.Errorf("got %+v: an account's user name is shown", i.Steps)
		}
	}
	// A user whose token is refused, and what was no request of an agent's.
	_, err := w.actFor(as(t, 10001), secret.New("nonsense"), userRead)
	denied := denial(t, err)
	if i, steps := newest(t, memory); steps["user"].OK || steps["user"].Detail != denied.Hint || i.Hint != denied.Hint || i.Reason != string(denied.Reason) {
		t.Errorf("got %+v, want the refusal of the user's token", i)
	}
	if _, err := w.Refuse(as(t, 10001), broker.Request{Door: "oauth"}, "browser", "no browsers"); err == nil {
		t.Fatal("it was not refused")
	}
	if i, _ := newest(t, memory); len(i.Steps) > 0 || i.Reason != "browser" || i.Agent != "assistant" || i.Owner == "" {
		t.Errorf("got %+v, want it to be the agent's, for whom the kernel vouches", i)
	}
	if _, err := w.Refuse(as(t, 4242), broker.Request{Door: "oauth", Said: broker.Said{AgentID: "a-key-perhaps"}}, "bad_request", "ask"); err == nil {
		t.Fatal("it was not refused")
	}
	if i, _ := newest(t, memory); i.Agent != "" || i.SaidAgentID != "" {
		t.Errorf("got %+v of somebody who is nobody", i)
	}
}

// When the policy changes during an exchange, the steps are those of the one
// that decided in the end, and so is the revision.
func TestStepsAreOfTheRevision(t *testing.T) {
	for name, test := range map[string]struct {
		after string
		ok    bool
	}{
		"denied":        {strings.Replace(assistant(""), "10001", "10009", 1), false},
		"still allowed": {strings.Replace(assistant(""), graph+", "+userRead, userRead+", "+graph, 1), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, memory := remembering(t)
				w.use(t, assistant(""))
				w.entra.SetBehavior(entratest.Behavior{Delay: 5 * time.Second})
				var asking sync.WaitGroup
				asking.Go(func() {
					if _, err := w.ask(as(t, 10001), graph); (err == nil) != test.ok {
						t.Errorf("got %v", err)
					}
				})
				time.Sleep(time.Second)
				w.use(t, test.after)
				asking.Wait()
				i, steps := newest(t, memory)
				if i.Revision != w.Rules().Policy.Revision || steps["caller"].OK != test.ok {
					t.Errorf("got %+v by %s, want the steps by %s", i.Steps, i.Revision, w.Rules().Policy.Revision)
				}
				if test.ok {
					want := recent.Step{Number: 4, Name: "scope", OK: true, Detail: "listed: " + graph, Rule: "agents.assistant.allow.scopes[1]"}
					if diff := cmp.Diff(want, steps["scope"]); diff != "" {
						t.Errorf("(-want +got):\n%s", diff)
					}
				}
			})
		})
	}
}
