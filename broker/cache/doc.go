// Package cache keeps tokens in memory until they truly expire.
//
// Three promises:
//
//   - One fetch in flight per key, whoever asks and however many. The fetch
//     belongs to the cache, not to the caller who happened to be first: it runs
//     on a context of its own, and each caller leaves on its own deadline.
//   - No caller waits for a refresh. Late in an entry's life [Cache.Lookup]
//     reports that a refresh is due, and [Cache.Refresh] runs it in the
//     background. A refresh that fails costs nothing: the entry is served until
//     it expires, and the next attempt backs off.
//   - Bounded in entries and in bytes. Where there is no room, the least
//     recently used entry of the agent with most goes, so that no agent crowds
//     out another. There is no janitor goroutine: an expired entry goes when it
//     is read or when room is needed.
//
// An entry expires on whichever clock says so first. The wall clock notices that
// the machine was suspended, the monotonic clock that the wall clock was set back.
//
// What it refuses to do: it stores no errors, so the back-off of a caller who has
// no token at all is the fetch's business. It knows nothing of tokens, policies or
// telemetry, and never prints, logs or formats a value, not even that of a panic.
//
// The hit path, and what follows a miss:
//
//	v, expires, refresh, ok := c.Lookup(key)
//	switch {
//	case ok && refresh:
//		c.Refresh(ctx, key, fetch) // returns at once
//	case !ok:
//		v, expires, how, err = c.Get(ctx, key, fetch)
//	}
package cache
