package review_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/review"
)

func TestReports(t *testing.T) {
	log := testdata(t, "log.jsonl")
	compared := configOf(t, testdata(t, "policy.yaml"))
	compared.Since = since
	for _, c := range []struct {
		name string
		cfg  review.Config
	}{{"compared", compared}, {"alone", review.Config{Users: 1}}} {
		report := reportOf(t, c.cfg, log)
		for format, write := range map[string]func(io.Writer) error{
			"txt": report.WriteText, "csv": report.WriteCSV,
			"json": func(w io.Writer) error {
				encoder := json.NewEncoder(w)
				encoder.SetIndent("", " ")
				return encoder.Encode(report)
			},
		} {
			var got bytes.Buffer
			check(t, write(&got))
			golden(t, c.name+"."+format, got.Bytes())
		}
	}
	var proposal bytes.Buffer
	check(t, reportOf(t, compared, log).WriteProposal(&proposal))
	golden(t, "proposal.yaml", proposal.Bytes())
}

// TestTextIsNarrowAndHarmless: no line is wider than a page, and nothing that a
// log says steers a terminal.
func TestTextIsNarrowAndHarmless(t *testing.T) {
	log := []byte(`{"time":"2026-10-01T00:00:00Z","type":"audit","decision":"deny","agent":"` + strings.Repeat("a", 300) + `","owner":"` + strings.Repeat("o ", 90) +
		`","scopes":["\u001b]0;x\u0007","` + strings.Repeat("é", 200) + `"],"reason":"` + strings.Repeat("r", 120) + `","rule":"` + strings.Repeat("x.", 80) + `"}` + "\n")
	report := reportOf(t, review.Config{}, log, testdata(t, "log.jsonl"))
	if got := report.Agents[0].Name; len(got) != 256+len("…") {
		t.Errorf("got a name of %d bytes kept, want 256 and an ellipsis", len(got))
	}
	var text bytes.Buffer
	check(t, report.WriteText(&text))
	for line := range strings.Lines(text.String()) {
		line = strings.TrimSuffix(line, "\n")
		if width := utf8.RuneCountInString(line); width > 100 {
			t.Errorf("got a line of %d columns, want at most 100: %s", width, line)
		}
		if strings.ContainsFunc(line, func(c rune) bool { return c < ' ' || c == 0x7f || c == 0x202e }) {
			t.Errorf("got a control character: %q", line)
		}
	}
}

// TestOneIsNoPlural: of one thing the text speaks as of one.
func TestOneIsNoPlural(t *testing.T) {
	textOf := func(n int64) string {
		report := review.Report{
			Revision: "r", Requests: review.Use{Count: n}, MoreRequests: n, MoreStrangers: n,
			Strangers: []review.Stranger{{Reason: "unknown_agent", Use: review.Use{Count: n}}},
			Agents: []review.Agent{{
				Name: "a", InPolicy: true, Requests: review.Use{Count: n}, Inspections: n, MoreRights: n, MoreDenied: n, MoreFailures: n,
				UserCount: int(n), MoreUsers: n,
				Identities: []review.Identity{{Name: "i", Granted: true, Use: review.Use{Count: n}}},
				Rights:     []review.Right{{Scope: "s", State: review.Refused, NotIssued: n}},
				Failures:   []review.Failure{{Reason: "refused", Use: review.Use{Count: n}}},
			}, {
				Name: "b", InPolicy: true, Requests: review.Use{Count: n}, UserCount: 9, Users: make([]review.User, n),
			}},
		}
		var text bytes.Buffer
		check(t, report.WriteText(&text))
		return text.String()
	}
	one, two := textOf(1), textOf(2)
	if wrong := regexp.MustCompile(`\b1 +([a-z]+ )?[a-z]+s\b.*|the 1 most`).FindAllString(one, -1); len(wrong) > 0 {
		t.Errorf("got %q in\n%s", wrong, one)
	}
	for _, want := range []string{
		"2 requests,", "2 inspections", "2 users and more, with 2 requests", "the 2 most frequent", "2  times asked for", "2 times,",
		"and 2 uses of further rights\n", "and 2 further denials\n", "and 2 further failures\n", "and 2 further refusals\n", "and 2 requests of further agents\n",
	} {
		if !strings.Contains(two, want) {
			t.Errorf("no %q in\n%s", want, two)
		}
	}
}

