package broker_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

var update = flag.Bool("update", false, "write the golden traces anew")

func compareTrace(t *testing.T, name string, spans []sdktrace.ReadOnlySpan) {
	t.Helper()
	got := renderTrace(spans)
	file := filepath.Join("testdata", "trace", name+".golden")
	if *update {
		check(t, os.MkdirAll(filepath.Dir(file), 0o755))
		check(t, os.WriteFile(file, []byte(got), 0o644))
	}
	if got == "" {
		t.Fatal("there is no trace")
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
		return cmp.Or(a.StartTime().Compare(b.StartTime()), cmp.Compare(len(a.Links()), len(b.Links())), cmp.Compare(b.Name(), a.Name()))
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
