package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/secret"
	"github.com/credfree/credfree/exchange/usertoken"
)

// look has a user's token inspected.
func (w *world) look(ctx context.Context, user secret.Text, identity string) (broker.Inspection, error) {
	return w.Inspect(ctx, broker.Request{Door: "oauth", Identity: identity, UserToken: user})
}

// An inspection tells what the token says, is recorded, and asks Entra for no
// token. The rules about users are for acting: this user is not one of them.
func TestInspect(t *testing.T) {
	w := newWorld(t)
	w.use(t, assistant("      users: {roles: [Analyst]}\n    rawToken: false\n"))
	token := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Client = groupID })
	for range 2 {
		got, err := w.look(as(t, 10001), token, "")
		check(t, err)
		var claims map[string]any
		check(t, json.Unmarshal([]byte(got.Claims.Reveal()), &claims))
		if claims["oid"] != entratest.DemoUserID || claims["aud"] != entratest.DemoClientID || claims["azp"] != groupID || claims["exp"] != float64(got.User.Expires.Unix()) {
			t.Errorf("got claims %v", claims)
		}
		if got.Audience != entratest.DemoClientID || got.Tenant != entratest.DemoTenantID || got.User.ObjectID != entratest.DemoUserID || got.UniqueID != claims["uti"] {
			t.Errorf("got %+v", got)
		}
		line := w.audit.last(t)
		for _, changing := range []string{"time", "duration_us", "expires_at", "policy_revision", "uti", "trace_id", "span_id"} {
			if line[changing] == nil {
				t.Errorf("no %s in the audit line", changing)
			}
			delete(line, changing)
		}
		want := map[string]any{"type": "audit", "event": "token.inspected", "agent": "assistant", "owner": "desk@demo.example", "peer_network": "tcp", "peer_uid": float64(10001),
			"door": "oauth", "grant": "inspection", "identity": "demo", "tenant_id": entratest.DemoTenantID, "client_id": entratest.DemoClientID, "decision": "allow",
			"rule": "agents.assistant.onBehalfOf", "user_tenant_id": entratest.DemoTenantID, "user_object_id": entratest.DemoUserID, "user_client_id": groupID, "issuance_id": got.ID}
		if diff := gocmp.Diff(want, line); diff != "" {
			t.Errorf("audit line (-want +got):\n%s", diff)
		}
	}
	if w.entra.TokenRequests() != 0 || w.cache.Stats().Entries != 0 {
		t.Errorf("Entra was asked for %d tokens, and %d are kept", w.entra.TokenRequests(), w.cache.Stats().Entries)
	}
	// An agent identity hears of tokens for its blueprint, and of no others.
	blueprint := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Audience = entratest.DemoBlueprintClientID })
	if got, err := w.look(as(t, 10001), blueprint, "agent"); err != nil || got.Audience != entratest.DemoBlueprintClientID {
		t.Errorf("got %+v and %v", got, err)
	}
	if _, err := w.look(as(t, 10001), token, "agent"); denial(t, err).Reason != "user_token_wrong_audience" {
		t.Errorf("got %v for a token of another application", err)
	}
}

