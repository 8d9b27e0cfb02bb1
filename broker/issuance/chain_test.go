package issuance_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/credfree/credfree/broker/issuance"
)

// chained returns a recorder that writes a chain, and the chain.
func chained(t testing.TB, cfg issuance.ChainConfig) (*issuance.Recorder, *issuance.Chain) {
	t.Helper()
	chain, err := issuance.NewChain(cfg)
	check(t, err)
	recorder, err := issuance.NewRecorder(issuance.Config{Audit: chain, Format: cfg.Format})
	check(t, err)
	return recorder, chain
}

func issue(t testing.TB, recorder *issuance.Recorder, agents ...string) {
	t.Helper()
	for _, agent := range agents {
		check(t, recorder.Close(t.Context(), &issuance.Record{ID: issuance.NewID(), Start: time.Now(), Agent: agent, Decision: issuance.Allow}))
	}
}

// verify returns the findings as FILE:LINE and whether they break the chain.
func verify(t testing.TB, cfg issuance.VerifyConfig, logs ...string) (findings []string, sum issuance.Verified) {
	t.Helper()
	cfg.Report = func(f issuance.Finding) {
		findings = append(findings, fmt.Sprintf("%s:%d %t %s", f.File, f.Line, f.Broken, f.Text))
	}
	v, err := issuance.NewVerifier(cfg)
	check(t, err)
	for i, log := range logs {
		check(t, v.Read(string(rune('a'+i)), strings.NewReader(log)))
	}
	return findings, v.End()
}

// chainOf is a log of n lines and the record that it begins with.
func chainOf(t testing.TB, cfg issuance.ChainConfig, n int) (lines []string, head string) {
	t.Helper()
	var sink bytes.Buffer
	cfg.Sink = &sink
	recorder, chain := chained(t, cfg)
	for i := range n {
		issue(t, recorder, fmt.Sprintf("agent-%d", i))
	}
	_, head = chain.Head()
	return slices.Collect(strings.Lines(sink.String())), head
}

// Whatever is done to a line shows, at that line or the next, in both formats,
// with a key and without.
func TestChainShowsEveryChange(t *testing.T) {
	for _, format := range []issuance.Format{issuance.Native, issuance.OCSF} {
		for _, key := range [][]byte{nil, []byte("a-key-of-the-operator's")} {
			lines, head := chainOf(t, issuance.ChainConfig{Key: key, Format: format}, 6)
			cfg := issuance.VerifyConfig{Key: key}
			if findings, sum := verify(t, cfg, strings.Join(lines, "")); len(findings) != 0 || sum.Lines != 7 || sum.Seq != 7 || sum.Head != head {
				t.Fatalf("%s: got %q, %+v of an untouched log with head %s", format, findings, sum, head)
			}
			other, _ := chainOf(t, issuance.ChainConfig{Key: key, Format: format}, 6)
			for name, test := range map[string]struct {
				change func(lines []string) []string
				want   string // where, and what about it
			}{
				"edited":    {func(l []string) []string { l[2] = strings.ReplaceAll(l[2], "agent-1", "agent-x"); return l }, "a:4 true the seal of line 3"},
				"removed":   {func(l []string) []string { return slices.Delete(l, 3, 4) }, "a:4 true lines 4 to 4 of the chain are missing"},
				"the rest":  {func(l []string) []string { return slices.Delete(l, 1, 5) }, "a:2 true lines 2 to 5 of the chain are missing"},
				"repeated":  {func(l []string) []string { return slices.Insert(l, 3, l[2]) }, "a:4 true line 3 of the chain comes after line 3"},
				"swapped":   {func(l []string) []string { l[2], l[3] = l[3], l[2]; return l }, "a:3 true lines 3 to 3 of the chain are missing"},
				"another's": {func(l []string) []string { l[3] = other[3]; return l }, "a:4 true the seal of line 3"},
				"renumbered": {func(l []string) []string {
					l[3] = strings.Replace(l[3], `"seq":4`, `"seq":5`, 1)
					return l
				}, "a:4 true lines 4 to 4"},
				"no link": {func(l []string) []string {
					return slices.Insert(l, 2, `{"type":"audit","decision":"allow"}`+"\n")
				}, "a:3 true the line has no number"},
				"garbled": {func(l []string) []string { l[2] = "x" + l[2]; return l }, "a:3 true the line has no number"},
				"torn":    {func(l []string) []string { l[2] = l[2][:99] + "\n"; return l }, "a:3 false the line is torn"},
				"anew":    {func(l []string) []string { return slices.Concat(l[:3], other) }, "a:4 true a new chain begins"},
			} {
				findings, sum := verify(t, cfg, strings.Join(test.change(slices.Clone(lines)), ""))
				if len(findings) == 0 || !strings.HasPrefix(findings[0], test.want) || sum.Broken == 0 {
					t.Errorf("%s, %s: got %q, want %q first", format, name, findings, test.want)
				}
			}
		}
	}
}

