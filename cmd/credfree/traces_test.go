package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/credfree/credfree/broker/admin"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
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
	for _, text := range []string{describeTrace(&detail), spanTree(detail.Spans), listed.String(), issuanceLine(&i, false)} {
		if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("got %q", text)
		}
	}
}

// A defect that makes a handler panic is an error in the log, without what it panicked
// with; the rest of what net/http says is not.
func TestPanicsAreLogged(t *testing.T) {
	var log bytes.Buffer
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("eyJ-a-token") }))
	server.Config.ErrorLog = newServer(nil, slog.New(slog.NewTextHandler(&log, nil))).ErrorLog
	server.Start()
	resp, err := http.Get(server.URL) //nolint:noctx // it has no answer
	if err == nil {
		check(t, resp.Body.Close())
		t.Error("there was an answer")
	}
	server.Close()
	if got := log.String(); strings.Count(got, "level=ERROR") != 1 || strings.Contains(got, "eyJ") || !strings.Contains(got, "TestPanicsAreLogged") {
		t.Errorf("got %s", got)
	}
	log.Reset()
	if _, err := (serverLog{slog.New(slog.NewTextHandler(&log, nil))}).Write([]byte("http: TLS handshake error\n")); err != nil || log.Len() > 0 {
		t.Errorf("got %v, %s", err, log.String())
	}
}

// Users who are blocked are shown as all users are.
func TestBlockedUsersAreShownAsUsersAre(t *testing.T) {
	p := &policy.Policy{}
	p.Blocked.Users = []policy.UserID{{Tenant: "5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10", ObjectID: "0be5e000-0000-4000-8000-0000000005e4"}}
	pseudonyms := issuance.NewPseudonyms([]byte("0123456789abcdef"))
	if got := policyView(p, nil).BlockedUsers; !slices.Equal(got, []string{"5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10/0be5e000-0000-4000-8000-0000000005e4"}) {
		t.Errorf("got %q", got)
	}
	if got := policyView(p, pseudonyms).BlockedUsers; !slices.Equal(got, []string{pseudonyms.Of("5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10", "0be5e000-0000-4000-8000-0000000005e4")}) {
		t.Errorf("got %q", got)
	}
}
