package recent

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Span is a piece of work below an issuance.
type Span struct {
	TraceID    TraceID       `json:"trace_id"`
	SpanID     SpanID        `json:"span_id"`
	Parent     SpanID        `json:"parent_span_id,omitzero"`
	Name       string        `json:"name"`
	Start      time.Time     `json:"start"`
	Took       time.Duration `json:"-"` // duration_us
	Error      string        `json:"error,omitempty"`
	Attributes []Attribute   `json:"attributes,omitempty"`
	Links      []Link        `json:"links,omitempty"` // to work that was shared
	Issuance   string        `json:"issuance_id,omitempty"`
}

// Attribute is one attribute of a span.
type Attribute struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Link names a span of another trace, or of the same.
type Link struct {
	TraceID TraceID `json:"trace_id"`
	SpanID  SpanID  `json:"span_id"`
}

// MarshalJSON writes the duration as issuances do.
func (s Span) MarshalJSON() ([]byte, error) {
	type plain Span
	return json.Marshal(struct {
		plain
		Took int64 `json:"duration_us"`
	}{plain(s), s.Took.Microseconds()})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (s *Span) UnmarshalJSON(b []byte) error {
	type plain Span
	var read struct {
		plain
		Took int64 `json:"duration_us"`
	}
	if err := json.Unmarshal(b, &read); err != nil {
		return err
	}
	*s = Span(read.plain)
	s.Took = time.Duration(read.Took) * time.Microsecond
	return nil
}

// Value returns the value of an attribute, or "".
func (s *Span) Value(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}

// traces keeps spans by trace. The oldest trace goes first.
type traces struct {
	byID  map[TraceID]*spans
	order []TraceID // the oldest first
	count int
	bytes int
}

type spans struct {
	list []Span
	lost int // spans that there was no room for
}

const (
	maxAttributes = 24
	maxLinks      = 4
	spanOverhead  = 256
)

func (s *Span) size() int {
	n := spanOverhead + len(s.Name) + len(s.Error) + 24*len(s.Links)
	for _, a := range s.Attributes {
		n += 32 + len(a.Key) + len(a.Value)
	}
	return n
}

// AddSpan remembers a span. It keeps no reference to what s holds.
func (m *Memory) AddSpan(s Span) {
	s.Attributes = slices.Clone(s.Attributes[:min(len(s.Attributes), maxAttributes)])
	s.Links = slices.Clone(s.Links[:min(len(s.Links), maxLinks)])
	for n := range s.Attributes {
		s.Attributes[n].Value = strings.Clone(clip(s.Attributes[n].Value))
	}
	s.Error = strings.Clone(clip(s.Error))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.traces.add(s)
}

func (t *traces) add(s Span) {
	held := t.byID[s.TraceID]
	if held == nil {
		held = &spans{}
		t.byID[s.TraceID] = held
		t.order = append(t.order, s.TraceID)
	}
	if len(held.list) >= MaxSpans { // a caller may put all it does into one trace
		t.bytes -= held.list[0].size()
		held.list = slices.Delete(held.list, 0, 1)
		held.lost++
		t.count--
	}
	held.list = append(held.list, s)
	t.count++
	t.bytes += s.size()
	for len(t.order) > maxTraces || t.bytes > maxSpanBytes && len(t.order) > 1 {
		t.forget()
	}
}

func (t *traces) forget() {
	oldest := t.order[0]
	t.order = t.order[1:]
	for _, s := range t.byID[oldest].list {
		t.bytes -= s.size()
		t.count--
	}
	delete(t.byID, oldest)
}

// Trace is what is remembered of one trace.
type Trace struct {
	Spans []Span `json:"spans"` // in order of their start
	Lost  int    `json:"lost,omitempty"`
}

// Trace returns the spans of a trace, those of its issuances among them.
func (m *Memory) Trace(id TraceID) Trace {
	m.mu.Lock()
	defer m.mu.Unlock()
	var t Trace
	if id == (TraceID{}) {
		return t
	}
	if held := m.traces.byID[id]; held != nil {
		t.Spans, t.Lost = slices.Clone(held.list), held.lost
	}
	for _, e := range slices.Backward(m.all()) {
		if e.trace == id && e.span != (SpanID{}) {
			i := e.issuance()
			t.Spans = append(t.Spans, i.Span())
		}
	}
	slices.SortStableFunc(t.Spans, func(a, b Span) int {
		return cmp.Or(a.Start.Compare(b.Start), -cmp.Compare(a.Took, b.Took))
	})
	return t
}

// Span is the span of the issuance itself, made from its record.
func (i *Issuance) Span() Span {
	s := Span{TraceID: i.TraceID, SpanID: i.SpanID, Parent: i.Parent, Name: "token.issue", Start: i.Start, Took: i.Took, Issuance: i.ID}
	if i.Inspection {
		s.Name = "token.inspect"
	}
	if i.Decision == Fail {
		s.Error = i.Reason
	}
	for _, a := range []Attribute{
		{"credfree.agent", i.Agent}, {"credfree.decision", i.Decision}, {"credfree.reason", i.Reason}, {"credfree.cache", i.Cache}, {"credfree.token.kind", i.TokenKind},
	} {
		if a.Value != "" {
			s.Attributes = append(s.Attributes, a)
		}
	}
	return s
}

// Below returns the span of the issuance and those below it, out of the
// spans of its trace. An issuance without a trace has its own alone.
func (i *Issuance) Below(all []Span) []Span {
	own := i.Span()
	below := []Span{own}
	if i.SpanID == (SpanID{}) {
		return below
	}
	kept := map[SpanID]bool{i.SpanID: true}
	for grown := true; grown; { // children may come before their parents
		grown = false
		for _, s := range all {
			if !kept[s.SpanID] && kept[s.Parent] {
				kept[s.SpanID], grown = true, true
			}
		}
	}
	for _, s := range all {
		if kept[s.SpanID] && s.SpanID != i.SpanID {
			below = append(below, s)
		}
	}
	return below
}

// Shared returns the id of the issuance whose exchange i joined, if it is
// still remembered.
func (m *Memory) Shared(i *Issuance) string {
	if i.Joined == (SpanID{}) {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	leader, _ := m.where(func(e *entry) bool { return e.span == i.Joined })
	return leader.ID
}
