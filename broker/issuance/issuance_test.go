package issuance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/recent"
)

// disk is an audit sink that takes only so many bytes.
type disk struct {
	room int
	text bytes.Buffer
}

var errFull = errors.New("no space left on device")

func (d *disk) Write(p []byte) (int, error) {
	n := min(len(p), d.room)
	d.room -= n
	d.text.Write(p[:n])
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

func record(t *testing.T, sink *disk) (*issuance.Recorder, func() error) {
	t.Helper()
	recorder, err := issuance.NewRecorder(issuance.Config{Audit: sink})
	if err != nil {
		t.Fatal(err)
	}
	return recorder, func() error {
		return recorder.Close(t.Context(), &issuance.Record{ID: issuance.NewID(), Start: time.Now(), Agent: "demo", Decision: issuance.Allow})
	}
}

// A line that was cut by a full disk spoils no later one, and readiness knows.
func TestAuditOnAFullDisk(t *testing.T) {
	sink := &disk{room: 1 << 20}
	recorder, write := record(t, sink)
	if err := write(); err != nil || recorder.AuditError() != nil {
		t.Fatalf("got %v, %v", err, recorder.AuditError())
	}
	sink.room = 50
	for range 3 {
		if err := write(); !errors.Is(err, errFull) || !errors.Is(recorder.AuditError(), errFull) {
			t.Fatalf("got %v, %v, want %v", err, recorder.AuditError(), errFull)
		}
	}
	sink.room = 1 << 20
	if err := write(); err != nil || recorder.AuditError() != nil {
		t.Fatalf("got %v, %v", err, recorder.AuditError())
	}
	lines := strings.Split(strings.TrimSpace(sink.text.String()), "\n")
	if len(lines) != 3 || !json.Valid([]byte(lines[0])) || json.Valid([]byte(lines[1])) || !json.Valid([]byte(lines[2])) {
		t.Errorf("got %d lines, want a whole one, a torn one and a whole one:\n%s", len(lines), sink.text.String())
	}
}

// spans is a log handler that keeps the span of the last line.
type spans struct {
	slog.Handler
	last trace.SpanContext
}

func (s *spans) Handle(ctx context.Context, r slog.Record) error {
	s.last = trace.SpanContextFromContext(ctx)
	return s.Handler.Handle(ctx, r)
}

// Whoever reads that a line could not be written finds the request that it was of,
// also that of a hit without a span of its own until then.
func TestUnwrittenLineIsFound(t *testing.T) {
	var log bytes.Buffer
	handler := &spans{Handler: slog.NewTextHandler(&log, nil)}
	recorder, err := issuance.NewRecorder(issuance.Config{Audit: &disk{}, Tracer: sdktrace.NewTracerProvider().Tracer("x"), Hits: func(context.Context) bool { return false }, Log: slog.New(handler)})
	check(t, err)
	rec := &issuance.Record{ID: issuance.NewID(), Start: time.Now(), Agent: "demo", Decision: issuance.Allow, Cache: issuance.Hit}
	if err := recorder.Close(t.Context(), rec); !errors.Is(err, errFull) {
		t.Fatalf("got %v", err)
	}
	if got := log.String(); !strings.Contains(got, "agent=demo issuance_id="+rec.ID) || !handler.last.IsValid() || handler.last.TraceID() != rec.SpanContext().TraceID() {
		t.Errorf("got %q, of span %v; the record's is %v", got, handler.last, rec.SpanContext())
	}
}

// Every field, with values that need escaping, is one line of valid JSON.
func TestAuditLineIsJSON(t *testing.T) {
	sink := &disk{room: 1 << 20}
	recorder, _ := record(t, sink)
	odd := "a\"b\\c\nd\u2028é\x00"
	rec := &issuance.Record{ID: odd, Start: time.Unix(1, 0), Door: odd, Grant: odd, Agent: odd, Owner: odd, PeerNet: odd, PeerSocket: odd, PeerUID: 1<<32 - 1, PeerKnown: true,
		Identity: odd, Tenant: odd, ClientID: odd, Scopes: []string{odd, odd}, Revision: odd, Decision: issuance.Fail, Reason: odd, Rule: odd, Cache: issuance.Miss, TokenKind: odd,
		ExpiresAt: time.Unix(2, 0), UniqueID: odd, CorrelationID: odd, RequestID: odd, EntraError: odd, EntraCodes: []int{1, 2}}
	if err := recorder.Close(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(sink.text.Bytes(), &fields); err != nil {
		t.Fatalf("%v: %s", err, sink.text.String())
	}
	if strings.Count(sink.text.String(), "\n") != 1 || fields["agent"] != odd || fields["event"] != "token.failed" || fields["peer_uid"] != float64(1<<32-1) {
		t.Errorf("got %v", fields)
	}
	if len(fields) < 25 {
		t.Errorf("got %d fields, want all", len(fields))
	}
}

// Where nothing is traced a line is found by the caller's trace; the caller's span is not
// taken for one of ours.
func TestCallersSpanIsNotOurs(t *testing.T) {
	sink := &disk{room: 1 << 20}
	recorder, _ := record(t, sink)
	caller := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, Remote: true})
	check(t, recorder.Close(trace.ContextWithSpanContext(t.Context(), caller), &issuance.Record{ID: "x", Start: time.Now(), Decision: issuance.Allow, Cache: issuance.Hit}))
	if line := sink.text.String(); !strings.Contains(line, caller.TraceID().String()) || strings.Contains(line, "span_id") {
		t.Errorf("got %s", line)
	}
}

