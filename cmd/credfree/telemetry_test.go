package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/exchange/entratest"
)

// A caller's flag hides nothing; what belongs to a hit that is not traced is not
// traced either.
func TestSampler(t *testing.T) {
	unsampled := trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, Remote: true}))
	dropped := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}}))
	kept := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled}))
	for name, test := range map[string]struct {
		parent context.Context //nolint:containedctx // a row of a table
		want   sdktrace.SamplingDecision
	}{
		"root":                            {t.Context(), sdktrace.RecordAndSample},
		"in an unsampled trace":           {unsampled, sdktrace.RecordAndSample},
		"child of a span that is kept":    {kept, sdktrace.RecordAndSample},
		"child of a span that is dropped": {dropped, sdktrace.Drop},
	} {
		if got := (sampler{}).ShouldSample(sdktrace.SamplingParameters{ParentContext: test.parent}); got.Decision != test.want {
			t.Errorf("%s: got %v, want %v", name, got.Decision, test.want)
		}
	}
}

// Which hits get a span is what the standard variables say, and in a caller's
// trace what others who sample by trace id do.
func TestHitsThatAreTraced(t *testing.T) {
	in := func(id trace.TraceID) context.Context {
		return trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{1}, Remote: true}))
	}
	low, high := in(trace.TraceID{15: 1}), in(trace.TraceID{8: 0xff, 9: 0xff, 10: 0xff})
	for _, test := range []struct {
		name, ratio     string
		low, high, root int // of 1000
	}{
		{"", "", 1000, 1000, 1000}, {"always_on", "", 1000, 1000, 1000}, {"traceidratio", "x", 1000, 1000, 1000}, {"traceidratio", "-1", 1000, 1000, 1000}, {"traceidratio", "NaN", 1000, 1000, 1000}, {"parentbased_always_off", "", 0, 0, 0}, {"always_off", "", 0, 0, 0},
		{"traceidratio", "0", 0, 0, 0}, {"traceidratio", "1", 1000, 1000, 1000}, {"parentbased_traceidratio", "0.5", 1000, 0, 500},
	} {
		t.Setenv("OTEL_TRACES_SAMPLER", test.name)
		t.Setenv("OTEL_TRACES_SAMPLER_ARG", test.ratio)
		_, hits, _ := samplerFromEnv()
		count := func(ctx context.Context) (n int) {
			for range 1000 {
				if hits == nil || hits(ctx) {
					n++
				}
			}
			return n
		}
		if l, h, r := count(low), count(high), count(t.Context()); l != test.low || h != test.high || r < test.root-100 || r > test.root+100 {
			t.Errorf("%s %s: got %d, %d and %d of 1000, want %d, %d and about %d", test.name, test.ratio, l, h, r, test.low, test.high, test.root)
		}
	}
}

// Spans reach a collector when the standard variables name one, and Entra sees
// none of the caller's trace.
func TestSpansReachACollector(t *testing.T) {
	var mu sync.Mutex // guards received
	var received strings.Builder
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&received, "%s %s\n", r.URL.Path, body)
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
	t.Run("broker", func(t *testing.T) {
		r := startService(t, func(string) string { return anyProcess() })
		status, body := do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+graphScope,
			"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", "baggage", "user.email=ada@example.com")
		if status != http.StatusOK {
			t.Fatalf("got %d %s", status, body)
		}
		requests := r.lab.host.Server.Requests()
		if got := requests[len(requests)-1].CorrelationID; got != "4bf92f35-77b3-4da6-a3ce-929d0e0e4736" {
			t.Errorf("got correlation id %s, want the caller's trace id", got)
		}
	})
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"/v1/traces", "/v1/metrics", "token.issue", "workload.token", "entra.token", "credfree.token.requests"} {
		if !strings.Contains(received.String(), want) {
			t.Errorf("the collector never received %q", want)
		}
	}
	if strings.Contains(received.String(), "ada@example.com") {
		t.Error("the caller's baggage was exported")
	}
}

// An exporter that nobody answers costs the agents nothing and does not hold
// up the end for long.
func TestDeadCollector(t *testing.T) {
	release := make(chan struct{})
	blackHole := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer blackHole.Close()
	defer close(release)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", blackHole.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	var started time.Time
	t.Run("broker", func(t *testing.T) {
		r := startService(t, func(string) string { return anyProcess() })
		for range 50 {
			if status, body := do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+graphScope); status != http.StatusOK {
				t.Fatalf("got %d %s", status, body)
			}
		}
		started = time.Now()
	})
	if took := time.Since(started); took > shutdownTime+5*time.Second {
		t.Errorf("the end took %s", took)
	}
}

