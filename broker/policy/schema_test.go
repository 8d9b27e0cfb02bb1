package policy_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/credfree/credfree/broker/policy"
)

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(policy.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(policy.SchemaID, doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(policy.SchemaID)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// tree decodes YAML as an editor would; dates are text to a schema.
func tree(t testing.TB, data []byte) any {
	t.Helper()
	var value any
	if err := yaml.Unmarshal(data, &value); err != nil {
		t.Fatal(err)
	}
	return withoutTimes(value)
}

func withoutTimes(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for name, v := range value {
			value[name] = withoutTimes(v)
		}
	case []any:
		for i, v := range value {
			value[i] = withoutTimes(v)
		}
	case time.Time:
		return value.Format(time.DateOnly)
	}
	return value
}

func fullFile(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestSchemaAcceptsWhatParses: an editor underlines no file that works.
func TestSchemaAcceptsWhatParses(t *testing.T) {
	schema := compileSchema(t)
	files := map[string][]byte{"full": fullFile(t), "example": []byte(example), "fleets": []byte(fleets)}
	_, cases := problemCases(t)
	for _, c := range cases {
		if _, p := problemsOf(t, c.data()); p != nil {
			files[c.name] = c.data()
		}
	}
	if len(files) < 10 {
		t.Fatalf("got %d files that parse, want at least 10", len(files))
	}
	for name, data := range files {
		parse(t, string(data))
		if err := schema.Validate(tree(t, data)); err != nil {
			t.Errorf("%s parses, and the schema says %v", name, err)
		}
	}
}

func api(baseURL string) string {
	return head + "apis: {x: {baseURL: \"" + baseURL + "\", scopes: [graph]}}\n"
}

// TestSchemaAcceptsWhatIsOdd: nor one that works and looks odd. The values are put
// in the place of each value of the full file; most of that does not parse.
func TestSchemaAcceptsWhatIsOdd(t *testing.T) {
	schema := compileSchema(t)
	parts, document := nodes(t)
	taken := 0
	for _, odd := range []string{
		"http://localhost:8080/x", "http://localhost:", "http://127.9.9.9/a/b", "http://[::1]:80", "http://[::ffff:127.0.0.1]/a", "https://[2001:db8::1]", "https://a:1/!$&'()+,;=:@x",
		" ", "a b", "é", "a", "A", "/a b/c", "-", "Common.Example", "pod", "graph", "graph/x", "api://X/y", "8A0C5B0E-1F0B-4B52-9F27-5D4F0C1F5A11",
	} {
		tried := map[string]bool{}
		for _, n := range parts {
			if n.yaml.Kind != yaml.ScalarNode || n.schema["type"] != "string" || n.schema["enum"] != nil || tried[n.path] {
				continue
			}
			tried[n.path] = true
			before := *n.yaml
			n.yaml.SetString(odd)
			data, err := yaml.Marshal(document)
			*n.yaml = before
			if err != nil {
				t.Fatal(err)
			}
			if _, p := problemsOf(t, data); p == nil {
				continue
			}
			taken++
			if err := schema.Validate(tree(t, data)); err != nil {
				t.Errorf("%s: %q parses, and the schema says %v", n.path, odd, err)
			}
		}
	}
	if taken < 100 {
		t.Errorf("got %d values that parse, want at least 100", taken)
	}
}

// TestSchemaRefuses has slips that an editor should underline.
func TestSchemaRefuses(t *testing.T) {
	schema := compileSchema(t)
	for _, text := range []string{
		"", "version: 2\ntenant: contoso.com\n", "version: 1\n", head + "agent: {}\n", head + "mode: log\n", head + "cloud: germany\n",
		head + "agents: {A: {}}\n", head + "agents: {a: {owner: 7}}\n", head + "agents: {a: {callers: [{socket: a, tcp: {any: true}}]}}\n",
		head + "agents: {a: {allow: {scope: [x]}}}\n", head + "agents: {a: {onBehalfOf: {users: {guests: maybe}}}}\n",
		"version: 1\ntenant: contoso.com\nsources: {a: {file: {path: /t}, env: {name: T}}}\n",
		"version: 1\ntenant: contoso.com\nsources: {a: {github: {audience: x}}}\n",
		"version: 1\ntenant: contoso.com\nidentities: {a: {agent: {blueprintID: " + blueprintID + ", source: pod}}}\n",
		"version: 1\ntenant: contoso.com\nidentities: {a: {application: {clientID: app, source: pod}}}\n",
		"version: 1\ntenant: common\n", "version: 1\ntenant: organizations\n", "version: 1\ntenant: consumers\n", "version: 1\ntenant: ''\n",
		"version: 1\ntenant: contoso.com\nidentities: {a: {managedIdentity: {}, tenant: common}}\n",
		"version: 1\ntenant: contoso.com\nsources: {a: {exec: {command: [bin/token]}}}\n", "version: 1\ntenant: contoso.com\nsources: {a: {exec: {command: []}}}\n",
		head + "agents: {a: {owner: ''}}\n", head + "agents: {a: {callers: [{tcp: {}}]}}\n",
		head + "agents: {a: {callers: [{socket: a/b.sock}]}}\n", head + "agents: {a: {callers: [{socket: ../b.sock}]}}\n",
		head + "agents: {a: {allow: {scopes: ['graph User.Read']}}}\n", head + "agents: {a: {allow: {scopes: [' graph']}}}\n", head + "roles: {a: [\"graph\\n\"]}\n",
		api("http://graph.example"), api("https://graph.example/?x=y"), api("https://graph.example#x"), api("https://graph.example/a/"), api("https://me@graph.example"),
		api("http://localhost.example"), api("http://127.0.0.1@graph.example"), api("ftp://graph.example"), api("graph.example"), api("https://graph.example/%61"),
	} {
		if _, p := problemsOf(t, []byte(text)); p != nil {
			t.Errorf("it parses, and is no slip:\n%s", text)
		}
		if err := schema.Validate(tree(t, []byte(text))); err == nil {
			t.Errorf("the schema accepts\n%s", text)
		}
	}
}

// node is a part of the full file beside the part of the schema that it
// belongs to.
type node struct {
	path   string
	schema map[string]any
	yaml   *yaml.Node
}

// nodes returns all parts of the full file, and the document that they are of.
func nodes(t *testing.T) (parts []node, document *yaml.Node) {
	t.Helper()
	document = new(yaml.Node)
	if err := yaml.Unmarshal(fullFile(t), document); err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(policy.Schema(), &root); err != nil {
		t.Fatal(err)
	}
	var walk func(n node)
	walk = func(n node) {
		parts = append(parts, n)
		properties, _ := n.schema["properties"].(map[string]any)
		values, _ := n.schema["additionalProperties"].(map[string]any)
		items, _ := n.schema["items"].(map[string]any)
		for i, child := range n.yaml.Content {
			switch {
			case n.yaml.Kind == yaml.SequenceNode:
				walk(node{n.path + "[]", items, child})
			case i%2 == 0:
				continue
			case properties != nil:
				name := n.yaml.Content[i-1].Value
				walk(node{n.path + "." + name, properties[name].(map[string]any), child})
			case values["anyOf"] != nil:
				for _, alternative := range values["anyOf"].([]any) {
					if schema := alternative.(map[string]any); (schema["type"] == "object") == (child.Kind == yaml.MappingNode) {
						walk(node{n.path + ".*", schema, child})
					}
				}
			default:
				walk(node{n.path + ".*", values, child})
			}
		}
	}
	walk(node{"", root, document.Content[0]})
	return parts, document
}

// TestSchemaAndFullFile: the full file has every field of the schema, and every
// field says what it is for.
func TestSchemaAndFullFile(t *testing.T) {
	parse(t, string(fullFile(t)))
	parts, _ := nodes(t)
	found := map[string]bool{}
	for _, n := range parts {
		found[n.path] = true
	}
	fields := map[string]bool{}
	for _, n := range parts {
		properties, _ := n.schema["properties"].(map[string]any)
		if properties != nil && n.schema["additionalProperties"] != false {
			t.Errorf("%s: the mapping is open", n.path)
		}
		for name, property := range properties {
			path := n.path + "." + name
			fields[path] = true
			if !found[path] {
				t.Errorf("testdata/full.yaml has no %s", path)
			}
			if text, _ := property.(map[string]any)["description"].(string); len(text) < 10 {
				t.Errorf("%s: got the description %q", path, text)
			}
		}
	}
	if len(fields) < 130 {
		t.Errorf("got %d fields, want at least 130", len(fields))
	}
}

// TestParseKnowsNoOtherFields: wherever a mapping stands in the full file,
// Parse refuses every name that is a field somewhere else.
func TestParseKnowsNoOtherFields(t *testing.T) {
	parts, document := nodes(t)
	all := map[string]bool{"zzz": true}
	for _, n := range parts {
		for name := range member(n.schema["properties"]) {
			all[name] = true
		}
	}
	tried := 0
	for _, n := range parts {
		if n.schema["properties"] == nil {
			continue
		}
		before, foreign := n.yaml.Content, 0
		for name := range all {
			if _, ok := member(n.schema["properties"])[name]; !ok {
				n.yaml.Content = append(n.yaml.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, &yaml.Node{Kind: yaml.ScalarNode, Value: "x"})
				foreign++
			}
		}
		data, err := yaml.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		n.yaml.Content = before
		problems, _ := problemsOf(t, data)
		refused := 0
		for _, problem := range problems {
			if strings.HasPrefix(problem.Message, "unknown field") {
				refused++
			}
		}
		if refused != foreign {
			t.Errorf("%s: got %d fields refused, want %d", n.path, refused, foreign)
		}
		tried++
	}
	if tried < 60 {
		t.Errorf("got %d mappings, want at least 60", tried)
	}
}

func member(properties any) map[string]any {
	mapping, _ := properties.(map[string]any)
	return mapping
}
