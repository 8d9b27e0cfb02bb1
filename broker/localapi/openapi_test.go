package localapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/credfree/credfree/broker/localapi"
)

// description is the OpenAPI document, and what has been seen of it.
type description struct {
	root     map[string]any
	compiler *jsonschema.Compiler
	seen     map[string]bool // operations with statuses, headers and members, by where they stand
}

// operation is one of the document.
type operation struct {
	id, method, path string
	object           map[string]any
	shared           []any // parameters of the path
}

func readDescription(t testing.TB, text []byte) *description {
	t.Helper()
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	check(t, err)
	d := &description{root: root.(map[string]any), compiler: jsonschema.NewCompiler(), seen: map[string]bool{}}
	check(t, d.compiler.AddResource("openapi.json", root))
	return d
}

var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}

// operations are sorted by path and method.
func (d *description) operations() (all []operation) {
	paths := d.root["paths"].(map[string]any)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item := paths[path].(map[string]any)
		shared, _ := item["parameters"].([]any)
		for _, method := range methods {
			if object, ok := item[strings.ToLower(method)].(map[string]any); ok {
				all = append(all, operation{object["operationId"].(string), method, path, object, shared})
			}
		}
	}
	return all
}

func (d *description) operation(t testing.TB, id string) operation {
	t.Helper()
	for _, o := range d.operations() {
		if o.id == id {
			return o
		}
	}
	t.Fatalf("the document has no operation %s", id)
	return operation{}
}

// at follows a JSON pointer, and references from there on.
func (d *description) at(pointer string) (string, map[string]any) {
	var value any = d.root
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		if list, ok := value.([]any); ok {
			if i, err := strconv.Atoi(part); err == nil && i < len(list) {
				value = list[i]
				continue
			}
		}
		object, _ := value.(map[string]any)
		value = object[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]
	}
	object, _ := value.(map[string]any)
	if reference, ok := object["$ref"].(string); ok {
		return d.at(strings.TrimPrefix(reference, "#"))
	}
	return pointer, object
}

func below(pointer string, names ...string) string {
	for _, name := range names {
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
	}
	return pointer
}

func (o operation) pointer() string { return below("/paths", o.path, strings.ToLower(o.method)) }

// response is where the answer with a status is described; "" where it is not.
func (d *description) response(o operation, status int) string {
	for _, name := range []string{strconv.Itoa(status), "default"} {
		if pointer, object := d.at(below(o.pointer(), "responses", name)); object != nil {
			d.seen[o.id+" "+name] = true
			return pointer
		}
	}
	return ""
}

// ofHTTP are headers that are no matter of a door. Allow goes with 405, which the
// document says once for all.
var ofHTTP = []string{"Content-Type", "Content-Length", "Date", "Connection", "Allow"}

// matches holds an answer against the document: status, headers, media type and
// every member of the body.
func (d *description) matches(o operation, got answer) (problems []string) {
	wrong := func(format string, arguments ...any) {
		problems = append(problems, o.id+": "+strconv.Itoa(got.StatusCode)+": "+fmt.Sprintf(format, arguments...))
	}
	at := d.response(o, got.StatusCode)
	if at == "" {
		wrong("the status is not described: %s", got.body)
		return problems
	}
	_, response := d.at(at)
	d.headers(at, response, got.Header, wrong)
	content, _ := response["content"].(map[string]any)
	mediaType, _, _ := mime.ParseMediaType(got.Header.Get("Content-Type"))
	_, described := content[mediaType]
	switch {
	case o.method == http.MethodHead:
		if got.body != "" {
			wrong("a body after HEAD: %q", got.body)
		}
	case content == nil && got.StatusCode == http.StatusUnauthorized: // with a body or without
	case !described && content["*/*"] != nil: // the API's
	case !described:
		wrong("the type %q is not described", got.Header.Get("Content-Type"))
	default:
		d.body(below(at, "content", mediaType, "schema"), mediaType, got.body, wrong)
	}
	return problems
}

