package recent

import "slices"

// Subscription receives issuances as they happen.
type Subscription struct {
	query  Query
	to     chan Issuance
	missed int // guarded by the Memory's mutex
}

// waiting is how many issuances wait for a slow reader.
const waiting = 64

// MaxSubscriptions bounds how many read at a time.
const MaxSubscriptions = 16

// Subscribe returns the issuances that match and are remembered, the oldest
// first, and a subscription to those to come: none is lost in between, and those
// that are not remembered any more are missed at once. It returns nil when there
// are too many readers.
func (m *Memory) Subscribe(q Query) ([]Issuance, *Subscription) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.readers) >= MaxSubscriptions {
		return nil, nil
	}
	var before []Issuance
	missed := int(max(m.next-1, q.After) - q.After)
	for _, e := range slices.Backward(m.all()) {
		if e.number <= q.After {
			continue
		}
		missed--
		if i := e.issuance(); q.matches(&i) {
			before = append(before, i)
		}
	}
	s := &Subscription{query: q, to: make(chan Issuance, waiting), missed: missed}
	m.readers[s] = struct{}{}
	return before, s
}

// Last is the number of the newest issuance.
func (m *Memory) Last() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.next - 1
}

// C is where they arrive.
func (s *Subscription) C() <-chan Issuance { return s.to }

// offer never waits: a reader that is too slow misses some, and is told so.
func (s *Subscription) offer(i *Issuance) {
	if !s.query.matches(i) {
		return
	}
	select {
	case s.to <- *i:
	default:
		s.missed++
	}
}

// Missed returns how many the reader missed since it last asked.
func (m *Memory) Missed(s *Subscription) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := s.missed
	s.missed = 0
	return n
}

// Unsubscribe ends a subscription.
func (m *Memory) Unsubscribe(s *Subscription) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.readers, s)
}
