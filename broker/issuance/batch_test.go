package issuance_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/issuance"
)

// small is a disk that is full now and then, in the middle of what it is given.
type small struct {
	mu   sync.Mutex
	text bytes.Buffer
}

var errSmall = errors.New("no room")

func (s *small) Write(lines []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rand.IntN(2) == 0 {
		return s.text.Write(lines)
	}
	n, _ := s.text.Write(lines[:rand.IntN(len(lines))]) // a buffer takes everything
	return n, errSmall
}

// A request is answered exactly if its own line is whole in the log, however
// many others came with it; the lines of a chain go on from one another.
func TestTokenLeavesExactlyWithItsLine(t *testing.T) {
	for name, chained := range map[string]bool{"plain": false, "chain": true} {
		t.Run(name, func(t *testing.T) {
			disk := &small{}
			cfg := issuance.Config{Audit: disk}
			if chained {
				chain, err := issuance.NewChain(issuance.ChainConfig{Sink: disk})
				check(t, err)
				cfg.Audit = chain
			}
			recorder, err := issuance.NewRecorder(cfg)
			check(t, err)
			answered := [32]map[string]bool{}
			var all sync.WaitGroup
			for i := range answered {
				answered[i] = map[string]bool{}
				all.Go(func() {
					for range 100 {
						rec := &issuance.Record{ID: issuance.NewID(), Start: time.Now(), Decision: issuance.Allow}
						err := recorder.Close(t.Context(), rec)
						if err != nil && !errors.Is(err, errSmall) {
							t.Error(err)
						}
						answered[i][rec.ID] = err == nil
					}
				})
			}
			all.Wait()
			written := map[string]bool{}
			for line := range strings.Lines(disk.text.String()) {
				var rec struct {
					ID string `json:"issuance_id"`
				}
				if json.Unmarshal([]byte(line), &rec) == nil && rec.ID != "" {
					written[rec.ID] = true
				}
			}
			var yes, no int
			for _, mine := range answered {
				for id, ok := range mine {
					if ok != written[id] {
						t.Errorf("line written: %t, answered: %t", written[id], ok)
					}
					if ok {
						yes++
					} else {
						no++
					}
				}
			}
			if yes == 0 || no == 0 {
				t.Errorf("got %d answers and %d failures, want both", yes, no)
			}
			if !chained {
				return
			}
			findings, sum := verify(t, issuance.VerifyConfig{}, disk.text.String())
			for _, finding := range findings {
				if !strings.Contains(finding, " false ") { // a torn line is told of, and breaks nothing
					t.Error(finding)
				}
			}
			if sum.Lines < uint64(yes) {
				t.Errorf("got a chain of %d lines, want at least %d", sum.Lines, yes)
			}
		})
	}
}