func (d *description) headers(at string, response map[string]any, got http.Header, wrong func(string, ...any)) {
	described, _ := response["headers"].(map[string]any)
	names := map[string]bool{}
	for name := range described {
		pointer, header := d.at(below(at, "headers", name))
		names[http.CanonicalHeaderKey(name)] = true
		value := got.Get(name)
		if value == "" {
			if header["required"] == true {
				wrong("%s is missing", name)
			}
			continue
		}
		d.seen[below(at, "headers", name)] = true
		var typed any = value
		if schema, _ := header["schema"].(map[string]any); schema["type"] == "integer" {
			typed = json.Number(value)
		}
		d.valid(below(pointer, "schema"), typed, name, wrong)
	}
	if strings.HasSuffix(at, "/default") {
		return // the API's
	}
	for name := range got {
		if !names[name] && !slices.Contains(ofHTTP, name) {
			wrong("the header %s is not described", name)
		}
	}
}

func (d *description) body(pointer, mediaType, body string, wrong func(string, ...any)) {
	var value any = body
	if strings.HasSuffix(mediaType, "json") {
		var err error
		if value, err = jsonschema.UnmarshalJSON(strings.NewReader(body)); err != nil {
			wrong("not JSON: %s", body)
			return
		}
	}
	pointer, schema := d.at(pointer)
	if schema == nil {
		return // whatever it is
	}
	if schema["anyOf"] != nil { // the broker's own, which has to be as described, or an API's
		pointer += "/anyOf/0"
	}
	if d.valid(pointer, value, "the body", wrong) {
		d.mark(pointer, value)
	}
}

func (d *description) valid(pointer string, value any, what string, wrong func(string, ...any)) bool {
	schema, err := d.compiler.Compile("openapi.json#" + pointer)
	if err != nil {
		wrong("%s: %v", pointer, err)
		return false
	}
	if err := schema.Validate(value); err != nil {
		wrong("%s is not as described: %v; it is %.300v", what, err, value)
		return false
	}
	return true
}

// mark notes which members have been seen.
func (d *description) mark(pointer string, value any) {
	pointer, schema := d.at(pointer)
	object, ok := value.(map[string]any)
	if !ok {
		return
	}
	if choices, ok := schema["oneOf"].([]any); ok {
		for i := range choices {
			// The document's are told apart by active.
			choice := choices[i].(map[string]any)
			active := choice["properties"].(map[string]any)["active"].(map[string]any)
			if active["const"] == object["active"] {
				d.markMembers(fmt.Sprintf("%s/oneOf/%d", pointer, i), choice, object)
			}
		}
		return
	}
	d.markMembers(pointer, schema, object)
}

func (d *description) markMembers(pointer string, schema, object map[string]any) {
	described, _ := schema["properties"].(map[string]any)
	for name, value := range object {
		if described[name] != nil {
			d.seen[below(pointer, "properties", name)] = true
			d.mark(below(pointer, "properties", name), value)
		} else if more, ok := schema["additionalProperties"].(map[string]any); ok {
			if value, ok := value.(map[string]any); ok {
				d.markMembers(below(pointer, "additionalProperties"), more, value)
			}
		}
	}
}

