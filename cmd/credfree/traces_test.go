package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

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

// As JSON there is each issuance of a trace, and a refresh that nobody's token came from
// yet; what is forgotten in between is no failure.
func TestTracesAsJSONAreWhole(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := path.Base(r.URL.Path)
		if id == "forgotten" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		check(t, json.NewEncoder(w).Encode(admin.Detail{Issuance: recent.Issuance{ID: id, TraceID: recent.TraceID{1}}}))
	}))
	defer server.Close()
	refresh := []recent.Span{{SpanID: recent.SpanID{1}, Name: "token.refresh"}}
	for name, test := range map[string]struct {
		ids        []string
		background []recent.Span
		want       []string
	}{
		"issuances of one trace": {[]string{"a", "b"}, nil, []string{"a", "b"}},
		"one is forgotten":       {[]string{"forgotten", "b"}, nil, []string{"b"}},
		"a refresh alone":        {nil, refresh, []string{"token.refresh"}},
		"and its token's":        {[]string{"a"}, refresh, []string{"token.refresh", "a"}},
	} {
		found := admin.Issuances{Background: test.background}
		for _, id := range test.ids {
			found.Issuances = append(found.Issuances, recent.Issuance{ID: id, TraceID: recent.TraceID{1}, Decision: recent.Allow, Cache: "miss"})
		}
		var out bytes.Buffer
		check(t, drawTraces(t.Context(), &out, &adminClient{base: server.URL}, found, true))
		var details []admin.Detail
		check(t, json.Unmarshal(out.Bytes(), &details))
		var got []string
		for _, d := range details {
			if d.Issuance.ID == "" && len(d.Spans) > 0 {
				d.Issuance.ID = d.Spans[0].Name
			}
			got = append(got, d.Issuance.ID)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// What is forgotten before it is drawn stands for nothing else: neither for the rest of
// its trace, nor for other tokens from the cache.
func TestTracesAreDrawnThoughOneIsForgotten(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := path.Base(r.URL.Path)
		if id == "forgotten" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		check(t, json.NewEncoder(w).Encode(admin.Detail{Issuance: recent.Issuance{ID: id}}))
	}))
	defer server.Close()
	for _, cache := range []string{"miss", "hit"} {
		of := func(id string) recent.Issuance {
			return recent.Issuance{ID: id, TraceID: recent.TraceID{1}, Decision: recent.Allow, Cache: cache}
		}
		var out bytes.Buffer
		err := drawTraces(t.Context(), &out, &adminClient{base: server.URL}, admin.Issuances{Issuances: []recent.Issuance{of("forgotten"), of("b")}}, false)
		if err != nil || !strings.HasPrefix(out.String(), "issuance        b\n") {
			t.Errorf("%s: got %q and %v, want b", cache, out.String(), err)
		}
	}
}

// What a reader was too slow for is in the audit log, and watch says so.
func TestWatchSaysWhereTheMissedAre(t *testing.T) {
	var told strings.Builder
	w := &watcher{out: io.Discard, err: &told}
	check(t, w.follow(io.NopCloser(strings.NewReader("event: missed\ndata: 7\n\n"))))
	if got, want := told.String(), "more happened than could be shown: 7 are missing here, and stand in the audit log\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whoever begins with the last that match has seen all up to then: what was
// forgotten since then is not missing.
func TestWatchGoesOnAfterTheList(t *testing.T) {
	since := time.Unix(1, 0).UTC()
	for name, test := range map[string]struct {
		numbers []uint64
		want    uint64
	}{"an old one": {[]uint64{5}, 5000}, "none": {nil, 5000}, "one that came meanwhile": {[]uint64{5001, 5}, 5001}} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			list := admin.Issuances{Held: recent.Held{Since: since, Seen: 5000}}
			for _, number := range test.numbers {
				list.Issuances = append(list.Issuances, recent.Issuance{Number: number})
			}
			check(t, json.NewEncoder(w).Encode(list))
		}))
		w := &watcher{client: &adminClient{base: server.URL}, out: io.Discard, err: io.Discard}
		check(t, w.before(t.Context(), 2))
		if want := admin.EventID(test.want, since); w.last != want {
			t.Errorf("%s: got %q, want %q", name, w.last, want)
		}
		server.Close()
	}
}

