package main

import (
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/admin"
	"github.com/credfree/credfree/broker/recent"
)

// The exchange that is asked for may be a refresh's: it is drawn, and who got its token
// is counted.
func TestTraceOfARefreshIsDrawn(t *testing.T) {
	found := admin.Issuances{Background: []recent.Span{{SpanID: recent.SpanID{1}, Name: "token.refresh", Start: time.Now()}, {SpanID: recent.SpanID{2}, Parent: recent.SpanID{1}, Name: "entra.token", Start: time.Now()}}}
	for range 3 {
		found.Issuances = append(found.Issuances, recent.Issuance{Decision: recent.Allow, Cache: "hit"})
	}
	var out strings.Builder
	check(t, drawTraces(t.Context(), &out, nil, found, false))
	for _, want := range []string{"a refresh in the background", "└─ token.refresh", "   └─ entra.token", "and from the cache, with the same id: 3\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got\n%s\nwithout %q", out.String(), want)
		}
	}
}
