package entratest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
)

// The JSON form of Behavior and its relatives is derived from the struct, so
// that a field that is added later cannot be forgotten: names begin in lower
// case, durations are strings such as "90s".

var durationType = reflect.TypeFor[time.Duration]()

// encodeFields makes the JSON object of a struct.
func encodeFields(v any) map[string]any {
	value, object := reflect.ValueOf(v), map[string]any{}
	for _, field := range jsonFields(value.Type()) {
		member := value.FieldByIndex(field.Index).Interface()
		if d, ok := member.(time.Duration); ok {
			member = d.String()
		}
		object[jsonName(field.Name)] = member
	}
	return object
}

// decodeFields reads a JSON object into the struct v points at. Names are exact,
// unknown ones are errors, and all problems are joined.
func decodeFields(data []byte, v any) error {
	members, err := objectMembers(data)
	if err != nil {
		return err
	}
	value := reflect.ValueOf(v).Elem()
	var errs []error
	var known []string
	for _, field := range jsonFields(value.Type()) {
		name := jsonName(field.Name)
		known = append(known, name)
		raw, ok := members[name]
		if !ok {
			continue
		}
		delete(members, name)
		if err := decodeField(raw, value.FieldByIndex(field.Index)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	for name := range members {
		errs = append(errs, fmt.Errorf("unknown field %q: want one of %s", recordable(name), strings.Join(known, ", ")))
	}
	return errors.Join(errs...)
}

// objectMembers reads one JSON object and nothing after it. A name that is there
// twice is an error: one of the two values would be lost.
func objectMembers(data []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New("the body is not a JSON object")
	}
	members := map[string]json.RawMessage{}
	for dec.More() {
		token, err := dec.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, errors.New("the body is not a JSON object")
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, errors.New("the body is not a JSON object")
		}
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("field %q is there twice", recordable(name))
		}
		members[name] = raw
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("the body is not a JSON object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return members, nil
}

func decodeField(raw json.RawMessage, field reflect.Value) error {
	if bytes.Equal(raw, []byte("null")) {
		return errors.New("null is not a value: leave it out")
	}
	if field.Type() != durationType {
		target := reflect.New(field.Type())
		if err := json.Unmarshal(raw, target.Interface()); err != nil {
			return fmt.Errorf("want %s", describeType(field.Type()))
		}
		field.Set(target.Elem())
		return nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return errors.New(`want a duration in a string, such as "90s"`)
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return errors.New(`want a duration such as "90s"`)
	}
	field.SetInt(int64(d))
	return nil
}

func describeType(t reflect.Type) string {
	kinds := map[reflect.Kind]string{
		reflect.Bool: "true or false", reflect.Int: "a whole number", reflect.String: "a string", reflect.Slice: "an array",
	}
	if kind, ok := kinds[t.Kind()]; ok {
		return kind
	}
	return "an object"
}

// jsonFields are the exported fields, those of embedded structs included.
func jsonFields(t reflect.Type) []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool {
		return f.Anonymous || !f.IsExported()
	})
}

// jsonName lowers the first word: RequireMFA becomes requireMFA, IDToken idToken.
func jsonName(name string) string {
	letters := []rune(name)
	for i := range letters {
		if i > 0 && i+1 < len(letters) && unicode.IsLower(letters[i+1]) || !unicode.IsUpper(letters[i]) {
			break
		}
		letters[i] = unicode.ToLower(letters[i])
	}
	return string(letters)
}
