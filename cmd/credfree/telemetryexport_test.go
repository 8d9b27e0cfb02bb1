package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Whatever the sampler, only plain hits are missing from the traces.
func TestOnlyHitsAreSampled(t *testing.T) {
	for _, variables := range [][2]string{{"always_off", ""}, {"traceidratio", "0"}, {"parentbased_always_off", ""}, {"parentbased_traceidratio", "0"}} {
		t.Run(variables[0], func(t *testing.T) {
			t.Setenv("OTEL_TRACES_SAMPLER", variables[0])
			t.Setenv("OTEL_TRACES_SAMPLER_ARG", variables[1])
			r := startService(t, func(string) string { return anyProcess() })
			for _, scope := range []string{graphScope, graphScope, vaultScope} { // a miss, a hit, a denial
				do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+scope, "traceparent", callersTrace)
			}
			var got []string
			for _, span := range r.spans.GetSpans() {
				if span.Name == "token.issue" {
					attributes := attribute.NewSet(span.Attributes...)
					decision, _ := attributes.Value("credfree.decision")
					cache, _ := attributes.Value("credfree.cache")
					got = append(got, decision.AsString()+" "+cache.AsString())
				}
			}
			if want := []string{"allow miss", "deny "}; !slices.Equal(got, want) {
				t.Errorf("got the spans %q, want %q", got, want)
			}
		})
	}
}

// What a deployment says of where the broker runs is on every span.
func TestResource(t *testing.T) {
	t.Setenv("POD_NAME", "another")
	t.Setenv("POD_SERVICE_ACCOUNT", "research")
	t.Setenv("OTEL_SERVICE_NAME", "broker-of-research")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=research-0,k8s.namespace.name=agents,k8s.container.name=credfree,service.name=x")
	r := startService(t, func(string) string { return anyProcess() })
	do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+graphScope)
	spans := r.spans.GetSpans()
	for key, want := range map[attribute.Key]string{"k8s.pod.name": "research-0", "k8s.namespace.name": "agents", "k8s.container.name": "credfree",
		"service.instance.id": "agents.research-0.credfree", "k8s.serviceaccount.name": "research", "service.name": "broker-of-research", "service.version": buildVersion()} {
		if value, _ := spans[0].Resource.Set().Value(key); value.AsString() != want {
			t.Errorf("%s is %q, want %q", key, value.AsString(), want)
		}
	}
}

// Without a variable that says so nothing is made, let alone sent; and the SDK
// can be turned off.
func TestTelemetryIsOffByDefault(t *testing.T) {
	for name, test := range map[string]struct {
		variables      map[string]string
		traces, pushes bool
	}{
		"nothing is set":   {nil, false, false},
		"none":             {map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, false, false},
		"an endpoint":      {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, true, true},
		"gRPC":             {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, true, true},
		"exporters":        {map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp"}, true, true},
		"standard error":   {map[string]string{"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "console"}, true, true},
		"traces alone":     {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, true, false},
		"it is turned off": {map[string]string{"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range test.variables {
				t.Setenv(variable, value)
			}
			made, err := newTelemetry(t.Context(), slog.New(slog.DiscardHandler))
			check(t, err)
			if got := made.tracer() != nil; got != test.traces {
				t.Errorf("there are spans: %t, want %t", got, test.traces)
			}
			reader, err := pushReader(t.Context())
			check(t, err)
			if (reader != nil) != test.pushes {
				t.Errorf("metrics are pushed: %t, want %t", reader != nil, test.pushes)
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel() // there is nobody to wait for
			_ = made.shutdown(ended)
			if reader != nil {
				_ = reader.Shutdown(ended)
			}
		})
	}
}

// gate is an exporter that waits, and then does as it is told.
type gate struct {
	open chan struct{}
	mu   sync.Mutex // guards the rest
	fail bool
}

func (g *gate) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fail {
		return errors.New("refused")
	}
	return nil
}
func (g *gate) Shutdown(context.Context) error { return nil }

// Every span is counted once: exported, failed or dropped.
func TestOutbox(t *testing.T) {
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5")
	g := &gate{open: make(chan struct{})}
	complaints := 0
	o := newOutbox(g, func(string, error) { complaints++ })
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(o))
	tracer := provider.Tracer("")
	for range 30 {
		_, span := tracer.Start(t.Context(), "x")
		span.End()
	}
	if got := o.counts(); got["dropped"] != 20 || got["exported"]+got["failed"] != 0 {
		t.Errorf("got %v with an exporter that waits, want 20 dropped", got)
	}
	close(g.open)
	check(t, provider.ForceFlush(t.Context()))
	g.mu.Lock()
	g.fail = true
	g.mu.Unlock()
	for range 3 {
		_, span := tracer.Start(t.Context(), "x")
		span.End()
	}
	check(t, provider.Shutdown(t.Context()))
	if got := o.counts(); got["dropped"] != 20 || got["exported"] != 10 || got["failed"] != 3 || o.failures() == 0 || int64(complaints) != o.failures() {
		t.Errorf("got %v and %d failures told %d times, want 10 exported, 3 failed, 20 dropped", got, o.failures(), complaints)
	}
	if got := (*outbox)(nil).counts(); len(got) != 3 {
		t.Errorf("got %v of none", got)
	}
}

// A collector that is not there, and one that never answers, are seen in the
// metrics, cost no request its answer, and do not hold up the end.
func TestCollectorInTrouble(t *testing.T) {
	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer silent.Close()
	defer close(release)
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	check(t, closed.Close())
	for name, test := range map[string]struct{ endpoint, seen string }{
		"gone":   {"http://" + closed.Addr().String(), "failed"},
		"silent": {silent.URL, "dropped"},
	} {
		for _, protocol := range []string{"http/protobuf", "grpc"} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", test.endpoint)
				t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
				t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
				t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
				if test.seen == "failed" {
					t.Setenv("OTEL_BSP_EXPORT_TIMEOUT", "100")
				}
				began := time.Now()
				t.Run("broker", func(t *testing.T) {
					r := startService(t, func(string) string { return anyProcess() })
					var took []time.Duration
					for range 200 {
						asked := time.Now()
						if status, body := do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+graphScope); status != http.StatusOK {
							t.Fatalf("got %d %s", status, body)
						}
						took = append(took, time.Since(asked))
					}
					slices.Sort(took)
					if median := took[len(took)/2]; median > 100*time.Millisecond {
						t.Errorf("half of the requests took more than %s", median)
					}
					lost := fmt.Sprintf("credfree_telemetry_spans_total{outcome=%q} 0\n", test.seen)
					deadline := time.Now().Add(10 * time.Second)
					for strings.Contains(r.scrape(t), lost) && time.Now().Before(deadline) {
						time.Sleep(10 * time.Millisecond)
					}
					if text := r.scrape(t); strings.Contains(text, lost) || !strings.Contains(text, strings.TrimSuffix(lost, "0\n")) {
						t.Errorf("no span was %s:\n%s", test.seen, text)
					}
					began = time.Now()
				})
				if took := time.Since(began); took > shutdownTime+5*time.Second {
					t.Errorf("the end took %s", took)
				}
			})
		}
	}
}

