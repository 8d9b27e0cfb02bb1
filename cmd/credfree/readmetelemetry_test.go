package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/issuance"
)

// compareSection compares a generated part of README.md with what it should be.
func compareSection(t *testing.T, name, want string) {
	t.Helper()
	got := section(t, name)
	if *updateReadme {
		replaceInReadme(t, got, want)
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("README.md and the code differ (run with -update) (-code +README):\n%s", diff)
	}
}

func TestReadmeListsTheAttributes(t *testing.T) {
	var want strings.Builder
	want.WriteString("| attribute | spans | meaning |\n|---|---|---|\n")
	for _, a := range issuance.Attributes() {
		fmt.Fprintf(&want, "| `%s` | %s | %s |\n", a.Key, strings.Join(a.Spans, ", "), a.Meaning)
	}
	compareSection(t, "attributes", want.String())
}

// The table of attributes is that of the spans: each attribute of each span of
// the golden traces has its row, and each span of each row has it in one of them.
func TestAttributesAreThoseOfTheTraces(t *testing.T) {
	seen := map[string]bool{} // "span attribute"
	var files []string
	for _, dir := range []string{"testdata/trace", root + "/broker/testdata/trace"} {
		found, err := filepath.Glob(filepath.Join(dir, "*.golden"))
		check(t, err)
		files = append(files, found...)
	}
	if len(files) < 40 {
		t.Fatalf("got %d golden traces, want those of all outcomes", len(files))
	}
	heading := regexp.MustCompile(`^ *([\w.]+)(?: \w+)? \(\w+\) \[`)
	item := regexp.MustCompile(`^ *- ([\w.]+)=`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		check(t, err)
		span := ""
		for line := range strings.Lines(string(text)) {
			if m := heading.FindStringSubmatch(line); m != nil {
				span = m[1]
			} else if m := item.FindStringSubmatch(line); m != nil {
				seen[span+" "+m[1]] = true
			}
		}
	}
	listed := map[string]bool{}
	for _, a := range issuance.Attributes() {
		for _, span := range a.Spans {
			listed[span+" "+a.Key] = true
			if !seen[span+" "+a.Key] {
				t.Errorf("no golden trace has a span %s with %s", span, a.Key)
			}
		}
	}
	for pair := range seen {
		if !listed[pair] {
			t.Errorf("the table of attributes does not list %q", pair)
		}
	}
}

// Whatever attribute the sources set, on a path that no scenario takes too, is in
// the table. Labels of metrics have no dot in their names.
func TestAttributesOfTheSourcesAreListed(t *testing.T) {
	var listed []string
	for _, a := range issuance.Attributes() {
		listed = append(listed, a.Key)
	}
	used := regexp.MustCompile(`attribute\.(?:Key|\w+)\("([\w]+\.[\w.]+)"`)
	resource := []string{"service.name", "service.version", "service.instance.id"}
	count := 0
	tree := os.DirFS(root)
	check(t, fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, ".") {
			return err
		}
		source, err := fs.ReadFile(tree, path)
		for _, m := range used.FindAllSubmatch(source, -1) {
			count++
			if key := string(m[1]); !slices.Contains(listed, key) && !slices.Contains(resource, key) {
				t.Errorf("%s sets %s, which the table of attributes does not list", path, key)
			}
		}
		return err
	}))
	if count < len(listed)-10 {
		t.Errorf("found %d attributes in the sources, want about the %d listed", count, len(listed))
	}
}
