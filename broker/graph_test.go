package broker_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/secret"
)

// The token with which groups are asked for goes to Microsoft Graph, and to no API
// that the policy has of the same resource.
func TestGroupsAreAskedOfGraphItself(t *testing.T) {
	const own = "https://graph.microsoft.com/v1.0"
	for baseURL, want := range map[string]string{
		"":                                 own,
		"https://graph.microsoft.com/v1.0": own,
		"https://graph.microsoft.com/v1.0/me/calendar": own,
		"https://gateway.partner.example/v1.0":         own,
		"https://graph.microsoft.com.evil.example":     own,
		authority + ".evil.example/v1.0":               own,
		authority + "/v1.0/me":                         own,
		authority + "/beta":                            own,
		authority + "/v1.0":                            authority + "/v1.0",
		authority + ":8443/v1.0":                       authority + ":8443/v1.0", // as the emulator has it
	} {
		for cloud, want := range map[string]string{"custom": want, "public": own} {
			w := newWorldOf(t, inGroup)
			apis := ""
			if baseURL != "" {
				apis = "apis: {tickets: {baseURL: " + baseURL + ", scopes: [graph/User.Read]}}\n"
			}
			w.use(t, apis+fromGraph())
			var asked []string
			rules := w.Rules()
			rules.Policy.Cloud.Name = cloud
			rules.Graph = roundTrip(func(req *http.Request) (*http.Response, error) {
				asked = append(asked, req.URL.String())
				return w.rules.Graph.RoundTrip(req)
			})
			check(t, w.Use(rules))
			_, err := w.actFor(as(t, 10001), w.userToken(t, overage), userRead)
			check(t, err)
			if want := []string{want + "/users/" + entratest.DemoUserID + "/getMemberObjects"}; !slices.Equal(asked, want) {
				t.Errorf("cloud %s, an API at %q: asked %q, want %q", cloud, baseURL, asked, want)
			}
		}
	}
}

// answering is a transport that answers everything alike.
func answering(status int, body string, header http.Header) http.RoundTripper {
	return serving{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), header)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})}
}

// A crowd asks Graph one question for each user, and none while Graph wants to be
// left alone. Those are told to come again, not that it is final.
func TestGraphIsAskedByFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, func(d *entratest.Directory) {
			inGroup(d)
			for i := range 2 {
				d.Tenants[0].Users = append(d.Tenants[0].Users, entratest.User{ObjectID: person(i), UserPrincipalName: fmt.Sprintf("p%d@demo.example", i), Groups: []string{groupID}})
			}
		})
		var asked atomic.Int64
		next := w.rules.Graph
		good := w.rules.Graph
		w.rules.Graph = roundTrip(func(req *http.Request) (*http.Response, error) {
			asked.Add(1)
			time.Sleep(time.Second)
			return next.RoundTrip(req)
		})
		w.use(t, fromGraph())
		var users [3]secret.Text
		for i, id := range []string{entratest.DemoUserID, person(0), person(1)} {
			users[i] = w.userToken(t, func(r *entratest.UserTokenRequest) { overage(r); r.User = id })
		}
		crowd := func(user secret.Text, want func(error)) {
			var asking sync.WaitGroup
			for range 50 {
				asking.Go(func() {
					_, err := w.actFor(as(t, 10001), user, userRead)
					want(err)
				})
			}
			asking.Wait()
		}
		fine := func(err error) {
			if err != nil {
				t.Errorf("got %v, want a token", err)
			}
		}
		throttled := func(err error) {
			failure, ok := errors.AsType[*exchange.Error](err)
			if !ok || failure.Reason != exchange.EntraThrottled || !failure.Temporary() || failure.RetryAfter <= 0 || failure.RetryAfter > time.Minute {
				t.Errorf("got %v, want to be told when to come again", err)
			}
		}
		for _, step := range []struct {
			name  string
			after time.Duration
			graph http.RoundTripper
			user  int
			want  func(error)
			asked int64
		}{
			{"the first user", 0, good, 0, fine, 1},
			{"another, throttled", 0, answering(http.StatusTooManyRequests, "", http.Header{"Retry-After": {"60"}}), 1, throttled, 2},
			{"the same", 20 * time.Second, good, 1, throttled, 2},
			{"yet another", 20 * time.Second, good, 2, throttled, 2},
			{"the first, who is known", 0, good, 0, fine, 2},
			{"a minute later", 21 * time.Second, good, 1, fine, 3},
		} {
			time.Sleep(step.after)
			next = step.graph
			crowd(users[step.user], step.want)
			if got := asked.Load(); got != step.asked {
				t.Fatalf("%s: Graph was asked %d times, want %d", step.name, got, step.asked)
			}
		}
	})
}

