package recent

import (
	"strings"
	"time"
)

// Minute is what happened within one minute.
type Minute struct {
	Start     time.Time `json:"time"`
	Allowed   int       `json:"allowed"`
	Denied    int       `json:"denied"`
	Failed    int       `json:"failed"`
	Hits      int       `json:"cache_hits"` // of those allowed
	Exchanges int       `json:"exchanges"`  // issuances that asked Entra, answered or not
	// Mean and slowest of the exchanges, as their callers saw them.
	Mean      time.Duration `json:"exchange_mean_ns"`
	Slowest   time.Duration `json:"exchange_slowest_ns"`
	Errors    int           `json:"entra_errors"`    // refused, unreachable, too slow
	Throttled int           `json:"entra_throttled"` // of them
}

// Hour is how many minutes are remembered.
const Hour = 60

// minutes is a ring by the minute.
type minutes [Hour]struct {
	Minute
	at  int64 // minutes since 1970
	sum time.Duration
}

func (m *minutes) count(i *Issuance) {
	at := i.End().Unix() / 60
	slot := &m[uint64(at)%Hour]
	if slot.at > at {
		return // the clock was put back: too old
	}
	if slot.at != at {
		slot.Minute, slot.at, slot.sum = Minute{}, at, 0
	}
	switch i.Decision {
	case Allow:
		slot.Allowed++
	case Deny:
		slot.Denied++
	default:
		slot.Failed++
	}
	switch i.Cache {
	case "hit":
		slot.Hits++
	case "miss":
		slot.Exchanges++
		slot.sum += i.Took
		slot.Slowest = max(slot.Slowest, i.Took)
		slot.Mean = slot.sum / time.Duration(slot.Exchanges)
	}
	if i.Decision == Fail && (strings.HasPrefix(i.Reason, "entra_") || i.Reason == "timeout" || i.Reason == "reply_malformed") {
		slot.Errors++
		if i.Reason == "entra_throttled" {
			slot.Throttled++
		}
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
