package broker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/entratest"
)

// useRecording puts agents in force under a recording of the policy.
func (w *world) useRecording(t *testing.T, agents, recording string) {
	t.Helper()
	rules := w.rules
	rules.Policy = w.policy(t, agents+recording)
	if rules.Policy.Recording.HashedUsers {
		rules.Pseudonyms = issuance.NewPseudonyms([]byte("0123456789abcdef"))
	}
	check(t, w.Use(rules))
}

// With users: hashed, whatever is asked and however it ends, no id of a user is
// in any line, span or error, and the same user has the same hash. A blocked user
// is blocked all the same.
func TestHashedUsers(t *testing.T) {
	const object = "0be5e000-0000-4000-8000-0000000005e4"
	w := newWorld(t)
	hash := issuance.NewPseudonyms([]byte("0123456789abcdef")).Of(entratest.DemoTenantID, object)
	var answers strings.Builder
	do := func(recording string, want policy.Reason, req broker.Request) {
		t.Helper()
		w.useRecording(t, assistant("      users: {groups: [5f7c7f7e-6f0c-4a39-8f0c-0c8f6a6b7a05]}\n    mode: audit\n"), "users: hashed\n"+recording)
		issued, err := w.Issue(as(t, 10001), req)
		fmt.Fprint(&answers, err)
		if want == "" {
			check(t, err)
			answers.WriteString(issued.ID)
			return
		}
		if got := denial(t, err); got.Reason != want {
			t.Errorf("got %s, want %s", got.Reason, want)
		}
	}
	forUser := broker.Request{Door: "oauth", Scope: userRead, OnBehalfOf: true, UserToken: w.userToken(t, nil)}
	do("", "", forUser)
	if got := w.audit.last(t)["user_hash"]; got != hash {
		t.Errorf("got %v, want %s", got, hash)
	}
	do("", "", forUser)
	do("blocked: {users: ["+entratest.DemoTenantID+"/"+object+"]}\n", policy.UserBlocked, forUser)
	if got := w.audit.last(t); got["user_hash"] != hash || got["rule"] != "blocked.users[0]" {
		t.Errorf("got %v", got)
	}
	do("", "", broker.Request{Door: "oauth", Identity: "agent-user", Scope: userRead})
	agentUser := w.audit.last(t)
	if got, ok := agentUser["user_hash"].(string); !ok || got == hash || agentUser["identity_member"] != nil {
		t.Errorf("got %v, want a hash of the agent's user", agentUser)
	}
	do("", "", broker.Request{Door: "oauth", Scope: graph})
	if got := w.audit.last(t); got["user_hash"] != nil {
		t.Errorf("got %v, want no user", got)
	}
	spans, err := json.Marshal(tracetest.SpanStubsFromReadOnlySpans(w.spans.Ended()))
	check(t, err)
	if !strings.Contains(string(spans), hash) {
		t.Error("the hash is on no span")
	}
	for name, text := range map[string]string{"spans": string(spans), "audit log": w.audit.text.String(), "answers": answers.String()} {
		for _, id := range []string{object, entratest.DemoAgentUserID, "user_object_id", "user_tenant_id", "user.object_id"} {
			if strings.Contains(strings.ToLower(text), strings.ToLower(id)) {
				t.Errorf("%s is in the %s", id, name)
			}
		}
	}
}

// Rules that hash and a policy that does not, or the reverse, are not put in
// force: nobody is to be shown by an oversight.
func TestHashedUsersNeedAKey(t *testing.T) {
	w := newWorld(t)
	rules := w.rules
	rules.Policy = w.policy(t, agents+"users: hashed\n")
	if err := w.Use(rules); err == nil {
		t.Error("users would be recorded in the clear")
	}
}

// audit: best-effort hands tokens out without a line, and no other policy does.
func TestBestEffort(t *testing.T) {
	w := newWorld(t)
	full := errors.New("no space left on device")
	w.audit.fail(full)
	w.useRecording(t, agents, "audit: best-effort\n")
	issued, err := w.ask(as(t, 10001), graph)
	check(t, err)
	if issued.Token.Len() == 0 {
		t.Error("there is no token")
	}
	if _, err := w.ask(as(t, 10002), vault); denial(t, err).Reason != policy.ScopeNotAllowed {
		t.Errorf("got %v: what is denied stays denied", err)
	}
	w.useRecording(t, agents, "")
	var audit *broker.AuditError
	if issued, err := w.ask(as(t, 10001), graph); !errors.As(err, &audit) || issued.Token.Len() != 0 {
		t.Errorf("got %v, want no token without a line", err)
	}
}

// Users are hashed from the moment that the policy says so: also of an issuance that
// has begun before.
func TestUsersAreHiddenByThePolicyAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.use(t, assistant(""))
		user := w.userToken(t, nil)
		w.entra.SetBehavior(entratest.Behavior{Delay: 5 * time.Second})
		var asking sync.WaitGroup
		asking.Go(func() {
			_, err := w.actFor(as(t, 10001), user, userRead)
			check(t, err)
		})
		time.Sleep(time.Second)
		w.useRecording(t, assistant(""), "users: hashed\n")
		asking.Wait()
		if line := w.audit.last(t); line["user_hash"] == nil || line["user_object_id"] != nil || line["policy_revision"] != w.Rules().Policy.Revision {
			t.Errorf("got %v", line)
		}
	})
}