// A line that others take for one of the broker's is none of those that the chain
// passes over, however it is written.
func TestChainTakesNothingElseForTorn(t *testing.T) {
	lines, _ := chainOf(t, issuance.ChainConfig{Key: []byte("a-key-of-the-operator's")}, 3)
	const forged, none = `{"type":"audit","agent":"scapegoat"`, `"0000000000000000000000000000000000000000000000000000000000000000"`
	for _, line := range []string{
		" " + forged + "}", forged + "}\r", forged + "} ", "\ufeff" + forged + "}", forged + `,"seq":"2"}`, forged + `,"seq":-1}`, forged + `,"unmapped":1}`,
		forged + `,"seq":1,"prev":` + none + `,"Type":"audit_chain"}`,
		forged + `,"seq":1,"prev":` + none + `}`,
		`{"time":"2026-11-27T10:00:00.000000Z","type":"audit_chain","event":"chain.begun","agent":"scapegoat","seq":1,"prev":` + none + `}`,
		`{"time":"2026-11-27T10:00:00.000000Z","type":"audit_chain","event":"chain.begun","seq":01,"prev":` + none + `}`,
		`{"type":"audit","seq":5,"prev":"\u001b]0;` + strings.Repeat("x", 50) + `"}`,
	} {
		for _, restarts := range []bool{false, true} {
			findings, sum := verify(t, issuance.VerifyConfig{Key: []byte("a-key-of-the-operator's"), Restarts: restarts}, strings.Join(slices.Insert(slices.Clone(lines), 3, line+"\n"), ""))
			if sum.Broken == 0 || strings.ContainsFunc(strings.Join(findings, ""), unicode.IsControl) {
				t.Errorf("%q with restarts %t: got %q", line, restarts, findings)
			}
		}
	}
}

// Any one byte that is changed in any line but the last shows.
func TestChainShowsEveryByte(t *testing.T) {
	lines, head := chainOf(t, issuance.ChainConfig{}, 2)
	log := strings.Join(lines, "")
	for i := range len(log) {
		changed := []byte(log)
		changed[i] ^= 1
		findings, sum := verify(t, issuance.VerifyConfig{Head: head}, string(changed))
		if sum.Broken == 0 {
			t.Errorf("byte %d of %d changed, and got %q", i, len(log), findings)
		}
	}
}

// The end can be cut off unnoticed, but not from those who know the head.
func TestChainNeedsItsHead(t *testing.T) {
	lines, head := chainOf(t, issuance.ChainConfig{}, 5)
	cut := strings.Join(lines[:4], "")
	if findings, sum := verify(t, issuance.VerifyConfig{}, cut); sum.Broken != 0 {
		t.Errorf("got %q: then say no more that it does not show", findings)
	}
	if findings, sum := verify(t, issuance.VerifyConfig{Head: strings.ToUpper(head)}, cut); sum.Broken != 1 || !strings.Contains(findings[0], "the end of the log is missing") {
		t.Errorf("got %q", findings)
	}
	_, older := verify(t, issuance.VerifyConfig{}, cut)
	if findings, sum := verify(t, issuance.VerifyConfig{Head: older.Head}, strings.Join(lines, "")); sum.Broken != 0 || sum.After != 2 {
		t.Errorf("an older head: got %q, %+v", findings, sum)
	}
	if _, err := issuance.NewVerifier(issuance.VerifyConfig{Head: "abc"}); err == nil {
		t.Error("a head that is no seal was taken")
	}
}

