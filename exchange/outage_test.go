package exchange_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
)

// However long Entra hangs, and however many users ask meanwhile, few requests are sent:
// those who failed a while ago are no newcomers all at once.
func TestLongOutageOfManyUsers(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		const users, lasts, every = 100, 4 * time.Minute, 2 * time.Second
		token := e.userToken(t, entratest.DemoClientID).Token
		start := time.Now()
		var mu sync.Mutex // guards sent
		var sent []time.Duration
		e.sent.answer = func(req *http.Request) (*http.Response, error) {
			mu.Lock()
			sent = append(sent, time.Since(start))
			mu.Unlock()
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		var all sync.WaitGroup
		for n := range users {
			all.Go(func() {
				time.Sleep(time.Duration(n) * every / users)
				for ; time.Since(start) < lasts; time.Sleep(every) {
					ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
					_, err := e.client.Token(ctx, e.app, exchange.Request{Scopes: []string{userRead}, User: exchange.User{Token: token, ObjectID: fmt.Sprint("user-", n)}})
					stop()
					if err == nil {
						t.Error("got a token")
					}
				}
			})
		}
		all.Wait()
		in := map[time.Duration]int{} // requests by their ten seconds
		for _, at := range sent {
			in[at/(10*time.Second)]++
		}
		for at := time.Duration(4); at < lasts/(10*time.Second); at++ { // the first ones hang for half a minute
			if in[at] > 20 || in[at] == 0 {
				t.Errorf("%s: %d requests within 10 s", at*10*time.Second, in[at])
			}
		}
	})
}

// Who has not failed waits for a second for another's probe, though it hangs.
func TestNewcomerBehindAProbeThatHangs(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		token := e.userToken(t, entratest.DemoClientID).Token
		ask := func(user string) {
			_, _ = e.client.Token(t.Context(), e.app, exchange.Request{Scopes: []string{userRead}, User: exchange.User{Token: token, ObjectID: user}}) // fails
		}
		var over, hangs atomic.Bool
		e.sent.answer = func(req *http.Request) (*http.Response, error) {
			switch {
			case !over.Load():
				return respond(503, "text/plain", "")(req)
			case hangs.CompareAndSwap(true, false):
				<-req.Context().Done()
				return nil, req.Context().Err()
			}
			return e.sent.next.RoundTrip(req)
		}
		ask("one")
		ask("two") // which makes it everybody's
		time.Sleep(time.Second)
		over.Store(true)
		hangs.Store(true)
		var hanging sync.WaitGroup
		hanging.Go(func() { ask("three") })
		time.Sleep(time.Millisecond)
		start := time.Now()
		for {
			if _, err := e.ask(t.Context(), vault); err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if waited := time.Since(start); waited > 1100*time.Millisecond {
			t.Errorf("waited %s", waited)
		}
		hanging.Wait()
	})
}

// A failure of an hour ago does not make somebody wait for those who fail now.
func TestOldFailureIsForgotten(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		var over atomic.Bool // for search
		e.sent.answer = func(req *http.Request) (*http.Response, error) {
			if over.Load() && strings.HasPrefix(formOf(req).Get("scope"), search) {
				return e.sent.next.RoundTrip(req)
			}
			return respond(503, "text/plain", "")(req)
		}
		e.bad(t, exchange.EntraUnavailable, search)
		e.bad(t, exchange.EntraUnavailable, vault)
		time.Sleep(time.Hour)
		end := time.Now().Add(2 * time.Minute)
		var all sync.WaitGroup
		for n, scope := range []string{graph, vault} {
			all.Go(func() {
				time.Sleep(time.Duration(n) * 50 * time.Millisecond)
				for ; time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
					_, _ = e.ask(t.Context(), scope) // fails
				}
			})
		}
		time.Sleep(time.Minute + 33*time.Millisecond)
		over.Store(true)
		_, err := e.ask(t.Context(), search)
		if err != nil {
			t.Errorf("got %v", err)
		}
		all.Wait()
	})
}