// Nobody learns about a token who could not act with it, and of a token that is
// not good nobody learns more than why.
func TestInspectionsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	more := "  stranger:\n    identity: demo\n    callers: [{tcp: {uids: [10002]}}]\n    allow: {scopes: [" + graph + "]}\n"
	good := w.userToken(t, nil)
	changed := func(change func(*entratest.UserTokenRequest)) secret.Text { return w.userToken(t, change) }
	for name, test := range map[string]struct {
		uid    uint32
		policy string
		ask    broker.Request
		token  secret.Text
		reason policy.Reason
		rule   string
	}{
		"nobody":              {4242, "", broker.Request{}, good, policy.UnknownAgent, "agents"},
		"nobody, bad token":   {4242, "", broker.Request{}, secret.New("x"), policy.UnknownAgent, "agents"},
		"another name":        {10001, "", broker.Request{Agent: "stranger"}, good, policy.AgentMismatch, "agents.assistant"},
		"blocked":             {10001, "    blocked: true\n", broker.Request{}, good, policy.AgentBlocked, "agents.assistant.blocked"},
		"expired":             {10001, "    expires: 2020-01-01\n", broker.Request{}, good, policy.AgentExpired, "agents.assistant.expires"},
		"not for users":       {10002, "", broker.Request{}, good, policy.OnBehalfOfNotAllowed, "agents.stranger.onBehalfOf"},
		"another's identity":  {10001, "", broker.Request{Identity: "x"}, good, policy.IdentityNotAllowed, "agents.assistant.identities"},
		"not an application":  {10001, "", broker.Request{Identity: "agent-user"}, good, policy.IdentityNotForUsers, "identities.agent-user"},
		"no token":            {10001, "", broker.Request{}, secret.Text{}, "user_token_malformed", "agents.assistant.onBehalfOf"},
		"changed":             {10001, "", broker.Request{}, secret.New(flip(good.Reveal())), "user_token_bad_signature", "agents.assistant.onBehalfOf"},
		"for another API":     {10001, "", broker.Request{}, changed(func(r *entratest.UserTokenRequest) { r.Audience = "https://graph.microsoft.com" }), "user_token_wrong_audience", "agents.assistant.onBehalfOf"},
		"out of date":         {10001, "      longRunning: {maxAge: 8h}\n", broker.Request{}, changed(func(r *entratest.UserTokenRequest) { r.Lifetime = -time.Minute }), "user_token_expired", "agents.assistant.onBehalfOf"},
		"of an application":   {10001, "", broker.Request{}, changed(func(r *entratest.UserTokenRequest) { r.Claims = map[string]any{"scp": nil, "idtyp": "app"} }), "user_token_app_only", "agents.assistant.onBehalfOf"},
		"of a user that left": {10001, more + "blocked: {users: [" + entratest.DemoTenantID + "/" + entratest.DemoUserID + "]}\n", broker.Request{}, good, policy.UserBlocked, "blocked.users[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.policy == "" {
				test.policy = more
			}
			w.use(t, assistant(test.policy))
			test.ask.Door, test.ask.UserToken = "oauth", test.token
			got, err := w.Inspect(as(t, test.uid), test.ask)
			denied := denial(t, err)
			if denied.Reason != test.reason || denied.Rule != test.rule || denied.Hint == "" || denied.ID == "" || denied.ID != got.ID {
				t.Errorf("got %s by %s: %q", denied.Reason, denied.Rule, denied.Hint)
			}
			if got.Claims.Len() != 0 || got.Tenant != "" || got.User.ObjectID != "" {
				t.Errorf("got %+v with a denial", got)
			}
			line := w.audit.last(t)
			if line["event"] != "token.denied" || line["grant"] != "inspection" || line["reason"] != string(test.reason) || line["issuance_id"] != got.ID {
				t.Errorf("got audit line %v", line)
			}
		})
	}
}

// A session goes on when the user's token has ended; the token is no good for that.
func TestSessionsMakeNoTokenGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.use(t, assistant("      longRunning: {maxAge: 8h}\n"))
		user := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Lifetime = time.Minute })
		_, err := w.actFor(as(t, 10001), user, userRead)
		check(t, err)
		time.Sleep(2 * time.Minute)
		if _, err := w.look(as(t, 10001), user, ""); denial(t, err).Reason != "user_token_expired" {
			t.Errorf("got %v", err)
		}
	})
}

// Inspections count against the limit of all requests, and not against that of
// those on behalf of users.
func TestInspectionsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.use(t, assistant("    limits: {perMinute: 3, onBehalfOf: {perMinute: 1}}\n"))
		token := w.userToken(t, nil)
		for range 3 {
			_, err := w.look(as(t, 10001), token, "")
			check(t, err)
		}
		_, err := w.look(as(t, 10001), token, "")
		if got := denial(t, err); got.Reason != policy.OverLimit || got.Rule != "agents.assistant.limits.perMinute" {
			t.Errorf("got %s by %s", got.Reason, got.Rule)
		}
	})
}