// The beginning can be cut off unnoticed, but not from those who say where it goes on.
func TestChainNeedsWhereItGoesOn(t *testing.T) {
	lines, _ := chainOf(t, issuance.ChainConfig{}, 5)
	whole, rest := strings.Join(lines, ""), strings.Join(lines[3:], "")
	_, before := verify(t, issuance.VerifyConfig{}, strings.Join(lines[:3], ""))
	_, earlier := verify(t, issuance.VerifyConfig{}, strings.Join(lines[:2], ""))
	for _, c := range []struct{ name, from, log, broken string }{
		{"whole", "start", whole, ""},
		{"goes on", strings.ToUpper(before.Head), rest, ""},
		{"cut", "start", rest, "lines 1 to 3 of the chain are missing before"},
		{"cut after the seal", earlier.Head, rest, "line 4 of the chain does not follow the seal asked for"},
		{"another chain", before.Head, whole, "a chain begins here, which is not the one that was to go on"},
		{"never begun", "0000000000000000000000000000000000000000000000000000000000000000", whole, "a chain begins here"},
		{"restarted", before.Head, rest + whole, "a new chain begins"},
	} {
		t.Run(c.name, func(t *testing.T) {
			findings, sum := verify(t, issuance.VerifyConfig{From: c.from}, c.log)
			if c.broken == "" && len(findings) != 0 || c.broken != "" && (sum.Broken != 1 || !strings.Contains(findings[0], c.broken)) {
				t.Errorf("got %q, want %q", findings, c.broken)
			}
		})
	}
	for _, from := range []string{"abc", "begin"} {
		if _, err := issuance.NewVerifier(issuance.VerifyConfig{From: from}); err == nil {
			t.Errorf("%q was taken", from)
		}
	}
}

func TestChainWithAnotherKey(t *testing.T) {
	key := []byte("a-key-of-the-operator's")
	lines, _ := chainOf(t, issuance.ChainConfig{Key: key}, 2)
	for name, other := range map[string][]byte{"none": nil, "another": []byte("somebody-else's-key!")} {
		if _, sum := verify(t, issuance.VerifyConfig{Key: other}, strings.Join(lines, "")); sum.Broken != 2 {
			t.Errorf("%s: got %d breaks of 2", name, sum.Broken)
		}
	}
	if _, sum := verify(t, issuance.VerifyConfig{}, ""); sum.Broken != 1 {
		t.Error("an empty log is whole")
	}
}

// A chain goes on over rotation, truncation, restart and torn lines, also when
// nothing was issued in between.
func TestChainGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	run := func(do func(recorder *issuance.Recorder, chain *issuance.Chain, file *issuance.File)) {
		file, err := issuance.OpenFile(path)
		check(t, err)
		recorder, chain := chained(t, issuance.ChainConfig{Sink: file})
		check(t, chain.Begin())
		do(recorder, chain, file)
		check(t, file.Close())
	}
	run(func(recorder *issuance.Recorder, chain *issuance.Chain, _ *issuance.File) {
		issue(t, recorder, "a", "b")
		check(t, os.Rename(path, path+".1"))
		issue(t, recorder, "c")
		check(t, chain.Reopen()) // and no line
	})
	run(func(recorder *issuance.Recorder, _ *issuance.Chain, _ *issuance.File) { issue(t, recorder, "d") })
	copied := content(t, path)
	run(func(recorder *issuance.Recorder, _ *issuance.Chain, _ *issuance.File) {
		copied = content(t, path)
		check(t, os.Truncate(path, 0))
		issue(t, recorder, "e")
	})
	check(t, os.WriteFile(path, []byte(content(t, path)+`{"time":"2026`), 0o600)) // killed
	var head string
	run(func(recorder *issuance.Recorder, chain *issuance.Chain, _ *issuance.File) {
		issue(t, recorder, "f")
		_, head = chain.Head()
	})
	findings, sum := verify(t, issuance.VerifyConfig{Head: head}, content(t, path+".1"), copied, content(t, path))
	if len(findings) != 1 || !strings.Contains(findings[0], "false the line is torn") || sum.Lines != 12 {
		t.Errorf("got %q, %+v", findings, sum)
	}
	// Of later files alone, it is said what they go on from.
	if findings, sum := verify(t, issuance.VerifyConfig{}, content(t, path)); sum.Broken != 0 || !strings.Contains(findings[0], "goes on from line") {
		t.Errorf("got %q", findings)
	}
	if findings, sum := verify(t, issuance.VerifyConfig{}, content(t, path), content(t, path+".1")); sum.Broken == 0 {
		t.Errorf("in the wrong order: got %q", findings)
	}
}