// full is an audit log whose disk is full at times.
type full struct {
	io.Writer
	now atomic.Bool
}

func (f *full) Write(line []byte) (int, error) {
	if f.now.Load() {
		return 0, errors.New("no space left on device")
	}
	return f.Writer.Write(line)
}

// While the audit log's disk is full, each of many callers is refused at once and
// counted; when it is not any more, they are served.
func TestFullAuditDiskUnderLoad(t *testing.T) {
	disk := &full{}
	r := startServiceWith(t, func(header, _ string) string { return header + anyProcess() }, func(cfg *serviceConfig) {
		disk.Writer, cfg.audit = cfg.audit, disk
	})
	ask := func() int {
		status, _ := do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+graphScope)
		return status
	}
	crowd := func(want int) {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 25 {
					if got := ask(); got != want {
						t.Errorf("got %d, want %d", got, want)
					}
				}
			})
		}
		all.Wait()
	}
	crowd(http.StatusOK)
	disk.now.Store(true)
	crowd(http.StatusServiceUnavailable)
	if text := r.scrape(t); !strings.Contains(text, "credfree_audit_failures_total 200\n") {
		t.Error("the metrics do not count 200 lines that could not be written")
	}
	disk.now.Store(false)
	crowd(http.StatusOK)
}

// Exports that fail are counted by what they are of, and a sampler that is not
// understood is no export that failed.
func TestExportFailuresAreOfTheirSignal(t *testing.T) {
	c := newCollector(t, http.StatusBadRequest)
	for signal, variables := range map[string][]string{
		"logs":   {"OTEL_LOGS_EXPORTER", "otlp", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", c.URL + "/v1/logs", "OTEL_BLRP_SCHEDULE_DELAY", "10"},
		"traces": {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.URL + "/v1/traces", "OTEL_BSP_SCHEDULE_DELAY", "10"},
		"none":   {"OTEL_TRACES_SAMPLER", "sometimes"},
	} {
		t.Run(signal, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
			for i := 0; i < len(variables); i += 2 {
				t.Setenv(variables[i], variables[i+1])
			}
			r := startService(t, func(string) string { return anyProcess() })
			r.token(t, graphScope)
			counted := func(of string) bool {
				text := r.scrape(t)
				_, count, _ := strings.Cut(text, `credfree_telemetry_export_failures_total{signal="`+of+`"} `)
				return !strings.HasPrefix(count, "0\n")
			}
			for deadline := time.Now().Add(10 * time.Second); signal != "none" && !counted(signal); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the failure is not counted")
				}
			}
			for _, other := range []string{"traces", "metrics", "logs"} {
				if other != signal && counted(other) {
					t.Errorf("it is counted as one of %s", other)
				}
			}
		})
	}
}

// A push of metrics that the end breaks off is none that failed: the last one has all.
func TestPushBrokenOffAtTheEnd(t *testing.T) {
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			pushing, pushes := make(chan struct{}), atomic.Int64{}
			take := func(ctx context.Context) {
				if pushes.Add(1) == 1 {
					close(pushing)
					<-ctx.Done()
				}
			}
			remote := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
				if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
					return err
				}
				take(stream.Context())
				return stream.SendMsg(&emptypb.Empty{})
			}))
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.ProtoMajor == 2 {
					remote.ServeHTTP(w, r)
					return
				}
				if _, err := io.Copy(io.Discard, r.Body); err == nil {
					take(r.Context())
				}
			}))
			server.Config.Protocols = &http.Protocols{}
			server.Config.Protocols.SetHTTP1(true)
			server.Config.Protocols.SetUnencryptedHTTP2(true)
			server.Start()
			t.Cleanup(server.Close)
			t.Setenv("OTEL_METRICS_EXPORTER", "otlp")
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
			t.Setenv("OTEL_TRACES_EXPORTER", "none")
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
			t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "10")
			var log strings.Builder
			telemetry, err := newTelemetry(t.Context(), slog.New(slog.NewTextHandler(&log, nil)))
			check(t, err)
			<-pushing
			check(t, telemetry.shutdown(t.Context()))
			if telemetry.lost.Load() != 0 || log.String() != "" {
				t.Errorf("%d pushes are lost, the log says %q", telemetry.lost.Load(), log.String())
			}
			if pushes.Load() < 2 {
				t.Error("nothing was pushed at the end")
			}
		})
	}
}