// A terminal gets 80 columns; what is no terminal gets all.
func TestIssuanceLineFits(t *testing.T) {
	i := recent.Issuance{Agent: "an-agent-with-a-long-name", Decision: "deny", Reason: "scope_not_allowed", Scopes: []string{"https://vault.azure.net/.default", "https://vault.azure.net/Read"}}
	if got, want := issuanceLine(&i, false, lineWidth), "00:00:00 deny  an-agent-wi… -       0.00 ms scope_not_allowed vault.azure.net/.…"; got != want || len([]rune(want)) > 80 {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := issuanceLine(&i, false, 0), "00:00:00 deny  an-agent-with-a-long-name -       0.00 ms scope_not_allowed vault.azure.net/.default vault.azure.net/Read"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// So does the list of traces, of exchanges that take their time too.
func TestListOfTracesFits(t *testing.T) {
	i := recent.Issuance{ID: strings.Repeat("a", 32), Agent: "an-agent-with-a-long-name", Decision: recent.Fail, Cache: "joined", Took: 31 * time.Second}
	inspected := recent.Issuance{ID: i.ID, Agent: i.Agent, Decision: recent.Allow, Inspection: true, Took: 999 * time.Millisecond}
	var out bytes.Buffer
	check(t, listTraces(stdio{out: &out, err: &out}, admin.Issuances{Issuances: []recent.Issuance{i, inspected}}))
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimSpace(line))); n > lineWidth {
			t.Errorf("got %d columns: %s", n, line)
		}
	}
}

// An inspection is told from a token that was handed out.
func TestInspectionsAreToldApart(t *testing.T) {
	i := recent.Issuance{ID: "1", Agent: "a", Decision: recent.Allow, Inspection: true, UserTenant: "t", UserObjectID: "0be5e000-1"}
	refused := i
	refused.Decision, refused.Reason = recent.Deny, "user_token_invalid"
	var listed bytes.Buffer
	check(t, listTraces(stdio{out: &listed, err: &listed}, admin.Issuances{Issuances: []recent.Issuance{i, refused}}))
	detail := describeTrace(&admin.Detail{Issuance: i, Spans: []recent.Span{i.Span()}})
	for text, want := range map[string]string{
		issuanceLine(&i, false, 0):       "00:00:00 allow a            -       0.00 ms inspected @0be5e000",
		issuanceLine(&refused, false, 0): "00:00:00 deny  a            -       0.00 ms user_token_invalid @0be5e000",
		listed.String():                  "00:00:00 1 allow a            inspected 0.00 ms\n00:00:00 1 deny  a            -      0.00 ms\n",
	} {
		if text != want {
			t.Errorf("got %q, want %q", text, want)
		}
	}
	for _, want := range []string{"decision        allow, inspected\n", "└─ token.inspect "} {
		if !strings.Contains(detail, want) {
			t.Errorf("got\n%s\nwithout %q", detail, want)
		}
	}
}

// Whoever listens in a broker's place writes nothing to a terminal but text, and
// spans that go in circles end.
func TestOperatorsTerminalIsSafe(t *testing.T) {
	const bad = "x\x1b]0;y\x07\u202ez"
	i := recent.Issuance{ID: bad, Decision: bad, Agent: bad, Cache: bad, Reason: bad, Rule: bad, Hint: bad, Scopes: []string{bad}, UserObjectID: bad, Revision: bad}
	detail := admin.Detail{Issuance: i, SharedWith: bad, Steps: []recent.Step{{Name: bad, Detail: bad}}}
	for n := range 6 {
		detail.Spans = append(detail.Spans, recent.Span{SpanID: recent.SpanID{byte(n % 2)}, Parent: recent.SpanID{byte(n+1) % 2}, Name: bad, Error: bad})
	}
	var listed bytes.Buffer
	check(t, listTraces(stdio{out: &listed, err: &listed}, admin.Issuances{Issuances: []recent.Issuance{i}}))
	for _, text := range []string{describeTrace(&detail), spanTree(detail.Spans), listed.String(), issuanceLine(&i, false, lineWidth)} {
		if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("got %q", text)
		}
	}
}

// What audit mode alone has issued is not a reason of its own, and what failed failed for
// the reason that it names.
func TestAuditedIssuancesSaySo(t *testing.T) {
	i := recent.Issuance{Agent: "a", Decision: recent.Allow, Audited: true, Reason: "scope_not_allowed"}
	failed := i
	failed.Decision, failed.Reason = recent.Fail, "entra_rejected"
	for got, want := range map[string]string{
		issuanceLine(&i, false, 0):                     "00:00:00 allow a            -       0.00 ms only audited: scope_not_allowed",
		issuanceLine(&failed, false, 0):                "00:00:00 error a            -       0.00 ms entra_rejected",
		describeTrace(&admin.Detail{Issuance: i}):      "\ndecision        allow only audited: scope_not_allowed\n",
		describeTrace(&admin.Detail{Issuance: failed}): "\ndecision        error entra_rejected\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