// A file that ends with a line of which nothing but the newline is missing, as a full
// disk may leave it, is whole: the broker has handed out that line's token.
func TestChainWithoutTheLastNewline(t *testing.T) {
	for _, format := range []issuance.Format{issuance.Native, issuance.OCSF} {
		lines, head := chainOf(t, issuance.ChainConfig{Format: format}, 4)
		first, second := strings.Join(lines[:3], ""), strings.Join(lines[3:], "")
		if findings, sum := verify(t, issuance.VerifyConfig{From: "start", Head: head}, strings.TrimSuffix(first, "\n"), strings.TrimSuffix(second, "\n")); len(findings) != 0 || sum.Lines != 5 {
			t.Errorf("%s: got %q, %+v", format, findings, sum)
		}
		if findings, sum := verify(t, issuance.VerifyConfig{}, first[:len(first)-2], second); sum.Broken != 1 || !strings.Contains(findings[0], "it does not end") {
			t.Errorf("%s: got %q of one that lacks more", format, findings)
		}
	}
}

// A new file begins with the chain's record as soon as somebody looks at it, also when
// it has got a newline before: who tries whether a disk is full leaves one.
func TestChainInAFileOfNewlines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	recorder, chain := chained(t, issuance.ChainConfig{Sink: openFile(t, path)})
	issue(t, recorder, "a", "b")
	for name, look := range map[string]func() error{
		"reopened": func() error { return errors.Join(os.WriteFile(path, []byte("\n\n"), 0o600), chain.Reopen()) },
		"probed":   chain.Err,
	} {
		check(t, os.Rename(path, path+"."+name))
		_, head := chain.Head()
		check(t, os.Remove(path+"."+name))
		check(t, look())
		if findings, sum := verify(t, issuance.VerifyConfig{From: head}, content(t, path)); len(findings) != 0 || sum.Lines != 1 {
			t.Errorf("%s: got %q, %+v of %q", name, findings, sum, content(t, path))
		}
	}
}

// A log from before the chain is kept, and said not to be covered; one that is
// no file begins a chain with every run.
func TestChainBegins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	check(t, os.WriteFile(path, []byte(`{"type":"audit"}`+"\n"), 0o600))
	recorder, _ := chained(t, issuance.ChainConfig{Sink: openFile(t, path)})
	issue(t, recorder, "a")
	findings, sum := verify(t, issuance.VerifyConfig{}, content(t, path))
	if sum.Broken != 0 || len(findings) != 1 || !strings.HasPrefix(findings[0], "a:1 false the line is from before the chain") {
		t.Errorf("got %q", findings)
	}
	one, _ := chainOf(t, issuance.ChainConfig{}, 1)
	two, _ := chainOf(t, issuance.ChainConfig{}, 1)
	both := strings.Join(slices.Concat(one, two), "")
	if findings, sum := verify(t, issuance.VerifyConfig{Restarts: true}, both); sum.Broken != 0 || len(findings) != 1 {
		t.Errorf("got %q", findings)
	}
	if _, err := issuance.NewChain(issuance.ChainConfig{}); err == nil {
		t.Error("a chain without a sink was made")
	}
}

