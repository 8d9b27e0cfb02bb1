package policy

import (
	"regexp"
	"sync"
)

// pattern is a regular expression that is compiled when something is first
// compared with it: with counted repetitions one takes up to 300 KB, and a policy
// needs few of them.
type pattern struct {
	text     string
	compiled func() *regexp.Regexp
}

func patternOf(text string) pattern {
	return pattern{text, sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })}
}

// MatchString reports whether the text matches.
func (p pattern) MatchString(text string) bool { return p.compiled().MatchString(text) }

// String is the regular expression.
func (p pattern) String() string { return p.text }
