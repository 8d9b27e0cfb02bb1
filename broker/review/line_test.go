package review_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/review"
)

// TestReadsWhatTheBrokerWrites: a field that is renamed in the audit log would
// be missed here without a word.
func TestReadsWhatTheBrokerWrites(t *testing.T) {
	var log bytes.Buffer
	recorder, err := issuance.NewRecorder(issuance.Config{Audit: &log})
	check(t, err)
	app := issuance.Record{
		Start: since, Agent: "a", Owner: "o", PeerNet: "unix", PeerSocket: "a.sock", PeerUID: 7, PeerKnown: true, Identity: "i", Member: "m",
		Scopes: []string{"https://one.example/.default"}, Decision: issuance.Allow,
	}
	agentUser, user, audited, failed, stranger, inspected := app, app, app, app, app, app
	inspected.Grant, inspected.Inspection, inspected.OnBehalfOf, inspected.UserTenant, inspected.UserObjectID = broker.GrantInspection, true, true, "t", "other" // got no token
	agentUser.UserTenant, agentUser.UserObjectID = "t", "itself"                                                                                                 // nobody it acts for
	user.OnBehalfOf, user.UserTenant, user.UserObjectID = true, "t", "u"
	audited.Audited, audited.Reason, audited.Rule = true, "over_limit", "agents.a.limits"
	failed.Decision, failed.Reason, failed.EntraError, failed.EntraCodes = issuance.Fail, "refused", "invalid_client", []int{7000215, 1}
	stranger.Agent, stranger.Decision, stranger.Reason = "", issuance.Deny, "unknown_agent"
	for _, rec := range []issuance.Record{agentUser, user, audited, failed, stranger, inspected} {
		check(t, recorder.Close(context.Background(), &rec))
	}
	use := func(n int64) review.Use { return review.Use{Count: n, First: since, Last: since} }
	const scope = "https://one.example/.default"
	want := &review.Report{
		Lines: review.Lines{Counted: 6}, Requests: use(6),
		Agents: []review.Agent{{
			Name: "a", Owner: "o", Requests: use(5), Inspections: 1, Identities: []review.Identity{{Name: "i/m", Use: use(4)}},
			Rights: []review.Right{
				{Scope: scope, State: review.Issued, Use: use(2)},
				{Scope: scope, OnBehalfOf: true, State: review.Issued, Use: use(1)},
			},
			Denied:    []review.Denial{{Scopes: scope, Reason: "over_limit", Rule: "agents.a.limits", Audited: true, Use: use(1)}},
			Failures:  []review.Failure{{Reason: "refused", Error: "invalid_client", Code: 7000215, Use: use(1)}},
			UserCount: 1, Users: []review.User{{Tenant: "t", ObjectID: "u", Use: use(1)}},
		}},
		Strangers: []review.Stranger{{Reason: "unknown_agent", Network: "unix", Socket: "a.sock", UID: 7, UIDKnown: true, Use: use(1)}},
	}
	got := reportOf(t, review.Config{Users: 1}, log.Bytes())
	unexported := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".granted" }, cmp.Ignore())
	if diff := cmp.Diff(want, got, unexported); diff != "" {
		t.Errorf("got another report (-want +got):\n%s\n%s", diff, log.String())
	}
	var text bytes.Buffer
	check(t, got.WriteText(&text))
	if want := "of them 1 inspection of users' tokens"; !strings.Contains(text.String(), want) {
		t.Errorf("no %q in\n%s", want, text.String())
	}
}

