package workload

import (
	"strconv"
	"time"
)

// Problem says what is wrong with a workload token. The set is closed.
type Problem string

// The problems of a workload token.
const (
	Unavailable    Problem = "unavailable"     // the source has none now: it may have one later
	Expired        Problem = "expired"         // it will be replaced if the platform works
	NotYetValid    Problem = "not_yet_valid"   // a clock is wrong
	Malformed      Problem = "malformed"       // not a token Entra could read
	WrongAudience  Problem = "wrong_audience"  // for somebody else
	WrongAlgorithm Problem = "wrong_algorithm" // signed with something but RS256
	WrongKind      Problem = "wrong_kind"      // a user's token
	Denied         Problem = "denied"          // the platform gives us none until somebody allows it
)

// Temporary reports whether waiting can help without anybody editing anything.
func (p Problem) Temporary() bool {
	return p == Unavailable || p == Expired || p == NotYetValid
}

// Error says why there is no usable workload token and what to change.
// It holds no part of the token but its public claims.
type Error struct {
	Problem Problem
	Message string
	Hint    string
	// RetryAfter is how long the platform asks to wait, an hour at most; 0 when it
	// does not say.
	RetryAfter time.Duration
	Err        error // cause, for logs; never holds token text
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// quote shows a claim of an unverified token: printable and bounded.
func quote(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strconv.QuoteToASCII(s)
}
