package recent_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/recent"
)

var began = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func issuance(n int) *recent.Issuance {
	return &recent.Issuance{
		Start: began.Add(time.Duration(n) * time.Second), Took: time.Millisecond, ID: fmt.Sprintf("%032x", n), TraceID: recent.TraceID{byte(n >> 8), byte(n), 1}, SpanID: recent.SpanID{byte(n >> 8), byte(n), 2},
		Agent: "researcher", Door: "oauth", Scopes: []string{"https://graph.microsoft.com/.default"}, Decision: recent.Allow, Cache: "hit",
	}
}

func TestTheLastAreRemembered(t *testing.T) {
	m := recent.New(began)
	for n := range recent.MaxIssuances + 5 {
		m.Add(issuance(n))
	}
	found, matching := m.Find(recent.Query{Limit: 2})
	if matching != recent.MaxIssuances || len(found) != 2 || found[0].Number != recent.MaxIssuances+5 || found[1].Number != recent.MaxIssuances+4 {
		t.Errorf("got %d matching and %v", matching, found)
	}
	if _, ok := m.Get(issuance(4).ID); ok {
		t.Error("the fifth is still there")
	}
	if got, ok := m.Get(issuance(5).ID); !ok || got.Number != 6 {
		t.Errorf("got %v, %v", got, ok)
	}
	if held := m.Held(); held.Issuances != recent.MaxIssuances || held.Seen != recent.MaxIssuances+5 || !held.Since.Equal(began) {
		t.Errorf("got %+v", held)
	}
}

