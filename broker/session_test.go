package broker_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/broker/recent"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/secret"
	"github.com/credfree/credfree/exchange/usertoken"
)

// Where the policy says so, an agent goes on for the user: with the same token,
// for as long as it says, until somebody ends it.
func TestLongRunning(t *testing.T) {
	begin := func(t *testing.T) (*world, secret.Text) {
		w := newWorld(t)
		w.use(t, assistant("      longRunning: {maxAge: 8h}\n"))
		user := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Lifetime = 10 * time.Minute })
		_, err := w.actFor(as(t, 10001), user, userRead)
		check(t, err)
		return w, user
	}
	t.Run("goes on and ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, user := begin(t)
			time.Sleep(2 * time.Hour)
			issued, err := w.actFor(as(t, 10001), user, mailRead)
			check(t, err)
			if line := w.audit.last(t); issued.Token.UserObjectID != entratest.DemoUserID || line["session"] != true {
				t.Errorf("got a token for %s and audit line %v, want Ada's from a session", issued.Token.UserObjectID, line)
			}
			time.Sleep(5*time.Hour + 50*time.Minute)
			issued, err = w.actFor(as(t, 10001), user, userRead)
			check(t, err)
			if left := time.Until(issued.ExpiresAt); left > 10*time.Minute {
				t.Errorf("the token is good for %s, the session for 10m", left)
			}
			time.Sleep(10 * time.Minute)
			if _, err := w.actFor(as(t, 10001), user, userRead); denial(t, err).Reason != "user_token_expired" {
				t.Errorf("got %v after the end of the session", err)
			}
		})
	})
	for name, end := range map[string]func(t *testing.T, w *world){
		"purged by user": func(t *testing.T, w *world) {
			w.purge(t, broker.Selection{User: entratest.DemoTenantID + "/" + entratest.DemoUserID})
		},
		"purged by agent":  func(t *testing.T, w *world) { w.purge(t, broker.Selection{Agent: "assistant"}) },
		"not allowed more": func(t *testing.T, w *world) { w.use(t, assistant("")) },
		"user blocked": func(t *testing.T, w *world) {
			w.use(t, assistant("      longRunning: {maxAge: 8h}\n")+"blocked: {users: ["+entratest.DemoTenantID+"/"+entratest.DemoUserID+"]}\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, user := begin(t)
				time.Sleep(time.Hour)
				_, err := w.actFor(as(t, 10001), user, userRead)
				check(t, err)
				end(t, w)
				if issued, err := w.actFor(as(t, 10001), user, userRead); err == nil || issued.Token.Len() > 0 {
					t.Error("the session goes on")
				}
			})
		})
	}
	t.Run("does not begin before it may", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.use(t, assistant(""))
			user := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Lifetime = 10 * time.Minute })
			_, err := w.actFor(as(t, 10001), user, userRead)
			check(t, err)
			w.use(t, assistant("      longRunning: {maxAge: 8h}\n"))
			time.Sleep(time.Hour)
			if _, err := w.actFor(as(t, 10001), user, userRead); denial(t, err).Reason != "user_token_expired" {
				t.Errorf("got %v, want no session for what was exchanged before", err)
			}
		})
	})
	t.Run("ended while it is used", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, user := begin(t)
			time.Sleep(time.Hour)
			w.entra.SetBehavior(entratest.Behavior{Delay: 5 * time.Second})
			var asking sync.WaitGroup
			asking.Go(func() {
				if issued, err := w.actFor(as(t, 10001), user, userRead); err == nil || issued.Token.Len() > 0 {
					t.Error("a token was released")
				}
			})
			time.Sleep(time.Second)
			w.purge(t, broker.Selection{User: entratest.DemoTenantID + "/" + entratest.DemoUserID})
			asking.Wait()
			time.Sleep(10 * time.Second) // the exchange has ended
			if _, err := w.actFor(as(t, 10001), user, userRead); denial(t, err).Reason != "user_token_expired" {
				t.Errorf("got %v, want the session to stay ended", err)
			}
		})
	})
	t.Run("of a member of a group", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.use(t, assistant("      longRunning: {maxAge: 8h}\n      users: {groups: ["+person(1)+", "+groupID+"]}\n"))
			for group, reason := range map[string]policy.Reason{groupID: "", person(2): policy.UserNotInGroup} {
				user := w.userToken(t, func(r *entratest.UserTokenRequest) {
					r.Lifetime, r.Claims = 10*time.Minute, map[string]any{"groups": []string{person(3), group}}
				})
				for _, pause := range []time.Duration{0, time.Hour} {
					time.Sleep(pause)
					_, err := w.actFor(as(t, 10001), user, userRead)
					if reason == "" {
						check(t, err)
					} else if got := denial(t, err).Reason; got != reason && pause == 0 || got != "user_token_expired" && pause > 0 {
						t.Errorf("after %s: got %s", pause, got)
					}
				}
			}
		})
	})
	t.Run("is the agent's own", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, user := begin(t)
			time.Sleep(time.Hour)
			if _, err := w.Issue(as(t, 10001), broker.Request{Identity: "agent", Scope: userRead, OnBehalfOf: true, UserToken: user}); err == nil {
				t.Error("another identity goes on with it")
			}
		})
	})
	t.Run("signed by a key that is gone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, user := begin(t)
			for range 5 { // until the first is not published any more
				w.entra.RotateKeys()
				w.userToken(t, nil)
			}
			time.Sleep(2 * time.Hour)
			_, err := w.actFor(as(t, 10001), user, userRead) // makes the verifier look for the keys again
			check(t, err)
			synctest.Wait()
			if _, err := w.actFor(as(t, 10001), user, userRead); denial(t, err).Reason != "user_token_unknown_key" {
				t.Errorf("got %v, want no session on a token that cannot be verified", err)
			}
		})
	})
	t.Run("revoked at Entra", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, user := begin(t)
			time.Sleep(time.Hour)
			check(t, w.entra.RevokeSignInSessions("", entratest.DemoUserID))
			_, err := w.actFor(as(t, 10001), user, userRead)
			if failure := asExchangeError(t, err); !slices.Contains(failure.Codes, 50173) {
				t.Errorf("got %v, want AADSTS50173", err)
			}
		})
	})
}

