package broker

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// maxSeen bounds what is remembered of first uses. Beyond it, a use that is
// long ago counts as the first again.
const maxSeen = 10_000

// seen remembers what agents have used since the broker started.
type seen struct {
	mu   sync.Mutex // guards uses
	uses *simplelru.LRU[use, struct{}]
}

// use is a right that an agent makes use of.
type use struct {
	agent, scope string
	onBehalfOf   bool
}

func newSeen() (*seen, error) {
	uses, err := simplelru.NewLRU[use, struct{}](maxSeen, nil)
	return &seen{uses: uses}, err
}

// forget makes the next use of u the first.
func (s *seen) forget(u use) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses.Remove(u)
}

// first reports whether u was not used before.
func (s *seen) first(u use) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.uses.Get(u); ok {
		return false
	}
	s.uses.Add(u, struct{}{})
	return true
}
