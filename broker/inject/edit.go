package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// object is a JSON object as it came. Numbers keep their text.
type object = map[string]any

// Operation is one step of a JSON Patch (RFC 6902).
type Operation struct {
	Op    string `json:"op"` // add, remove or replace
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// editor changes a document, and records how.
type editor struct {
	root object
	ops  []Operation
	err  error // the first edit that found the document of another shape
}

var errShape = errors.New("the object is not a pod: a list or an object is something else")

// decode reads one JSON value and keeps numbers as they are written.
func decode(raw []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the value")
	}
	return value, nil
}

// generic is a value as decode would return it, and shares nothing with it.
func generic(value any) any {
	raw, err := json.Marshal(value)
	if err == nil {
		value, err = decode(raw)
	}
	if err != nil {
		panic(fmt.Sprintf("inject: a value of our own is not JSON: %v", err))
	}
	return value
}

// at returns what is at a path, or nil.
func (e *editor) at(path ...string) any {
	var current any = e.root
	for _, token := range path {
		switch container := current.(type) {
		case object:
			current = container[token]
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(container) {
				return nil
			}
			current = container[i]
		default:
			return nil
		}
	}
	return current
}

// set puts value at path, and makes the objects above it that are missing. What
// is there already, and no less, is left alone.
func (e *editor) set(value any, path ...string) {
	value = generic(value)
	for i := range path {
		switch parent := e.at(path[:i]...).(type) {
		case object:
			there, ok := parent[path[i]]
			if last := i == len(path)-1; !last && there != nil || last && reflect.DeepEqual(there, value) {
				continue
			}
			for j := len(path) - 1; j > i; j-- {
				value = object{path[j]: value}
			}
			parent[path[i]] = value
			op := "add"
			if ok {
				op = "replace"
			}
			e.record(op, value, path[:i+1]...)
			return
		case []any:
			if at, err := strconv.Atoi(path[i]); err != nil || at < 0 || at >= len(parent) {
				e.err = errShape
				return
			} else if i == len(path)-1 && !reflect.DeepEqual(parent[at], value) {
				parent[at] = value
				e.record("replace", value, path...)
			}
		default:
			e.err = errShape
			return
		}
	}
}

// insert puts value into the list at path, before index; the list is made if it
// is missing.
func (e *editor) insert(value any, index int, path ...string) {
	switch list := e.at(path...).(type) {
	case nil:
		e.set([]any{value}, path...)
	case []any:
		value = generic(value)
		if parent, ok := e.at(path[:len(path)-1]...).(object); ok && index <= len(list) {
			parent[path[len(path)-1]] = slices.Insert(slices.Clone(list), index, value)
			e.record("add", value, append(slices.Clone(path), strconv.Itoa(index))...)
			return
		}
		e.err = errShape
	default:
		e.err = errShape
	}
}

// remove takes away what is at path.
func (e *editor) remove(path ...string) {
	last := path[len(path)-1]
	switch parent := e.at(path[:len(path)-1]...).(type) {
	case object:
		if _, ok := parent[last]; ok {
			delete(parent, last)
			e.record("remove", nil, path...)
		}
	case []any:
		i, err := strconv.Atoi(last)
		above, ok := e.at(path[:len(path)-2]...).(object)
		if err != nil || i < 0 || i >= len(parent) || !ok {
			e.err = errShape
			return
		}
		above[path[len(path)-2]] = slices.Delete(slices.Clone(parent), i, i+1)
		e.record("remove", nil, path...)
	default:
		e.err = errShape
	}
}

func (e *editor) record(op string, value any, path ...string) {
	var pointer strings.Builder
	for _, token := range path {
		pointer.WriteByte('/')
		pointer.WriteString(pointerEscape.Replace(token))
	}
	if value != nil { // what is edited later is an operation of its own
		value = generic(value)
	}
	e.ops = append(e.ops, Operation{Op: op, Path: pointer.String(), Value: value})
}

var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")

// covers says whether have has all that want has. The API server fills in
// defaults between two calls, so have may have more.
func covers(have, want any) bool {
	switch want := want.(type) {
	case object:
		have, ok := have.(object)
		for name, value := range want {
			ok = ok && covers(have[name], value)
		}
		return ok
	case []any:
		have, ok := have.([]any)
		if !ok || len(have) != len(want) {
			return false
		}
		for i := range want {
			if !covers(have[i], want[i]) {
				return false
			}
		}
		return true
	default:
		return reflect.DeepEqual(have, want)
	}
}
