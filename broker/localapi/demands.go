package localapi

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/exchange"
)

const (
	// maxDemands bounds what is remembered, of maxClaimsBytes at most each.
	maxDemands = 500
	// demandIdle is how long a demand is remembered that no call goes by.
	demandIdle = 10 * time.Minute
)

// demands are the claims that APIs have asked for. Who calls such an API again
// begins with a token that has them: an API that wants an authentication context
// asks for the same with each call, and what is sent once only would never come
// through.
type demands struct {
	secret [sha256.Size]byte // what they are found by is good for this process alone

	mu   sync.Mutex // guards kept
	kept *simplelru.LRU[[sha256.Size]byte, demand]
}

type demand struct {
	claims string
	until  time.Time // no later than the end of the token that has them
}

func newDemands() (*demands, error) {
	kept, err := simplelru.NewLRU[[sha256.Size]byte, demand](maxDemands, nil)
	d := &demands{kept: kept}
	_, _ = rand.Read(d.secret[:]) // never fails
	return d, err
}

// key is what decides whose token a call is made with: who asks, as whom, for
// whom, and of which API. Whoever differs in any of it has demands of its own.
func (d *demands) key(r *http.Request, req broker.Request) (sum [sha256.Size]byte) {
	from, _ := peer.FromContext(r.Context()) // who is unknown gets no token
	mac := hmac.New(sha256.New, d.secret[:])
	fmt.Fprintf(mac, "%q %q %d %t", from.Network, from.Socket, from.UID, from.Known)
	for _, part := range []string{req.Key, req.Agent, req.Identity, req.API, req.Scope, req.UserToken.Reveal()} { //nolint:forbidigo // to be told apart, not to be sent
		fmt.Fprintf(mac, " %d:%s", len(part), part)
	}
	mac.Sum(sum[:0])
	return sum
}

// of returns the claims to begin with, or "".
func (d *demands) of(key [sha256.Size]byte, now time.Time) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	found, ok := d.kept.Get(key)
	if !ok || !now.Before(found.until) {
		d.kept.Remove(key)
		return ""
	}
	return found.claims
}

// keep remembers claims that there is a token with, until expires.
func (d *demands) keep(key [sha256.Size]byte, claims string, now, expires time.Time) {
	until := now.Add(demandIdle)
	if expires.Before(until) {
		until = expires
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept.Add(key, demand{claims, until})
}

func (d *demands) forget(key [sha256.Size]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept.Remove(key)
}

// begin issues the token that the call begins with. An agent that sends claims of
// its own answers challenges itself. What Entra gives no token for any more is
// for the API to demand again.
func (c *call) begin(problem *badRequest) (err error) {
	if problem != nil || c.req.Claims != "" {
		c.issued, err = c.issue(c.w, c.in, c.req, problem)
		return err
	}
	c.demand = c.demands.key(c.in, c.req)
	c.began = c.demands.of(c.demand, time.Now())
	if c.issued, err = c.meet(c.began); err != nil && c.began != "" && isRejected(err) {
		c.began = ""
		c.issued, err = c.meet("")
	}
	return err
}

// meet issues a token with claims, and remembers them if there is one.
func (c *call) meet(claims string) (broker.Issued, error) {
	req := c.req
	req.Claims = claims
	issued, err := c.issue(c.w, c.in, req, nil)
	switch {
	case claims == "":
	case err == nil:
		c.demands.keep(c.demand, claims, time.Now(), issued.ExpiresAt)
	case isRejected(err):
		c.demands.forget(c.demand)
	}
	return issued, err
}

func isRejected(err error) bool {
	failure, ok := errors.AsType[*exchange.Error](err)
	return ok && failure.Reason == exchange.EntraRejected
}

// bothClaims returns a claims request for all that two ask for. Of what both ask
// for, the newer counts.
func bothClaims(older, newer string) string {
	var all, more map[string]map[string]json.RawMessage
	if older == "" || json.Unmarshal([]byte(older), &all) != nil || json.Unmarshal([]byte(newer), &more) != nil {
		return newer
	}
	for part, members := range more {
		if all[part] == nil {
			all[part] = members
			continue
		}
		maps.Copy(all[part], members)
	}
	if text, err := json.Marshal(all); err == nil && len(text) <= maxClaimsBytes {
		return string(text)
	}
	return newer
}
