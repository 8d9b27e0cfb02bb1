package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// MaxFileBytes is the size of the largest file that Parse and ParseCeiling take: far
// above any policy that people can review, and low enough that no file can keep the
// parser busy.
const MaxFileBytes = 1 << 20

// maxValues is more than a file of that size has that people wrote, and bounds what it
// takes in memory, which is some 250 bytes a value.
const maxValues = 150_000

// mostValues is how many values the file can have at most: each but the first stands
// behind one of these.
func (r *reader) mostValues() int {
	n := 1
	for _, mark := range []string{"\n", ",", "[", "{", ":", "- ", "? "} {
		n += bytes.Count(r.data, []byte(mark))
	}
	return n
}

// document returns the root of the one YAML document in data, or reports why
// there is none.
func (r *reader) document() (root *yaml.Node, ok bool) {
	if len(r.data) > MaxFileBytes {
		r.whole(0, 0, fmt.Sprintf("the file is too large: the limit is %d bytes", MaxFileBytes), "split the policy among several brokers")
		return nil, false
	}
	if n := r.mostValues(); n > maxValues {
		r.whole(0, 0, fmt.Sprintf("the file has room for %d values; the limit is %d", n, maxValues), "split the policy among several brokers")
		return nil, false
	}
	if !r.visible() {
		return nil, false
	}
	r.lines = bytes.Split(bytes.TrimPrefix(r.data, []byte("\ufeff")), []byte("\n")) // columns do not count the mark of the encoding
	decoder := yaml.NewDecoder(bytes.NewReader(r.data))
	var first, second yaml.Node
	switch err := decode(decoder, &first); {
	case errors.Is(err, io.EOF):
		r.whole(0, 0, "the file is empty", "start with version: 1")
		return nil, false
	case err != nil:
		r.syntax(err)
		return nil, false
	}
	// yaml/v3 reads the first document and says nothing about a second one.
	switch err := decode(decoder, &second); {
	case err == nil:
		r.whole(second.Line, second.Column, "a second YAML document begins here", "keep one document: remove what follows the ---, or move it to a file of its own")
	case !errors.Is(err, io.EOF):
		r.syntax(err)
		return nil, false
	}
	root = first.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		r.whole(0, 0, "the file is empty", "start with version: 1")
		return nil, false
	}
	return root, true
}

// decode fills node. Decoding to a Node expands no alias, so the tree is never
// larger than the file. yaml/v3 panics where it believes that it cannot come;
// a broker that reloads its policy must survive that belief.
func decode(decoder *yaml.Decoder, node *yaml.Node) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("yaml: %v", v)
		}
	}()
	return decoder.Decode(node)
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

// syntax reports an error of yaml/v3. It names no line for the first one.
func (r *reader) syntax(err error) {
	line, message := 1, err.Error()
	if match := yamlError.FindStringSubmatch(message); match != nil {
		message = match[2]
		if n, err := strconv.Atoi(match[1]); err == nil {
			line = n
		}
	}
	r.whole(line, 1, "not YAML: "+clip(message), "mind the indentation, the space after each colon, and the quotation marks")
}

// visible reports whether the file reads the same to a person and to a
// parser: it refuses what editors and terminals do not show.
func (r *reader) visible() bool {
	line, column := 1, 1
	for rest := r.data; len(rest) > 0; {
		c, size := utf8.DecodeRune(rest)
		if what := invisible(c, rest[size:], size); what != "" {
			r.whole(line, column, "the file has "+what, "save the file as plain UTF-8 text, and remove what your editor does not show")
			return false
		}
		column++
		if c == '\n' {
			line, column = line+1, 1
		}
		rest = rest[size:]
	}
	return true
}

func invisible(c rune, next []byte, size int) string {
	switch {
	case c == utf8.RuneError && size == 1:
		return "a byte that is not UTF-8"
	case c == 0:
		return "a NUL byte"
	case c == '\r' && (len(next) == 0 || next[0] != '\n'):
		return "a carriage return inside a line"
	case c == '\u0085' || c == '\u2028' || c == '\u2029':
		return fmt.Sprintf("a line break that editors do not show (%U)", c)
	case c >= '\u202a' && c <= '\u202e' || c >= '\u2066' && c <= '\u2069' || c == '\u200e' || c == '\u200f' || c == '\u061c':
		return fmt.Sprintf("a character that reverses the text around it (%U)", c)
	case c != '\t' && c != '\n' && c != '\r' && c < 0x20 || c >= 0x7f && c < 0xa0:
		return fmt.Sprintf("a control character (%U)", c)
	}
	return ""
}