// Whatever callers send, and however much, a Memory stays below its bound.
func TestMemoryIsBounded(t *testing.T) {
	before := heap()
	m := recent.New(began)
	long := func(n int) string { return fmt.Sprintf("%d-%s", n, strings.Repeat("x", 4000)) }
	for n := range 1_500 {
		i := issuance(n)
		i.Agent = strings.Clone(long(n % 1000)[:60]) // an agent's name is the policy's
		i.Member, i.API, i.Hint, i.EntraError, i.RequestID = long(n), long(n), long(n), long(n), long(n)
		i.Decision = []string{recent.Deny, recent.Fail, recent.Allow}[n%3]
		i.Scopes = nil
		for s := range 16 {
			i.Scopes = append(i.Scopes, long(n*16 + s)[:256])
		}
		i.EntraCodes = make([]int, 5000)
		i.Steps = []recent.Step{{Name: "scope", Detail: long(n)}}
		m.Add(i)
		for s := range 3 {
			m.AddSpan(recent.Span{TraceID: i.TraceID, SpanID: recent.SpanID{byte(s)}, Name: "entra.token", Error: long(n), Attributes: slices.Repeat([]recent.Attribute{{Key: "credfree.scopes", Value: long(n)}}, 40), Links: make([]recent.Link, 100)})
		}
	}
	took := heap() - before
	held := m.Held()
	t.Logf("takes %d KiB: %+v", took>>10, held)
	if took > recent.MaxBytes {
		t.Errorf("got %d bytes, want at most %d", took, recent.MaxBytes)
	}
	if held.Issuances < 10 || held.Spans < 10 {
		t.Errorf("got %+v: hardly anything is remembered", held)
	}
	runtime.KeepAlive(m)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// What is remembered is a copy: a text that is cut out of a request keeps
// nothing else of the request in memory.
func TestPlainHitsCostNothing(t *testing.T) {
	m := recent.New(began)
	i := issuance(1)
	m.Add(i)
	if allocs := testing.AllocsPerRun(100, func() { m.Add(i) }); allocs > 0 {
		t.Errorf("got %v allocations, want none", allocs)
	}
}

func TestQueries(t *testing.T) {
	m := recent.New(began)
	const tenant, user = "8a0c5b0e-0000-4000-8000-000000000001", "0be5e000-0000-4000-8000-000000000002"
	for n := 1; n <= 4; n++ {
		i := issuance(n)
		switch n {
		case 2:
			i.Agent, i.Decision, i.Cache, i.Reason, i.Scopes = "", recent.Deny, "", "unknown_agent", nil
		case 3:
			i.Cache, i.UserTenant, i.UserObjectID, i.CorrelationID, i.RequestID, i.UniqueID = "miss", tenant, user, "11111111-2222-4333-8444-555555555555", "aaaaaaaa-0000-4000-8000-000000000000", "uti_-1"
		case 4:
			i.SaidConversation = "talk-7"
			i.Door, i.Cache, i.Decision, i.Reason = "call_through", "miss", recent.Fail, "timeout"
		}
		m.Add(i)
	}
	hashed := issuance(5)
	hashed.UserHash, hashed.Agent, hashed.Decision, hashed.Cache = "ab12", "hasher", "none", "none"
	hashed.Scopes = nil
	m.Add(hashed)
	trace := issuance(4).TraceID.String()
	guid := trace[:8] + "-" + trace[8:12] + "-" + trace[12:16] + "-" + trace[16:20] + "-" + trace[20:]
	for name, test := range map[string]struct {
		query recent.Query
		want  []uint64
	}{
		"all":                           {recent.Query{}, []uint64{5, 4, 3, 2, 1}},
		"a user who is hashed":          {recent.Query{User: "AB12"}, []uint64{5}},
		"a user by ids and hash":        {recent.Query{User: tenant + "/" + user, UserHash: "ab12"}, []uint64{5, 3}},
		"an agent":                      {recent.Query{Agent: "researcher"}, []uint64{4, 3, 1}},
		"nobody":                        {recent.Query{Agent: recent.Nobody}, []uint64{2}},
		"no such agent":                 {recent.Query{Agent: "research"}, nil},
		"a user":                        {recent.Query{User: strings.ToUpper(user)}, []uint64{3}},
		"a user of a tenant":            {recent.Query{User: tenant + "/" + user}, []uint64{3}},
		"a user of another tenant":      {recent.Query{User: user + "/" + user}, nil},
		"a scope":                       {recent.Query{Scope: "GRAPH"}, []uint64{4, 3, 1}},
		"a decision":                    {recent.Query{Decision: recent.Deny}, []uint64{2}},
		"a reason":                      {recent.Query{Reason: "timeout"}, []uint64{4}},
		"a door":                        {recent.Query{Door: "call_through"}, []uint64{4}},
		"the cache":                     {recent.Query{Cache: "miss"}, []uint64{4, 3}},
		"a correlation id":              {recent.Query{CorrelationID: "11111111222243338444555555555555"}, []uint64{3}},
		"a trace as a correlation id":   {recent.Query{CorrelationID: strings.ToUpper(guid)}, []uint64{4}},
		"a trace":                       {recent.Query{Trace: trace}, []uint64{4}},
		"an id of Entra's":              {recent.Query{ID: "AAAAAAAA-0000-4000-8000-000000000000"}, []uint64{3}},
		"a token's id":                  {recent.Query{ID: "uti_-1"}, []uint64{3}},
		"a token's id in another case":  {recent.Query{ID: "UTI_-1"}, nil},
		"a conversation":                {recent.Query{ID: "talk-7"}, []uint64{4}},
		"an issuance's id":              {recent.Query{ID: issuance(2).ID}, []uint64{2}},
		"those after one":               {recent.Query{After: 3}, []uint64{5, 4}},
		"all of several":                {recent.Query{Agent: "researcher", Cache: "miss", Decision: recent.Fail}, []uint64{4}},
		"an id that no issuance can be": {recent.Query{ID: "-"}, nil},
	} {
		test.query.Limit = 10
		found, matching := m.Find(test.query)
		var got []uint64
		for _, i := range found {
			got = append(got, i.Number)
		}
		if diff := cmp.Diff(test.want, got); diff != "" || matching != len(test.want) {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestMinutes(t *testing.T) {
	m := recent.New(began)
	add := func(after time.Duration, change func(*recent.Issuance)) {
		i := issuance(0)
		i.Start = began.Add(after)
		change(i)
		m.Add(i)
	}
	add(0, func(*recent.Issuance) {})
	add(0, func(i *recent.Issuance) { i.Cache = "miss" })
	add(0, func(i *recent.Issuance) { i.Cache = "miss" })
	m.AddExchange(began, 10*time.Millisecond, "")
	m.AddExchange(began, 30*time.Millisecond, "")
	add(0, func(i *recent.Issuance) { i.Cache, i.Decision = "", recent.Deny })
	add(0, func(i *recent.Issuance) { i.Decision, i.Reason = recent.Deny, "scope_not_allowed" }) // by a policy that came in between: not handed out
	add(0, func(i *recent.Issuance) { i.Decision, i.Reason = recent.Fail, "audit_unavailable" }) // the same
	add(0, func(i *recent.Issuance) { i.Inspection, i.Cache = true, "" })
	add(time.Minute, func(i *recent.Issuance) {
		i.Cache, i.Asked, i.Decision, i.Reason = "miss", true, recent.Fail, "entra_throttled"
	})
	m.AddExchange(began.Add(time.Minute), time.Millisecond, "entra_throttled")
	add(time.Minute, func(i *recent.Issuance) { i.Cache, i.Decision, i.Reason = "miss", recent.Fail, "entra_throttled" }) // held back
	add(time.Minute, func(i *recent.Issuance) { i.Cache, i.Decision, i.Reason = "joined", recent.Fail, "timeout" })
	m.AddRefresh(began.Add(time.Minute), 2*time.Millisecond, "", true)
	m.AddRefresh(began.Add(time.Minute), 3*time.Millisecond, "entra_throttled", true)
	m.AddRefresh(began.Add(time.Minute), time.Microsecond, "entra_throttled", false)          // held back
	m.AddRefresh(began.Add(time.Minute), 2*time.Millisecond, "workload_token_expired", false) // nothing to ask with
	minutes := m.Minutes(began.Add(time.Minute + 59*time.Second))
	if len(minutes) != recent.Hour {
		t.Fatalf("got %d", len(minutes))
	}
	want := []recent.Minute{
		{Start: began, Allowed: 3, Inspected: 1, Denied: 2, Failed: 1, Hits: 1, Exchanges: 2, Mean: 20 * time.Millisecond, Slowest: 30 * time.Millisecond},
		{Start: began.Add(time.Minute), Failed: 3, Exchanges: 3, Refreshes: 4, RefreshesFailed: 3, Mean: 2 * time.Millisecond, Slowest: 3 * time.Millisecond, Errors: 2, Throttled: 2},
	}
	if diff := cmp.Diff(want, minutes[recent.Hour-2:]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := m.Minutes(began.Add(60 * time.Minute))[0]; got.Allowed != 0 || got.Failed != 3 {
		t.Errorf("an hour later: got %+v", got)
	}
	add(61*time.Minute, func(*recent.Issuance) {})
	if got := m.Minutes(began.Add(2 * time.Hour)); slices.ContainsFunc(got[1:], func(m recent.Minute) bool { return m.Failed > 0 }) {
		t.Errorf("two hours later: got %+v", got)
	}
}

// A clock that was ahead for a while, and was put right, leaves the hour as it is.
func TestMinutesOfAClockThatWasAhead(t *testing.T) {
	m := recent.New(began)
	for _, ahead := range []time.Duration{24 * time.Hour, 0} {
		for n := range recent.Hour {
			i := issuance(0)
			i.Start = began.Add(ahead + time.Duration(n)*time.Minute)
			m.Add(i)
			m.AddRefresh(i.Start, time.Millisecond, "", true)
		}
	}
	for n, got := range m.Minutes(began.Add((recent.Hour - 1) * time.Minute)) {
		if got.Allowed != 1 || got.Refreshes != 1 {
			t.Errorf("minute %d: got %+v, want one issuance and one refresh", n, got)
		}
	}
}

func TestUses(t *testing.T) {
	m := recent.New(began)
	for n := range 3 {
		m.Add(issuance(n))
	}
	for _, decision := range []string{recent.Deny, recent.Fail} {
		i := issuance(5)
		i.Decision, i.Scopes = decision, []string{"https://vault.azure.net/.default"}
		m.Add(i)
	}
	inspection := issuance(5)
	inspection.Inspection, inspection.Cache = true, ""
	m.Add(inspection)
	nobody := issuance(6)
	nobody.Agent, nobody.Decision = "", recent.Deny
	m.Add(nobody)
	for n := range 600 { // no caller can choose an agent's name, and it is bounded all the same
		i := issuance(0)
		i.Agent = fmt.Sprintf("agent-%d", n)
		m.Add(i)
	}
	uses, uncounted := m.Uses()
	want := recent.AgentUse{Name: "researcher", Allowed: 3, Inspected: 1, Denied: 1, Failed: 1, Last: began.Add(5 * time.Second), Rights: []recent.RightUse{
		{Scope: "https://graph.microsoft.com/.default", Count: 3, Last: began.Add(2 * time.Second)},
	}}
	if diff := cmp.Diff(want, uses["researcher"]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(uses) != 500 || uncounted != 101 {
		t.Errorf("got %d agents and %d uncounted", len(uses), uncounted)
	}
}

func TestTraces(t *testing.T) {
	m := recent.New(began)
	i := issuance(1)
	i.Cache = "miss"
	m.Add(i)
	joined := issuance(2)
	joined.Joined = i.SpanID
	m.Add(joined)
	other := issuance(3) // of the same trace
	other.TraceID = i.TraceID
	m.Add(other)
	span := func(n byte, parent recent.SpanID) recent.Span {
		return recent.Span{TraceID: i.TraceID, SpanID: recent.SpanID{0xff, n}, Parent: parent, Name: fmt.Sprint(n), Start: i.Start.Add(time.Duration(n))}
	}
	m.AddSpan(span(2, recent.SpanID{0xff, 1})) // children end first
	m.AddSpan(span(1, i.SpanID))
	trace := m.Trace(i.TraceID)
	if len(trace.Spans) != 4 {
		t.Fatalf("got %+v", trace.Spans)
	}
	var names []string
	for _, s := range i.Below(trace.Spans) {
		names = append(names, s.Name)
	}
	if diff := cmp.Diff([]string{"token.issue", "1", "2"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := m.Shared(joined); got != i.ID {
		t.Errorf("got %q, want %q", got, i.ID)
	}
	if got := m.Trace(recent.TraceID{}); len(got.Spans) > 0 {
		t.Errorf("the trace of nobody has %d spans", len(got.Spans))
	}
	inspection := issuance(9)
	inspection.Inspection = true
	if got := inspection.Below(nil); len(got) != 1 || got[0].Name != "token.inspect" {
		t.Errorf("got %+v", got)
	}
	untraced := issuance(9)
	untraced.TraceID, untraced.SpanID = recent.TraceID{}, recent.SpanID{}
	if got := untraced.Below(nil); len(got) != 1 || got[0].Took != untraced.Took {
		t.Errorf("got %+v", got)
	}
	for n := range recent.MaxSpans + 10 {
		m.AddSpan(span(byte(n), i.SpanID))
	}
	if trace := m.Trace(i.TraceID); len(trace.Spans) != recent.MaxSpans+2 || trace.Lost != 12 {
		t.Errorf("got %d spans and %d lost", len(trace.Spans), trace.Lost)
	}
}

// What is written is what is read, and the names are those of the audit line.
func TestJSON(t *testing.T) {
	i := issuance(7)
	i.PeerUID, i.PeerKnown, i.ExpiresAt, i.Joined = 10001, true, began, recent.SpanID{1}
	text, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"issuance_id":`, `"trace_id":"000701`, `"duration_us":1000`, `"peer_uid":10001`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	var read recent.Issuance
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*i, read); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
	for _, wrong := range []string{`{"trace_id":"xx"}`, `{"trace_id":"0102"}`, `{"span_id":"zzzzzzzzzzzzzzzz"}`} {
		if err := json.Unmarshal([]byte(wrong), &read); err == nil {
			t.Errorf("%s was read", wrong)
		}
	}
}