// roundTrip is a function as a transport.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// keysThrough puts something before the emulator, where the keys of tenants come from.
func (w *world) keysThrough(t testing.TB, before func(req *http.Request) error) {
	t.Helper()
	next := w.entra.RoundTripper()
	users, err := usertoken.New(usertoken.Config{Authority: authority, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
		if err := before(req); err != nil {
			return nil, err
		}
		return next.RoundTrip(req)
	})})
	check(t, err)
	t.Cleanup(users.Close)
	w.rules.Users = users
}

// What cannot be recorded is not told; what cannot be verified now is nobody's fault.
func TestInspectionsThatFail(t *testing.T) {
	var down atomic.Bool
	down.Store(true)
	w := newWorld(t)
	w.keysThrough(t, func(*http.Request) error {
		if down.Load() {
			return errors.New("unreachable")
		}
		return nil
	})
	w.use(t, assistant(""))
	token := w.userToken(t, nil)
	if got, err := w.look(as(t, 10001), token, ""); asExchangeError(t, err).Reason != exchange.EntraUnavailable || got.Claims.Len() > 0 {
		t.Errorf("got %v without keys", err)
	}
	if line := w.audit.last(t); line["event"] != "token.failed" || line["reason"] != string(exchange.EntraUnavailable) || line["grant"] != "inspection" {
		t.Errorf("got audit line %v", line)
	}
	down.Store(false)
	w.audit.fail(errors.New("full"))
	got, err := w.look(as(t, 10001), token, "")
	if _, ok := errors.AsType[*broker.AuditError](err); !ok || got.Claims.Len() > 0 || got.User.ObjectID != "" {
		t.Errorf("got %+v and %v without an audit log", got, err)
	}
}

// Policies change while keys are fetched: what no longer holds is not told.
func TestInspectionUnderAnotherPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.keysThrough(t, func(*http.Request) error { time.Sleep(time.Second); return nil })
		w.use(t, assistant(""))
		token := w.userToken(t, nil)
		done := make(chan error)
		go func() { _, err := w.look(as(t, 10001), token, ""); done <- err }()
		synctest.Wait()
		w.use(t, assistant("    blocked: true\n"))
		if got := denial(t, <-done); got.Reason != policy.AgentBlocked {
			t.Errorf("got %s", got.Reason)
		}
	})
}

// Neither the token nor who the user is by name is in what is kept or printed.
func TestInspectionsKeepSecrets(t *testing.T) {
	w := newWorld(t)
	w.use(t, assistant(""))
	token := w.userToken(t, nil)
	good, err := w.look(as(t, 10001), token, "")
	check(t, err)
	_, failed := w.look(as(t, 10001), secret.New(flip(token.Reveal())), "")
	var all strings.Builder
	fmt.Fprintf(&all, "%v %+v %#v %v", good, good, good, failed)
	encoded, err := json.Marshal(good)
	check(t, err)
	all.Write(encoded)
	for _, line := range w.audit.lines(t) {
		fmt.Fprint(&all, line)
	}
	for _, span := range w.spans.Ended() {
		fmt.Fprint(&all, span.Name(), span.Attributes(), span.Status(), span.Events())
	}
	text := token.Reveal()
	parts := strings.Split(text, ".")
	for _, secret := range []string{text, parts[0], parts[1], parts[2], entratest.DemoUserName, "preferred_username"} {
		if strings.Contains(all.String(), secret) {
			t.Errorf("%q is in what was kept or printed", secret)
		}
	}
	if !strings.Contains(good.Claims.Reveal(), entratest.DemoUserName) {
		t.Error("the claims hold nothing to be kept secret")
	}
	inspections := 0 // the span of the tenant's keys may end later
	for _, span := range w.spans.Ended() {
		if span.Name() == "token.inspect" {
			inspections++
		}
	}
	if inspections != 2 {
		t.Errorf("got %d spans of inspections", inspections)
	}
}
