package policy

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// place is a value in the file: what it is, where it stands, and its path. The
// zero place is a field that is absent.
type place struct {
	node *yaml.Node
	path string
}

func (p place) present() bool { return p.node != nil }

// or returns the place, or other when it is absent.
func (p place) or(other place) place {
	if p.present() {
		return p
	}
	return other
}

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
	options  Options
	lines    [][]byte // of data
	cursor   cursor   // in lines
	problems Problems // the first of them
	found    int      // how many there are
	warnings []Problem

	identities, roles, apis []string          // names that can be referred to, sorted
	used                    map[string]bool   // what is referred to, as "role reader"
	actors                  map[string]actor  // by identity: the first agent that acts as it
	choices                 map[string]choice // identities as agents choose them
	grants                  int               // in the whole file
	fromPod                 []FromPod
}

// whole reports a problem that belongs to no value.
func (r *reader) whole(line, column int, message, hint string) {
	r.add(Problem{File: r.file, Line: line, Column: column, Message: message, Hint: hint})
}

func (r *reader) problem(at place, message, hint string) {
	r.add(r.at(at, message, hint))
}

// maxProblems are far more than people mend before they look again. A file has room
// for hundreds of thousands, which no log and no answer of a webhook can hold.
const maxProblems = 500

func (r *reader) add(p Problem) {
	if r.found++; r.found <= maxProblems {
		r.problems = append(r.problems, p)
	}
}

// failure returns the problems, or nil when there are none.
func (r *reader) failure() error {
	if r.found == 0 {
		return nil
	}
	sortProblems(r.problems)
	if more := r.found - len(r.problems); more > 0 {
		r.problems = append(r.problems, Problem{File: r.file, Message: fmt.Sprintf("%d more problems", more), Hint: "mend these first"})
	}
	return r.problems
}

func (r *reader) warning(at place, message, hint string) {
	r.warnings = append(r.warnings, r.at(at, message, hint))
}

func (r *reader) at(at place, message, hint string) Problem {
	return Problem{File: r.file, Line: at.node.Line, Column: at.node.Column, Path: at.path, Message: message, Hint: hint}
}

// fields reads a mapping whose keys are the fields of f. Fields that are not
// known are problems, and so are required ones that are absent.
func (r *reader) fields(at place, f *form) (map[string]place, bool) {
	entries, ok := r.entries(at)
	if !ok {
		return nil, false
	}
	found := make(map[string]place, len(entries))
	known, meant := f.known(), map[string]bool{}
	for _, e := range entries {
		if !slices.Contains(known, e.name) {
			r.problem(e.key, "unknown field "+quote(e.name), DidYouMean(e.name, known))
			meant[nearest(e.name, known)] = true
			continue
		}
		found[e.name] = e.value
	}
	for _, name := range f.Required {
		if _, ok := found[name]; !ok && !meant[name] {
			r.problem(at, "the field "+name+" is missing", "add "+name+" here")
		}
	}
	return found, true
}

// kind reads a mapping with exactly one of the fields of f. what is the mapping
// in a message, and lacks what a mapping without fields leaves open.
func (r *reader) kind(at place, f *form, what, lacks string) (name string, value place, ok bool) {
	before := r.found
	fields, ok := r.fields(at, f)
	if !ok {
		return "", place{}, false
	}
	kinds := slices.Sorted(maps.Keys(fields))
	switch {
	case len(kinds) == 1:
		return kinds[0], fields[kinds[0]], true
	case len(kinds) > 1:
		r.problem(at, what+" has "+strings.Join(kinds, " and ")+"; it can have one of them", "keep one, and write one of its own for each other")
	case r.found == before: // else a kind that nobody knows has been reported
		r.problem(at, what+" does not say "+lacks, "add one of "+strings.Join(f.known(), ", "))
	}
	return "", place{}, false
}

// choose returns the one of the named fields that is present.
func (r *reader) choose(at place, fields map[string]place, names ...string) (string, bool) {
	var present []string
	for _, name := range names {
		if fields[name].present() {
			present = append(present, name)
		}
	}
	switch len(present) {
	case 1:
		return present[0], true
	case 0:
		r.problem(at, "one of the fields "+strings.Join(names, ", ")+" is missing", "add one of them here")
	default:
		r.problem(fields[present[1]], present[1]+" stands beside "+present[0], "remove one of the two")
	}
	return "", false
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
	// Right behind its quotation mark: elsewhere on the line it may be a comment.
	if bytes.HasPrefix(r.textAt(at.node.Line, at.node.Column+1), []byte(at.node.Value)) {
		return true
	}
	r.problem(at, "YAML escapes are refused", "write "+quote(at.node.Value)+" on one line without escapes, so that a search of the file finds it")
	return false
}

// cursor is a character of the file: columns count characters from 1, offset is the
// byte of its line. The zero cursor is nowhere.
type cursor struct{ line, column, offset int }

// textAt returns the rest of a line from a column on. It goes there from where it was
// last, as a file may be one line.
func (r *reader) textAt(line, column int) []byte {
	text, c := r.lines[line-1], &r.cursor
	if c.line != line {
		*c = cursor{line, 1, 0}
	}
	for c.column < column && c.offset < len(text) {
		_, size := utf8.DecodeRune(text[c.offset:])
		c.column, c.offset = c.column+1, c.offset+size
	}
	for c.column > column {
		_, size := utf8.DecodeLastRune(text[:c.offset])
		c.column, c.offset = c.column-1, c.offset-size
	}
	return text[c.offset:]
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