// What ends sessions ends those too that an exchange under way would begin, and
// no others.
func TestSessionsEndWhileTheyBegin(t *testing.T) {
	const policyOf = "      longRunning: {maxAge: 8h}\n"
	ada := entratest.DemoTenantID + "/" + entratest.DemoUserID
	for name, test := range map[string]struct {
		meanwhile func(t *testing.T, w *world)
		goesOn    bool
	}{
		"nothing":              {func(*testing.T, *world) {}, true},
		"purged by user":       {func(t *testing.T, w *world) { w.purge(t, broker.Selection{User: ada}) }, false},
		"purged by agent":      {func(t *testing.T, w *world) { w.purge(t, broker.Selection{Agent: "assistant"}) }, false},
		"another user purged":  {func(t *testing.T, w *world) { w.purge(t, broker.Selection{User: groupID}) }, true},
		"a reload of the same": {func(t *testing.T, w *world) { w.use(t, assistant(policyOf)) }, true},
		"blocked and let in again": {func(t *testing.T, w *world) {
			w.use(t, assistant(policyOf)+"blocked: {users: ["+ada+"]}\n")
			w.use(t, assistant(policyOf))
		}, false},
		"another Entra": {func(t *testing.T, w *world) {
			client, err := exchange.New(exchange.Config{Authority: authority, Audience: entratest.TokenExchangeAudience, Transport: w.entra.RoundTripper()})
			check(t, err)
			w.rules.Exchange = client
			w.use(t, assistant(policyOf))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.use(t, assistant(policyOf))
				user := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Lifetime = 10 * time.Minute })
				w.entra.SetBehavior(entratest.Behavior{Delay: 5 * time.Second})
				var asking sync.WaitGroup
				asking.Go(func() {
					if issued, err := w.actFor(as(t, 10001), user, userRead); (err == nil) != test.goesOn || (issued.Token.Len() > 0) != test.goesOn {
						t.Errorf("got %d bytes and %v", issued.Token.Len(), err)
					}
				})
				time.Sleep(time.Second)
				test.meanwhile(t, w)
				asking.Wait()
				time.Sleep(2 * time.Hour)
				asked := w.entra.TokenRequests()
				issued, err := w.actFor(as(t, 10001), user, userRead)
				if test.goesOn {
					check(t, err)
				} else if denial(t, err).Reason != "user_token_expired" || issued.Token.Len() > 0 || w.entra.TokenRequests() != asked {
					t.Errorf("got %v after %d requests, want no session", err, w.entra.TokenRequests()-asked)
				}
			})
		})
	}
}

// A session that ends while the agent's request waits for something else is not
// made up for by the identity's own rights.
func TestSessionsThatEndBeforeTheExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, audit := recent.New(time.Now()), &sink{}
		w := newWorldOf(t, inGroup, func(cfg *broker.Config, _ *broker.Rules) {
			var err error
			cfg.Recorder, err = issuance.NewRecorder(issuance.Config{Audit: audit, Memory: memory})
			check(t, err)
		})
		next, slow := w.rules.Graph, time.Duration(0)
		w.rules.Graph = roundTrip(func(req *http.Request) (*http.Response, error) {
			time.Sleep(slow)
			return next.RoundTrip(req)
		})
		of := func(more string) string {
			return strings.Replace(assistant("      users: {groups: ["+groupID+"]}\n      groupsFromGraph: true\n"+more), mailRead, graph, 1)
		}
		w.use(t, of("      longRunning: {maxAge: 8h}\n"))
		user := w.userToken(t, func(r *entratest.UserTokenRequest) { overage(r); r.Lifetime = 10 * time.Minute })
		_, err := w.actFor(as(t, 10001), user, userRead)
		check(t, err)
		time.Sleep(time.Hour)
		slow = 5 * time.Second
		var asking sync.WaitGroup
		asking.Go(func() {
			if issued, err := w.actFor(as(t, 10001), user, graph); !errors.Is(err, cache.ErrPurged) || issued.Token.Len() > 0 {
				t.Errorf("got a token of kind %q and %v, want none", issued.Token.Kind, err)
			}
		})
		time.Sleep(time.Second)
		w.use(t, of(""))
		w.use(t, of("      longRunning: {maxAge: 8h}\n"))
		asking.Wait()
		if i, _ := newest(t, memory); i.Asked {
			t.Error("the issuance says that Entra was asked")
		}
		for _, m := range memory.Minutes(time.Now()) {
			if m.Failed > 0 && m.Exchanges != m.Refreshes {
				t.Errorf("got %+v, want no exchange but the refresh of the token for Graph", m)
			}
		}
	})
}

