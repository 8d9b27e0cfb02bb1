package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
)

const root = "../.."

var updateReadme = flag.Bool("update", false, "write the generated parts of README.md anew")

// pages are where generated parts stand.
var pages = []string{"README.md", "broker/issuance/README.md", "broker/policy/README.md"}

// section returns what stands between the markers <!-- name --> and <!-- /name -->
// of one of the pages.
func section(t *testing.T, name string) string {
	t.Helper()
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(root, page))
		check(t, err)
		_, rest, ok1 := strings.Cut(string(text), "<!-- "+name+" -->\n")
		inside, _, ok2 := strings.Cut(rest, "<!-- /"+name+" -->")
		if ok1 && ok2 {
			return inside
		}
	}
	t.Fatalf("no page has a section %s", name)
	return ""
}

func TestReadmeListsTheAuditFields(t *testing.T) {
	var want strings.Builder
	want.WriteString("| field | meaning |\n|---|---|\n")
	for _, f := range issuance.Fields() {
		always := ""
		if f.Always {
			always = "; always there"
		}
		fmt.Fprintf(&want, "| `%s` | %s%s |\n", f.Name, f.Meaning, always)
	}
	got := section(t, "audit")
	if *updateReadme {
		replaceInReadme(t, got, want.String())
		return
	}
	if diff := cmp.Diff(want.String(), got); diff != "" {
		t.Errorf("README.md and the code differ (run with -update) (-code +README):\n%s", diff)
	}
}

// readmePolicy is the policy that README.md shows.
func readmePolicy(t *testing.T) string {
	t.Helper()
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(section(t, "policy")), "```yaml\n"), "```")
}

func TestReadmePolicyIsValid(t *testing.T) {
	p, err := policy.Parse("README.md", []byte(readmePolicy(t)))
	if problems, ok := errors.AsType[policy.Problems](err); ok {
		t.Fatalf("the policy of README.md is wrong:\n%s", problems)
	}
	check(t, err)
	if len(p.Warnings) > 0 {
		t.Errorf("the policy of README.md warns: %v", p.Warnings)
	}
}

// The table "a request flows through nine functions" names functions that are
// where it says.
func TestReadmeFlowIsTrue(t *testing.T) {
	rows := regexp.MustCompile("(?m)^\\| [0-9] .*? \\| `(\\w+)` \\| (\\S+) \\|").FindAllStringSubmatch(section(t, "flow"), -1)
	if len(rows) != 9 {
		t.Fatalf("got %d rows, want 9", len(rows))
	}
	for _, row := range rows {
		source, err := os.ReadFile(filepath.Join(root, row[2]))
		if err != nil {
			t.Errorf("%s: %v", row[1], err)
			continue
		}
		if !regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + row[1] + `\(`).Match(source) {
			t.Errorf("%s has no function %s", row[2], row[1])
		}
	}
}

// The refusals are what agents of the policy above them are told.
func TestReadmeRefusalsAreTrue(t *testing.T) {
	p, err := policy.Parse("README.md", []byte(readmePolicy(t)))
	check(t, err)
	var want []string
	for _, r := range []policy.Request{
		{Peer: policy.Peer{Socket: "invoices.sock", UID: 10002, Known: true}, Scope: "https://vault.azure.net/.default", Now: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		{Peer: policy.Peer{Socket: "invoices.sock", UID: 10002, Known: true}, Scope: userScope, OnBehalfOf: true, Now: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		{Peer: policy.Peer{UID: 10001, Known: true}, Scope: graphScope, Now: time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC)},
	} {
		d := p.Decide(r)
		code := "unauthorized_client"
		if d.Reason == policy.ScopeNotAllowed {
			code = "invalid_scope"
		}
		denied := &broker.Denied{Agent: d.Agent.Name, Reason: d.Reason, Rule: d.Rule}
		want = append(want, "error: "+code+": "+denied.Error()+"\nhint: "+d.Hint+"\n")
	}
	got := strings.TrimSuffix(strings.TrimPrefix(section(t, "refusals"), "```\n"), "```\n")
	if *updateReadme {
		replaceInReadme(t, got, strings.Join(want, "\n"))
		return
	}
	if diff := cmp.Diff(strings.Join(want, "\n"), got); diff != "" {
		t.Errorf("README.md and the policy differ (run with -update) (-code +README):\n%s", diff)
	}
}

// The table of sources has a row for each kind, and each row a test.
func TestReadmeMatrixIsTrue(t *testing.T) {
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\|[^|]+\\| `(\\w+): [^`]*` \\|( ✓ \\|){5}$").FindAllStringSubmatch(section(t, "matrix"), -1) {
		listed = append(listed, row[1])
	}
	source, err := os.ReadFile(filepath.Join(root, "exchange/matrix_test.go"))
	check(t, err)
	tested := []string{"managedIdentity"} // TestManagedIdentityAsSource
	for _, row := range regexp.MustCompile(`(?m)^	"(\w+)": func\(t \*testing.T\) \(setting`).FindAllStringSubmatch(string(source), -1) {
		tested = append(tested, row[1])
	}
	var kinds []string
	for field := range reflect.TypeFor[policy.Source]().Fields() {
		kinds = append(kinds, strings.ToLower(field.Name))
	}
	slices.Sort(listed)
	slices.Sort(tested)
	slices.Sort(kinds)
	lower := strings.Split(strings.ToLower(strings.Join(listed, " ")), " ")
	slices.Sort(lower)
	if !slices.Equal(listed, tested) || !slices.Equal(lower, kinds) {
		t.Errorf("README.md lists %v, the tests have %v, the policy has %v", listed, tested, kinds)
	}
}

// Every test that README.md names is there.
func TestReadmeNamesTests(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	check(t, err)
	there := map[string]bool{}
	tree := os.DirFS(root)
	check(t, fs.WalkDir(tree, ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := fs.ReadFile(tree, path)
		for _, name := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(source, -1) {
			there[string(name[1])] = true
		}
		return err
	}))
	names := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllSubmatch(text, -1)
	if len(names) < 20 {
		t.Errorf("got %d names of tests, want the table of rules", len(names))
	}
	for _, name := range names {
		if !there[string(name[1])] {
			t.Errorf("there is no %s", name[1])
		}
	}
}

// replaceInReadme writes a generated part anew.
func replaceInReadme(t *testing.T, old, text string) {
	t.Helper()
	for _, page := range pages {
		path := filepath.Join(root, page)
		all, err := os.ReadFile(path)
		check(t, err)
		if old != "" && strings.Contains(string(all), old) {
			check(t, os.WriteFile(path, []byte(strings.Replace(string(all), old, text, 1)), 0o644))
			return
		}
	}
	t.Fatal("the part that is to be replaced is on no page")
}

func TestReadmeCeilingIsValid(t *testing.T) {
	text := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(section(t, "ceiling")), "```yaml\n"), "```")
	_, err := policy.ParseCeiling("README.md", []byte(text))
	check(t, err)
}

// Every page and picture that a page links to is there.
func TestReadmeLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	seen := 0
	for _, page := range append([]string{"broker/localapi/README.md", "examples/README.md", "charts/credfree/README.md"}, pages...) {
		text, err := os.ReadFile(filepath.Join(root, page))
		check(t, err)
		for _, target := range link.FindAllStringSubmatch(string(text), -1) {
			seen++
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(page), target[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
	if seen < 30 {
		t.Errorf("got %d links, want those of all pages", seen)
	}
}
