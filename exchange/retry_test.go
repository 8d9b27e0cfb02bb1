package exchange_test

import (
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
)

// Row 3: outages are tried again twice, in the span of a second.
func TestOutageIsRetried(t *testing.T) {
	down := entratest.Behavior{Status: 503}
	for name, test := range map[string]struct {
		meets  []entratest.Behavior
		pauses []time.Duration
		reason exchange.Reason // "" for a token
	}{
		"once":        {[]entratest.Behavior{down, well}, []time.Duration{200e6}, ""},
		"twice":       {[]entratest.Behavior{down, {Code: 90033}, well}, []time.Duration{200e6, 800e6}, ""},
		"three times": {[]entratest.Behavior{down, down, {Status: 500}, well}, []time.Duration{200e6, 800e6}, exchange.EntraUnavailable},
		"hangs":       {[]entratest.Behavior{{Hang: true}, well}, []time.Duration{10200e6}, ""},
		"hangs on":    {[]entratest.Behavior{{Hang: true}}, []time.Duration{10200e6, 10800e6}, exchange.Timeout},
		"then refuses": {[]entratest.Behavior{down, {Code: 700016}}, []time.Duration{200e6},
			exchange.EntraRejected},
		"then throttles": {[]entratest.Behavior{down, {Status: 429}}, []time.Duration{200e6}, exchange.EntraThrottled},
		"then garbles":   {[]entratest.Behavior{down, {Truncate: true}, well}, []time.Duration{200e6}, exchange.ReplyMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, e *entra) {
				e.meets(test.meets...)
				if test.reason == "" {
					e.good(t, graph)
				} else {
					e.bad(t, test.reason, graph)
				}
				within(t, e.pauses(0), test.pauses...)
				var ids []string
				for i, span := range slices.DeleteFunc(e.spans.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.Name() != "entra.token" }) {
					set := attribute.NewSet(span.Attributes()...)
					if count, _ := set.Value("http.request.resend_count"); count.AsInt64() != int64(i) {
						t.Errorf("span %d: got resend count %d", i, count.AsInt64())
					}
					id, _ := set.Value("credfree.entra.correlation_id")
					ids = append(ids, id.AsString())
				}
				if len(ids) != e.count() || len(slices.Compact(ids)) != 1 {
					t.Errorf("got spans with correlation ids %v for %d requests, want one span each and one id", ids, e.count())
				}
			})
		})
	}
}

// Entra may say when it will be back, and is believed for five seconds.
func TestOutageThatSaysWhen(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.server.SetBehavior(entratest.Behavior{Status: 503, RetryAfter: "2"})
		e.bad(t, exchange.EntraUnavailable, graph)
		if got, want := e.pauses(0), []time.Duration{2 * time.Second, 2 * time.Second}; !slices.Equal(got, want) {
			t.Errorf("got pauses %v, want %v", got, want)
		}
		if got := e.atOnce(t, exchange.EntraUnavailable, graph); got.RetryAfter != 2*time.Second {
			t.Errorf("got Retry-After %s, want 2s", got.RetryAfter)
		}
		time.Sleep(2 * time.Second)
		e.server.SetBehavior(entratest.Behavior{Status: 503, RetryAfter: "3600"})
		e.bad(t, exchange.EntraUnavailable, graph)
		if got := e.atOnce(t, exchange.EntraUnavailable, graph); got.RetryAfter != 5*time.Second {
			t.Errorf("got Retry-After %s, want 5s", got.RetryAfter)
		}
	})
}

// A connection that fails is an outage too.
func TestRefusedConnectionIsRetried(t *testing.T) {
	inTime(t, func(t *testing.T, e *entra) {
		e.sent.answer = func(req *http.Request) (*http.Response, error) {
			if len(e.sent.requests) < 3 {
				return nil, errors.New("connection reset by peer")
			}
			return e.sent.next.RoundTrip(req)
		}
		e.good(t, graph)
		within(t, e.pauses(0), 200*time.Millisecond, 800*time.Millisecond)
	})
}

// Jitter is jitter: brokers that failed together do not come back together.
func TestPausesAreJittered(t *testing.T) {
	pauses := map[time.Duration]bool{}
	for range 10 {
		inTime(t, func(t *testing.T, e *entra) {
			e.meets(entratest.Behavior{Status: 503}, well)
			e.good(t, graph)
			pauses[e.pauses(0)[0]] = true
		})
	}
	if len(pauses) < 2 {
		t.Errorf("got the same pause %v ten times", pauses)
	}
}

// Row 4: an answer that is none is asked for once more.
func TestMalformedReplyIsRetriedOnce(t *testing.T) {
	for name, behavior := range map[string]entratest.Behavior{
		"truncated": {Truncate: true}, "html": {Status: 200, Body: "<html>"}, "redirect": {Redirect: "https://evil.example/"}, "huge": {Huge: true},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, e *entra) {
				e.meets(behavior, well)
				e.good(t, graph)
				e.meets(behavior)
				e.bad(t, exchange.ReplyMalformed, graph)
				within(t, e.pauses(2), 200*time.Millisecond)
				if got := e.atOnce(t, exchange.ReplyMalformed, graph); got.RetryAfter <= 0 || got.RetryAfter > time.Second {
					t.Errorf("got Retry-After %s, want at most 1s", got.RetryAfter)
				}
			})
		})
	}
}
