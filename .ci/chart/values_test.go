package chart

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// row is one value of the chart, as the README shows it.
type row struct{ key, standard, meaning string }

// rows reads values.yaml. A value is documented by a comment that begins with
// --; one without, and without documented values below it, is an error.
func rows(t *testing.T, node *yaml.Node, prefix string) []row {
	t.Helper()
	var all []row
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		name := prefix + key.Value
		meaning, documented := "", false
		for line := range strings.SplitSeq(key.HeadComment, "\n") {
			if text, ok := strings.CutPrefix(line, "# -- "); ok {
				meaning, documented = text, true
			}
		}
		switch {
		case documented:
			all = append(all, row{name, inline(t, value), meaning})
		case value.Kind == yaml.MappingNode && len(value.Content) > 0:
			all = append(all, rows(t, value, name+".")...)
		default:
			t.Errorf("values.yaml: %s has no comment that begins with --", name)
		}
	}
	return all
}

func inline(t *testing.T, node *yaml.Node) string {
	t.Helper()
	var value any
	if err := node.Decode(&value); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const opening, closing = "<!-- values -->\n", "<!-- /values -->"

func TestReadmeHasEveryValue(t *testing.T) {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(read(t, "charts/credfree/values.yaml")), &document); err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString(opening + "| value | default | meaning |\n|---|---|---|\n")
	for _, r := range rows(t, document.Content[0], "") {
		fmt.Fprintf(&table, "| `%s` | `%s` | %s |\n", r.key, r.standard, r.meaning)
	}
	table.WriteString(closing)
	readme := read(t, "charts/credfree/README.md")
	before, rest, ok1 := strings.Cut(readme, opening)
	_, after, ok2 := strings.Cut(rest, closing)
	if !ok1 || !ok2 {
		t.Fatal("the README has no place for the values")
	}
	if want := before + table.String() + after; want != readme {
		if *update {
			if err := os.WriteFile(filepath.Join(root, "charts/credfree/README.md"), []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Error("the README's table is not that of values.yaml; rewrite it with -update")
	}
}

// free are objects whose fields are Kubernetes' or the user's own.
var free = []string{"resources", "affinity", "global", "items"}

// TestSchemaIsClosed: no value is accepted that nobody reads.
func TestSchemaIsClosed(t *testing.T) {
	var schema, standard map[string]any
	if err := json.Unmarshal([]byte(read(t, "charts/credfree/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(read(t, "charts/credfree/values.yaml")), &standard); err != nil {
		t.Fatal(err)
	}
	closed(t, schema, "")
	same(t, schema, standard, "")
}

func closed(t *testing.T, schema map[string]any, at string) {
	t.Helper()
	properties, _ := schema["properties"].(map[string]any)
	_, texts := schema["additionalProperties"].(map[string]any)
	if last := at[strings.LastIndex(at, "/")+1:]; schema["type"] == "object" && schema["additionalProperties"] != false && !texts && !slices.Contains(free, last) {
		t.Errorf("schema: %s takes any property", at)
	}
	for name, property := range properties {
		if property, ok := property.(map[string]any); ok {
			closed(t, property, at+"/"+name)
		}
	}
	if items, ok := schema["items"].(map[string]any); ok {
		closed(t, items, at+"/items")
	}
}

// same says that schema and defaults name the same values.
func same(t *testing.T, schema, standard map[string]any, at string) {
	t.Helper()
	properties, _ := schema["properties"].(map[string]any)
	for name, property := range properties {
		value, ok := standard[name]
		if !ok && name != "global" && at != "/sidecar/resources" && at != "/certificates/certManager/issuerRef" {
			t.Errorf("values.yaml has no %s/%s, which the schema knows", at, name)
		}
		property, ok1 := property.(map[string]any)
		below, ok2 := value.(map[string]any)
		if ok1 && ok2 && property["properties"] != nil {
			same(t, property, below, at+"/"+name)
		}
	}
	for name := range standard {
		if _, ok := properties[name]; !ok {
			t.Errorf("the schema has no %s/%s, which values.yaml has", at, name)
		}
	}
}