// newSleeper is a world whose machine has slept for so long.
func newSleeper(t *testing.T, slept *atomic.Int64) *world {
	t.Helper()
	now := func() time.Time { return asleep(time.Duration(slept.Load())) }
	w := newWorld(t, func(cfg *broker.Config, _ *broker.Rules) { cfg.Now = now })
	users, err := usertoken.New(usertoken.Config{Authority: authority, Transport: w.entra.RoundTripper(), Now: now})
	check(t, err)
	t.Cleanup(users.Close)
	w.rules.Users = users
	return w
}

// A machine that sleeps has a wall clock that goes on, and a monotonic one that does
// not: what ends by the one is over, although the other says that it has just begun.
func TestWhatEndsWhileTheMachineSleeps(t *testing.T) {
	var slept atomic.Int64
	w := newSleeper(t, &slept)
	w.use(t, assistant("      longRunning: {maxAge: 8h}\n"))
	user := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Lifetime = 10 * time.Minute })
	issued, err := w.actFor(as(t, 10001), user, userRead)
	check(t, err)
	own, err := w.ask(as(t, 10001), graph)
	check(t, err)
	active := func() bool {
		found, err := w.Introspect(as(t, 10001), broker.Request{Door: "oauth"}, own.Token.Text)
		check(t, err)
		return found.Active
	}
	if issued.Token.Len() == 0 || !active() {
		t.Error("got no token, or one that is not active")
	}
	slept.Store(int64(8*time.Hour - time.Minute))
	if _, err := w.actFor(as(t, 10001), user, userRead); err != nil {
		t.Errorf("got %v before the session's end", err)
	}
	if active() {
		t.Error("a token that has expired is active")
	}
	slept.Store(int64(8 * time.Hour))
	if issued, err := w.actFor(as(t, 10001), user, userRead); err == nil || issued.Token.Len() > 0 {
		t.Error("the session goes on")
	}
}

// So is a session that ends because the machine sleeps while Entra is asked.
func TestSessionsThatEndInTheExchangeWhileTheMachineSleeps(t *testing.T) {
	var slept, before atomic.Int64
	w := newSleeper(t, &slept)
	var err error
	w.rules.Exchange, err = exchange.New(exchange.Config{Authority: authority, Audience: entratest.TokenExchangeAudience, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
		slept.Add(before.Load())
		return w.entra.RoundTripper().RoundTrip(req)
	})})
	check(t, err)
	w.use(t, assistant("      longRunning: {maxAge: 8h}\n"))
	user := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Lifetime = 10 * time.Minute })
	_, err = w.actFor(as(t, 10001), user, userRead)
	check(t, err)
	slept.Store(int64(8*time.Hour - time.Minute))
	before.Store(int64(time.Minute))
	if issued, err := w.actFor(as(t, 10001), user, mailRead); denial(t, err).Reason != "user_token_expired" || issued.Token.Len() > 0 {
		t.Errorf("got %d bytes and %v after the end of the session", issued.Token.Len(), err)
	}
}

// asleep is now on a machine that has slept for d since its start: what time.Now would
// return there.
func asleep(d time.Duration) time.Time {
	now := time.Now().Add(d)
	monotonic := (*int64)(unsafe.Add(unsafe.Pointer(&now), unsafe.Sizeof(uint64(0)))) //nolint:gosec // the second word of a time.Time that has both readings, which nothing else can set
	*monotonic -= int64(d)
	return now
}

// A user's token that expires while Entra is asked has begun a session, and whoever
// waited goes on with that.
func TestSessionsThatBeginAtTheEndOfTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.use(t, assistant("      longRunning: {maxAge: 8h}\n"))
		user := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Lifetime = 3 * time.Second })
		w.entra.SetBehavior(entratest.Behavior{Delay: 4 * time.Second, ClockSkew: -10 * time.Second})
		var asking sync.WaitGroup
		for range 3 { // one asks, the others join
			asking.Go(func() {
				issued, err := w.actFor(as(t, 10001), user, userRead)
				check(t, err)
				if left := time.Until(issued.ExpiresAt); left < 30*time.Minute || issued.Token.UserObjectID != entratest.DemoUserID {
					t.Errorf("got a token for %s that is good for %s", issued.Token.UserObjectID, left)
				}
			})
		}
		asking.Wait()
		if line := w.audit.last(t); line["session"] != true || w.entra.TokenRequests() != 2 {
			t.Errorf("got %d requests to Entra and audit line %v, want one with the token and one with the session", w.entra.TokenRequests(), line)
		}
	})
}
