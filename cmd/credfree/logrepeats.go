package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	repeatPeriod = time.Minute
	repeatGrace  = repeatPeriod / 4 // for the next one to say how many were left out
	maxRepeats   = 256              // messages that are remembered at a time
)

// repeats is a handler that writes a warning or an error once in a period, and
// with the next one how many of the same were left out. Two are the same when
// their messages and values are, but for the ids of requests.
type repeats struct {
	slog.Handler
	given string // values that With has added
	state *repeatState
}

type repeatState struct {
	mu   sync.Mutex // guards seen
	seen map[string]*repeated
}

type repeated struct {
	until time.Time // nothing of the same before
	left  int       // how many were left out
	last  func(left int) error
}

func newRepeats(to slog.Handler) *repeats {
	return &repeats{Handler: to, state: &repeatState{seen: map[string]*repeated{}}}
}

func (h *repeats) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return h.Handler.Handle(ctx, r)
	}
	again := func(left int) error {
		if left > 0 {
			r := r.Clone()
			r.AddAttrs(slog.Int("left_out", left))
			return h.Handler.Handle(ctx, r)
		}
		return h.Handler.Handle(ctx, r)
	}
	left, write := h.state.admit(h.given+keyOf(r), r.Time, again)
	h.state.sweep(r.Time, false)
	if !write {
		return nil
	}
	return again(left)
}

// admit reports whether a message is to be written, and how many were left out
// before it.
func (s *repeatState) admit(key string, now time.Time, again func(int) error) (left int, write bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.seen[key]
	switch {
	case found != nil && now.Before(found.until):
		if found.left++; found.left == 1 {
			time.AfterFunc(found.until.Sub(now)+repeatGrace, func() { s.sweep(time.Now(), false) })
		}
		found.last = again
		return 0, false
	case found != nil:
		left = found.left
	case len(s.seen) >= maxRepeats: // so many different ones are no repeats
		return 0, true
	}
	s.seen[key] = &repeated{until: now.Add(repeatPeriod)}
	return left, true
}

// sweep forgets what has not come again, and says how often it had.
func (s *repeatState) sweep(now time.Time, all bool) {
	s.mu.Lock()
	var ended []*repeated
	for key, one := range s.seen {
		if all || !now.Before(one.until) {
			delete(s.seen, key)
			if one.left > 0 {
				ended = append(ended, one)
			}
		}
	}
	s.mu.Unlock()
	for _, one := range ended {
		_ = one.last(one.left - 1) // the last is written, and the others were left out
	}
}

// everyTime is log for lines that say that something has changed: the last of them has
// to be true, however often the same was said before.
func everyTime(log *slog.Logger) *slog.Logger {
	if quiet, ok := log.Handler().(*repeats); ok {
		return slog.New(quiet.Handler)
	}
	return log
}

// flush writes what was left out, at the end.
func (h *repeats) flush() { h.state.sweep(time.Time{}, true) }

func (h *repeats) WithAttrs(attrs []slog.Attr) slog.Handler {
	var given strings.Builder
	given.WriteString(h.given)
	for _, a := range attrs {
		given.WriteString(a.String() + "\x00")
	}
	return &repeats{Handler: h.Handler.WithAttrs(attrs), given: given.String(), state: h.state}
}

func (h *repeats) WithGroup(name string) slog.Handler {
	return &repeats{Handler: h.Handler.WithGroup(name), given: h.given + name + "\x00", state: h.state}
}

// keyOf is what two records that are the same have in common.
func keyOf(r slog.Record) string {
	key := r.Level.String() + "\x00" + r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "issuance_id" {
			key += "\x00" + a.String()
		}
		return true
	})
	return key
}