// unseen is what the document promises, and no answer has had.
func (d *description) unseen() (missing []string) {
	for _, o := range d.operations() {
		for status := range o.object["responses"].(map[string]any) {
			if !d.seen[o.id+" "+status] {
				missing = append(missing, o.id+" "+status)
			}
			at, response := d.at(below(o.pointer(), "responses", status))
			described, _ := response["headers"].(map[string]any)
			for name := range described {
				if where := below(at, "headers", name); !d.seen[where] {
					missing = append(missing, where)
				}
			}
			content, _ := response["content"].(map[string]any)
			for mediaType := range content {
				missing = append(missing, d.unseenMembers(below(at, "content", mediaType, "schema"))...)
			}
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

func (d *description) unseenMembers(pointer string) (missing []string) {
	pointer, schema := d.at(pointer)
	if schema["anyOf"] != nil {
		pointer, schema = d.at(pointer + "/anyOf/0")
	}
	properties, _ := schema["properties"].(map[string]any)
	for name := range properties {
		where := below(pointer, "properties", name)
		if !d.seen[where] {
			missing = append(missing, where)
		}
		missing = append(missing, d.unseenMembers(where)...)
	}
	if choices, ok := schema["oneOf"].([]any); ok {
		for i := range choices {
			choice := fmt.Sprintf("%s/oneOf/%d", pointer, i)
			object, _ := choices[i].(map[string]any)["properties"].(map[string]any)
			for name := range object {
				if where := below(choice, "properties", name); !d.seen[where] {
					missing = append(missing, where)
				}
			}
		}
	}
	if more, ok := schema["additionalProperties"].(map[string]any); ok {
		described, _ := more["properties"].(map[string]any)
		for name := range described {
			if where := below(pointer, "additionalProperties", "properties", name); !d.seen[where] {
				missing = append(missing, where)
			}
		}
	}
	return missing
}

// The document is one of OpenAPI 3.1, as far as its own words go: what is
// referred to is there, and names are there once.
func TestOpenAPIIsSound(t *testing.T) {
	d := readDescription(t, localapi.OpenAPI())
	if d.root["openapi"] != "3.1.1" {
		t.Errorf("got %v", d.root["openapi"])
	}
	ids := map[string]bool{}
	for _, o := range d.operations() {
		if ids[o.id] {
			t.Errorf("operationId %s twice", o.id)
		}
		ids[o.id] = true
		if o.object["summary"] == nil || o.object["tags"] == nil || o.object["responses"] == nil {
			t.Errorf("%s has no summary, no tags or no responses", o.id)
		}
		for part := range strings.SplitSeq(o.path, "/") {
			if name := strings.Trim(part, "{}"); name != part && !slices.ContainsFunc(d.parameters(o), func(p parameter) bool { return p.in == "path" && p.name == name }) {
				t.Errorf("%s: {%s} is not described", o.id, name)
			}
		}
	}
	d.eachReference(d.root, func(reference string) {
		if _, object := d.at(strings.TrimPrefix(reference, "#")); object == nil {
			t.Errorf("%s is nowhere", reference)
		}
	})
	for name := range d.root["components"].(map[string]any)["schemas"].(map[string]any) {
		if _, err := d.compiler.Compile("openapi.json#" + below("/components/schemas", name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (d *description) eachReference(value any, use func(string)) {
	switch value := value.(type) {
	case []any:
		for _, v := range value {
			d.eachReference(v, use)
		}
	case map[string]any:
		if reference, ok := value["$ref"].(string); ok {
			use(reference)
		}
		for _, v := range value {
			d.eachReference(v, use)
		}
	}
}

type parameter struct {
	name, in string
	required bool
	schema   map[string]any
	text     string // its description, or that of its schema
}

// parameters are those of the path, of the operation, and of its form.
func (d *description) parameters(o operation) (all []parameter) {
	own, _ := o.object["parameters"].([]any)
	for _, raw := range slices.Concat(o.shared, own) {
		p := raw.(map[string]any)
		schema := d.schema(p["schema"])
		text, ok := p["description"].(string)
		if !ok {
			text, _ = schema["description"].(string)
		}
		all = append(all, parameter{p["name"].(string), p["in"].(string), p["required"] == true, schema, text})
	}
	forms := []map[string]any{d.formSchema(o)}
	if choices, ok := forms[0]["oneOf"].([]any); ok {
		forms = nil
		for _, choice := range choices {
			forms = append(forms, d.schema(choice))
		}
	}
	for _, form := range forms {
		required, _ := form["required"].([]any)
		properties, _ := form["properties"].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			schema := d.schema(properties[name])
			text, _ := schema["description"].(string)
			all = append(all, parameter{name, "form", slices.Contains(required, any(name)), schema, text})
		}
	}
	return all
}

func (d *description) schema(raw any) map[string]any {
	object, _ := raw.(map[string]any)
	if reference, ok := object["$ref"].(string); ok {
		_, object = d.at(strings.TrimPrefix(reference, "#"))
	}
	return object
}

func (d *description) formSchema(o operation) map[string]any {
	_, schema := d.at(below(o.pointer(), "requestBody", "content", "application/x-www-form-urlencoded", "schema"))
	return schema
}
