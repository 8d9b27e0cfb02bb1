package broker_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
)

func TestAllowedThenHit(t *testing.T) {
	w := newWorld(t)
	first, err := w.ask(as(t, 10001), graph)
	check(t, err)
	second, err := w.ask(as(t, 10001), graph)
	check(t, err)
	if first.Token.Reveal() != second.Token.Reveal() || first.ID == second.ID {
		t.Errorf("want one token and two issuances, got ids %s and %s", first.ID, second.ID)
	}
	if got := w.entra.TokenRequests(); got != 1 {
		t.Errorf("got %d token requests, want 1", got)
	}
	lines := w.audit.lines(t)
	want := map[string]any{"type": "audit", "event": "token.issued", "agent": "researcher", "owner": "research@demo.example", "peer_network": "tcp",
		"peer_uid": 10001.0, "decision": "allow", "rule": "agents.researcher.allow.scopes[0]", "identity": "demo", "tenant_id": entratest.DemoTenantID,
		"client_id": entratest.DemoClientID, "token_kind": "app", "uti": first.Token.UniqueID, "entra_correlation_id": first.Token.CorrelationID}
	for i, cache := range []string{"miss", "hit"} {
		want["cache"], want["issuance_id"] = cache, []string{first.ID, second.ID}[i]
		for key, value := range want {
			if lines[i][key] != value {
				t.Errorf("line %d: got %s=%v, want %v", i, key, lines[i][key], value)
			}
		}
	}
}

func TestDenials(t *testing.T) {
	w := newWorld(t)
	nobody := context.WithValue(t.Context(), peerKey{}, peer.Peer{Network: "tcp"})
	for name, test := range map[string]struct {
		ctx    context.Context //nolint:containedctx // a row of a table
		req    broker.Request
		reason policy.Reason
	}{
		"unknown uid":            {as(t, 4242), broker.Request{Scope: graph}, policy.UnknownAgent},
		"root":                   {as(t, 0), broker.Request{Scope: graph}, policy.UnknownAgent},
		"nobody":                 {nobody, broker.Request{Scope: graph}, policy.UnknownAgent},
		"no connection":          {t.Context(), broker.Request{Scope: graph}, policy.UnknownAgent},
		"another agent's socket": {onSocket(t, "/run/credfree/researcher.sock", 10002), broker.Request{Scope: graph}, policy.UnknownAgent},
		"unlisted socket":        {onSocket(t, "/tmp/other.sock", 10001), broker.Request{Scope: graph}, policy.UnknownAgent},
		"socket without a path":  {onSocket(t, "", 10001), broker.Request{Scope: graph}, policy.UnknownAgent},
		"another's name":         {as(t, 10002), broker.Request{Scope: graph, Agent: "researcher"}, policy.AgentMismatch},
		"scope of another":       {as(t, 10002), broker.Request{Scope: vault}, policy.ScopeNotAllowed},
		"no scope":               {as(t, 10001), broker.Request{}, policy.ScopeMissing},
		"two resources":          {as(t, 10001), broker.Request{Scope: graph + " " + vault}, policy.ScopeMixedResources},
		"unknown identity":       {as(t, 10001), broker.Request{Scope: graph, Identity: "admin"}, policy.IdentityNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			issued, err := w.Issue(test.ctx, test.req)
			var denied *broker.Denied
			if !errors.As(err, &denied) || denied.Reason != test.reason || denied.Hint == "" {
				t.Fatalf("got %v (%+v), want a denial for %s with a hint", err, denied, test.reason)
			}
			if issued.Token.Len() != 0 || issued.ID != denied.ID {
				t.Errorf("got a token of %d bytes and ids %s, %s", issued.Token.Len(), issued.ID, denied.ID)
			}
			if line := w.audit.last(t); line["reason"] != string(test.reason) || line["decision"] != "deny" || line["issuance_id"] != issued.ID {
				t.Errorf("got audit line %v", line)
			}
		})
	}
	if got := w.entra.TokenRequests(); got != 0 {
		t.Errorf("Entra was asked %d times", got)
	}
}

