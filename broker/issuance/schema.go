package issuance

import "encoding/json"

// SchemaID is the $id of the schema. It changes when a line that was valid no
// longer is.
const SchemaID = "https://credfree.dev/schema/audit-v1.json"

// Schema returns the JSON Schema (2020-12) of one audit line: of every line
// that a Recorder writes, and of no line with a field that is not in Fields.
func Schema() []byte {
	type object map[string]any
	properties, required := object{}, []string{}
	for _, f := range Fields() {
		form := f.form
		form.Description = f.Meaning
		properties[f.Name] = form
		if f.Always {
			required = append(required, f.Name)
		}
	}
	is := func(name string, value any) object {
		return object{"properties": object{name: object{"const": value}}, "required": []string{name}}
	}
	var outcomes []object
	for _, decision := range []Decision{Allow, Deny, Fail} {
		outcomes = append(outcomes, object{"allOf": []object{is("decision", decision), is("event", events[decision])}})
	}
	outcomes = append(outcomes, object{"allOf": []object{is("decision", Allow), is("event", inspected)}})
	root := object{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SchemaID, "title": "credfree audit line",
		"description": "One issuance: an answered request for a token, whatever the answer.",
		"type":        "object", "properties": properties, "required": required, "additionalProperties": false,
		"oneOf":             outcomes,
		"dependentRequired": object{"span_id": []string{"trace_id"}, "trace_id": []string{"span_id"}, "seq": []string{"prev"}, "prev": []string{"seq"}, "audited": []string{"reason", "rule"}},
		"allOf": []object{
			{"if": is("decision", Allow), "else": object{"required": []string{"reason"}}},
			{"if": object{"required": []string{"user_hash"}}, "then": object{"properties": object{"user_tenant_id": false, "user_object_id": false}}},
		},
	}
	// It is made of strings, numbers and each other.
	data, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic("issuance: the schema does not encode: " + err.Error())
	}
	return append(data, '\n')
}
