package recent

import (
	"sync"
	"time"
)

// Bounds of a Memory. What there is no room for makes the oldest go.
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
	ring    []Issuance
	next    uint64 // number of the next one; the first is 1
	oldest  uint64 // number of the oldest that is kept
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
		began: now, ring: make([]Issuance, MaxIssuances), next: 1, oldest: 1,
		traces: traces{byID: map[TraceID]*spans{}}, agents: map[string]*agentUse{}, readers: map[*Subscription]struct{}{},
	}
}

// Add remembers an issuance, and gives it its number. It keeps no reference to
// i, and of a plain hit copies nothing but i itself.
func (m *Memory) Add(i *Issuance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i.Number = m.next
	m.next++
	if i.Number-m.oldest >= uint64(len(m.ring)) {
		m.forget()
	}
	slot := &m.ring[i.Number%uint64(len(m.ring))]
	*slot = *i
	slot.own(m)
	m.bytes += slot.size()
	for m.bytes > maxTextBytes && m.oldest < i.Number {
		m.forget()
	}
	m.minutes.count(slot)
	m.use(slot)
	for reader := range m.readers {
		reader.offer(slot)
	}
}

// forget forgets the oldest.
func (m *Memory) forget() {
	slot := &m.ring[m.oldest%uint64(len(m.ring))]
	m.bytes -= slot.size()
	*slot = Issuance{}
	m.oldest++
}

// Find returns the newest issuances that match, the newest first, and how many
// match in all.
func (m *Memory) Find(q Query) (found []Issuance, matching int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n := m.next; n > m.oldest; {
		n--
		i := &m.ring[n%uint64(len(m.ring))]
		if !q.matches(i) {
			continue
		}
		matching++
		if len(found) < q.Limit {
			found = append(found, *i)
		}
	}
	return found, matching
}

// Get returns the issuance with the id, if it is still remembered.
func (m *Memory) Get(id string) (Issuance, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := m.where(func(i *Issuance) bool { return i.ID == id }); i != nil {
		return *i, true
	}
	return Issuance{}, false
}

// where returns the newest issuance for which is holds, or nil.
func (m *Memory) where(is func(*Issuance) bool) *Issuance {
	for n := m.next; n > m.oldest; {
		n--
		if i := &m.ring[n%uint64(len(m.ring))]; is(i) {
			return i
		}
	}
	return nil
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
	return Held{Since: m.began, Issuances: int(m.next - m.oldest), Seen: m.next - 1, Traces: len(m.traces.byID), Spans: m.traces.count, Bytes: m.bytes + m.traces.bytes}
}