// A key that is in no file makes its bearer nobody, whatever its uid.
func TestWrongKeyIsNobodys(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "key")
	check(t, os.WriteFile(file, []byte("the-key-of-the-keyed-agent"), 0o600))
	w.rules.Policy = w.policy(t, agents+"  keyed: {identity: demo, callers: [{tcp: {keyFile: "+file+"}}], allow: {scopes: [graph]}}\n")
	w.rules.Keys = peer.NewKeys(w.rules.Policy.KeyFiles())
	check(t, w.Use(w.rules))
	for key, want := range map[string]string{"": "researcher", "the-key-of-the-keyed-agent": "keyed", "some-other-key-of-anybody": ""} {
		_, err := w.Issue(as(t, 10001), broker.Request{Scope: graph, Key: key})
		if want == "" {
			if got := denial(t, err).Reason; got != policy.UnknownAgent {
				t.Errorf("got %s for a wrong key, want %s", got, policy.UnknownAgent)
			}
			continue
		}
		check(t, err)
		if got := w.audit.last(t)["agent"]; got != want {
			t.Errorf("got agent %v with key %q, want %s", got, key, want)
		}
	}
}

func TestSocketIdentifiesTheAgent(t *testing.T) {
	w := newWorld(t)
	_, err := w.ask(onSocket(t, "/run/credfree/researcher.sock", 10001), vault)
	check(t, err)
	if line := w.audit.last(t); line["peer_network"] != "unix" || line["peer_socket"] != "researcher.sock" {
		t.Errorf("got audit line %v", line)
	}
}

// Agents with the same right, identity and scope do not share tokens.
func TestAgentsShareNothing(t *testing.T) {
	w := newWorld(t)
	one, err := w.ask(as(t, 10001), graph)
	check(t, err)
	two, err := w.ask(as(t, 10002), graph)
	check(t, err)
	if one.Token.Reveal() == two.Token.Reveal() || w.entra.TokenRequests() != 2 {
		t.Errorf("two agents were answered with one token, from %d requests", w.entra.TokenRequests())
	}
}

func TestClaimsAreAKeyOfTheirOwn(t *testing.T) {
	w := newWorld(t)
	plain, err := w.ask(as(t, 10001), graph)
	check(t, err)
	challenged, err := w.Issue(as(t, 10001), broker.Request{Scope: graph, Claims: `{"access_token":{"nbf":{"essential":true,"value":"1"}}}`})
	check(t, err)
	if plain.Token.Reveal() == challenged.Token.Reveal() {
		t.Error("a claims challenge was answered from the cache")
	}
}

// A token with claims that is refreshed leaves the one without them alone: nobody
// has challenged that since.
func TestRefreshWithClaimsChallengesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.entra.SetBehavior(entratest.Behavior{Lifetime: time.Hour})
		challenged := broker.Request{Scope: graph, Claims: `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`}
		_, err := w.Issue(as(t, 10001), challenged)
		check(t, err)
		time.Sleep(30 * time.Minute)
		_, err = w.ask(as(t, 10001), graph)
		check(t, err)
		time.Sleep(25 * time.Minute)
		asked := w.entra.TokenRequests()
		_, err = w.Issue(as(t, 10001), challenged)
		check(t, err)
		synctest.Wait()
		if got := w.entra.TokenRequests(); got != asked+1 {
			t.Fatalf("got %d token requests, want %d: the token with the claims is refreshed", got, asked+1)
		}
		_, err = w.ask(as(t, 10001), graph)
		check(t, err)
		if got := w.audit.last(t)["cache"]; got != "hit" {
			t.Errorf("got %v for the token without the claims, want a hit", got)
		}
		check(t, w.cache.Close(context.WithoutCancel(t.Context())))
	})
}

