package policy

import (
	"maps"
	"slices"
)

// form says what a value of the file looks like, in the words of JSON Schema
// 2020-12. The reader takes the fields of every mapping from it, and Schema
// prints it: neither can know a field that the other does not.
type form struct {
	Dialect     string   `json:"$schema,omitempty"`
	ID          string   `json:"$id,omitempty"`
	Title       string   `json:"title,omitempty"`
	Description string   `json:"description,omitempty"`
	Type        string   `json:"type,omitempty"`
	Const       any      `json:"const,omitempty"`
	Enum        []string `json:"enum,omitempty"`
	Default     any      `json:"default,omitempty"`

	Pattern   string `json:"pattern,omitempty"`
	MinLength int    `json:"minLength,omitempty"`
	MaxLength int    `json:"maxLength,omitempty"`
	Minimum   *int64 `json:"minimum,omitempty"`
	Maximum   *int64 `json:"maximum,omitempty"`

	Items       *form   `json:"items,omitempty"`
	PrefixItems []*form `json:"prefixItems,omitempty"`
	MinItems    int     `json:"minItems,omitempty"`

	Properties           map[string]*form `json:"properties,omitempty"`
	PropertyNames        *form            `json:"propertyNames,omitempty"`
	AdditionalProperties any              `json:"additionalProperties,omitempty"` // closed, or the form of every value
	Required             []string         `json:"required,omitempty"`
	MinProperties        int              `json:"minProperties,omitempty"`
	MaxProperties        *int             `json:"maxProperties,omitempty"`
	OneOf                []*form          `json:"oneOf,omitempty"`
	AnyOf                []*form          `json:"anyOf,omitempty"`
	Not                  *form            `json:"not,omitempty"`
}

// field is one field of a mapping.
type field struct {
	name     string
	form     form
	about    string
	required bool
}

// optional and required make a field; about is one line for people.
func optional(name string, f form, about string) field { return field{name, f, about, false} }
func required(name string, f form, about string) field { return field{name, f, about, true} }

// closed is additionalProperties: false, which omitempty would drop as a bool.
type closed struct{}

func (closed) MarshalJSON() ([]byte, error) { return []byte("false"), nil }

// fieldsOf is a mapping with these fields and no others.
func fieldsOf(fields ...field) form {
	f := form{Type: "object", Properties: make(map[string]*form, len(fields)), AdditionalProperties: closed{}}
	for _, field := range fields {
		value := field.form
		value.Description = field.about
		f.Properties[field.name] = &value
		if field.required {
			f.Required = append(f.Required, field.name)
		}
	}
	return f
}

// oneKind is a mapping with exactly one of these fields.
func oneKind(kinds ...field) form {
	f := fieldsOf(kinds...)
	one := 1
	f.MinProperties, f.MaxProperties = 1, &one
	return f
}

// notEmpty wants one of the fields at least.
func (f form) notEmpty() form {
	f.MinProperties = 1
	return f
}

// exactlyOne lets a mapping have one of the named fields.
func (f form) exactlyOne(names ...string) form {
	for _, name := range names {
		f.OneOf = append(f.OneOf, &form{Required: []string{name}})
	}
	return f
}

// named is a mapping from names, which the file chooses, to values.
func named(value form) form {
	return form{Type: "object", PropertyNames: &form{Pattern: nameForm.String()}, AdditionalProperties: &value}
}

func list(item form) form { return form{Type: "array", Items: &item} }

// some is a list that is not empty.
func some(item form) form { return form{Type: "array", Items: &item, MinItems: 1} }

func numbers(minimum, maximum int64) form {
	return form{Type: "integer", Minimum: &minimum, Maximum: &maximum}
}

func oneOf(values ...string) form { return form{Type: "string", Enum: values} }

func matching(text string) form { return form{Type: "string", Pattern: text} }

var (
	anyText   = form{Type: "string", MinLength: 1}
	trueFalse = form{Type: "boolean"}
	guid      = matching(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	reference = form{Type: "string", Pattern: nameForm.String()}
	scopeText = form{Type: "string", Pattern: `^[!-~]+$`, MaxLength: maxScopeBytes}
)

// known returns the names of the fields, sorted.
func (f *form) known() []string { return slices.Sorted(maps.Keys(f.Properties)) }
