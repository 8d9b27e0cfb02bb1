package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
)

const root = "../.."

var updateReadme = flag.Bool("update", false, "write the generated parts of README.md anew")

// section returns what stands between the markers <!-- name --> and <!-- /name -->.
func section(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	check(t, err)
	_, rest, ok1 := strings.Cut(string(text), "<!-- "+name+" -->\n")
	inside, _, ok2 := strings.Cut(rest, "<!-- /"+name+" -->")
	if !ok1 || !ok2 {
		t.Fatalf("README.md has no section %s", name)
	}
	return inside
}

func TestReadmeListsTheAttributes(t *testing.T) {
	var want strings.Builder
	want.WriteString("| attribute | meaning |\n|---|---|\n")
	for _, a := range issuance.Attributes() {
		fmt.Fprintf(&want, "| `%s` | %s |\n", a.Key, a.Meaning)
	}
	got := section(t, "attributes")
	if *updateReadme {
		path := filepath.Join(root, "README.md")
		text, err := os.ReadFile(path)
		check(t, err)
		const open = "<!-- attributes -->\n"
		check(t, os.WriteFile(path, []byte(strings.Replace(string(text), open+got, open+want.String(), 1)), 0o644))
		return
	}
	if diff := cmp.Diff(want.String(), got); diff != "" {
		t.Errorf("README.md and the code differ (run with -update) (-code +README):\n%s", diff)
	}
}

func TestReadmePolicyIsValid(t *testing.T) {
	text := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(section(t, "policy")), "```yaml\n"), "```")
	p, err := policy.Parse("README.md", []byte(text))
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
