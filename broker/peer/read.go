package peer

import "runtime"

// letAnswersGoFirst comes before a read into p. While a handler works, net/http
// watches whether the client goes away: a goroutine of its own reads one byte, and
// is stopped when the answer has been sent. Where that read comes before the
// answer, it is a system call, a wait and a wake-up that nobody needs; behind the
// handlers that are ready it mostly finds itself stopped. Not to know of net/http's
// one byte any more would cost that time, and nothing else.
func letAnswersGoFirst(p []byte) {
	if len(p) == 1 {
		runtime.Gosched()
	}
}
