package recent

import (
	"sync"
	"time"
)

// Bounds of a Memory. What there is no room for makes the oldest go: of issuances, the
// oldest of the agent and the sort that has most.
const (
	MaxIssuances = 1_000
	maxTextBytes = 1 << 20 // of issuances
	MaxSpans     = 64      // of one trace
	maxTraces    = 500
	maxSpanBytes = 1 << 20
	maxAgents    = 500
	maxRights    = 2_000 // of all agents
)

// MaxBytes bounds what a Memory takes, all together.
const MaxBytes = 4 << 20

// Memory remembers. It is safe for concurrent use.
type Memory struct {
	began time.Time

	mu      sync.Mutex // guards the rest; never held while anything waits
	shares  map[shareKey]*share
	kinds   map[kindKey]*kind
	next    uint64 // number of the next one; the first is 1
	held    int    // how many are kept
	bytes   int    // of the texts
	texts   texts
	traces  traces
	minutes minutes
	agents  map[string]*agentUse
	rights  int
	uncount int64 // uses of agents and rights that there was no room for
	readers map[*Subscription]struct{}
}

// New returns a Memory of nothing. now is when it begins.
func New(now time.Time) *Memory {
	return &Memory{
		began: now, shares: map[shareKey]*share{}, kinds: map[kindKey]*kind{}, next: 1,
		traces: traces{byID: map[TraceID]*spans{}}, agents: map[string]*agentUse{}, readers: map[*Subscription]struct{}{},
	}
}

// Add remembers an issuance, and gives it its number. It keeps no reference to i,
// and of a plain hit that is like others nothing but its ids and times.
func (m *Memory) Add(i *Issuance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i.Number = m.next
	m.next++
	k := m.kindOf(i)
	k.entries++
	if m.held >= MaxIssuances {
		m.forget(k.share, byCount, MaxIssuances)
	}
	e := entry{i.Number, i.Start, i.Took, i.ID, i.TraceID, i.SpanID, i.Parent, i.Joined, k}
	k.share.push(e)
	k.share.bytes += len(i.ID)
	m.held++
	m.bytes += len(i.ID)
	for m.bytes > maxTextBytes && m.held > 1 {
		m.forget(k.share, byBytes, maxTextBytes)
	}
	m.minutes.count(i)
	m.use(k, i.Start)
	if len(m.readers) > 0 {
		kept := e.issuance()
		for reader := range m.readers {
			reader.offer(&kept)
		}
	}
}

// Find returns the newest issuances that match, the newest first, and how many
// match in all.
func (m *Memory) Find(q Query) (found []Issuance, matching int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.all() {
		i := e.issuance()
		if !q.matches(&i) {
			continue
		}
		matching++
		if len(found) < q.Limit {
			found = append(found, i)
		}
	}
	return found, matching
}

// Get returns the issuance with the id, if it is still remembered.
func (m *Memory) Get(id string) (Issuance, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.where(func(e *entry) bool { return e.id == id })
}

// where returns the issuance for which is holds; of no two it does.
func (m *Memory) where(is func(*entry) bool) (Issuance, bool) {
	for _, s := range m.shares {
		for n := range s.count {
			if e := s.at(n); is(e) {
				return e.issuance(), true
			}
		}
	}
	return Issuance{}, false
}

// Held says what a Memory holds.
type Held struct {
	Since     time.Time `json:"since"`     // when it began
	Issuances int       `json:"issuances"` // remembered
	Seen      uint64    `json:"seen"`      // since it began
	Traces    int       `json:"traces"`
	Spans     int       `json:"spans"`
	Bytes     int       `json:"bytes"` // of texts and spans
}

// Held returns what is held now.
func (m *Memory) Held() Held {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Held{Since: m.began, Issuances: m.held, Seen: m.next - 1, Traces: len(m.traces.byID), Spans: m.traces.count, Bytes: m.bytes + m.traces.bytes}
}