// The records of a chain are no audit lines and no cause for alarm; lines in
// OCSF are counted apart; users that were hashed stay apart.
func TestOtherFormsOfTheLog(t *testing.T) {
	write := func(cfg issuance.Config) []byte {
		var log bytes.Buffer
		chain, err := issuance.NewChain(issuance.ChainConfig{Sink: &log, Format: cfg.Format})
		check(t, err)
		cfg.Audit = chain
		recorder, err := issuance.NewRecorder(cfg)
		check(t, err)
		for _, user := range []string{"u", "v", "u"} {
			check(t, recorder.Close(context.Background(), &issuance.Record{Start: since, Agent: "a", Decision: issuance.Allow, Scopes: []string{"https://one.example/x"},
				OnBehalfOf: true, UserTenant: "t", UserObjectID: user, Pseudonyms: issuance.NewPseudonyms([]byte("0123456789abcdef"))}))
		}
		return log.Bytes()
	}
	got := reportOf(t, review.Config{Users: 5}, write(issuance.Config{}))
	if got.Lines != (review.Lines{Counted: 3}) || got.Agents[0].UserCount != 2 || len(got.Agents[0].Users[0].Hash) != 64 || got.Agents[0].Users[0].Count != 2 {
		t.Errorf("got %+v", got)
	}
	var text bytes.Buffer
	check(t, got.WriteText(&text))
	if !strings.Contains(text.String(), got.Agents[0].Users[0].Hash) {
		t.Errorf("the hash is not shown:\n%s", text.String())
	}
	ocsf := write(issuance.Config{Format: issuance.OCSF})
	if got := reportOf(t, review.Config{}, ocsf); got.Lines != (review.Lines{OCSF: 3}) {
		t.Errorf("got %+v, want three lines in OCSF", got.Lines)
	}
	var inside bytes.Buffer // what can be done about them: jq -c .unmapped
	for line := range bytes.Lines(ocsf) {
		var event struct {
			Unmapped json.RawMessage `json:"unmapped"`
		}
		check(t, json.Unmarshal(line, &event))
		inside.Write(append(event.Unmapped, '\n'))
	}
	if got := reportOf(t, review.Config{}, inside.Bytes()); got.Lines != (review.Lines{Counted: 3}) {
		t.Errorf("got %+v, want the three lines inside", got.Lines)
	}
}

// Users are found by what the log has of them, and nobody is taken for somebody
// else because the one is hashed and the other is not.
func TestUsersHashedOrNot(t *testing.T) {
	const hash = "ac25171ac87bf73561d9723b3be5e77c63d5c84a1dddec0bf2ae7239694ee41a"
	line := func(agent, user string) string {
		return `{"time":"2026-10-01T00:00:00Z","type":"audit","agent":"` + agent + `","decision":"allow"` + user + "}\n"
	}
	plain, hashed := line("a", `,"user_tenant_id":"t","user_object_id":"u"`), line("a", `,"user_hash":"`+hash+`"`)
	others := line("b", `,"user_tenant_id":"t","user_object_id":"v"`) + line("b", `,"user_hash":"`+strings.Repeat("0", 64)+`"`)
	nobody := line("c", "")
	for _, c := range []struct {
		name string
		cfg  review.Config
		log  string
		want review.Lines
	}{
		{"ids in a plain log", review.Config{User: "T/U"}, plain + nobody, review.Lines{Counted: 1, Unselected: 1}},
		{"object id in a plain log", review.Config{User: "u"}, plain + nobody, review.Lines{Counted: 1, Unselected: 1}},
		{"ids in a hashed log", review.Config{User: "t/u"}, hashed + nobody, review.Lines{Hashed: 1, Unselected: 1}},
		{"object id in a hashed log", review.Config{User: "u"}, hashed + nobody, review.Lines{Hashed: 1, Unselected: 1}},
		{"hash in a hashed log", review.Config{User: strings.ToUpper(hash)}, hashed + nobody, review.Lines{Counted: 1, Unselected: 1}},
		{"hash in a plain log", review.Config{User: hash}, plain + nobody, review.Lines{Unhashed: 1, Unselected: 1}},
		{"ids in both", review.Config{User: "t/u"}, plain + hashed + others, review.Lines{Counted: 1, Hashed: 2, Unselected: 1}},
		{"hash in both", review.Config{User: hash}, plain + hashed + others, review.Lines{Counted: 1, Unhashed: 2, Unselected: 1}},
		{"both in both", review.Config{User: "t/u", UserHash: hash}, plain + hashed + others, review.Lines{Counted: 2, Unselected: 2}},
		{"of another agent", review.Config{User: "t/u", Agent: "c"}, plain + hashed + nobody, review.Lines{Unselected: 3}},
		{"of another time", review.Config{User: "t/u", Since: now}, plain + hashed, review.Lines{Older: 2}},
		{"nobody asked about", review.Config{}, plain + hashed + nobody, review.Lines{Counted: 3}},
	} {
		if diff := cmp.Diff(c.want, reportOf(t, c.cfg, []byte(c.log)).Lines); diff != "" {
			t.Errorf("%s: got other counts (-want +got):\n%s", c.name, diff)
		}
	}
}

