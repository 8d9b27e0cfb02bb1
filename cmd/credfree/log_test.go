package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/broker/admin"
)

// logLines decodes what a logger has written.
func logLines(t *testing.T, text string) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(text) {
		var fields map[string]any
		check(t, json.Unmarshal([]byte(line), &fields))
		lines = append(lines, fields)
	}
	return lines
}

// What repeats is written once a minute, with a count of what was left out; what
// differs, and what is no trouble, is always written.
func TestRepeatsAreLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, flush := newLogger(&out, slog.LevelInfo)
		for second := range 125 { // a workload token that fails each second
			log.Warn("an issuance failed", "reason", "workload_token", "issuance_id", second)
			if second%50 == 0 {
				log.With("a", 1).Warn("an issuance failed", "reason", "workload_token")
				log.Info("policy in force")
			}
			time.Sleep(time.Second)
		}
		flush()
		flush() // writes nothing twice
		var failed []any
		informed := 0
		for _, line := range logLines(t, out.String()) {
			switch {
			case line["msg"] == "policy in force":
				informed++
			case line["a"] == nil:
				failed = append(failed, line["left_out"])
			}
		}
		if got, want := fmt.Sprint(failed), "[<nil> 59 59 3]"; got != want || informed != 3 {
			t.Errorf("got %s and %d lines of information, want %s and 3", got, informed, want)
		}
		if !strings.Contains(out.String(), `"a":1`) {
			t.Error("a line with another value was left out")
		}
		before := out.Len()
		for i := range 2 * maxRepeats {
			log.Error("trouble", "n", i)
		}
		if got := strings.Count(out.String()[before:], "\n"); got != 2*maxRepeats {
			t.Errorf("got %d lines of %d that differ", got, 2*maxRepeats)
		}
	})
}

// What stops repeating is not forgotten: the next line of any kind tells.
func TestRepeatsThatStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, _ := newLogger(&out, slog.LevelInfo)
		for range 5 {
			log.WithGroup("g").Warn("trouble", "a", 1)
		}
		time.Sleep(2 * repeatPeriod)
		log.Warn("other trouble")
		lines := logLines(t, out.String())
		if len(lines) != 3 || lines[1]["msg"] != "trouble" || lines[2]["msg"] != "other trouble" {
			t.Fatalf("got %s", out.String())
		}
		if group := lines[1]["g"].(map[string]any); group["left_out"] != 3.0 {
			t.Errorf("got %v, want 3 left out between the first and the last", group)
		}
	})
}

// How often a burst came is said although nothing else is logged.
func TestRepeatsOfABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, _ := newLogger(&out, slog.LevelInfo)
		for range 5 {
			log.Warn("trouble")
		}
		time.Sleep(2 * repeatPeriod)
		synctest.Wait()
		if lines := logLines(t, out.String()); len(lines) != 2 || lines[1]["left_out"] != 3.0 {
			t.Errorf("got %s", out.String())
		}
	})
}

// Lines that belong to a request say to which.
func TestLinesHaveTraceIDs(t *testing.T) {
	var out bytes.Buffer
	log, _ := newLogger(&out, slog.LevelInfo)
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	log.InfoContext(trace.ContextWithSpanContext(t.Context(), span), "hello")
	log.Info("hello")
	lines := logLines(t, out.String())
	if lines[0]["trace_id"] != span.TraceID().String() || lines[0]["span_id"] != span.SpanID().String() || lines[1]["trace_id"] != nil {
		t.Errorf("got %s", out.String())
	}
}

// Each change of a part is one line, however often it is looked at.
func TestReadinessIsLoggedOnceEachWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var mu sync.Mutex // guards state
		state := map[string]admin.PartState{}
		ctx, stop := context.WithCancel(t.Context())
		parts := func() []admin.Part {
			part := func(name string, reportOnly bool) admin.Part {
				return admin.Part{Name: name, ReportOnly: reportOnly, Check: func(context.Context) admin.PartState {
					mu.Lock()
					defer mu.Unlock()
					return state[name]
				}}
			}
			return []admin.Part{part("audit", false), part("entra", true)}
		}
		done := make(chan struct{})
		go func() {
			log, _ := newLogger(&out, slog.LevelInfo)
			watchReadiness(ctx, log, parts)
			close(done)
		}()
		set := func(audit, entra bool) {
			mu.Lock()
			state["audit"], state["entra"] = admin.PartState{OK: audit, Error: "full"}, admin.PartState{OK: entra}
			mu.Unlock()
			time.Sleep(2 * readinessInterval) // sooner than a repeat is written again
			synctest.Wait()
		}
		set(true, true)
		set(true, false)
		set(false, false)
		set(true, true)
		set(false, true)
		stop()
		<-done
		var got []string
		for _, line := range logLines(t, out.String()) {
			got = append(got, strings.TrimSpace(fmt.Sprint(line["level"], " ", line["msg"], " ", line["part"])))
		}
		want := []string{
			"WARN a part of readiness is not well entra",
			"WARN a part of readiness is not well audit", "WARN the broker is not ready <nil>",
			"INFO a part of readiness is well again audit", "INFO a part of readiness is well again entra", "INFO the broker is ready again <nil>",
			"WARN a part of readiness is not well audit", "WARN the broker is not ready <nil>",
		}
		// Before anything is set, the zero states are not well.
		if len(got) < len(want) || strings.Join(got[max(0, len(got)-len(want)):], "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant at the end\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// At the start, what the start itself says is not said again; nobody else speaks of an
// audit log that is asked for best effort only.
func TestReadinessAtTheStart(t *testing.T) {
	var out bytes.Buffer
	log, _ := newLogger(&out, slog.LevelInfo)
	w := readinessLog{log: log, failed: map[string]bool{}}
	bad := func(context.Context) admin.PartState { return admin.PartState{Error: "x"} }
	w.look(t.Context(), []admin.Part{{Name: auditPart, ReportOnly: true, Check: bad}, {Name: "agents", ReportOnly: true, Check: bad}})
	if lines := logLines(t, out.String()); len(lines) != 1 || lines[0]["part"] != "audit" {
		t.Errorf("got %s", out.String())
	}
}

// A failed issuance is a line with the ids of its request, once a minute; the
// agent's own mistakes are none.
func TestFailuresAreLogged(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	check(t, r.lab.write("workload-token", "broken"))
	for range 3 {
		r.token(t, graphScope)
	}
	r.token(t, vaultScope)
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := logLines(t, r.log.String())
	var failed []map[string]any
	for _, line := range lines {
		if line["msg"] == "an issuance failed" {
			failed = append(failed, line)
		}
	}
	if len(failed) == 0 || failed[0]["agent"] != "demo" || failed[0]["reason"] == "" || failed[0]["issuance_id"] == "" ||
		failed[0]["trace_id"] == nil || !strings.Contains(r.audit.String(), failed[0]["trace_id"].(string)) {
		t.Fatalf("got %v of %s", failed, r.log.String())
	}
	if strings.Contains(r.log.String(), "scope_not_allowed") {
		t.Error("a denial is in the log, which is the audit log's")
	}
}
