package broker

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/secret"
)

// maxReleased and maxReleasedBytes bound the tokens that are recognised. Beyond
// them, one that was got long ago is as good as unknown.
const (
	maxReleased      = 10_000
	maxReleasedBytes = 16 << 20
	releasedOverhead = 640 // of an entry without its texts
	releasedSweep    = time.Minute
)

// releases recognise the tokens that were got for agents, without holding them.
type releases struct {
	secret [sha256.Size]byte // what they are known by is good for this process alone

	mu    sync.Mutex // guards the rest
	held  *simplelru.LRU[[sha256.Size]byte, *released]
	bytes int       // the sum of size over held
	sweep time.Time // when to look for expired ones again
}

// released is what is known of a token. It is not modified.
type released struct {
	key      cache.Key
	kind     exchange.Kind
	uniqueID string
	expires  time.Time
	user     *policy.User // on whose behalf; nil for the agent's own
}

// size is what a token takes to be recognised.
func (r *released) size() int {
	n := releasedOverhead + len(r.uniqueID) + len(r.key.Scopes) + len(r.key.UserID)
	if u := r.user; u != nil {
		n += len(u.Client)
		for _, list := range [][]string{u.Groups, u.Roles, u.Scopes, u.ACRS, u.AMR} {
			for _, word := range list {
				n += len(word) + 16
			}
		}
	}
	return n
}

// asNeeded is the user with those groups alone that the agent's rules ask for: when
// the rules change, its tokens are forgotten, and its sessions end.
func asNeeded(user policy.User, agent *policy.Agent) *policy.User {
	var groups []string
	for _, group := range user.Groups {
		if slices.Contains(agent.OnBehalfOf.Users.Groups, group) {
			groups = append(groups, group)
		}
	}
	user.Groups = groups
	return &user
}

func newReleases() (*releases, error) {
	r := &releases{}
	var err error
	r.held, err = simplelru.NewLRU(maxReleased, func(_ [sha256.Size]byte, known *released) { r.bytes -= known.size() })
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

func (r *releases) add(token secret.Text, known *released, now time.Time) {
	sum := r.digest(known.key.Agent, token)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !now.Before(r.sweep) {
		r.sweep = now.Add(releasedSweep)
		r.removeIf(func(old *released) bool { return since(old.expires, now) >= 0 })
	}
	r.held.Remove(sum) // by way of the callback: Add would replace without it
	r.bytes += known.size()
	r.held.Add(sum, known)
	for r.bytes > maxReleasedBytes {
		r.held.RemoveOldest()
	}
}

// removeIf is called with mu held.
func (r *releases) removeIf(match func(*released) bool) {
	for _, sum := range r.held.Keys() {
		if known, ok := r.held.Peek(sum); ok && match(known) {
			r.held.Remove(sum)
		}
	}
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
	if since(known.expires, now) >= 0 {
		r.held.Remove(sum)
		return nil
	}
	return known
}

// forget makes the tokens that match unknown.
func (r *releases) forget(match func(cache.Key) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeIf(func(known *released) bool { return match(known.key) })
}
