package policy_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/policy"
)

var update = flag.Bool("update", false, "rewrite testdata/problems.txt")

const head = `version: 1
tenant: contoso.com
sources: {pod: {file: {path: /t}}}
identities: {app: {application: {clientID: 11111111-2222-3333-4444-555555555555, source: pod}}}
`

// problemCase is a section of testdata/problems.txt.
type problemCase struct{ name, file, want string }

// problemCases returns what precedes the first case, and the cases.
func problemCases(t testing.TB) (preface string, cases []problemCase) {
	t.Helper()
	data, err := os.ReadFile("testdata/problems.txt")
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split("\n"+string(data), "\n=== ")
	for _, section := range sections[1:] {
		name, body, _ := strings.Cut(section, "\n")
		file, want, ok := strings.Cut("\n"+body+"\n", "\n=> ")
		c := problemCase{name: name, file: strings.Trim(file, "\n") + "\n"}
		if ok {
			c.want = "=> " + strings.TrimRight(want, "\n") + "\n"
		}
		cases = append(cases, c)
	}
	if len(cases) == 0 {
		t.Fatal("testdata/problems.txt has no cases")
	}
	return strings.TrimPrefix(sections[0], "\n"), cases
}

func (c problemCase) data() []byte {
	if rest, ok := strings.CutPrefix(c.file, "HEAD\n"); ok {
		return []byte(head + rest)
	}
	return []byte(c.file)
}

func problemsOf(t testing.TB, data []byte) (policy.Problems, *policy.Policy) {
	t.Helper()
	p, err := policy.Parse("/etc/credfree/credfree.yaml", data)
	if (err == nil) == (p == nil) {
		t.Fatalf("got the policy %v and the error %v, want one of the two", p, err)
	}
	var problems policy.Problems
	if err != nil && (!errors.As(err, &problems) || len(problems) == 0) {
		t.Fatalf("got the error %T %v, want Problems", err, err)
	}
	return problems, p
}

func TestProblems(t *testing.T) {
	preface, cases := problemCases(t)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			problems, p := problemsOf(t, c.data())
			prefix := ""
			if p != nil {
				problems, prefix = p.Warnings, "warning "
			}
			var got strings.Builder
			for _, problem := range problems {
				if problem.File != "/etc/credfree/credfree.yaml" || problem.Hint == "" {
					t.Errorf("got %+v, want a file and a hint", problem)
				}
				fmt.Fprintf(&got, "=> %s%d:%d %s: %s | %s\n", prefix, problem.Line, problem.Column, problem.Path, problem.Message, problem.Hint)
			}
			cases[i].want, c.want = got.String(), cases[i].want
			if diff := cmp.Diff(c.want, got.String()); diff != "" && !*update {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
	if *update {
		text := preface
		for _, c := range cases {
			text += "\n=== " + c.name + "\n" + c.file + c.want
		}
		if err := os.WriteFile("testdata/problems.txt", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnreadableFiles has what does not fit into a text file of cases.
func TestUnreadableFiles(t *testing.T) {
	for _, test := range []struct{ name, data, want string }{
		{"nothing", "", "the file is empty"},
		{"NUL", head + "#\x00", ":5:2: the file has a NUL byte"},
		{"UTF-16", "\xff\xfev\x00", ":1:1: the file has a byte that is not UTF-8"},
		{"Latin-1", head + "# caf\xe9", ":5:6: the file has a byte that is not UTF-8"},
		{"control character", head + "# \x1b[2K", ":5:3: the file has a control character (U+001B)"},
		{"carriage return hides what precedes it", head + "mode: x # \ragents: {}", ":5:11: the file has a carriage return"},
		{"line separator", head + "# a\u2028agents: {}", ":5:4: the file has a line break that editors do not show (U+2028)"},
		{"next line", head + "# a\u0085agents: {}", ":5:4: the file has a line break that editors do not show (U+0085)"},
		{"bidirectional override", head + "# \u202e", ":5:3: the file has a character that reverses the text around it (U+202E)"},
		{"more than 1 MiB", head + strings.Repeat("#\n", 1<<19), "the limit is 1048576"},
		{"flow bomb", strings.Repeat("[", 1<<17), "not YAML: exceeded max depth"},
		{"mapping bomb", strings.Repeat("{a: ", 1<<16), "not YAML: exceeded max depth"},
		{"deep, and closed", "agents: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "agents: want a mapping, got a list"},
		{"alias bomb", "a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nagents: *c\n", ":4:9: agents: YAML anchors and aliases are refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			problems, _ := problemsOf(t, []byte(test.data))
			if !strings.Contains(problems.Error(), test.want) {
				t.Errorf("got %.300s, want %s", problems.Error(), test.want)
			}
		})
	}
}

func TestProblemText(t *testing.T) {
	_, err := policy.Parse("credfree.yaml", []byte("version: 1\ntenant: common\ncloud: publik\n"))
	const want = `credfree.yaml:2:9: tenant: common is no tenant
  hint: write the GUID of the tenant that the identities live in: Entra issues tokens without a user for one tenant only
credfree.yaml:3:8: cloud: there is no cloud "publik"
  hint: did you mean public?`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	whole := policy.Problem{File: "credfree.yaml", Message: "the file is empty"}
	if got := whole.String(); got != "credfree.yaml: the file is empty" {
		t.Errorf("got %q", got)
	}
}

// TestManyProblems: what is wrong with a file stays readable, and small enough for the
// answer of a webhook, whatever is in the file.
func TestManyProblems(t *testing.T) {
	problems, _ := problemsOf(t, []byte(head+"roles: {a: ["+strings.Repeat("x,", 100_000)+"]}\nagents: {a: {identity: app, allow: {roles: [b]}}}\n"))
	if got := len(problems.Error()); len(problems) != 501 || got > 1<<17 {
		t.Errorf("got %d problems in %d bytes, want the first 500 and how many more there are", len(problems), got)
	}
	if got, want := problems[500].String(), "/etc/credfree/credfree.yaml: 99501 more problems"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A file of hundreds of thousands of values is not parsed, which would take hundreds of
// megabytes; one of as many bytes that people can read is.
func TestFilesThatAreTooDense(t *testing.T) {
	const size = policy.MaxFileBytes
	for _, unit := range []string{"[],", "{a: b},", "a,", `"a":"b",`, "- ", "? ", "a: b\n", "- a\n"} {
		problems, _ := problemsOf(t, []byte("roles: {a: ["+strings.Repeat(unit, (size-20)/len(unit))+"]}\n"))
		if len(problems) != 1 || !strings.Contains(problems[0].Message, "values; the limit is 150000") {
			t.Errorf("%q: got %.200v, want one problem with the number of values", unit, problems)
		}
	}
	const scope = "\n    - https://storage.azure.com/user_impersonation # of team storage, by request of J. Doe"
	problems, _ := problemsOf(t, []byte(head+"roles:\n  a:"+strings.Repeat(scope, (size-len(head)-20)/len(scope))+"\nagents: {}\n"))
	for _, problem := range problems {
		if strings.Contains(problem.Message, "limit") {
			t.Errorf("got %s for a file of long lines", problem)
		}
	}
}