// A user who is asked about is one, though the log named users before it hashed them.
func TestUserInBothFormsIsOne(t *testing.T) {
	const hash = "ac25171ac87bf73561d9723b3be5e77c63d5c84a1dddec0bf2ae7239694ee41a"
	line := func(user string) string {
		return `{"time":"2026-10-01T00:00:00Z","type":"audit","agent":"a","decision":"allow","on_behalf_of":true` + user + "}\n"
	}
	log := line(`,"user_tenant_id":"t","user_object_id":"u"`) + line(`,"user_hash":"`+hash+`"`)
	got := reportOf(t, review.Config{User: "T/U", UserHash: hash, Users: 5}, []byte(log)).Agents[0]
	if got.UserCount != 1 || len(got.Users) != 1 || got.Users[0].Tenant != "T" || got.Users[0].ObjectID != "U" || got.Users[0].Hash != "" || got.Users[0].Count != 2 {
		t.Errorf("got %d users, %+v, want the one who was asked about, twice", got.UserCount, got.Users)
	}
	if got := reportOf(t, review.Config{Users: 5}, []byte(log)).Agents[0]; got.UserCount != 2 {
		t.Errorf("got %d users without a key, want two forms", got.UserCount)
	}
}

const denial = `{"time":"2026-10-01T00:00:00Z","type":"audit","agent":"a","decision":"deny","reason":"x"}`