// A line that a full disk refused is not part of the chain, and its token was
// not handed out.
func TestChainOnAFullDisk(t *testing.T) {
	sink := &disk{room: 1 << 20}
	recorder, chain := chained(t, issuance.ChainConfig{Sink: sink})
	issue(t, recorder, "a")
	before, _ := chain.Head()
	sink.room = 50
	for range 3 {
		if err := recorder.Close(t.Context(), &issuance.Record{ID: "x", Start: time.Now(), Decision: issuance.Allow}); !errors.Is(err, errFull) {
			t.Fatalf("got %v", err)
		}
	}
	if seq, _ := chain.Head(); seq != before {
		t.Errorf("got %d lines in the chain, want %d", seq, before)
	}
	sink.room = 1 << 20
	issue(t, recorder, "b")
	if findings, sum := verify(t, issuance.VerifyConfig{}, sink.text.String()); sum.Broken != 0 || len(findings) != 1 || !strings.Contains(findings[0], "torn") {
		t.Errorf("got %q of\n%s", findings, sink.text.String())
	}
	// The last line of all may be torn.
	torn := strings.TrimSuffix(sink.text.String(), "\n")
	if findings, _ := verify(t, issuance.VerifyConfig{}, torn[:len(torn)-9]); !strings.HasSuffix(findings[len(findings)-1], "the last line is torn: it does not end") {
		t.Errorf("got %q", findings)
	}
}

func TestChainUnderConcurrency(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	file := openFile(t, path)
	recorder, chain := chained(t, issuance.ChainConfig{Sink: file})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				issue(t, recorder, "a")
			}
		})
	}
	for i := range 5 {
		check(t, os.Rename(path, fmt.Sprintf("%s.%d", path, i)))
		check(t, chain.Reopen())
	}
	all.Wait()
	var logs []string
	for i := range 5 {
		logs = append(logs, content(t, fmt.Sprintf("%s.%d", path, i)))
	}
	findings, sum := verify(t, issuance.VerifyConfig{}, append(logs, content(t, path))...)
	if len(findings) != 0 || sum.Lines < 805 {
		t.Errorf("got %q and %d lines", findings, sum.Lines)
	}
}

// Chained lines are valid by the schema, but for the chain's own records.
func TestChainedLinesAreValid(t *testing.T) {
	schema := compileSchema(t)
	lines, _ := chainOf(t, issuance.ChainConfig{}, 2)
	for i, text := range lines {
		line, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		check(t, err)
		if err := schema.Validate(line); (err == nil) != (i > 0) {
			t.Errorf("line %d: %v", i, err)
		}
	}
}

// What a chain adds to a line, with a sink that costs nothing.
func BenchmarkChain(b *testing.B) {
	for name, cfg := range map[string]*issuance.ChainConfig{"none": nil, "sha256": {}, "hmac": {Key: []byte("a-key-of-the-operator's")}} {
		b.Run(name, func(b *testing.B) {
			sink := io.Discard
			if cfg != nil {
				chain, err := issuance.NewChain(issuance.ChainConfig{Sink: io.Discard, Key: cfg.Key})
				check(b, err)
				sink = chain
			}
			recorder, err := issuance.NewRecorder(issuance.Config{Audit: sink})
			check(b, err)
			b.ReportAllocs()
			for b.Loop() {
				check(b, recorder.Close(b.Context(), &issuance.Record{ID: "0123456789abcdef0123456789abcdef", Start: time.Now(), Agent: "demo", Owner: "team@demo.example",
					Scopes: []string{"https://graph.microsoft.com/.default"}, Decision: issuance.Allow, Rule: "agents.demo.allow.apis[0]", Cache: issuance.Hit}))
			}
		})
	}
}

// A line that lacks nothing but its newline was answered, and a chain goes on from
// it after a restart.
func TestChainGoesOnFromALineWithoutNewline(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	write := func(agents ...string) {
		file, err := issuance.OpenFile(path)
		check(t, err)
		recorder, _ := chained(t, issuance.ChainConfig{Sink: file})
		issue(t, recorder, agents...)
		check(t, file.Close())
	}
	write("one", "two")
	check(t, os.WriteFile(path, []byte(strings.TrimSuffix(content(t, path), "\n")), 0o600))
	write("three")
	if findings, sum := verify(t, issuance.VerifyConfig{}, content(t, path)); len(findings) > 0 || sum.Lines != 5 {
		t.Errorf("got %q and %d lines, want none, and 5 of which 2 begin the runs", findings, sum.Lines)
	}
}
