package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/exchange/entratest"
)

func TestSamplersAreUnderstood(t *testing.T) {
	for variables, want := range map[[2]string]string{
		{"", ""}: "always_on", {"always_off", ""}: "always_off", {"traceidratio", "0.01"}: "traceidratio 0.01", {"traceidratio", ""}: "traceidratio",
		{"sometimes", ""}: "", {"traceidratio", "many"}: "", {"parentbased_traceidratio", "2"}: "", {"traceidratio", "-1"}: "", {"traceidratio", "NaN"}: "",
	} {
		t.Setenv("OTEL_TRACES_SAMPLER", variables[0])
		t.Setenv("OTEL_TRACES_SAMPLER_ARG", variables[1])
		got, hits, ok := samplerFromEnv()
		if ok != (want != "") || ok && got != want {
			t.Errorf("%q: got %q, %t, want %q", variables, got, ok, want)
		}
		if !ok && (got != "always_on" || hits != nil) {
			t.Errorf("%q: got %q: what is not understood is to want all", variables, got)
		}
	}
}

// A sampler that wants no hits is asked about hits alone: a call over a cached token that
// the API does not answer well is kept, in the trace of its issuance.
func TestFailedCallsAreKept(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	r := startServiceWith(t, func(header, _ string) string {
		return strings.Replace(header, "\n  profile:", "\n  gone: {baseURL: https://127.0.0.1:1, scopes: [graph]}\n  profile:", 1) +
			strings.Replace(anyProcess(), "apis: [graph, azure-openai]", "apis: [graph, gone]", 1)
	})
	for path, want := range map[string]int{"graph/me": 400, "graph/users/" + entratest.DemoUserID: 200, "gone/x": 502} {
		r.token(t, graphScope)
		r.spans.Reset()
		status, answer := do(t, http.MethodGet, "http://"+r.agentsAddr()+"/call/"+path, "", "traceparent", callersTrace)
		if status != want {
			t.Errorf("%s: got %d %s, want %d", path, status, answer, want)
		}
		kept := 0
		for deadline := time.Now().Add(5 * time.Second); kept == 0 && want >= 400 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			for _, span := range r.spans.GetSpans() {
				if span.Name == "api.call" && span.SpanContext.TraceID().String() == callersTraceID && strings.Contains(r.audit.String(), `"span_id":"`+span.Parent.SpanID().String()+`"`) {
					kept++
				}
			}
		}
		if kept != 1 && want >= 400 || kept+len(r.spans.GetSpans()) != 0 && want < 400 {
			t.Errorf("%s: got %d spans of the call, of %d", path, kept, len(r.spans.GetSpans()))
		}
	}
}
