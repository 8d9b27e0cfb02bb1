package recent

import (
	"cmp"
	"slices"
	"time"
)

// entry is an issuance as it is remembered: what is its own, and its kind.
type entry struct {
	number               uint64
	start                time.Time
	took                 time.Duration
	id                   string
	trace                TraceID
	span, parent, joined SpanID
	kind                 *kind
}

// issuance is all of it.
func (e *entry) issuance() Issuance {
	i := e.kind.of
	i.Number, i.Start, i.Took, i.ID, i.TraceID, i.SpanID, i.Parent, i.Joined = e.number, e.start, e.took, e.id, e.trace, e.span, e.parent, e.joined
	return i
}

// share is what is remembered of one agent's issuances of one sort. Where there is
// no room the largest share gives way, so that an agent that asks a thousand times a
// second, or is refused as often, does not make all others' be forgotten.
type share struct {
	key   shareKey
	ring  []entry // a power of two
	first int     // index of the oldest
	count int
	bytes int // of the texts
}

type shareKey struct {
	agent string
	sort  sort
}

// sort is of issuances that come as often as each other.
type sort uint8

const (
	plainHit   sort = iota // many
	inspection             // as many as an API has callers
	denial                 // few, or very many
	work                   // few: all that took some
)

func (i *Issuance) sort() sort {
	switch {
	case i.Plain():
		return plainHit
	case i.Decision == Deny:
		return denial
	case i.Inspection:
		return inspection
	default:
		return work
	}
}

func (m *Memory) shareOf(i *Issuance) *share {
	key := shareKey{i.Agent, i.sort()}
	s := m.shares[key]
	if s == nil {
		s = &share{key: key}
		m.shares[key] = s
	}
	return s
}

// minRing is the smallest ring.
const minRing = 8

func (s *share) at(n int) *entry { return &s.ring[(s.first+n)&(len(s.ring)-1)] }

func (s *share) push(e entry) {
	if s.count == len(s.ring) {
		s.resize(max(minRing, 2*len(s.ring)))
	}
	*s.at(s.count) = e
	s.count++
}

func (s *share) pop() entry {
	e := *s.at(0)
	*s.at(0) = entry{}
	s.first = (s.first + 1) & (len(s.ring) - 1)
	s.count--
	if len(s.ring) > minRing && s.count < len(s.ring)/4 {
		s.resize(len(s.ring) / 2)
	}
	return e
}

func (s *share) resize(room int) {
	ring := make([]entry, room)
	for n := range s.count {
		ring[n] = *s.at(n)
	}
	s.ring, s.first = ring, 0
}

// forget forgets the oldest of the largest share, by the number of its issuances or by
// their texts; of own, to which one comes, if that has its part of all that there may be.
func (m *Memory) forget(own *share, size func(*share) int, most int) {
	largest := own
	if own.count < 2 || size(own)*len(m.shares) < most {
		largest = nil
		for _, s := range m.shares {
			if (s != own || s.count > 1) && (largest == nil || size(s) > size(largest)) {
				largest = s
			}
		}
	}
	e := largest.pop()
	m.held--
	m.bytes -= len(e.id)
	largest.bytes -= len(e.id)
	m.release(e.kind)
	if largest.count == 0 && largest != own {
		delete(m.shares, largest.key)
	}
}

func byCount(s *share) int { return s.count }
func byBytes(s *share) int { return s.bytes }

// all returns everything that is remembered, the newest first.
func (m *Memory) all() []*entry {
	list := make([]*entry, 0, m.held)
	for _, s := range m.shares {
		for n := range s.count {
			list = append(list, s.at(n))
		}
	}
	slices.SortFunc(list, func(a, b *entry) int { return cmp.Compare(b.number, a.number) })
	return list
}
