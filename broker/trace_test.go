package broker_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/secret"
)

var update = flag.Bool("update", false, "write the golden traces anew")

// The trace of each outcome, as a reviewer reads it.
func TestGoldenTraces(t *testing.T) {
	for name, scenario := range map[string]func(t *testing.T, w *world){
		"allowed": func(t *testing.T, w *world) {
			_, err := w.ask(as(t, 10001), graph)
			check(t, err)
		},
		"hit": func(t *testing.T, w *world) {
			_, err := w.ask(as(t, 10001), graph)
			check(t, err)
			w.spans.Reset()
			_, err = w.ask(as(t, 10001), graph)
			check(t, err)
		},
		"joined": func(t *testing.T, w *world) {
			_, err := w.ask(as(t, 10001), graph) // the first use is not either one's
			check(t, err)
			w.Purge(broker.Selection{})
			w.spans.Reset()
			w.entra.SetBehavior(entratest.Behavior{Delay: time.Second})
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() {
					_, err := w.ask(as(t, 10001), graph)
					if err != nil {
						t.Error(err)
					}
				})
				synctest.Wait()
			}
			both.Wait()
		},
		"denied": func(t *testing.T, w *world) {
			if _, err := w.ask(as(t, 10002), vault); err == nil {
				t.Error("it was allowed")
			}
		},
		"unknown": func(t *testing.T, w *world) {
			if _, err := w.ask(as(t, 4242), graph); err == nil {
				t.Error("it was allowed")
			}
		},
		"refused": func(t *testing.T, w *world) {
			if _, err := w.Refuse(as(t, 10001), broker.Request{Door: "oauth"}, "foreign_origin", "no browsers"); err == nil {
				t.Error("it was allowed")
			}
		},
		"failed": func(t *testing.T, w *world) {
			w.entra.SetBehavior(entratest.Behavior{Code: 700016})
			if _, err := w.ask(as(t, 10001), graph); err == nil {
				t.Error("it was allowed")
			}
		},
		"on-behalf-of": func(t *testing.T, w *world) {
			w.use(t, assistant(""))
			_, err := w.actFor(as(t, 10001), w.userToken(t, nil), userRead)
			check(t, err)
		},
		"user-refused": func(t *testing.T, w *world) {
			w.use(t, assistant("      users: {roles: [Analyst]}\n"))
			if _, err := w.actFor(as(t, 10001), w.userToken(t, nil), userRead); err == nil {
				t.Error("it was allowed")
			}
		},
		"inspected": func(t *testing.T, w *world) {
			w.use(t, assistant(""))
			_, err := w.look(as(t, 10001), w.userToken(t, nil), "")
			check(t, err)
		},
		"inspection-refused": func(t *testing.T, w *world) {
			w.use(t, assistant(""))
			if _, err := w.look(as(t, 10001), secret.New("not-a-token"), ""); err == nil {
				t.Error("it was told")
			}
		},
		"agent-user": func(t *testing.T, w *world) {
			w.use(t, assistant(""))
			_, err := w.Issue(as(t, 10001), broker.Request{Door: "oauth", Grant: "client_credentials", Identity: "agent-user", Scope: userRead})
			check(t, err)
		},
		"audited": func(t *testing.T, w *world) {
			w.use(t, assistant("    mode: audit\n"))
			_, err := w.ask(as(t, 10001), vault)
			check(t, err)
		},
		"session": func(t *testing.T, w *world) {
			w.use(t, assistant("      longRunning: {maxAge: 8h}\n"))
			user := w.userToken(t, func(r *entratest.UserTokenRequest) { r.Lifetime = time.Minute })
			_, err := w.actFor(as(t, 10001), user, userRead)
			check(t, err)
			time.Sleep(2 * time.Minute)
			w.spans.Reset()
			_, err = w.actFor(as(t, 10001), user, userRead)
			check(t, err)
		},
		"no-workload-token": func(t *testing.T, w *world) {
			check(t, os.Remove(w.file))
			if _, err := w.ask(as(t, 10001), graph); err == nil {
				t.Error("it was allowed")
			}
		},
		"refreshed": func(t *testing.T, w *world) {
			w.entra.SetBehavior(entratest.Behavior{Lifetime: time.Hour})
			_, err := w.ask(as(t, 10001), graph)
			check(t, err)
			time.Sleep(55 * time.Minute)
			w.spans.Reset()
			_, err = w.ask(as(t, 10001), graph)
			check(t, err)
			synctest.Wait()
		},
		"caller-gone": func(t *testing.T, w *world) {
			w.entra.SetBehavior(entratest.Behavior{Delay: time.Second})
			ctx, cancel := context.WithTimeout(as(t, 10001), 50*time.Millisecond)
			defer cancel()
			if _, err := w.ask(ctx, graph); err == nil {
				t.Error("it was answered")
			}
			time.Sleep(2 * time.Second)
		},
		"in-the-callers-trace": func(t *testing.T, w *world) {
			// The caller's flag says "not sampled": it does not count here.
			remote := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, Remote: true})
			_, err := w.ask(trace.ContextWithRemoteSpanContext(as(t, 10001), remote), graph)
			check(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				scenario(t, w)
				compareTrace(t, name, w.spans.Ended())
			})
		})
	}
}

