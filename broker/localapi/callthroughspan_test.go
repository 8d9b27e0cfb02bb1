package localapi_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/localapi"
)

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// ended are spans as they end. The one of an answer ends behind it.
type ended struct{ spans chan sdktrace.ReadOnlySpan }

func (e ended) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (e ended) OnEnd(span sdktrace.ReadOnlySpan)                { e.spans <- span }
func (e ended) Shutdown(context.Context) error                  { return nil }
func (e ended) ForceFlush(context.Context) error                { return nil }

// Each attempt has a span in the agent's trace, which the API goes on with. It
// holds neither path nor query.
func TestCallSpans(t *testing.T) {
	end := ended{make(chan sdktrace.ReadOnlySpan, 8)}
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(end)).Tracer("test")
	var parents []string
	d, _ := openCalls(t, caller, func(d *door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			parents = append(parents, r.Header.Get("Traceparent"))
			if r.Method == "LOCK" {
				panic(http.ErrAbortHandler)
			}
			d.entra.API().ServeHTTP(w, r)
		})
	}, func(cfg *localapi.Config) { cfg.CallThrough.Tracer = tracer })
	check(t, d.entra.SetClaimsChallenge(recently()))
	got := d.call(t, http.MethodPost, "tools/echo/secret-path?secret=query", "body", "Traceparent", traceparent, "Baggage", "a=b")
	if got.StatusCode != 200 {
		t.Fatalf("got %s", got.wire())
	}
	spans := []sdktrace.ReadOnlySpan{<-end.spans, <-end.spans}
	broken := d.call(t, "LOCK", "tools/x", "", "Traceparent", traceparent)
	if broken.StatusCode != 502 {
		t.Errorf("got %s, want 502", broken.wire())
	}
	spans = append(spans, <-end.spans)

	issuance := got.Header.Get(client.IssuanceHeader)
	type row struct {
		Status     codes.Code
		Attributes map[string]any
	}
	want := []row{
		{codes.Error, map[string]any{"http.request.method": "POST", "server.address": "tools.example.com", "credfree.api": "tools", "http.response.status_code": int64(401)}},
		{codes.Unset, map[string]any{"http.request.method": "POST", "server.address": "tools.example.com", "credfree.api": "tools", "http.response.status_code": int64(200), "http.request.resend_count": int64(1), "credfree.issuance.id": issuance}},
		{codes.Error, map[string]any{"http.request.method": "_OTHER", "server.address": "tools.example.com", "credfree.api": "tools", "error.type": "api_unreachable", "credfree.issuance.id": broken.Header.Get(client.IssuanceHeader)}},
	}
	var rows []row
	for i, span := range spans {
		r := row{span.Status().Code, map[string]any{}}
		for _, attribute := range span.Attributes() {
			r.Attributes[string(attribute.Key)] = attribute.Value.AsInterface()
		}
		if i == 0 { // of the first issuance, which the agent never hears of
			delete(r.Attributes, "credfree.issuance.id")
		}
		rows = append(rows, r)
		if sc := span.SpanContext(); span.Name() != "api.call" || span.SpanKind() != trace.SpanKindClient || sc.TraceID().String() != traceID || parents[i] != "00-"+traceID+"-"+sc.SpanID().String()+"-01" {
			t.Errorf("span %d is %s %s %v, and the API got %q", i, span.Name(), span.SpanKind(), sc, parents[i])
		}
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}

// Without a tracer, the agent's own trace goes on at the API.
func TestCallPassesTheTraceOn(t *testing.T) {
	d, a := openCalls(t, caller, answering(204, ""))
	d.call(t, http.MethodGet, "tools/x", "", "Traceparent", traceparent)
	if got := a.request().Header.Get("Traceparent"); got != traceparent {
		t.Errorf("the API got the trace %q, want %q", got, traceparent)
	}
	d.call(t, http.MethodGet, "tools/x", "")
	if got, ok := a.request().Header["Traceparent"]; ok {
		t.Errorf("the API got the trace %q, and there is none", got)
	}
}

// A span ends with the answer's last byte.
func TestCallSpanCoversTheStream(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	d, _ := openCalls(t, caller, echoing, func(cfg *localapi.Config) { cfg.CallThrough.Tracer = tracer })
	body, out := io.Pipe()
	req := d.request(t, http.MethodPost, "tools/x", body)
	go func() { _, _ = io.WriteString(out, "x") }() // before the API there is no answer
	resp := do(t, req)
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil || len(spans.Ended()) != 0 || len(spans.Started()) != 1 {
		t.Errorf("got %v and %d spans that have ended, want none yet", err, len(spans.Ended()))
	}
	check(t, out.Close())
	if rest, err := io.ReadAll(resp.Body); err != nil || len(strings.TrimSpace(string(rest))) != 0 || len(spans.Ended()) != 1 {
		t.Errorf("got %q, %v and %d spans, want one", rest, err, len(spans.Ended()))
	}
}