// TestLongListsAreLaidOutInOnePass: four times the agents that were never seen
// take about four times the work, not sixteen times.
func TestLongListsAreLaidOutInOnePass(t *testing.T) {
	work := func(agents int) uint64 {
		report := review.Report{Revision: "r"}
		for i := range agents {
			report.Agents = append(report.Agents, review.Agent{Name: fmt.Sprintf("agent-%06d", i), InPolicy: true})
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		check(t, report.WriteText(io.Discard))
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	if few, many := work(1_000), work(4_000); many > 8*few {
		t.Errorf("got %d bytes taken for 4000 agents and %d for 1000, want about four times as many", many, few)
	}
}

// TestOrderOfTheLogsDoesNotMatter: rotated files come in the order of a shell.
func TestOrderOfTheLogsDoesNotMatter(t *testing.T) {
	owner := func(date, owner string) []byte {
		return []byte(`{"time":"` + date + `T00:00:00Z","type":"audit","agent":"retired","owner":"` + owner + `","decision":"deny","reason":"agent_blocked"}` + "\n")
	}
	lines := bytes.SplitAfter(testdata(t, "log.jsonl"), []byte("\n"))
	half := len(lines) / 2
	older := slices.Concat(owner("2026-01-01", "first"), bytes.Join(lines[:half], nil))
	newer := slices.Concat(owner("2026-11-20", "last"), bytes.Join(lines[half:], nil))
	for _, cfg := range []review.Config{{Users: 2}, configOf(t, testdata(t, "policy.yaml"))} {
		inOrder, _ := json.Marshal(reportOf(t, cfg, older, newer))
		reversed, _ := json.Marshal(reportOf(t, cfg, newer, older))
		if diff := cmp.Diff(string(inOrder), string(reversed)); diff != "" {
			t.Errorf("the order changes the report (-in order +reversed):\n%s", diff)
		}
		if !bytes.Contains(inOrder, []byte(`"owner":"last"`)) {
			t.Errorf("got another owner than that of the newest line: %s", inOrder)
		}
	}
}

// TestAuditedUseIsAUse: what audit mode let through was issued. It is listed as a
// denial as well, and not counted as one of a right.
func TestAuditedUseIsAUse(t *testing.T) {
	cfg := configOf(t, testdata(t, "policy.yaml"))
	log := `{"time":"2026-10-01T00:00:00Z","type":"audit","agent":"researcher","scopes":["https://graph.microsoft.com/.default"],"decision":"allow","audited":true,"reason":"over_limit"}` + "\n"
	for _, a := range reportOf(t, cfg, []byte(log)).Agents {
		if a.Name != "researcher" {
			continue
		}
		if got := a.Rights[0]; got.State != review.Used || got.Count != 1 || got.NotIssued != 0 {
			t.Errorf("got the right %+v, want it used once", got)
		}
		if len(a.Denied) != 1 || !a.Denied[0].Audited || a.Denied[0].Count != 1 {
			t.Errorf("got the denials %+v, want one that was only audited", a.Denied)
		}
	}
}

// TestAliasIsAUse: a scope that is asked for by the other name of its resource is
// one that the policy grants.
func TestAliasIsAUse(t *testing.T) {
	cfg := configOf(t, testdata(t, "policy.yaml"))
	line := `{"time":"2026-10-01T00:00:00Z","type":"audit","agent":"researcher","scopes":["https://management.core.windows.net/.default"],"decision":`
	log := line + `"allow"}` + "\n" + line + `"error"}` + "\n"
	for _, a := range reportOf(t, cfg, []byte(log)).Agents {
		for _, right := range a.Rights {
			arm := a.Name == "researcher" && right.Scope == "https://management.azure.com/.default"
			if used := right.Count == 1 && right.NotIssued == 1 && right.State == review.Used; used != arm {
				t.Errorf("%s: got the right %+v", a.Name, right)
			}
		}
	}
}

// TestNewRefusesAnotherFile: rights must not be told from a file that the policy
// does not come from.
func TestNewRefusesAnotherFile(t *testing.T) {
	cfg := configOf(t, testdata(t, "policy.yaml"))
	for name, change := range map[string][2]string{
		"a scope more": {"[monitor]", "[monitor, arm]"},
		"a scope less": {"[monitor]", "[]"},
		"a role less":  {"roles: [inference, data]", "roles: [data]"},
		"no YAML":      {"agents:", "agents: ]"},
	} {
		other := cfg
		other.File = bytes.Replace(cfg.File, []byte(change[0]), []byte(change[1]), 1)
		if bytes.Equal(other.File, cfg.File) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := review.New(other); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
