package inject

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// injector is one with keys that can be foreseen.
func injector(t testing.TB) *Injector {
	t.Helper()
	i, err := New(Config{Image: "example.com/credfree:1", MaxMemory: "256Mi", MaxCPU: "1", Env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}})
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	i.newKey = func() string { made++; return strings.Repeat(string(rune('A'+made-1)), 26) }
	return i
}

// toJSON is a YAML file as the API server would send it.
func toJSON(t testing.TB, text []byte) []byte {
	t.Helper()
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(fromYAML(t, node.Content[0]))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// fromYAML keeps the text of numbers, as decode does.
func fromYAML(t testing.TB, node *yaml.Node) any {
	t.Helper()
	switch {
	case node.Kind == yaml.MappingNode:
		m := object{}
		for i := 0; i < len(node.Content); i += 2 {
			m[node.Content[i].Value] = fromYAML(t, node.Content[i+1])
		}
		return m
	case node.Kind == yaml.SequenceNode:
		list := []any{}
		for _, item := range node.Content {
			list = append(list, fromYAML(t, item))
		}
		return list
	case node.Tag == "!!int" || node.Tag == "!!float":
		return json.Number(node.Value)
	case node.Tag == "!!bool":
		return node.Value == "true"
	}
	return node.Value
}

// apply is a JSON Patch applier that shares nothing with the editor.
func apply(t testing.TB, raw []byte, operations []Operation) []byte {
	t.Helper()
	doc, err := decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(operations)
	if err != nil {
		t.Fatal(err)
	}
	var steps []struct {
		Op, Path string
		Value    json.RawMessage
	}
	if err := json.Unmarshal(text, &steps); err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		var value any
		if step.Op != "remove" {
			if value, err = decode(step.Value); err != nil {
				t.Fatalf("%s %s: %v", step.Op, step.Path, err)
			}
		}
		tokens := strings.Split(step.Path, "/")[1:]
		if doc, err = change(doc, tokens, step.Op, value); err != nil {
			t.Fatalf("%s %s: %v", step.Op, step.Path, err)
		}
	}
	patched, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return patched
}

func change(doc any, tokens []string, op string, value any) (any, error) {
	token := strings.ReplaceAll(strings.ReplaceAll(tokens[0], "~1", "/"), "~0", "~")
	last := len(tokens) == 1
	switch doc := doc.(type) {
	case map[string]any:
		child, ok := doc[token]
		switch {
		case !ok && (!last || op != "add"):
			return nil, fmt.Errorf("no member %q", token)
		case !last:
			changed, err := change(child, tokens[1:], op, value)
			doc[token] = changed
			return doc, err
		case op == "remove":
			delete(doc, token)
		default:
			doc[token] = value
		}
		return doc, nil
	case []any:
		i, err := strconv.Atoi(token)
		if err != nil || i < 0 || i > len(doc) || i == len(doc) && (!last || op != "add") {
			return nil, fmt.Errorf("no element %q", token)
		}
		switch {
		case !last:
			doc[i], err = change(doc[i], tokens[1:], op, value)
			return doc, err
		case op == "add":
			return slices.Insert(doc, i, value), nil
		case op == "remove":
			return slices.Delete(doc, i, i+1), nil
		}
		doc[i] = value
		return doc, nil
	}
	return nil, fmt.Errorf("%q is in neither an object nor a list", token)
}

// serviceAccountAdmission does what the API server does between two calls: it
// mounts its own token into every container, and fills in defaults.
func serviceAccountAdmission(t testing.TB, raw []byte) []byte {
	t.Helper()
	value, err := decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	spec, _ := value.(object)["spec"].(object)
	for _, list := range []string{"initContainers", "containers"} {
		items, _ := spec[list].([]any)
		for _, item := range items {
			c, _ := item.(object)
			mounts, _ := c["volumeMounts"].([]any)
			c["volumeMounts"] = append(mounts, object{"name": "kube-api-access-x2", "mountPath": ServiceAccountFolder, "readOnly": true})
			c["terminationMessagePath"] = "/dev/termination-log"
			env, _ := c["env"].([]any)
			for _, item := range env {
				entry, _ := item.(object)
				if from, _ := entry["valueFrom"].(object); from != nil {
					if ref, _ := from["fieldRef"].(object); ref != nil {
						ref["apiVersion"] = "v1"
					}
				}
			}
			for _, name := range []string{"startupProbe", "readinessProbe", "livenessProbe"} {
				if probe, _ := c[name].(object); probe != nil {
					probe["successThreshold"] = json.Number("1")
				}
			}
		}
	}
	volumes, _ := spec["volumes"].([]any)
	spec["volumes"] = append(volumes, object{"name": "kube-api-access-x2", "projected": object{"sources": []any{}}})
	changed, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}