// An agent that makes up challenges takes room from itself alone.
func TestClaimsTakeNobodysRoom(t *testing.T) {
	w := newWorld(t, func(cfg *broker.Config, _ *broker.Rules) {
		var err error
		cfg.Cache, err = cache.New[exchange.Token](cache.Config{MaxEntries: 20})
		check(t, err)
		t.Cleanup(func() { check(t, cfg.Cache.Close(context.WithoutCancel(t.Context()))) })
	})
	_, err := w.ask(as(t, 10002), graph)
	check(t, err)
	for i := range 30 {
		_, err := w.Issue(as(t, 10001), broker.Request{Scope: graph, Claims: fmt.Sprintf(`{"access_token":{"nbf":{"value":"%d"}}}`, i)})
		check(t, err)
	}
	_, err = w.ask(as(t, 10002), graph)
	check(t, err)
	if got := w.audit.last(t)["cache"]; got != "hit" {
		t.Errorf("got %v for an agent that another one's claims have nothing to do with, want a hit", got)
	}
}

// A thousand impatient callers, and Entra is asked once.
func TestColdCallersShareOneExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.entra.SetBehavior(entratest.Behavior{Delay: 2 * time.Second})
		hurried, cancel := context.WithTimeout(as(t, 10001), 50*time.Millisecond)
		defer cancel()
		started := time.Now()
		var all sync.WaitGroup
		var mu sync.Mutex // guards tokens
		tokens := map[string]int{}
		all.Go(func() {
			_, err := w.ask(hurried, graph)
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(started) != 50*time.Millisecond {
				t.Errorf("the hurried caller: got %v after %s, want a deadline after 50ms", err, time.Since(started))
			}
		})
		synctest.Wait() // the hurried one leads the exchange
		for range 200 {
			all.Go(func() {
				issued, err := w.ask(as(t, 10001), graph)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				tokens[issued.Token.Reveal()]++
			})
		}
		all.Wait()
		if got := w.entra.TokenRequests(); got != 1 || len(tokens) != 1 {
			t.Errorf("got %d token requests and %d tokens, want 1 and 1", got, len(tokens))
		}
		counts := map[any]int{}
		for _, line := range w.audit.lines(t) {
			counts[line["cache"]]++
		}
		if counts["joined"] != 200 || counts["miss"] != 1 {
			t.Errorf("got %v, want 200 joined and 1 miss", counts)
		}
	})
}

// Entra is down: what is cached is served until it truly expires, then the
// error is clear; Entra is back: nobody has to do anything but ask, within 5 s.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.entra.SetBehavior(entratest.Behavior{Lifetime: time.Hour})
		_, err := w.ask(as(t, 10001), graph)
		check(t, err)
		w.entra.SetBehavior(entratest.Behavior{Status: 503})
		for range 59 {
			time.Sleep(time.Minute)
			started := time.Now()
			if _, err := w.ask(as(t, 10001), graph); err != nil || time.Since(started) != 0 {
				t.Fatalf("after %s: got %v in %s, want the cached token at once", time.Since(started), err, time.Since(started))
			}
			synctest.Wait() // a failed refresh ends
		}
		time.Sleep(time.Minute)
		_, err = w.ask(as(t, 10001), graph)
		var failure *exchange.Error
		if !errors.As(err, &failure) || failure.Reason != exchange.EntraUnavailable {
			t.Fatalf("after its expiry: got %v, want %s", err, exchange.EntraUnavailable)
		}
		w.entra.SetBehavior(entratest.Behavior{Lifetime: time.Hour})
		asked := w.entra.TokenRequests()
		_, err = w.ask(as(t, 10001), graph)
		if !errors.As(err, &failure) || failure.RetryAfter <= 0 || failure.RetryAfter > 5*time.Second || w.entra.TokenRequests() != asked {
			t.Fatalf("right after its return: got %v and %d token requests, want to be told to wait at most 5s, and none", err, w.entra.TokenRequests()-asked)
		}
		time.Sleep(failure.RetryAfter)
		_, err = w.ask(as(t, 10001), graph)
		check(t, err)
	})
}

