package admin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/credfree/credfree/broker/recent"
)

// bar is one span of a waterfall, drawn on a line that is 1000 wide.
type bar struct {
	Name     string
	Depth    int
	X, Width string
	Start    string // after the first
	Took     string
	Facts    []string
	Error    string
	Class    string
}

const (
	lineWidth = 1000
	leastBar  = 4
)

// waterfall draws spans, parents before children. What has no parent among
// them stands at the left.
func waterfall(spans []recent.Span) (bars []bar, whole string) {
	if len(spans) == 0 {
		return nil, ""
	}
	begin, end := spans[0].Start, spans[0].Start
	known := map[recent.SpanID]bool{}
	for _, s := range spans {
		known[s.SpanID] = true
		if s.Start.Before(begin) {
			begin = s.Start
		}
		if e := s.Start.Add(s.Took); e.After(end) {
			end = e
		}
	}
	children := map[recent.SpanID][]recent.Span{}
	for _, s := range spans {
		parent := s.Parent
		if !known[parent] || parent == s.SpanID {
			parent = recent.SpanID{}
		}
		if s.SpanID == (recent.SpanID{}) { // without a trace it is alone
			return []bar{barOf(&s, 0, begin, end)}, duration(end.Sub(begin))
		}
		children[parent] = append(children[parent], s)
	}
	var draw func(parent recent.SpanID, depth int)
	draw = func(parent recent.SpanID, depth int) {
		level := children[parent]
		delete(children, parent) // ids that come twice would not end
		slices.SortStableFunc(level, func(a, b recent.Span) int { return cmp.Or(a.Start.Compare(b.Start), -cmp.Compare(a.Took, b.Took)) })
		for i := range level {
			bars = append(bars, barOf(&level[i], depth, begin, end))
			draw(level[i].SpanID, depth+1)
		}
	}
	draw(recent.SpanID{}, 0)
	return bars, duration(end.Sub(begin))
}

func barOf(s *recent.Span, depth int, begin, end time.Time) bar {
	whole := max(end.Sub(begin), time.Microsecond)
	at := func(d time.Duration) float64 { return lineWidth * float64(d) / float64(whole) }
	x := min(at(s.Start.Sub(begin)), lineWidth-leastBar)
	b := bar{
		Name: spanName(s), Depth: min(depth, 6), X: fmt.Sprintf("%.1f", x), Width: fmt.Sprintf("%.1f", min(max(at(s.Took), leastBar), lineWidth-x)),
		Start: duration(s.Start.Sub(begin)), Took: duration(s.Took), Error: s.Error, Class: "span",
	}
	switch {
	case s.Error != "":
		b.Class = "span failed"
	case s.Issuance != "":
		b.Class = "span own"
	}
	for _, key := range told {
		value := s.Value(key)
		if key == "http.response.status_code" && value != "" {
			value = "HTTP " + value
		}
		if value != "" {
			b.Facts = append(b.Facts, value)
		}
	}
	for _, link := range s.Links {
		b.Facts = append(b.Facts, "shares work of trace "+link.TraceID.String())
	}
	return b
}

// told are the attributes that are worth room on the line of a span. Which leg
// it is stands in its name.
var told = []string{
	"credfree.decision", "credfree.cache", "credfree.assertion.source", "credfree.assertion.subject", "credfree.token.kind", "credfree.entra.error", "credfree.entra.error_code",
	"credfree.exchange.held_back", "server.address", "http.response.status_code",
}

func spanName(s *recent.Span) string {
	if leg := s.Value("credfree.entra.leg"); leg != "" {
		return s.Name + " · " + strings.ReplaceAll(leg, "_", " ")
	}
	return s.Name
}
