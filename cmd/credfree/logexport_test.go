package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// collector keeps what is sent to it.
type collector struct {
	*httptest.Server
	mu       sync.Mutex // guards the rest
	received strings.Builder
}

func (c *collector) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.received.String()
}

func newCollector(t *testing.T, status int) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		fmt.Fprintf(&c.received, "\n%s ", r.URL.Path)
		if err := r.Write(&c.received); err != nil {
			return // the push of metrics that is under way is broken off at the end; another follows
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(c.Close)
	return c
}

// Audit records reach a collector when OTEL_LOGS_EXPORTER asks for it, beside
// the lines and with the same ids; an endpoint alone does not ask.
func TestAuditRecordsReachACollector(t *testing.T) {
	for _, exporter := range []string{"otlp", "none", ""} {
		t.Run("exporter "+exporter, func(t *testing.T) {
			c := newCollector(t, http.StatusOK)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
			t.Setenv("OTEL_LOGS_EXPORTER", exporter)
			const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
			var line struct {
				ID      string `json:"issuance_id"`
				TraceID string `json:"trace_id"`
			}
			t.Run("broker", func(t *testing.T) {
				r := startService(t, func(string) string { return anyProcess() })
				do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+graphScope,
					"traceparent", "00-"+traceID+"-00f067aa0ba902b7-00")
				r.mu.Lock()
				defer r.mu.Unlock()
				check(t, json.Unmarshal(r.audit.Bytes(), &line))
			})
			_, logs, sent := strings.Cut(c.text(), "/v1/logs")
			if sent != (exporter == "otlp") {
				t.Fatalf("got sent %t", sent)
			}
			if !sent {
				return
			}
			raw := []byte{0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36}
			for _, want := range []string{"token.issued", line.ID, "credfree.scopes", graphScope, string(raw)} {
				if !strings.Contains(logs, want) {
					t.Errorf("the collector never received %q", want)
				}
			}
			if line.TraceID != traceID {
				t.Errorf("the line has the trace id %q", line.TraceID)
			}
		})
	}
}

// A collector that refuses, or never answers, costs the agents nothing, and
// shows in a metric.
func TestAuditExportThatFails(t *testing.T) {
	c := newCollector(t, http.StatusBadRequest)
	t.Setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", c.URL+"/v1/logs")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_LOGS_EXPORTER", "otlp")
	t.Setenv("OTEL_BLRP_SCHEDULE_DELAY", "10")
	r := startService(t, func(string) string { return anyProcess() })
	for range 3 {
		if got := r.token(t, graphScope); got != http.StatusOK {
			t.Errorf("got %d, want a token", got)
		}
	}
	var metrics string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline) && !strings.Contains(metrics, `credfree_audit_exports_total{outcome="failed"} 3`); time.Sleep(10 * time.Millisecond) {
		_, metrics = do(t, http.MethodGet, "http://"+r.adminAddr()+"/metrics", "")
	}
	for _, want := range []string{`credfree_audit_exports_total{outcome="emitted"} 3`, `credfree_audit_exports_total{outcome="failed"} 3`, `credfree_audit_exports_total{outcome="exported"} 0`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := strings.Count(r.audit.String(), "\n"); got != 3 {
		t.Errorf("got %d lines, want 3", got)
	}
}

// What a collector is too slow for is dropped, and counted: nothing is lost unseen.
func TestAuditExportThatIsTooSlow(t *testing.T) {
	release := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(slow.Close)
	t.Cleanup(func() { close(release) }) // first
	t.Setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", slow.URL+"/v1/logs")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_LOGS_EXPORTER", "otlp")
	t.Setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "4")
	r := startService(t, func(string) string { return anyProcess() })
	for range 10 {
		r.token(t, graphScope)
	}
	_, metrics := do(t, http.MethodGet, "http://"+r.adminAddr()+"/metrics", "")
	for _, want := range []string{`credfree_audit_exports_total{outcome="emitted"} 10`, `credfree_audit_exports_total{outcome="dropped"} 6`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
}
