package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/credfree/credfree/exchange/entratest"
)

// everyMetric makes the broker do something of each kind that is counted.
func (r *running) everyMetric(t *testing.T) {
	t.Helper()
	ask := func(pairs ...string) (int, string) {
		form := url.Values{"grant_type": {"client_credentials"}, "scope": {graphScope}}
		for i := 0; i+1 < len(pairs); i += 2 {
			form.Set(pairs[i], pairs[i+1])
		}
		return do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", form.Encode())
	}
	user, err := os.ReadFile(filepath.Join(r.lab.dir, "user-token"))
	check(t, err)
	entra := r.lab.host.Server
	entra.SetBehavior(entratest.Behavior{Lifetime: 4 * time.Second, RefreshIn: time.Second})
	ask("identity", "agent")
	for _, grant := range []string{string(user), string(user) + "x"} {
		ask("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "requested_token_use", "on_behalf_of", "scope", userScope, "assertion", grant)
	}
	ask("scope", vaultScope)
	for _, path := range []string{"/call/graph/users/" + entratest.DemoUserID, "/call/gone/x", "/nowhere"} {
		do(t, http.MethodGet, "http://"+r.agentsAddr()+path, "")
	}
	ask()
	time.Sleep(1900 * time.Millisecond)
	if status, body := ask(); status != http.StatusOK { // and it is refreshed
		t.Errorf("got %d %s", status, body)
	}
	entra.SetBehavior(entratest.Behavior{Code: 700016})
	ask("identity", "agent-user")
	entra.SetBehavior(entratest.Behavior{})
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(r.scrape(t), "credfree_token_refreshes_total{") && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
}

func (r *running) scrape(t testing.TB) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.adminAddr()+"/metrics", http.NoBody)
	check(t, err)
	resp, err := http.DefaultClient.Do(req)
	check(t, err)
	text, err := io.ReadAll(resp.Body)
	check(t, err)
	check(t, resp.Body.Close())
	return string(text)
}

// withGone is the lab's policy, and an API where nobody listens.
func withGone(header, _ string) string {
	return strings.Replace(header, "\n  profile:", "\n  gone: {baseURL: https://127.0.0.1:1, scopes: [graph]}\n  profile:", 1) +
		strings.Replace(anyProcess(), "apis: [graph, azure-openai]", "apis: [graph, gone]", 1)
}

// families are the metrics of a scrape, by name.
func families(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	parsed, err := parser.TextToMetricFamilies(strings.NewReader(text))
	check(t, err)
	return parsed
}

// metricRow is a row of the table of metrics.
type metricRow struct{ name, prometheus, kind, labels, about string }

func (r metricRow) String() string {
	return fmt.Sprintf("| `%s` | `%s` | %s | %s | %s |\n", r.name, r.prometheus, r.kind, r.labels, r.about)
}

// rowOf reads a metric as it was pushed over OTLP, and tells its name in Prometheus.
func rowOf(m *otlp.Metric) metricRow {
	row := metricRow{name: m.GetName(), about: m.GetDescription(), kind: "gauge", prometheus: strings.ReplaceAll(m.GetName(), ".", "_")}
	labels := map[string]bool{}
	note := func(attributes []*common.KeyValue) {
		for _, a := range attributes {
			labels["`"+strings.ReplaceAll(a.GetKey(), ".", "_")+"`"] = true
		}
	}
	if suffix, ok := map[string]string{"s": "_seconds", "By": "_bytes"}[m.GetUnit()]; ok {
		row.prometheus += suffix
	}
	switch {
	case m.GetHistogram() != nil:
		row.kind = "histogram"
		for _, p := range m.GetHistogram().GetDataPoints() {
			note(p.GetAttributes())
		}
	case m.GetSum() != nil:
		row.kind, row.prometheus = "counter", row.prometheus+"_total"
		for _, p := range m.GetSum().GetDataPoints() {
			note(p.GetAttributes())
		}
	default:
		for _, p := range m.GetGauge().GetDataPoints() {
			note(p.GetAttributes())
		}
	}
	row.labels = strings.Join(slices.Sorted(maps.Keys(labels)), ", ")
	return row
}

// metricSink is a collector that keeps what it is told of metrics.
type metricSink struct {
	mu   sync.Mutex // guards rows
	rows map[string]metricRow
}

func (s *metricSink) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v1/metrics" {
		return
	}
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return
		}
		body = unzipped
	}
	text, err := io.ReadAll(body)
	var pushed colmetrics.ExportMetricsServiceRequest
	if err != nil || proto.Unmarshal(text, &pushed) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range pushed.GetResourceMetrics() {
		for _, scope := range resource.GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				s.rows[m.GetName()] = rowOf(m)
			}
		}
	}
}