func TestLines(t *testing.T) {
	for _, c := range []struct {
		name, log string
		want      review.Lines
	}{
		{"nothing", "", review.Lines{}},
		{"empty lines", "\n \r\n\t\n", review.Lines{}},
		{"one", denial + "\n", review.Lines{Counted: 1}},
		{"no line break at the end", denial, review.Lines{Counted: 1}},
		{"carriage returns", denial + "\r\n" + denial + "\r\n", review.Lines{Counted: 2}},
		{"torn at the end", denial + "\n" + denial[:30], review.Lines{Counted: 1, Unreadable: 1}},
		{"torn in the middle", denial[:30] + "\n" + denial + "\n", review.Lines{Counted: 1, Unreadable: 1}},
		{"two on one line", denial + denial + "\n", review.Lines{Unreadable: 1}},
		{"zeros of a crash", strings.Repeat("\x00", 4096) + "\n" + denial + "\n", review.Lines{Counted: 1, Unreadable: 1}},
		{"too long", `{"a":"` + strings.Repeat("x", 1<<20) + `"}` + "\n" + denial + "\n", review.Lines{Counted: 1, Unreadable: 1}},
		{"too long and torn", strings.Repeat("x", 1<<20), review.Lines{Unreadable: 1}},
		{"another log", `{"level":"INFO"}` + "\n{}\n", review.Lines{Other: 2}},
		{"another type", strings.Replace(denial, "audit", "demo", 1), review.Lines{Other: 1}},
		{"no object", "null\n1\n[]\n\"a\"\n", review.Lines{Unreadable: 4}},
		{"no time", strings.Replace(denial, "time", "tome", 1), review.Lines{Unreadable: 1}},
		{"no such time", strings.Replace(denial, "2026-10-01", "2026-13-01", 1), review.Lines{Unreadable: 1}},
		{"a decision of the future", strings.Replace(denial, "deny", "defer", 1), review.Lines{Other: 1}},
		{"older", strings.Replace(denial, "2026", "2025", 1), review.Lines{Older: 1}},
		{"newer", strings.Replace(denial, "2026", "2027", 1), review.Lines{Newer: 1}},
		{"the last moment", strings.Replace(denial, "2026-10-01T00:00:00Z", "2026-11-20T23:59:59.999999Z", 1), review.Lines{Counted: 1}},
		{"the moment after", strings.Replace(denial, "2026-10-01", "2026-11-21", 1), review.Lines{Newer: 1}},
		{"a field of another kind", strings.Replace(denial, `"a"`, `["a"]`, 1), review.Lines{Unreadable: 1}},
	} {
		report := reportOf(t, review.Config{Since: since, Until: now}, []byte(c.log))
		if diff := cmp.Diff(c.want, report.Lines); diff != "" {
			t.Errorf("%s: got other counts (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestReadReturnsTheReadersError(t *testing.T) {
	r, err := review.New(review.Config{})
	check(t, err)
	broken := errors.New("broken")
	err = r.Read(io.MultiReader(strings.NewReader(denial+"\n"+denial[:9]), iotest.ErrReader(broken)))
	if want := (review.Lines{Counted: 1, Unreadable: 1}); !errors.Is(err, broken) || r.Report().Lines != want {
		t.Errorf("got the error %v and %+v, want %v and %+v", err, r.Report().Lines, broken, want)
	}
}

// hostile is a log of n lines in which everything differs.
func hostile(n int) io.Reader {
	reader, writer := io.Pipe()
	go func() {
		for i := range n {
			_, err := fmt.Fprintf(writer, `{"time":"2026-10-01T00:00:00Z","type":"audit","agent":"a%d","owner":"%d","decision":%q,"scopes":["https://%d.example/%s"],"reason":"r%d","identity":"i%d","on_behalf_of":true,"user_object_id":"u%d","entra_error_codes":[%d]}`+"\n",
				i%2*i, i, []string{"allow", "deny", "error"}[i%3], i, strings.Repeat("x", 200), i, i, i, i)
			if err != nil {
				return
			}
		}
		_ = writer.Close() // always nil
	}()
	return reader
}

// TestBounded: a log in which everything differs is not kept, and every line of
// it is accounted for.
func TestBounded(t *testing.T) {
	const lines = 40_000
	r, err := review.New(review.Config{Users: 10})
	check(t, err)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	check(t, r.Read(hostile(lines)))
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 128<<20 {
		t.Errorf("got %d MiB kept, want less than 128", grown>>20)
	}
	report := r.Report()
	if report.Lines.Counted != lines || report.Requests.Count != lines {
		t.Errorf("got %+v and %d requests, want %d", report.Lines, report.Requests.Count, lines)
	}
	sum := report.MoreRequests
	for _, a := range report.Agents {
		sum += a.Requests.Count
		uses := a.MoreRights + a.MoreDenied + a.MoreFailures
		for _, right := range a.Rights {
			uses += right.Count
		}
		for _, denial := range a.Denied {
			uses += denial.Count
		}
		for _, failure := range a.Failures {
			uses += failure.Count
		}
		if uses != a.Requests.Count {
			t.Fatalf("agent %s: got %d uses, want %d", a.Name, uses, a.Requests.Count)
		}
		if len(a.Rights) > 500 || len(a.Denied) > 200 || len(a.Failures) > 50 || len(a.Users) > 10 {
			t.Fatalf("agent %s: got %d rights, %d denials, %d failures, %d users", a.Name, len(a.Rights), len(a.Denied), len(a.Failures), len(a.Users))
		}
	}
	if sum != lines || len(report.Agents) > 10_000 {
		t.Errorf("got %d requests of %d agents, want %d of at most 10000", sum, len(report.Agents), lines)
	}
	runtime.KeepAlive(r)
}

// TestBoundedInAll: agents that are within their own bounds share one.
func TestBoundedInAll(t *testing.T) {
	const agents, each, most = 100, 1000, 200_000
	var log bytes.Buffer
	for i := range agents * each {
		fmt.Fprintf(&log, `{"time":"2026-10-01T00:00:00Z","type":"audit","agent":"%d","decision":"allow","on_behalf_of":true,"user_object_id":"%d","identity":"%d","scopes":["%d"]}`+"\n", i%agents, i, i, i%(agents*400))
	}
	kept := 0
	for _, a := range reportOf(t, review.Config{}, log.Bytes()).Agents {
		kept += 1 + a.UserCount + len(a.Identities) + len(a.Rights)
		users, rights := int64(a.UserCount)+a.MoreUsers, a.MoreRights
		for _, right := range a.Rights {
			rights += right.Count
		}
		if users != each || rights != each {
			t.Fatalf("agent %s: got %d uses for users and %d of rights, want %d", a.Name, users, rights, each)
		}
	}
	if kept != most {
		t.Errorf("got %d things kept, want %d", kept, most)
	}
}

// FuzzRead: whatever a log holds, every line that is not empty is counted once,
// and every way to write the report works.
func FuzzRead(f *testing.F) {
	corpus, err := os.ReadFile("testdata/log.jsonl")
	check(f, err)
	seeds := bytes.Split(corpus, []byte("\n"))
	if len(seeds) < 10 {
		f.Fatalf("got %d seeds, want at least 10", len(seeds))
	}
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Add(corpus)
	cfg := configOf(f, testdata(f, "policy.yaml"))
	f.Fuzz(func(t *testing.T, log []byte) {
		report := reportOf(t, cfg, log)
		var want int64
		for line := range bytes.SplitSeq(log, []byte("\n")) {
			if len(bytes.TrimSpace(line)) > 0 {
				want++
			}
		}
		l := report.Lines
		if got := l.Counted + l.Older + l.Other + l.Unreadable; got != want {
			t.Errorf("got %d lines, want %d", got, want)
		}
		check(t, report.WriteText(io.Discard))
		check(t, report.WriteCSV(io.Discard))
		var proposal bytes.Buffer
		if err := report.WriteProposal(&proposal); (err == nil) != (l.Counted > 0) {
			t.Errorf("got the error %v for a proposal from %d lines", err, l.Counted)
		} else if err == nil {
			apply(t, cfg.File, proposal.Bytes())
		}
	})
}
