package peer

import (
	"sync"
	"sync/atomic"
)

// maxConnections is how many connections a caller may have at a time at one listener.
// Each takes some 20 KiB, and one caller must not take what is meant for all.
const maxConnections = 2048

var refused atomic.Int64

// Refused counts the connections that the listeners of this package have closed as
// soon as they came, because their caller had 2048 at that listener already.
func Refused() int64 { return refused.Load() }

// crowd counts the connections of a listener by their caller. The zero value is ready.
type crowd struct {
	mu sync.Mutex // guards of
	of map[Peer]int
}

// enter takes a place for a connection, if there is one left. leave gives it back,
// once.
func (c *crowd) enter(who Peer) (leave func(), ok bool) {
	who.GID, who.PID = 0, 0 // one user may be many processes
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[who] >= maxConnections {
		refused.Add(1)
		return nil, false
	}
	if c.of == nil {
		c.of = map[Peer]int{}
	}
	c.of[who]++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.of[who]--; c.of[who] == 0 {
			delete(c.of, who)
		}
	}), true
}