// The metrics are those of the table in README.md: over OTLP by their own names,
// and in Prometheus by names that its own linter finds nothing wrong with.
func TestReadmeListsTheMetrics(t *testing.T) {
	sink := &metricSink{rows: map[string]metricRow{}}
	collector := httptest.NewServer(sink)
	defer collector.Close()
	t.Setenv("OTEL_METRICS_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", collector.URL+"/v1/metrics")
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf")
	var scraped string
	t.Run("broker", func(t *testing.T) {
		r := startServiceWith(t, withGone)
		r.everyMetric(t)
		check(t, r.lab.host.Pause()) // whoever asks Entra now gets no answer
		form := url.Values{"grant_type": {"client_credentials"}, "scope": {graphScope}, "claims": {`{"access_token":{"acrs":{"essential":true}}}`}}
		if status, body := do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", form.Encode()); status != http.StatusServiceUnavailable {
			t.Errorf("got %d %s, want status 503", status, body)
		}
		scraped = r.scrape(t)
	})
	problems, err := promlint.New(strings.NewReader(scraped)).Lint()
	check(t, err)
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	found := families(t, scraped)
	var want strings.Builder
	want.WriteString("| metric | in Prometheus | type | labels | meaning |\n|---|---|---|---|---|\n")
	sink.mu.Lock()
	defer sink.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(sink.rows)) {
		row := sink.rows[name]
		want.WriteString(row.String())
		family := found[row.prometheus]
		if family == nil || !strings.EqualFold(family.GetType().String(), row.kind) || family.GetHelp() != row.about {
			t.Errorf("%s is no %s called %s in Prometheus: %v", name, row.kind, row.prometheus, family.GetType())
		}
		delete(found, row.prometheus)
	}
	delete(found, "target_info") // the resource
	for name := range found {
		t.Errorf("%s is not pushed", name)
	}
	if len(sink.rows) < 25 {
		t.Errorf("got %d metrics", len(sink.rows))
	}
	compareSection(t, "metrics", want.String())
}

// Whatever callers make up, there are no more series for it.
func TestMetricsStayBounded(t *testing.T) {
	r := startServiceWith(t, withGone, func(cfg *serviceConfig) { cfg.authSidecar = true })
	hostile := func(i int) {
		x := fmt.Sprintf("x%d", i)
		base := "http://" + r.agentsAddr()
		form := func(pairs ...string) string {
			values := url.Values{"grant_type": {"client_credentials"}, "scope": {graphScope}}
			for i := 0; i+1 < len(pairs); i += 2 {
				values.Set(pairs[i], pairs[i+1])
			}
			return values.Encode()
		}
		switch i % 10 {
		case 0:
			do(t, http.MethodPost, base+"/oauth2/token", form("scope", "https://"+x+".example/.default"))
		case 1:
			do(t, http.MethodPost, base+"/oauth2/token", form("client_id", x))
		case 2:
			do(t, http.MethodPost, base+"/oauth2/token", form("identity", x))
		case 3:
			do(t, http.MethodPost, base+"/oauth2/token", form("claims", `{"access_token":{"`+x+`":{"essential":true}}}`, "scope", vaultScope))
		case 4:
			do(t, http.MethodPost, base+"/oauth2/token", form("grant_type", x))
		case 5:
			do(t, http.MethodGet, base+"/call/"+x+"/y", "")
		case 6:
			do(t, http.MethodGet, base+"/call/gone/"+x, "", "baggage", "gen_ai.agent.id="+x)
		case 7:
			do(t, http.MethodGet, base+"/msi/token?api-version=2019-08-01&resource=https://"+x, "", "X-IDENTITY-HEADER", "none")
		case 8:
			do(t, http.MethodGet, base+"/"+x, "", "Origin", "https://"+x)
		case 9:
			do(t, http.MethodPost, base+"/oauth2/token", form("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "requested_token_use", "on_behalf_of", "assertion", x+"."+x+"."+x))
		}
	}
	count := func() int {
		n := 0
		for line := range strings.Lines(r.scrape(t)) {
			if !strings.HasPrefix(line, "#") {
				n++
			}
		}
		return n
	}
	for i := range 20 {
		hostile(i)
	}
	before := count()
	const requests = 10_000
	for i := range requests {
		hostile(i)
	}
	text := r.scrape(t)
	if after := count(); after != before || before < 100 {
		t.Errorf("got %d series after %d requests, want %d as after 20", after, requests, before)
	}
	for _, made := range []string{"x1234", "x777"} {
		if strings.Contains(text, made) {
			t.Errorf("the metrics have a caller's word, %s", made)
		}
	}
}

// A scraper that asks for OpenMetrics gets the trace of an example.
func TestExemplars(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+graphScope, "traceparent", callersTrace)
	_, text := do(t, http.MethodGet, "http://"+r.adminAddr()+"/metrics", "", "Accept", "application/openmetrics-text;version=1.0.0")
	spans := r.spans.GetSpans()
	issue := spans[slices.IndexFunc(spans, func(s tracetest.SpanStub) bool { return s.Name == "token.issue" })]
	want := fmt.Sprintf("span_id=%q", issue.SpanContext.SpanID())
	if got := strings.Count(text, want); got < 2 || !strings.Contains(text, fmt.Sprintf("trace_id=%q", callersTraceID)) || !bytes.Contains([]byte(text), []byte("# EOF")) {
		t.Errorf("got %d exemplars %s in\n%s", got, want, text)
	}
}
