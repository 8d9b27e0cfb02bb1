package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong, or in Policy.Warnings suspicious, in a
// policy file. Line and Column start at 1; 0 means the file as a whole.
type Problem struct {
	File         string
	Line, Column int
	Path         string // e.g. agents.researcher.allow.scopes[0]; "" for the file as a whole
	Message      string
	Hint         string // what to change; never empty
}

// String returns "file:line:column: path: message", without the hint.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	if p.Path != "" {
		b.WriteString(": " + p.Path)
	}
	b.WriteString(": " + p.Message)
	return b.String()
}

// Problems is the error of Parse: the problems of one file, sorted by line; of more
// than 500 the last one says how many are left out.
type Problems []Problem

// Error returns all problems, each followed by a line with its hint.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String() + "\n  hint: " + problem.Hint
	}
	return strings.Join(lines, "\n")
}

func sortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
