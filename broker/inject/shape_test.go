package inject

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestEveryShape puts values of every kind into every place of the test pods.
// None makes it panic, and what is let in is patched once and for all.
func TestEveryShape(t *testing.T) {
	files, err := filepath.Glob("testdata/pods/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	admitted, rejected := 0, 0
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		raw := toJSON(t, archive.Files[0].Data)
		doc, err := decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range places(doc, nil) {
			for _, value := range []string{`null`, `true`, `7`, `"x"`, `""`, `[]`, `{}`, `[null]`, `[{}]`, `{"x": null}`} {
				changed := with(t, raw, path, value)
				patch, err := injector(t).Pod(changed, Account{})
				if err != nil {
					rejected++
					continue
				}
				admitted++
				again, err := injector(t).Pod(apply(t, changed, patch.Operations), Account{})
				if err != nil || len(again.Operations) > 0 {
					t.Errorf("%s, %v = %s: patched again, %v (%v)", file, path, value, again.Operations, err)
				}
			}
		}
	}
	if admitted < 500 || rejected < 500 {
		t.Errorf("%d let in and %d not: too few to tell", admitted, rejected)
	}
}

// places are the paths of all values in a document.
func places(value any, at []string) [][]string {
	all := [][]string{at}
	switch value := value.(type) {
	case object:
		for name, member := range value {
			all = append(all, places(member, append(slices.Clone(at), name))...)
		}
	case []any:
		for i, item := range value {
			all = append(all, places(item, append(slices.Clone(at), strconv.Itoa(i)))...)
		}
	}
	return all
}

// with is a document with another value at a path.
func with(t *testing.T, raw []byte, path []string, value string) []byte {
	t.Helper()
	if len(path) == 0 {
		return []byte(value)
	}
	doc, err := decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	e := &editor{root: doc.(object)}
	replacement, err := decode([]byte(value))
	if err != nil {
		t.Fatal(err)
	}
	last := path[len(path)-1]
	switch parent := e.at(path[:len(path)-1]...).(type) {
	case object:
		parent[last] = replacement
	case []any:
		i, err := strconv.Atoi(last)
		if err != nil {
			t.Fatal(err)
		}
		parent[i] = replacement
	}
	changed, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}
