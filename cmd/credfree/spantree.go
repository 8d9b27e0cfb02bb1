package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/credfree/credfree/broker/recent"
)

// spanTree draws the spans of one trace, parents before children, in order of
// their start. A span whose parent is not among them, such as that of an agent
// that began the trace, stands at the left.
func spanTree(spans []recent.Span) string {
	known := map[recent.SpanID]bool{}
	for _, span := range spans {
		known[span.SpanID] = true
	}
	children := map[recent.SpanID][]recent.Span{}
	for _, span := range spans {
		parent := span.Parent
		if !known[parent] || parent == span.SpanID {
			parent = recent.SpanID{}
		}
		children[parent] = append(children[parent], span)
	}
	if len(spans) == 1 { // it may have no id at all
		children = map[recent.SpanID][]recent.Span{{}: spans}
	}
	var out strings.Builder
	var draw func(parent recent.SpanID, indent string)
	draw = func(parent recent.SpanID, indent string) {
		level := children[parent]
		delete(children, parent) // ids that come twice would not end
		slices.SortStableFunc(level, func(a, b recent.Span) int { return cmp.Or(a.Start.Compare(b.Start), -cmp.Compare(a.Took, b.Took)) })
		for i, span := range level {
			branch, next := "├─ ", "│  "
			if i == len(level)-1 {
				branch, next = "└─ ", "   "
			}
			fmt.Fprintf(&out, "  %-24s %7.2f ms  %s\n", indent+branch+span.Name, float64(span.Took.Microseconds())/1000, summary(&span))
			if span.SpanID != (recent.SpanID{}) {
				draw(span.SpanID, indent+next)
			}
		}
	}
	draw(recent.SpanID{}, "")
	return visible(out.String())
}

// visible is a text of several lines without what would do something to a terminal:
// nobody knows who listens where a broker did.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// told are the attributes that tell the story of a trace, in order.
var told = []string{
	"credfree.agent", "credfree.decision", "credfree.reason", "credfree.cache", "credfree.entra.leg", "credfree.token.kind", "credfree.assertion.subject", "credfree.entra.correlation_id",
	"credfree.entra.error", "credfree.entra.error_code", "credfree.exchange.held_back", "http.response.status_code",
}

// summary is what a span says about itself, on one line.
func summary(span *recent.Span) string {
	var words []string
	for _, key := range told {
		if value := span.Value(key); value != "" {
			words = append(words, strings.TrimPrefix(key, "credfree.")+"="+value)
		}
	}
	if span.Error != "" && span.Value("credfree.reason") == "" {
		words = append(words, "error="+span.Error)
	}
	for _, link := range span.Links {
		words = append(words, "shares="+link.TraceID.String())
	}
	return strings.Join(words, " ")
}
