package broker_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
)

// While Entra throttles, one request leaves per window, whatever the number of
// agents and callers, and whoever has a token in the cache notices nothing.
func TestThrottlingIsNoticedByFew(t *testing.T) {
	const crowd, windows = 60, 4
	var text strings.Builder
	text.WriteString("agents:\n")
	for i := range crowd {
		fmt.Fprintf(&text, "  a%d: {identity: demo, callers: [{tcp: {uids: [%d]}}], allow: {scopes: [graph, keyvault]}}\n", i, 20000+i)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.use(t, text.String())
		_, err := w.ask(as(t, 20000), graph)
		check(t, err)
		w.entra.SetBehavior(entratest.Behavior{Status: 429, RetryAfter: "7"})
		before := w.entra.TokenRequests()
		for window := range windows {
			var asking sync.WaitGroup
			for i := range crowd {
				asking.Go(func() {
					_, err := w.ask(as(t, uint32(20000+i)), vault)
					if failure := asExchangeError(t, err); failure.Reason != exchange.EntraThrottled || failure.RetryAfter <= 0 || failure.RetryAfter > 7*time.Second {
						t.Errorf("got %s, retry after %s, want %s within 7s", failure.Reason, failure.RetryAfter, exchange.EntraThrottled)
					}
				})
			}
			asking.Wait()
			_, err := w.ask(as(t, 20000), graph)
			check(t, err)
			if line := w.audit.last(t); line["cache"] != "hit" {
				t.Errorf("got %v, want a hit", line["cache"])
			}
			// The crowd of the first window left before anybody knew.
			if got, most := w.entra.TokenRequests()-before, crowd+window; got > most {
				t.Fatalf("window %d: got %d requests, want %d at most", window, got, most)
			}
			time.Sleep(7 * time.Second)
			if window == 0 {
				before = w.entra.TokenRequests() - crowd
			}
		}
		w.entra.SetBehavior(entratest.Behavior{})
		_, err = w.ask(as(t, 20001), vault)
		check(t, err)
	})
}