// What passes is told from what somebody has to change, and both are remembered for
// seconds.
func TestGraphDoesNotTell(t *testing.T) {
	const refused = "" // a denial
	broken := roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("no route") })
	cut := roundTrip(func(req *http.Request) (*http.Response, error) {
		resp, err := answering(http.StatusOK, "", nil).RoundTrip(req)
		if err == nil {
			resp.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))
		}
		return resp, err
	})
	hanging := roundTrip(func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	})
	for name, test := range map[string]struct {
		graph  http.RoundTripper
		reason exchange.Reason
		again  time.Duration // after which Graph is asked again
	}{
		"may not":               {answering(http.StatusForbidden, "", nil), refused, 10 * time.Second},
		"not of this tenant":    {answering(http.StatusNotFound, "", nil), refused, 10 * time.Second},
		"something else":        {answering(http.StatusOK, "<html>", nil), refused, 10 * time.Second},
		"half of the groups":    {answering(http.StatusOK, `{"value":["`+groupID+`"],"@odata.nextLink":"x"}`, nil), refused, 10 * time.Second},
		"throttled":             {answering(http.StatusTooManyRequests, "", nil), exchange.EntraThrottled, 10 * time.Second},
		"throttled for a day":   {answering(http.StatusTooManyRequests, "", http.Header{"Retry-After": {"86400"}}), exchange.EntraThrottled, 5 * time.Minute},
		"throttled for no time": {answering(http.StatusTooManyRequests, "", http.Header{"Retry-After": {"-1"}}), exchange.EntraThrottled, 10 * time.Second},
		"an outage":             {answering(http.StatusServiceUnavailable, "", nil), exchange.EntraUnavailable, 2 * time.Second},
		"an outage for a day":   {answering(http.StatusServiceUnavailable, "", http.Header{"Retry-After": {"86400"}}), exchange.EntraUnavailable, 5 * time.Second},
		"no connection":         {broken, exchange.EntraUnavailable, 2 * time.Second},
		"half an answer":        {cut, exchange.EntraUnavailable, 2 * time.Second},
		"no answer":             {hanging, exchange.EntraUnavailable, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorldOf(t, inGroup)
				next, good, asked := test.graph, w.rules.Graph, 0
				w.rules.Graph = roundTrip(func(req *http.Request) (*http.Response, error) { asked++; return next.RoundTrip(req) })
				w.use(t, fromGraph())
				user := w.userToken(t, overage)
				fails := func() {
					issued, err := w.actFor(as(t, 10001), user, userRead)
					if issued.Token.Len() > 0 {
						t.Error("a token was released")
					}
					if test.reason == refused {
						if got := denial(t, err).Reason; got != policy.GroupsOverage {
							t.Errorf("got %s, want %s", got, policy.GroupsOverage)
						}
					} else if got := asExchangeError(t, err); got.Reason != test.reason || !got.Temporary() || got.RetryAfter <= 0 || got.RetryAfter > test.again {
						t.Errorf("got %s, retry after %s, want %s within %s", got.Reason, got.RetryAfter, test.reason, test.again)
					}
					if line := w.audit.last(t); test.reason != refused && (line["decision"] != "error" || line["reason"] != string(test.reason)) {
						t.Errorf("got audit line %v", line)
					}
				}
				fails()
				next = good
				time.Sleep(test.again - time.Second)
				fails()
				if asked != 1 {
					t.Errorf("Graph was asked %d times, want 1", asked)
				}
				time.Sleep(time.Second)
				_, err := w.actFor(as(t, 10001), user, userRead)
				check(t, err)
			})
		})
	}
}

