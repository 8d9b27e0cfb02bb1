package recent

import (
	"strings"
	"time"
)

// Minute is what happened within one minute.
type Minute struct {
	Start           time.Time `json:"time"`
	Allowed         int       `json:"allowed"`   // tokens handed out
	Inspected       int       `json:"inspected"` // told what a token says
	Denied          int       `json:"denied"`
	Failed          int       `json:"failed"`
	Hits            int       `json:"cache_hits"` // of those allowed
	Exchanges       int       `json:"exchanges"`  // for issuances and refreshes, that asked Entra and have ended
	Refreshes       int       `json:"refreshes"`  // in the background, before a token expires, whether or not Entra was asked
	RefreshesFailed int       `json:"refreshes_failed"`
	// Mean and slowest of the exchanges, whether or not somebody still waited for them.
	Mean      time.Duration `json:"exchange_mean_ns"`
	Slowest   time.Duration `json:"exchange_slowest_ns"`
	Errors    int           `json:"entra_errors"`    // refused, unreachable, too slow
	Throttled int           `json:"entra_throttled"` // of them
}

// Hour is how many minutes are remembered.
const Hour = 60

// minutes is a ring by the minute.
type minutes [Hour]minute

type minute struct {
	Minute
	at  int64 // minutes since 1970
	sum time.Duration
}

// minute is where what ended just now is counted. It takes the place of another
// minute, also of a later one: the clock was ahead then, and has been put right.
func (m *minutes) minute(ended time.Time) *minute {
	at := ended.Unix() / 60
	slot := &m[uint64(at)%Hour]
	if slot.at != at {
		*slot = minute{at: at}
	}
	return slot
}

func (m *minutes) count(i *Issuance) {
	slot := m.minute(i.End())
	switch {
	case i.Inspected():
		slot.Inspected++
	case i.Decision == Allow:
		slot.Allowed++
		if i.Cache == "hit" {
			slot.Hits++
		}
	case i.Decision == Deny:
		slot.Denied++
	default:
		slot.Failed++
	}
}

// AddExchange remembers that Entra was asked for a token that there was not. reason is
// why there is none, or "".
func (m *Memory) AddExchange(start time.Time, took time.Duration, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	slot := m.minutes.minute(start.Add(took))
	slot.exchanged(took)
	slot.failed(reason)
}

// AddRefresh remembers that a token was asked for before the one at hand expires.
// reason is why there is none, or ""; asked, whether Entra was.
func (m *Memory) AddRefresh(start time.Time, took time.Duration, reason string, asked bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	slot := m.minutes.minute(start.Add(took))
	slot.Refreshes++
	if reason != "" {
		slot.RefreshesFailed++
	}
	if asked {
		slot.exchanged(took)
		slot.failed(reason)
	}
}

func (m *minute) exchanged(took time.Duration) {
	m.Exchanges++
	m.sum += took
	m.Slowest = max(m.Slowest, took)
	m.Mean = m.sum / time.Duration(m.Exchanges)
}

func (m *minute) failed(reason string) {
	if strings.HasPrefix(reason, "entra_") || reason == "timeout" || reason == "reply_malformed" {
		m.Errors++
	}
	if reason == "entra_throttled" {
		m.Throttled++
	}
}

// Minutes returns the last hour, the oldest minute first and that of now last.
func (m *Memory) Minutes(now time.Time) []Minute {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Minute, Hour)
	last := now.Unix() / 60
	for n := range list {
		at := last - Hour + 1 + int64(n)
		if slot := &m.minutes[uint64(at)%Hour]; slot.at == at {
			list[n] = slot.Minute
		}
		list[n].Start = time.Unix(at*60, 0).UTC()
	}
	return list
}
