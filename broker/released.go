package broker

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/secret"
)

// maxReleased bounds the tokens that are recognised. Beyond it, one that was got
// long ago is as good as unknown.
const maxReleased = 10_000

// releases recognise the tokens that were got for agents, without holding them.
type releases struct {
	secret [sha256.Size]byte // what they are known by is good for this process alone

	mu   sync.Mutex // guards held
	held *simplelru.LRU[[sha256.Size]byte, *released]
}

// released is what is known of a token. It is not modified.
type released struct {
	key      cache.Key
	kind     exchange.Kind
	uniqueID string
	expires  time.Time
	user     *policy.User // on whose behalf; nil for the agent's own
}

func newReleases() (*releases, error) {
	held, err := simplelru.NewLRU[[sha256.Size]byte, *released](maxReleased, nil)
	r := &releases{held: held}
	_, _ = rand.Read(r.secret[:]) // never fails
	return r, err
}

// digest is what a token is known by. It is another one for each agent, so that
// nobody finds what was got for somebody else.
func (r *releases) digest(agent string, token secret.Text) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, r.secret[:])
	mac.Write([]byte(agent + "\x00" + token.Reveal())) //nolint:forbidigo // to be recognised, not to be sent
	mac.Sum(sum[:0])
	return sum
}

func (r *releases) add(token secret.Text, known *released) {
	sum := r.digest(known.key.Agent, token)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held.Add(sum, known)
}

// find returns what is known of an agent's token; nil when it is none, or has
// expired.
func (r *releases) find(agent string, token secret.Text, now time.Time) *released {
	sum := r.digest(agent, token)
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.held.Get(sum)
	if !ok {
		return nil
	}
	if !now.Before(known.expires) {
		r.held.Remove(sum)
		return nil
	}
	return known
}

// forget makes the tokens that match unknown.
func (r *releases) forget(match func(cache.Key) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, sum := range r.held.Keys() {
		if known, ok := r.held.Peek(sum); ok && match(known.key) {
			r.held.Remove(sum)
		}
	}
}
