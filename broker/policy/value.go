package policy

import (
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

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

var decimal = patternOf(`^(0|[1-9][0-9]{0,9})$`)

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

// guid reads a GUID and returns it in lower case.
func (r *reader) guid(at place, hint string) string {
	text, ok := r.text(at)
	if ok && !isGUID(strings.ToLower(text)) {
		r.problem(at, quote(text)+" is not a GUID", hint)
		return ""
	}
	return strings.ToLower(text)
}

// once tells the first time that a value is met from the others.
type once[T comparable] map[T]struct{}

func (o once[T]) again(value T) bool {
	_, met := o[value]
	o[value] = struct{}{}
	return met
}

// guids reads GUIDs, each of them once.
func (r *reader) guids(items []place, hint string) []string {
	var ids []string
	once := once[string]{}
	for _, item := range items {
		switch id := r.guid(item, hint); {
		case id == "":
		case once.again(id):
			r.problem(item, quote(id)+" is listed twice", "remove one of the two")
		default:
			ids = append(ids, id)
		}
	}
	return ids
}

// members reads a sequence that must not be empty.
func (r *reader) members(at place) []place {
	before := r.found
	items := r.items(at)
	if at.present() && len(items) == 0 && r.found == before {
		r.problem(at, "the list is empty", "list what is meant, or remove the field")
	}
	return items
}

// matching reads a string of the given form.
func (r *reader) matching(at place, form pattern, want string) string {
	text, ok := r.text(at)
	if ok && !form.MatchString(text) {
		r.problem(at, "want "+want+", got "+quote(text), "write it as the platform does")
		return ""
	}
	return text
}

// words reads values of claims of the given form, each of them once.
func (r *reader) words(at place, form pattern, want string) []string {
	var words []string
	once := once[string]{}
	for _, item := range r.members(at) {
		word, ok := r.text(item)
		switch {
		case !ok:
		case !form.MatchString(word):
			r.problem(item, "want "+want+", got "+quote(word), "write it as it stands in a user token")
		case once.again(word):
			r.problem(item, quote(word)+" is listed twice", "remove one of the two")
		default:
			words = append(words, word)
		}
	}
	return words
}

var durationForm = patternOf(`^[1-9][0-9]{0,3}[mh]$`)

// duration reads whole minutes or hours, from least to most; an absent one is 0.
func (r *reader) duration(at place, least, most time.Duration, want string) time.Duration {
	text, ok := r.text(at)
	if !ok {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || !durationForm.MatchString(text) || d < least || d > most {
		r.problem(at, "want "+want+", got "+quote(text), "write whole minutes or hours, such as 30m or 8h")
		return 0
	}
	return d
}