// Without a token for Graph nobody is told that it is final when it is not.
func TestGroupsWithoutATokenForGraph(t *testing.T) {
	for status, temporary := range map[int]bool{http.StatusServiceUnavailable: true, 0: false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorldOf(t, inGroup)
			w.use(t, fromGraph())
			user := w.userToken(t, overage)
			behavior := entratest.Behavior{Status: status}
			if !temporary {
				behavior.Code = 700016
			}
			w.entra.SetBehavior(behavior)
			_, err := w.actFor(as(t, 10001), user, userRead)
			if temporary {
				if got := asExchangeError(t, err); got.Reason != exchange.EntraUnavailable {
					t.Errorf("got %s, want %s", got.Reason, exchange.EntraUnavailable)
				}
			} else if got := denial(t, err); got.Reason != policy.GroupsOverage || !strings.Contains(got.Hint, "no token for it") {
				t.Errorf("got %s: %s", got.Reason, got.Hint)
			}
		})
	}
}

// slowGraph is a world whose Microsoft Graph takes five seconds, and how often it was asked.
func slowGraph(t *testing.T) (w *world, asked *int) {
	t.Helper()
	w, asked = newWorldOf(t, inGroup), new(int)
	next := w.rules.Graph
	w.rules.Graph = roundTrip(func(req *http.Request) (*http.Response, error) {
		*asked++
		time.Sleep(5 * time.Second)
		return next.RoundTrip(req)
	})
	w.use(t, fromGraph())
	return w, asked
}

// The broker's own token for Graph can be refused before its end: it was revoked, or got
// before somebody granted the rights that the hint asks for. Then a fresh one is tried,
// once a minute at most.
func TestGraphRefusesTheToken(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorldOf(t, func(d *entratest.Directory) {
				inGroup(d)
				for n := range 3 {
					d.Tenants[0].Users = append(d.Tenants[0].Users, entratest.User{ObjectID: person(n), UserPrincipalName: fmt.Sprintf("user%d@demo.example", n), Groups: []string{groupID}})
				}
			})
			next, refused := w.rules.Graph, map[string]bool{}
			var mu sync.Mutex // guards seen
			var seen []string
			w.rules.Graph = roundTrip(func(req *http.Request) (*http.Response, error) {
				token := req.Header.Get("Authorization")
				mu.Lock()
				seen = append(seen, token)
				mu.Unlock()
				time.Sleep(time.Millisecond) // others ask too
				if refused[token] || refused["all"] {
					return &http.Response{StatusCode: status, Body: http.NoBody}, nil
				}
				return next.RoundTrip(req)
			})
			w.use(t, fromGraph())
			user := w.userToken(t, func(r *entratest.UserTokenRequest) { overage(r); r.Lifetime = time.Hour })
			_, err := w.actFor(as(t, 10001), user, userRead)
			check(t, err)
			refused[seen[0]] = true
			time.Sleep(6 * time.Minute) // what Graph told is not remembered any more
			_, err = w.actFor(as(t, 10001), user, userRead)
			if check(t, err); len(seen) != 3 || seen[1] != seen[0] || seen[2] == seen[0] {
				t.Errorf("%d: Graph was asked %d times, want once with the token at hand and once with a fresh one", status, len(seen))
			}
			// A crowd of users finds out at the same time.
			refused[seen[2]] = true
			time.Sleep(6 * time.Minute)
			var asking sync.WaitGroup
			for n := range 3 {
				other := w.userToken(t, func(r *entratest.UserTokenRequest) { overage(r); r.User = person(n) })
				asking.Go(func() {
					_, err := w.actFor(as(t, 10001), other, userRead)
					check(t, err)
				})
			}
			asking.Wait()
			refused["all"] = true
			time.Sleep(6 * time.Minute)
			asked := w.entra.TokenRequests()
			for range 5 {
				if _, err := w.actFor(as(t, 10001), user, userRead); denial(t, err).Reason != policy.GroupsOverage {
					t.Errorf("%d: got %v", status, err)
				}
				time.Sleep(10 * time.Second)
			}
			if got := w.entra.TokenRequests() - asked; got != 1 {
				t.Errorf("%d: got %d requests to Entra, want one in a minute", status, got)
			}
		})
	}
}