func TestMetricsAreServed(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	for _, scope := range []string{graphScope, graphScope, vaultScope} {
		do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+scope)
	}
	_, text := do(t, http.MethodGet, "http://"+r.adminAddr()+"/metrics", "")
	for _, want := range []string{
		`credfree_token_requests_total{agent="demo",cache="hit",decision="allow",door="oauth",grant="client_credentials",reason=""} 1`,
		`credfree_token_requests_total{agent="demo",cache="",decision="deny",door="oauth",grant="client_credentials",reason="scope_not_allowed"} 1`,
		`credfree_token_duration_seconds_bucket{cache="miss",decision="allow",door="oauth",le="0.0005"}`,
		`credfree_cache_entries 1`, `credfree_exchange_holds{kind="breaker"} 0`, `credfree_cache_size_bytes`, `http_client_request_duration_seconds`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "graph.microsoft.com") {
		t.Error("a scope is a label")
	}
}

// A client that stops half-way holds up the end for a moment, and no longer;
// the end is a clean one.
func TestStopWithARequestHalfWay(t *testing.T) {
	var started time.Time
	t.Run("broker", func(t *testing.T) {
		r := startService(t, func(string) string { return anyProcess() })
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.agentsAddr())
		check(t, err)
		t.Cleanup(func() { check(t, conn.Close()) })
		_, err = conn.Write([]byte("POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\ngrant"))
		check(t, err)
		do(t, http.MethodGet, "http://"+r.adminAddr()+"/healthz", "") // the bytes above have arrived
		started = time.Now()
	})
	if took := time.Since(started); took > drainTime+5*time.Second {
		t.Errorf("the end took %s", took)
	}
}

// Two hundred callers at once on a cold broker, over real sockets: Entra is
// asked once.
func TestColdCallersOverRealSockets(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	r.lab.host.Server.SetBehavior(entratest.Behavior{Delay: 300 * time.Millisecond})
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			if status, body := do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+graphScope); status != http.StatusOK {
				t.Errorf("got %d %s", status, body)
			}
		})
	}
	all.Wait()
	if got := r.lab.host.Server.TokenRequests(); got != 1 {
		t.Errorf("got %d token requests, want 1", got)
	}
}

// Entra goes away and comes back, over real sockets and TLS.
func TestEmulatorStopsAndStarts(t *testing.T) {
	r := startService(t, func(string) string {
		return strings.Replace(anyProcess(), "apis: [graph, azure-openai]", "scopes: [graph, keyvault]", 1)
	})
	ask := func(scope string) int {
		status, _ := do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+scope)
		return status
	}
	if got := ask(graphScope); got != 200 {
		t.Fatalf("got %d", got)
	}
	check(t, r.lab.host.Pause())
	if cached, cold := ask(graphScope), ask(vaultScope); cached != 200 || cold != 503 {
		t.Errorf("while Entra is down: got %d for a cached token and %d for another, want 200 and 503", cached, cold)
	}
	if status, text := do(t, http.MethodGet, "http://"+r.adminAddr()+"/readyz", ""); status != 200 || !strings.Contains(text, "Entra cannot be reached") {
		t.Errorf("readiness: got %d %s", status, text)
	}
	check(t, r.lab.host.Resume())
	got := ask(vaultScope)
	for began := time.Now(); got == 503 && time.Since(began) < 10*time.Second; got = ask(vaultScope) {
		time.Sleep(50 * time.Millisecond) // nothing is sent until the hold is over
	}
	if got != 200 {
		t.Errorf("after its return: got %d", got)
	}
	r.lab.host.Server.SetBehavior(entratest.Behavior{})
}

func TestLoggerWritesJSONToFiles(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "log")
	check(t, err)
	log, _ := newLogger(file, slog.LevelInfo)
	log.Log(t.Context(), slog.LevelInfo, "hello")
	text, err := os.ReadFile(file.Name())
	check(t, err)
	check(t, file.Close())
	if !strings.HasPrefix(string(text), "{") {
		t.Errorf("got %s", text)
	}
}
