package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// result is what a command printed and returned.
type result struct {
	code           int
	stdout, stderr string
}

func runWith(stdin string, args ...string) result {
	var stdout, stderr bytes.Buffer
	code := run(append([]string{"credfree"}, args...), strings.NewReader(stdin), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

const deniedLine = `{"time":"2026-10-01T00:00:00Z","type":"audit","agent":"a","decision":"deny","reason":"agent_blocked"}` + "\n"

func compress(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte(text))
	check(t, err)
	check(t, w.Close())
	return b.Bytes()
}

// Rotated logs are compressed, and the last one may still be being written.
func TestReviewReadsCompressedLogs(t *testing.T) {
	whole := compress(t, strings.Repeat(deniedLine, 5))
	wrongSum := bytes.Clone(whole)
	wrongSum[len(wrongSum)-8] ^= 1
	for _, c := range []struct {
		name, want, warning string
		data                []byte
		code                int
	}{
		{"whole.gz", ": 5 requests;", "", whole, exitOK},
		{"two.gz", ": 10 requests;", "", bytes.Repeat(whole, 2), exitOK},
		{"cut.gz", ": 5 requests;", "cut.gz ends early", whole[:len(whole)-4], exitOK},
		{"sum.gz", "", "sum.gz cannot be read to its end", wrongSum, exitError},
		{"plain.gz", "", "plain.gz cannot be read", []byte(deniedLine), exitError},
		{"plain", ": 1 request;", "", []byte(deniedLine), exitOK},
	} {
		path := filepath.Join(t.TempDir(), c.name)
		check(t, os.WriteFile(path, c.data, 0o600))
		got := runWith("", "review", "--audit-log", path)
		if got.code != c.code || !strings.Contains(got.stdout, c.want) || !strings.Contains(got.stderr, c.warning) || c.code != exitOK && got.stdout != "" || c.warning == "" && got.stderr != "" {
			t.Errorf("%s: got %+v, want code %d, %q and the warning %q", c.name, got, c.code, c.want, c.warning)
		}
	}
}

func TestReviewReadsStandardInput(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	check(t, os.WriteFile(path, []byte(deniedLine), 0o600))
	if got := runWith(deniedLine+deniedLine, "review", "--audit-log", path, "-"); got.code != exitOK || !strings.Contains(got.stdout, ": 3 requests;") {
		t.Errorf("got %+v, want 3 requests", got)
	}
}

// A log from which nothing is known is not one of a time in which nothing
// happened.
func TestReviewOfNoAuditLines(t *testing.T) {
	const (
		chained = `{"time":"2026-10-01T00:00:00Z","type":"audit_chain","event":"chain.begun"}` + "\n"
		ocsf    = `{"class_uid":3002,"time":1795737600000,"unmapped":{"type":"audit","decision":"allow"}}` + "\n"
	)
	for _, c := range []struct {
		name, log, want, hint string
		code                  int
	}{
		{"empty", "", "Access review: no audit lines; ", "", exitOK},
		{"empty lines", "\n\n", "Access review: no audit lines; ", "", exitOK},
		{"a chain that has only begun", chained, "Access review: no audit lines; ", "", exitOK},
		{"older", deniedLine, "Access review: no requests since ", "", exitOK},
		{"older, and garbage", deniedLine + "x\n", "Access review: no requests since ", "", exitOK},
		{"garbage", "x\ny\n", "", "hint: name the files that credfree serve --audit-log has written", exitError},
		{"another log", `{"level":"INFO"}` + "\n", "", "hint: name the files that credfree serve --audit-log has written", exitError},
		{"OCSF", chained + ocsf + "x\n", "", "hint: lines in the format ocsf have the native one inside: jq -c .unmapped FILE | credfree review --audit-log -", exitError},
	} {
		got := runWith(c.log, "review", "--audit-log", "-", "--since", "2026-10-02")
		stderr := "warning: no audit line was counted"
		if c.code != exitOK {
			stderr = "error: no line of the logs is an audit line"
		}
		if got.code != c.code || !strings.HasPrefix(got.stdout, c.want) || c.code != exitOK && got.stdout != "" || !strings.Contains(got.stderr, stderr) || !strings.Contains(got.stderr, c.hint) {
			t.Errorf("%s: got %+v, want code %d and %q, with %q on standard error", c.name, got, c.code, c.want, stderr)
		}
		if none := c.want == "Access review: no audit lines; "; none && strings.Contains(got.stdout, "no agents") {
			t.Errorf("%s: got %q, which says something of agents", c.name, got.stdout)
		}
	}
}

// README.md's question who acted for a user yesterday is answered by its command
// for all of yesterday, and for nothing else.
func TestReadmeYesterdayIsTrue(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	check(t, err)
	row := regexp.MustCompile("(?m)^\\| who acted for this user yesterday \\| `credfree ([^`]*)`").FindSubmatch(text)
	if row == nil {
		t.Fatal("README.md has no such row")
	}
	const user = "8a0c5b0e-0000-4000-8000-000000000001/0be5e000-0000-4000-8000-000000000002"
	tenant, object, _ := strings.Cut(user, "/")
	path := filepath.Join(t.TempDir(), "audit.log")
	args := strings.Fields(strings.NewReplacer("FILE", path, "TENANT/OBJECT-ID", user).Replace(string(row[1])))
	day := func() time.Time { return time.Now().UTC().Truncate(24 * time.Hour) }
	for today := day(); ; today = day() {
		var log strings.Builder
		for agent, at := range map[string]time.Time{
			"too-early": today.AddDate(0, 0, -1).Add(-time.Millisecond), "first": today.AddDate(0, 0, -1),
			"last": today.Add(-time.Millisecond), "too-late": today,
		} {
			fmt.Fprintf(&log, `{"time":%q,"type":"audit","agent":%q,"decision":"allow","on_behalf_of":true,"user_tenant_id":%q,"user_object_id":%q}`+"\n",
				at.Format(time.RFC3339Nano), agent, tenant, object)
		}
		check(t, os.WriteFile(path, []byte(log.String()), 0o600))
		got := runWith("", args...)
		if !today.Equal(day()) {
			continue // midnight has passed in between
		}
		names := regexp.MustCompile("(?m)^(too-early|first|last|too-late)$").FindAllString(got.stdout, -1)
		if got.code != exitOK || !slices.Equal(names, []string{"first", "last"}) {
			t.Errorf("got the agents %q, want those of yesterday: %+v", names, got)
		}
		return
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"":                          {},
		"30d":                       time.Date(2026, 10, 22, 12, 0, 0, 0, time.UTC),
		"24h":                       time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC),
		"90m":                       time.Date(2026, 11, 21, 10, 30, 0, 0, time.UTC),
		"2026-10-01":                time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC),
		"2026-10-01T02:00:00+02:00": time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC),
		"today":                     time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC),
		"yesterday":                 time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := parseTime("since", text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: got %v and the error %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"d", "0d", "-1d", "1.5d", "99999999d", "0h", "-1h", "30", "tomorrow", "Today", "2026-13-01", "30days"} {
		if got, err := parseTime("since", text, now); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
	// Days are those of UTC, wherever one is: here it is the 21st, and there the 20th.
	east := time.Date(2026, 11, 21, 1, 0, 0, 0, time.FixedZone("", 2*60*60))
	if got, err := parseTime("since", "today", east); err != nil || !got.Equal(time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("got %v and the error %v, want the beginning of the 20th", got, err)
	}
}
