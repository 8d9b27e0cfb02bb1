package policy

import (
	"encoding/json"
)

// SchemaID is the $id of the schema. It changes when a file that was valid no
// longer is.
const SchemaID = "https://credfree.dev/schema/policy-v1.json"

// Schema returns the JSON Schema (2020-12) of the policy file, for editors and
// for the documentation. A file that Parse accepts is valid by it; Parse knows
// more rules than a schema can say, and is the judge.
func Schema() []byte {
	return schemaOf(policyForm, SchemaID, "credfree policy", "Which agent may get which tokens, as whom, and on behalf of which users.")
}

// CeilingSchemaID is the $id of the schema of ceilings.
const CeilingSchemaID = "https://credfree.dev/schema/ceiling-v1.json"

// CeilingSchema is Schema for what ParseCeiling reads.
func CeilingSchema() []byte {
	return schemaOf(ceilingForm, CeilingSchemaID, "credfree ceiling", "What the policies under it may grant at most.")
}

func schemaOf(root form, id, title, about string) []byte {
	root.Dialect, root.ID, root.Title = "https://json-schema.org/draft/2020-12/schema", id, title
	root.Description = about
	// The forms are made of strings, numbers and each other.
	data, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic("policy: the schema does not encode: " + err.Error())
	}
	return append(data, '\n')
}
