package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/exchange/entratest"
)

const (
	callersTraceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	callersTrace   = "00-" + callersTraceID + "-00f067aa0ba902b7-00"
)

// The whole trace of a request through each door, with the requests to Entra, in
// the trace of a caller who asked not to be traced.
func TestDoorTraces(t *testing.T) {
	form := func(pairs ...string) string {
		values := url.Values{}
		for i := 0; i+1 < len(pairs); i += 2 {
			values.Set(pairs[i], pairs[i+1])
		}
		return values.Encode()
	}
	for name, test := range map[string]struct {
		ask    func(r *running, user string) (method, path, body string, headers []string)
		before func(t *testing.T, r *running)
		status int
	}{
		"oauth-client-credentials": {status: 200, ask: func(*running, string) (string, string, string, []string) {
			return "POST", "/oauth2/token", form("grant_type", "client_credentials", "scope", graphScope), nil
		}},
		"oauth-token-exchange": {status: 200, ask: func(_ *running, user string) (string, string, string, []string) {
			return "POST", "/oauth2/token", form("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange", "scope", userScope,
				"subject_token", user, "subject_token_type", "urn:ietf:params:oauth:token-type:access_token"), nil
		}},
		"oauth-jwt-bearer": {status: 200, ask: func(_ *running, user string) (string, string, string, []string) {
			return "POST", "/oauth2/token", form("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "scope", userScope,
				"assertion", user, "requested_token_use", "on_behalf_of"), nil
		}},
		"app-service": {status: 200, ask: func(*running, string) (string, string, string, []string) {
			return "GET", "/msi/token?api-version=2019-08-01&resource=https://graph.microsoft.com", "", []string{"X-IDENTITY-HEADER", "none"}
		}},
		"imds": {status: 200, ask: func(*running, string) (string, string, string, []string) {
			return "GET", "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://graph.microsoft.com", "", []string{"Metadata", "true"}
		}},
		"auth-sidecar": {status: 200, ask: func(_ *running, user string) (string, string, string, []string) {
			return "GET", "/AuthorizationHeader/profile", "", []string{"Authorization", "Bearer " + user}
		}},
		"call-through-claims-challenge": {status: 200, before: func(t *testing.T, r *running) {
			t.Helper()
			check(t, r.lab.host.Server.SetClaimsChallenge(`{"access_token":{"nbf":{"essential":true,"value":"`+strconv.FormatInt(time.Now().Unix(), 10)+`"}}}`))
		}, ask: func(*running, string) (string, string, string, []string) {
			return "GET", "/call/graph/users/" + entratest.DemoUserID + "?$select=id", "", nil
		}},
		"call-through-api-unreachable": {status: 502, ask: func(*running, string) (string, string, string, []string) {
			return "GET", "/call/gone/x", "", nil
		}},
		"entra-unavailable": {status: 503, before: func(_ *testing.T, r *running) {
			r.lab.host.Server.SetBehavior(entratest.Behavior{Status: 503})
		}, ask: func(*running, string) (string, string, string, []string) {
			return "POST", "/oauth2/token", form("grant_type", "client_credentials", "scope", graphScope), nil
		}},
		"refused-by-the-door": {status: 400, ask: func(*running, string) (string, string, string, []string) {
			return "POST", "/oauth2/token", form("grant_type", "password"), nil
		}},
		"refused-a-browser": {status: 403, ask: func(*running, string) (string, string, string, []string) {
			return "POST", "/oauth2/token", form("grant_type", "client_credentials"), []string{"Origin", "https://evil.example"}
		}},
		"what-the-caller-says": {status: 400, ask: func(*running, string) (string, string, string, []string) {
			return "POST", "/oauth2/token", form("grant_type", "client_credentials", "scope", vaultScope),
				[]string{"Baggage", "user.email=ada%40example.com,gen_ai.agent.id=asst_7;p=1, gen_ai.agent.name=Research%20assistant,gen_ai.conversation.id=conv_68a1"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := startServiceWith(t, func(header, _ string) string {
				return strings.Replace(header, "\n  profile:", "\n  gone: {baseURL: https://127.0.0.1:1, scopes: [graph]}\n  profile:", 1) +
					strings.Replace(anyProcess(), "apis: [graph, azure-openai]", "apis: [graph, gone]", 1)
			}, func(cfg *serviceConfig) { cfg.authSidecar = true })
			user, err := os.ReadFile(filepath.Join(r.lab.dir, "user-token"))
			check(t, err)
			if test.before != nil {
				test.before(t, r)
			}
			method, path, body, headers := test.ask(r, string(user))
			status, answer := do(t, method, "http://"+r.agentsAddr()+path, body, append(headers, "traceparent", callersTrace)...)
			if status != test.status {
				t.Errorf("got %d %s, want %d", status, answer, test.status)
			}
			compareWithGolden(t, name, r.spans)
		})
	}
}

// compareWithGolden waits for what ends after the answer.
func compareWithGolden(t *testing.T, name string, spans *tracetest.InMemoryExporter) {
	t.Helper()
	file := filepath.Join("testdata", "trace", name+".golden")
	if *updateReadme {
		time.Sleep(time.Second)
		check(t, os.MkdirAll(filepath.Dir(file), 0o755))
		check(t, os.WriteFile(file, []byte(drawTrace(spans.GetSpans())), 0o644))
	}
	want, err := os.ReadFile(file)
	check(t, err)
	deadline := time.Now().Add(5 * time.Second)
	for drawTrace(spans.GetSpans()) != string(want) && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	if diff := cmp.Diff(string(want), drawTrace(spans.GetSpans())); diff != "" || len(want) == 0 {
		t.Errorf("the trace changed (run with -update to accept) (-want +got):\n%s", diff)
	}
}

// varying are attributes whose values differ from run to run.
var varying = regexp.MustCompile(`^(credfree\.issuance\.id|credfree\.token\.uti|credfree\.entra\.correlation_id|azure\.service\.request\.id|credfree\.policy\.revision|.*expires_in|credfree\.peer\.uid|server\.port|credfree\.assertion\.issuer)$`)

var ports = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// drawTrace writes spans as a tree: names, kinds, sorted attributes, status and
// links; no ids, no times.
func drawTrace(spans tracetest.SpanStubs) string {
	slices.SortStableFunc(spans, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	byID := map[trace.SpanID]string{}
	for _, span := range spans {
		byID[span.SpanContext.SpanID()] = span.Name
	}
	var out strings.Builder
	var draw func(parent trace.SpanID, indent string)
	draw = func(parent trace.SpanID, indent string) {
		for _, span := range spans {
			_, known := byID[span.Parent.SpanID()]
			if span.Parent.SpanID() != parent && (known || parent.IsValid()) {
				continue
			}
			fmt.Fprintf(&out, "%s%s (%s) [%s]", indent, span.Name, span.SpanKind, span.Status.Code)
			if span.SpanContext.TraceID().String() == callersTraceID {
				out.WriteString(" in the caller's trace")
			}
			out.WriteString("\n")
			var lines []string
			for _, a := range span.Attributes {
				value := ports.ReplaceAllString(a.Value.String(), "127.0.0.1:…")
				if varying.MatchString(string(a.Key)) {
					value = "…"
				}
				lines = append(lines, fmt.Sprintf("%s  - %s=%s\n", indent, a.Key, value))
			}
			slices.Sort(lines)
			out.WriteString(strings.Join(lines, ""))
			for _, link := range span.Links {
				target := "another trace"
				if name, ok := byID[link.SpanContext.SpanID()]; ok {
					target = name
				} else if link.SpanContext.TraceID().String() == callersTraceID {
					target = "the caller's trace"
				}
				fmt.Fprintf(&out, "%s  -> %s\n", indent, target)
			}
			draw(span.SpanContext.SpanID(), indent+"  ")
		}
	}
	draw(trace.SpanID{}, "")
	return out.String()
}

// An API is sent the trace, of which its call is part, and never the baggage.
func TestContextThatAnAPIGets(t *testing.T) {
	r := startServiceWith(t, func(header, _ string) string {
		return strings.Replace(header, "\n  profile:", "\n  echo: {baseURL: "+apiOf(header)+"/echo, scopes: [graph]}\n  profile:", 1) +
			strings.Replace(anyProcess(), "apis: [graph, azure-openai]", "apis: [graph, echo]", 1)
	})
	status, answer := do(t, http.MethodGet, "http://"+r.agentsAddr()+"/call/echo/x", "", "traceparent", callersTrace, "tracestate", "vendor=state", "baggage", "gen_ai.agent.id=asst_7,other=thing")
	if status != http.StatusOK {
		t.Fatalf("got %d %s", status, answer)
	}
	for _, want := range []string{"00-" + callersTraceID + "-", "vendor=state"} {
		if !strings.Contains(answer, want) {
			t.Errorf("the API did not get %q:\n%s", want, answer)
		}
	}
	for _, hidden := range []string{"asst_7", "thing", "00f067aa0ba902b7"} {
		if strings.Contains(answer, hidden) {
			t.Errorf("the API got %q:\n%s", hidden, answer)
		}
	}
}

func apiOf(header string) string {
	return regexp.MustCompile(`graph: \{baseURL: (\S+)/v1\.0,`).FindStringSubmatch(header)[1]
}

// Entra gets a correlation id, and nothing else of the trace.
func TestContextThatEntraGets(t *testing.T) {
	var got http.Header
	entra := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	defer entra.Close()
	telemetry, err := newTelemetry(t.Context(), slog.New(slog.DiscardHandler), sdktrace.NewSimpleSpanProcessor(tracetest.NewInMemoryExporter()))
	check(t, err)
	ctx, span := telemetry.tracer().Start(t.Context(), "token.issue")
	defer span.End()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, entra.URL, http.NoBody)
	check(t, err)
	resp, err := telemetry.instrument(http.DefaultTransport).RoundTrip(req)
	check(t, err)
	check(t, resp.Body.Close())
	for _, name := range []string{"Traceparent", "Tracestate", "Baggage"} {
		if value, ok := got[name]; ok {
			t.Errorf("%s is sent: %q", name, value)
		}
	}
}
