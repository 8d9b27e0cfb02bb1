package cache

import (
	"context"
	"fmt"
)

// Close ends the cache: no fetch starts from now on, those in flight are cancelled
// and not stored, and those who wait for them get ErrClosed at once. It then waits
// for the fetches to return. If ctx ends first, the error says how many have not,
// and errors.Is with ctx.Err() holds; Close may be called again to wait on.
//
// Entries stay readable: a server that drains its last requests may go on serving
// hits.
func (c *Cache[V]) Close(ctx context.Context) error {
	c.shut()
	select {
	case <-c.idle:
		return nil
	case <-ctx.Done():
	}
	if n := c.Stats().InFlight; n > 0 {
		return fmt.Errorf("cache: closing with %d fetches still running: %w", n, ctx.Err())
	}
	return nil
}

func (c *Cache[V]) shut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	for key := range c.flights {
		c.disown(key, ErrClosed)
	}
	for f := range c.running {
		f.cancel()
	}
	if len(c.running) == 0 {
		close(c.idle)
	}
}
