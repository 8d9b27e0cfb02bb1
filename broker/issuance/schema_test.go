package issuance_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/recent"
)

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(issuance.Schema()))
	check(t, err)
	compiler := jsonschema.NewCompiler()
	check(t, compiler.AddResource(issuance.SchemaID, doc))
	schema, err := compiler.Compile(issuance.SchemaID)
	check(t, err)
	return schema
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// base is the least that a record has.
func base(decision issuance.Decision) issuance.Record {
	rec := issuance.Record{ID: issuance.NewID(), Start: time.Now(), Decision: decision}
	if decision != issuance.Allow {
		rec.Reason = "scope_not_allowed"
	}
	return rec
}

// values are what fields hold that cannot hold just any text.
var values = map[string]any{
	"Decision": issuance.Allow, "Cache": issuance.Joined, "PeerNet": "unix", "TokenKind": "user", "UserHash": strings.Repeat("0a", 32),
	"Door": "oauth", "Reason": "over_limit", "ID": strings.Repeat("0b", 16), "Rule": "agents.a.limits",
}

// fill sets one field of a record, and what it means nothing without.
func fill(t *testing.T, rec *issuance.Record, name string) {
	t.Helper()
	field := reflect.ValueOf(rec).Elem().FieldByName(name)
	if value, ok := values[name]; ok {
		field.Set(reflect.ValueOf(value))
		return
	}
	switch field.Interface().(type) {
	case string:
		field.SetString("some-" + name)
	case bool:
		field.SetBool(true)
	case uint32:
		field.SetUint(1<<32 - 1)
		rec.PeerKnown = true
	case []string:
		field.Set(reflect.ValueOf([]string{"https://graph.microsoft.com/.default"}))
	case []int:
		field.Set(reflect.ValueOf([]int{7000215, 1}))
	case []recent.Step:
		field.Set(reflect.ValueOf([]recent.Step{{Name: "agent"}}))
	case time.Duration:
		field.SetInt(int64(time.Minute))
	case time.Time:
		field.Set(reflect.ValueOf(time.Now().Add(time.Hour)))
	default:
		t.Fatalf("Record.%s is of a type that this test does not know", name)
	}
	if name == "Audited" {
		fill(t, rec, "Reason")
		fill(t, rec, "Rule")
	}
}

// silent are the fields of a Record that say how it is recorded, not what, or
// that are in no line.
var silent = []string{"PeerKnown", "Pseudonyms", "BestEffort", "Inspection", "Call", "Asked", "Age", "Hint", "Steps"}

// Every field of a Record gets a line of its own, under every outcome. Each
// line is valid; each field adds a property of the schema, and each property
// comes from a field.
func TestSchemaIsThatOfTheLines(t *testing.T) {
	schema := compileSchema(t)
	var sink bytes.Buffer
	recorder, err := issuance.NewRecorder(issuance.Config{Audit: &sink, Tracer: sdktrace.NewTracerProvider().Tracer("test")})
	check(t, err)
	write := func(rec issuance.Record) map[string]any {
		sink.Reset()
		check(t, recorder.Close(t.Context(), &rec))
		line, err := jsonschema.UnmarshalJSON(bytes.NewReader(sink.Bytes()))
		check(t, err)
		if err := schema.Validate(line); err != nil {
			t.Errorf("the line is not valid: %v\n%s", err, sink.String())
		}
		return line.(map[string]any)
	}
	seen := map[string]bool{"seq": true, "prev": true} // of the chain, see TestChainedLinesAreValid
	all := base(issuance.Allow)
	for _, decision := range []issuance.Decision{issuance.Allow, issuance.Deny, issuance.Fail} {
		least := write(base(decision))
		for name := range least {
			seen[name] = true
		}
		for field := range reflect.TypeFor[issuance.Record]().Fields() {
			if !field.IsExported() || field.Name == "Decision" || field.Name == "Pseudonyms" {
				continue
			}
			rec := base(decision)
			fill(t, &rec, field.Name)
			line := write(rec)
			for name := range line {
				seen[name] = true
			}
			always := field.Name == "ID" || field.Name == "Start" || field.Name == "Reason" && decision != issuance.Allow || slices.Contains(silent, field.Name)
			if len(line) == len(least) && !always {
				t.Errorf("Record.%s is not in the line: %v", field.Name, line)
			}
			if field.Name != "UserHash" {
				fill(t, &all, field.Name)
			}
		}
	}
	all.Decision = issuance.Fail
	if got := write(all); len(got) != len(issuance.Fields())-3 { // user_hash, seq, prev
		t.Errorf("a full record has %d fields, want all", len(got))
	}
	var rows []string
	for _, f := range issuance.Fields() {
		rows = append(rows, f.Name)
		if !seen[f.Name] {
			t.Errorf("no record has the field %s of the table", f.Name)
		}
		if f.Meaning == "" {
			t.Errorf("%s has no meaning", f.Name)
		}
	}
	for name := range seen {
		if !slices.Contains(rows, name) {
			t.Errorf("the table has no row for %s", name)
		}
	}
}

// The fields of a line stand in the order of the table.
func TestFieldsAreInTheOrderOfTheLine(t *testing.T) {
	var sink bytes.Buffer
	recorder, err := issuance.NewRecorder(issuance.Config{Audit: &sink, Tracer: sdktrace.NewTracerProvider().Tracer("test")})
	check(t, err)
	rec := base(issuance.Deny)
	for field := range reflect.TypeFor[issuance.Record]().Fields() {
		if field.IsExported() && field.Name != "Decision" && field.Name != "Pseudonyms" {
			fill(t, &rec, field.Name)
		}
	}
	check(t, recorder.Close(t.Context(), &rec))
	at := 0
	for _, f := range issuance.Fields() {
		i := strings.Index(sink.String(), `"`+f.Name+`":`)
		if f.Name == "seq" || f.Name == "prev" {
			continue
		}
		if i < at {
			t.Errorf("%s is out of order in %s", f.Name, sink.String())
		}
		at = i
	}
}

// What is not an audit line is not valid.
func TestSchemaRefuses(t *testing.T) {
	schema := compileSchema(t)
	const good = `{"time":"2026-11-27T00:00:00.000000Z","type":"audit","event":"token.denied","issuance_id":"00112233445566778899aabbccddeeff","decision":"deny","reason":"x","duration_us":1}`
	for name, change := range map[string][2]string{
		"nothing wrong":            {"", ""},
		"another type":             {`"audit"`, `"log"`},
		"no reason":                {`"reason":"x",`, ""},
		"event of another outcome": {"token.denied", "token.issued"},
		"unknown field":            {`"duration_us":1`, `"duration_us":1,"token":"x"`},
		"number as text":           {`"duration_us":1`, `"duration_us":"1"`},
		"empty text":               {`"duration_us":1`, `"duration_us":1,"agent":""`},
		"false":                    {`"duration_us":1`, `"duration_us":1,"session":false`},
		"hash beside the id":       {`"duration_us":1`, `"duration_us":1,"user_object_id":"x","user_hash":"` + strings.Repeat("ab", 32) + `"`},
		"trace without span":       {`"duration_us":1`, `"duration_us":1,"trace_id":"00112233445566778899aabbccddeeff"`},
	} {
		line, err := jsonschema.UnmarshalJSON(strings.NewReader(strings.Replace(good, change[0], change[1], 1)))
		check(t, err)
		if err := schema.Validate(line); (err == nil) != (name == "nothing wrong") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if !json.Valid(issuance.Schema()) {
		t.Error("the schema is not JSON")
	}
}
