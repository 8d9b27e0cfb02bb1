package workload

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

// RetryAfter reads the header of that name: seconds or an HTTP date (RFC 9110
// §10.2.3), an hour at most, however many digits it has. 0 when it says nothing.
func RetryAfter(header string, now time.Time) time.Duration {
	const most = time.Hour
	if seconds, err := strconv.Atoi(header); err == nil || errors.Is(err, strconv.ErrRange) { // then the nearest int
		return time.Duration(min(max(seconds, 0), int(most/time.Second))) * time.Second
	}
	date, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return min(max(date.Sub(now), 0), most)
}