// A refresh happens behind the callers' backs.
func TestRefreshAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.entra.SetBehavior(entratest.Behavior{Lifetime: time.Hour})
		first, err := w.ask(as(t, 10001), graph)
		check(t, err)
		w.entra.SetBehavior(entratest.Behavior{Lifetime: time.Hour, Delay: time.Second})
		time.Sleep(55 * time.Minute)
		started := time.Now()
		during, err := w.ask(as(t, 10001), graph)
		check(t, err)
		if time.Since(started) != 0 || during.Token.Reveal() != first.Token.Reveal() {
			t.Errorf("a caller waited %s for a refresh", time.Since(started))
		}
		time.Sleep(2 * time.Second)
		after, err := w.ask(as(t, 10001), graph)
		check(t, err)
		if after.Token.Reveal() == first.Token.Reveal() || w.entra.TokenRequests() != 2 {
			t.Errorf("the token was not refreshed; %d token requests", w.entra.TokenRequests())
		}
		check(t, w.cache.Close(context.WithoutCancel(t.Context())))
	})
}

func TestNoAuditLineNoToken(t *testing.T) {
	w := newWorld(t)
	_, err := w.ask(as(t, 10001), graph)
	check(t, err)
	full := errors.New("no space left on device")
	for name, scope := range map[string]string{"hit": graph, "miss": vault, "denial": "https://other.example/.default"} {
		w.audit.fail(full)
		issued, err := w.ask(as(t, 10001), scope)
		var audit *broker.AuditError
		if !errors.As(err, &audit) || !errors.Is(err, full) || issued.Token.Len() != 0 {
			t.Errorf("%s: got %v and a token of %d bytes, want an audit error and none", name, err, issued.Token.Len())
		}
		w.audit.fail(nil)
	}
	_, err = w.ask(as(t, 10001), vault)
	check(t, err)
	if line := w.audit.last(t); line["first_use"] != true {
		t.Errorf("got %v: nobody has seen that scope used", line)
	}
}

func TestWorkloadTokenIsReadAtEachExchange(t *testing.T) {
	w := newWorld(t)
	good, err := os.ReadFile(w.file)
	check(t, err)
	check(t, os.Remove(w.file))
	_, err = w.ask(as(t, 10001), graph)
	var failure *exchange.Error
	if !errors.As(err, &failure) || failure.Reason != exchange.AssertionUnavailable {
		t.Fatalf("got %v, want %s", err, exchange.AssertionUnavailable)
	}
	if at, last := w.LastExchange(); !at.IsZero() || last != nil {
		t.Errorf("got %v, %v of an exchange that was never sent", at, last)
	}
	check(t, os.WriteFile(w.file, good, 0o600))
	_, err = w.ask(as(t, 10001), graph)
	check(t, err)
	if at, last := w.LastExchange(); at.IsZero() || last != nil {
		t.Errorf("got last exchange %v, %v", at, last)
	}
}

// Every token belongs to exactly the agent and scope it was asked for.
func TestIsolationUnderLoad(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			uid, scope, audience := uint32(10001), graph, "https://graph.microsoft.com"
			switch worker % 3 {
			case 1:
				uid = 10002
			case 2:
				scope, audience = vault, "https://vault.azure.net"
			}
			for range 200 {
				issued, err := w.ask(as(t, uid), scope)
				if err != nil {
					t.Error(err)
					return
				}
				if got := audienceOf(t, issued.Token.Reveal()); got != audience {
					t.Errorf("asked for %s, got a token for %s", scope, got)
					return
				}
			}
		})
	}
	all.Wait()
	if got := w.entra.TokenRequests(); got != 3 {
		t.Errorf("got %d token requests, want 3: one per agent and scope", got)
	}
}

func audienceOf(t *testing.T, token string) string {
	t.Helper()
	var claims struct {
		Aud string `json:"aud"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	check(t, err)
	check(t, json.Unmarshal(payload, &claims))
	return claims.Aud
}

func TestNewNamesEveryProblem(t *testing.T) {
	_, err := broker.New(broker.Config{}, broker.Rules{})
	if err == nil || !strings.Contains(err.Error(), "policy") {
		t.Errorf("got %v", err)
	}
}