func compareTrace(t *testing.T, name string, spans []sdktrace.ReadOnlySpan) {
	t.Helper()
	got := renderTrace(spans)
	file := filepath.Join("testdata", "trace", name+".golden")
	if *update {
		check(t, os.MkdirAll(filepath.Dir(file), 0o755))
		check(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	check(t, err)
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("the trace changed (run with -update to accept) (-want +got):\n%s", diff)
	}
}

// changing are attribute values that differ from run to run.
var changing = regexp.MustCompile(`^(credfree\.issuance\.id|credfree\.token\.uti|credfree\.entra\.correlation_id|azure\.service\.request\.id|credfree\.policy\.revision|credfree\.token\.expires_in)$`)

// renderTrace writes spans as a tree: names, kinds, sorted attributes, status
// and links; no ids, no times.
func renderTrace(spans []sdktrace.ReadOnlySpan) string {
	slices.SortStableFunc(spans, func(a, b sdktrace.ReadOnlySpan) int {
		return cmp.Or(a.StartTime().Compare(b.StartTime()), cmp.Compare(len(a.Links()), len(b.Links())))
	})
	byID := map[trace.SpanID]sdktrace.ReadOnlySpan{}
	for _, span := range spans {
		byID[span.SpanContext().SpanID()] = span
	}
	var out strings.Builder
	var draw func(parent trace.SpanID, indent string)
	draw = func(parent trace.SpanID, indent string) {
		for _, span := range spans {
			_, known := byID[span.Parent().SpanID()]
			if span.Parent().SpanID() != parent && (known || parent.IsValid()) {
				continue
			}
			fmt.Fprintf(&out, "%s%s (%s) [%s]", indent, span.Name(), span.SpanKind(), span.Status().Code)
			if span.Status().Description != "" {
				fmt.Fprintf(&out, " %s", span.Status().Description)
			}
			if span.Parent().IsRemote() {
				out.WriteString(" in the caller's trace")
			}
			out.WriteString("\n")
			var lines []string
			for _, a := range span.Attributes() {
				value := a.Value.String()
				if changing.MatchString(string(a.Key)) {
					value = "…"
				}
				lines = append(lines, fmt.Sprintf("%s  - %s=%s\n", indent, a.Key, value))
			}
			slices.Sort(lines)
			out.WriteString(strings.Join(lines, ""))
			for _, link := range span.Links() {
				target := "another trace"
				if linked, ok := byID[link.SpanContext.SpanID()]; ok {
					target = linked.Name()
				}
				fmt.Fprintf(&out, "%s  -> %s\n", indent, target)
			}
			draw(span.SpanContext().SpanID(), indent+"  ")
		}
	}
	draw(trace.SpanID{}, "")
	return out.String()
}
