package policy

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// place is a value in the file: what it is, where it stands, and its path. The
// zero place is a field that is absent.
type place struct {
	node *yaml.Node
	path string
}

func (p place) present() bool { return p.node != nil }

// empty reports whether the place is absent or a list without items.
func (p place) empty() bool {
	return !p.present() || p.node.Kind == yaml.SequenceNode && len(p.node.Content) == 0
}

// entry is one key of a mapping with its value.
type entry struct {
	name  string
	key   place // where the key stands, with the path of the value
	value place
}

// reader turns YAML nodes into values and collects everything that is wrong on
// the way. Each of its methods reports at most one problem per value and then
// returns false, so that one slip is not reported twice.
type reader struct {
	file     string
	data     []byte
	lines    [][]byte // of data
	problems Problems
	warnings []Problem
}

// whole reports a problem that belongs to no value.
func (r *reader) whole(line, column int, message, hint string) {
	r.problems = append(r.problems, Problem{File: r.file, Line: line, Column: column, Message: message, Hint: hint})
}

func (r *reader) problem(at place, message, hint string) {
	r.problems = append(r.problems, r.at(at, message, hint))
}

func (r *reader) warning(at place, message, hint string) {
	r.warnings = append(r.warnings, r.at(at, message, hint))
}

func (r *reader) at(at place, message, hint string) Problem {
	return Problem{File: r.file, Line: at.node.Line, Column: at.node.Column, Path: at.path, Message: message, Hint: hint}
}

// fields reads a mapping whose keys are fields. Fields that are not known are
// problems, and so are required ones that are absent.
func (r *reader) fields(at place, known, required []string) (map[string]place, bool) {
	entries, ok := r.entries(at)
	if !ok {
		return nil, false
	}
	found := make(map[string]place, len(entries))
	meant := map[string]bool{}
	for _, e := range entries {
		if !slices.Contains(known, e.name) {
			r.problem(e.key, "unknown field "+quote(e.name), didYouMean(e.name, known))
			meant[nearest(e.name, known)] = true
			continue
		}
		found[e.name] = e.value
	}
	for _, name := range required {
		if _, ok := found[name]; !ok && !meant[name] {
			r.problem(at, "the field "+name+" is missing", "add "+name+" here")
		}
	}
	return found, true
}

// entries reads a mapping in the order of the file.
func (r *reader) entries(at place) ([]entry, bool) {
	if !r.plain(at, yaml.MappingNode) {
		return nil, false
	}
	lines := make(map[string]int, len(at.node.Content)/2)
	entries := make([]entry, 0, len(at.node.Content)/2)
	for pair := range slices.Chunk(at.node.Content, 2) {
		key := place{pair[0], at.path}
		if !r.plain(key, yaml.ScalarNode) || !r.literal(key) {
			continue
		}
		name := key.node.Value
		key.path = join(at.path, name)
		if line, ok := lines[name]; ok {
			r.problem(key, fmt.Sprintf("%s is already on line %d", quote(name), line), "keep one of the two")
			continue
		}
		lines[name] = key.node.Line
		entries = append(entries, entry{name, key, place{pair[1], key.path}})
	}
	return entries, true
}

func join(path, name string) string {
	if len(name) > maxQuoted || !printable(name) {
		name = quote(name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// items reads a sequence; an absent one has none.
func (r *reader) items(at place) []place {
	if !at.present() || !r.plain(at, yaml.SequenceNode) {
		return nil
	}
	items := make([]place, len(at.node.Content))
	for i, node := range at.node.Content {
		items[i] = place{node, fmt.Sprintf("%s[%d]", at.path, i)}
	}
	return items
}

// texts reads a sequence of strings and drops what is none.
func (r *reader) texts(at place) (values []string, places []place) {
	for _, item := range r.items(at) {
		if value, ok := r.text(item); ok {
			values, places = append(values, value), append(places, item)
		}
	}
	return values, places
}

// text reads a string that is not empty; an absent one is not ok.
func (r *reader) text(at place) (string, bool) {
	if !at.present() || !r.plain(at, yaml.ScalarNode) {
		return "", false
	}
	switch tag := at.node.Tag; {
	case tag == "!!null" || tag == "!!str" && at.node.Value == "":
		r.problem(at, "there is no value", "write a value, or remove the line")
		return "", false
	case tag != "!!str":
		r.problem(at, "want a string, got "+kindOf(at.node), "put it in quotation marks")
		return "", false
	}
	return at.node.Value, r.literal(at)
}

var decimal = regexp.MustCompile(`^(0|[1-9][0-9]{0,9})$`)

// number reads a number in plain decimal digits: YAML would read 010 as 8.
// want says which numbers make sense here.
func (r *reader) number(at place, want string) (uint32, bool) {
	if !r.plain(at, yaml.ScalarNode) {
		return 0, false
	}
	n, err := strconv.ParseUint(at.node.Value, 10, 32)
	if at.node.Tag != "!!int" || !decimal.MatchString(at.node.Value) || err != nil {
		r.problem(at, "want "+want+", got "+quote(at.node.Value), "write decimal digits only, without quotation marks")
		return 0, false
	}
	return uint32(n), true
}

// boolean reads true or false; an absent one is false.
func (r *reader) boolean(at place) (value, ok bool) {
	if !at.present() {
		return false, true
	}
	if !r.plain(at, yaml.ScalarNode) {
		return false, false
	}
	if at.node.Tag != "!!bool" || at.node.Value != "true" && at.node.Value != "false" {
		r.problem(at, "want true or false, got "+quote(at.node.Value), "write true or false, without quotation marks")
		return false, false
	}
	return at.node.Value == "true", true
}

// plain reports whether the value is of the given kind and says itself what it
// is: a reviewer must not have to look up an anchor or to know a tag.
func (r *reader) plain(at place, kind yaml.Kind) bool {
	node := at.node
	switch {
	case node.Kind == yaml.AliasNode || node.Anchor != "":
		r.problem(at, "YAML anchors and aliases are refused", "write the value out where it is meant to be in force")
	case node.Style&yaml.TaggedStyle != 0:
		r.problem(at, "the YAML tag "+quote(node.Tag)+" is refused", "remove the tag")
	case node.Kind != kind:
		r.problem(at, "want "+kindNames[kind]+", got "+kindOf(node), "write "+kindNames[kind]+" here, or remove the line")
	default:
		return true
	}
	return false
}

// literal reports whether a value in quotation marks stands on its line as it
// reads, so that a search of the file for a name or a scope finds all its uses.
func (r *reader) literal(at place) bool {
	if at.node.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) == 0 {
		return true
	}
	// Columns count characters, so the value is not before that byte.
	line := r.lines[at.node.Line-1]
	if bytes.Contains(line[min(at.node.Column, len(line)):], []byte(at.node.Value)) {
		return true
	}
	r.problem(at, "YAML escapes are refused", "write "+quote(at.node.Value)+" on one line without escapes, so that a search of the file finds it")
	return false
}

var kindNames = map[yaml.Kind]string{
	yaml.MappingNode:  "a mapping",
	yaml.SequenceNode: "a list",
	yaml.ScalarNode:   "a single value",
}

var tagNames = map[string]string{
	"!!null": "nothing", "!!int": "a number", "!!float": "a number", "!!bool": "true or false",
	"!!timestamp": "a date", "!!str": "a string",
}

func kindOf(node *yaml.Node) string {
	if name, ok := tagNames[node.Tag]; ok {
		return name
	}
	if name, ok := kindNames[node.Kind]; ok {
		return name
	}
	return "something else"
}