func TestConcurrentLinesStayWhole(t *testing.T) {
	sink := &disk{room: 1 << 24}
	_, write := record(t, sink)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				if err := write(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	count := 0
	for line := range strings.Lines(sink.text.String()) {
		count++
		if !json.Valid([]byte(line)) {
			t.Fatalf("line %q", line)
		}
	}
	if count != 800 {
		t.Errorf("got %d lines, want 800", count)
	}
}

func TestScopesAreFitToBeRecorded(t *testing.T) {
	const graph = "https://graph.microsoft.com/.default"
	for name, test := range map[string]struct{ in, want []string }{
		"good":       {[]string{graph, "api://a/b", "00000003-0000-0000-c000-000000000000/.default"}, []string{graph, "api://a/b", "00000003-0000-0000-c000-000000000000/.default"}},
		"a token":    {[]string{graph, "eyJhbGciOiJSUzI1NiJ9.e30.x"}, []string{graph, "(withheld)"}},
		"hidden":     {[]string{"https://graph.microsoft.com/eyJhbGciOiJSUzI1NiJ9"}, []string{"(withheld)"}},
		"a key":      {[]string{"hunter2hunter2hunter2"}, []string{"(withheld)"}},
		"long":       {[]string{graph + strings.Repeat("a", 300)}, []string{"(withheld)"}},
		"control":    {[]string{"https://a/\x1b[31m"}, []string{"(withheld)"}},
		"an address": {[]string{"https://graph.microsoft.com/ada@contoso.com"}, []string{"(withheld)"}},
		"a query":    {[]string{"https://graph.microsoft.com/x?code=abc", "https://a/b#c"}, []string{"(withheld)", "(withheld)"}},
		"none":       {nil, nil},
		"very many":  {slices.Repeat([]string{graph}, 100), slices.Repeat([]string{graph}, 16)},
		"after good": {[]string{"x", graph}, []string{"(withheld)", graph}},
	} {
		if got := issuance.Scopes(test.in); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestIDsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := issuance.NewID()
		if len(id) != 32 || seen[id] {
			t.Fatalf("got %q", id)
		}
		seen[id] = true
	}
}

func TestRecorderNeedsAnAuditSink(t *testing.T) {
	if _, err := issuance.NewRecorder(issuance.Config{}); err == nil {
		t.Error("a recorder without an audit sink was made")
	}
}

func TestWordsAreFitToBeRecorded(t *testing.T) {
	for said, want := range map[string]string{
		"": "", "asst_abc123": "asst_abc123", "Research assistant": "Research assistant", "a9e41d00-0000-4000-8000-00000000a9e4": "a9e41d00-0000-4000-8000-00000000a9e4",
		"conv_68a1f0c2d4e6f8a1b3c5d7e9f1a3b5c7d9e1f3a5b7c9d1e3": "conv_68a1f0c2d4e6f8a1b3c5d7e9f1a3b5c7d9e1f3a5b7c9d1e3",
		"eyJhbGciOiJSUzI1NiJ9.e30.x":                            "(withheld)", // a token
		"sk-proj-Ab3Cd5Ef7Gh9Ij1Kl3Mn5Op7Qr9St1Uv":              "(withheld)", // a key
		"abc8Q~xyz":              "(withheld)", // a client secret has such characters
		"AAAAbbbb1111/+==":       "(withheld)", // base64
		"ada@contoso.com":        "(withheld)",
		"\x1b[31m":               "(withheld)",
		"Forschungsagentín":      "(withheld)",
		strings.Repeat("a", 128): strings.Repeat("a", 128), strings.Repeat("a", 129): "(withheld)",
		"my-own-key-1": "(withheld)", "x my-own-key-1 y": "(withheld)", // what it presented
	} {
		if got := issuance.Word(said, "my-own-key-1"); got != want {
			t.Errorf("%q: got %q, want %q", said, got, want)
		}
	}
	if got := issuance.Word("asst_7", ""); got != "asst_7" {
		t.Errorf("without a key: got %q", got)
	}
}

// A refresh that nobody waited for is seen where operators look all the same.
func TestRefreshesAreSeen(t *testing.T) {
	var log bytes.Buffer
	memory := recent.New(time.Now())
	recorder, err := issuance.NewRecorder(issuance.Config{Audit: io.Discard, Memory: memory, Log: slog.New(slog.NewTextHandler(&log, nil))})
	check(t, err)
	for _, reason := range []string{"", "entra_throttled"} {
		_, end := recorder.Refresh(t.Context(), "researcher", "a1d4c0de")
		end(reason, true)
	}
	var sum recent.Minute
	for _, m := range memory.Minutes(time.Now()) {
		sum.Exchanges, sum.Refreshes, sum.RefreshesFailed, sum.Throttled = sum.Exchanges+m.Exchanges, sum.Refreshes+m.Refreshes, sum.RefreshesFailed+m.RefreshesFailed, sum.Throttled+m.Throttled
	}
	if want := (recent.Minute{Exchanges: 2, Refreshes: 2, RefreshesFailed: 1, Throttled: 1}); sum != want {
		t.Errorf("got %+v, want %+v", sum, want)
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, "agent=researcher client_id=a1d4c0de reason=entra_throttled") {
		t.Errorf("got the log %q", got)
	}
}

// An inspection is counted and remembered, and hands out no token whose age would be
// of interest.
func TestInspectionsAreNoTokens(t *testing.T) {
	memory, reader := recent.New(time.Now()), sdkmetric.NewManualReader()
	recorder, err := issuance.NewRecorder(issuance.Config{Audit: io.Discard, Memory: memory, Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("x")})
	check(t, err)
	now := time.Now()
	check(t, recorder.Close(t.Context(), &issuance.Record{ID: "1", Start: now, Agent: "a", Decision: issuance.Allow, Cache: issuance.Hit, ExpiresAt: now.Add(time.Hour), Age: time.Minute}))
	check(t, recorder.Close(t.Context(), &issuance.Record{ID: "2", Start: now, Agent: "a", Decision: issuance.Allow, Inspection: true, ExpiresAt: now.Add(time.Hour)}))
	var got metricdata.ResourceMetrics
	check(t, reader.Collect(t.Context(), &got))
	var ages uint64
	for _, m := range got.ScopeMetrics[0].Metrics {
		if histogram, ok := m.Data.(metricdata.Histogram[float64]); ok && m.Name == "credfree.token.age" {
			ages += histogram.DataPoints[0].Count
		}
	}
	if ages != 1 {
		t.Errorf("got the ages of %d tokens, want that of one", ages)
	}
	if i, ok := memory.Get("2"); !ok || !i.Inspected() {
		t.Errorf("got %+v, want an inspection", i)
	}
	if i, ok := memory.Get("1"); !ok || i.Inspected() {
		t.Errorf("got %+v, want an issuance", i)
	}
}
