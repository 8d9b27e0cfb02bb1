package broker

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/secret"
)

// maxSessions bounds the sessions that are kept; the one that was not used for
// longest goes first.
const maxSessions = 10_000

// sessions are the users for whom agents may go on after the users' tokens
// have expired. A session begins with an exchange of a token that was valid
// then. It is known by that very token, which the agent goes on presenting.
type sessions struct {
	mu       sync.Mutex // guards the rest, and ended of each under way
	held     *simplelru.LRU[sessionKey, *session]
	underWay map[*beginning]struct{}
}

// beginning is an exchange under way, with which a session begins or goes on.
type beginning struct {
	key   sessionKey
	user  *verified
	agent *policy.Agent
	ended bool // by whoever ends such sessions: nothing begins
}

// sessionKey keeps agents, and identities, apart.
type sessionKey struct {
	agent, identity string
	user            [32]byte // SHA-256 of the token that it began with
}

type session struct {
	began time.Time
	user  policy.User // as the token said; see asNeeded
	proof secret.Text // exchange.Token.Session
}

func newSessions() (*sessions, error) {
	held, err := simplelru.NewLRU[sessionKey, *session](maxSessions, nil)
	return &sessions{held: held, underWay: map[*beginning]struct{}{}}, err
}

// begin says that an exchange is under way, until leave.
func (s *sessions) begin(key cache.Key, user *verified, agent *policy.Agent) *beginning {
	b := &beginning{key: sessionKey{key.Agent, key.Identity, user.hash}, user: user, agent: agent}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.underWay[b] = struct{}{}
	return b
}

func (s *sessions) leave(b *beginning) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.underWay, b)
}

// keep begins a session, or goes on with one by a new proof, unless it was ended
// while the exchange was under way. An empty proof leaves the old one in force.
func (s *sessions) keep(b *beginning, proof secret.Text, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if proof.Len() == 0 || b.ended {
		return
	}
	if old, ok := s.held.Get(b.key); ok {
		old.proof = proof
		return
	}
	if b.user.inSession { // the oldest gave way to others meanwhile
		return
	}
	s.held.Add(b.key, &session{began: now, user: *asNeeded(b.user.said(), b.agent), proof: proof})
}

// find returns the user of a session that is younger than longest, and when it
// ends.
func (s *sessions) find(key sessionKey, longest time.Duration, now time.Time) (policy.User, time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.held.Get(key)
	if !ok {
		return policy.User{}, time.Time{}, false
	}
	age := since(found.began, now)
	if age >= longest {
		s.held.Remove(key)
		return policy.User{}, time.Time{}, false
	}
	return found.user, now.Add(longest - age), true
}

// since is how long ago a moment was, by the clock that saw more of it pass: the
// monotonic one stands still while the machine sleeps, and the other can be set back.
func since(moment, now time.Time) time.Duration {
	return max(now.Sub(moment), now.Round(0).Sub(moment.Round(0)))
}

// proof returns what Entra is shown for a session; empty when it has ended.
func (s *sessions) proof(key sessionKey) secret.Text {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found, ok := s.held.Peek(key); ok {
		return found.proof
	}
	return secret.Text{}
}

// has reports whether there is a session that matches.
func (s *sessions) has(match func(agent, identity, userID string) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range s.held.Keys() {
		if held, ok := s.held.Peek(key); ok && match(key.agent, key.identity, held.user.Tenant+"/"+held.user.ObjectID) {
			return true
		}
	}
	return false
}

// end ends the sessions that match, and returns how many there were. Exchanges
// under way begin none of them.
func (s *sessions) end(match func(agent, identity, userID string) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := range s.underWay {
		b.ended = b.ended || match(b.key.agent, b.key.identity, b.user.Tenant+"/"+b.user.ObjectID)
	}
	ended := 0
	for _, key := range s.held.Keys() {
		if held, ok := s.held.Peek(key); ok && match(key.agent, key.identity, held.user.Tenant+"/"+held.user.ObjectID) {
			s.held.Remove(key)
			ended++
		}
	}
	return ended
}
