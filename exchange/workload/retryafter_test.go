package workload_test

import (
	"testing"
	"time"

	"github.com/credfree/credfree/exchange/workload"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "soon": 0, "1.5": 0, "0": 0, "7": 7 * time.Second, "3600": time.Hour, "86400": time.Hour,
		"99999999999999999999": time.Hour, "9223372036854775807": time.Hour, "13835058055282163712": time.Hour,
		"-5": 0, "30": 30 * time.Second, "99999": time.Hour, "-9223372037": 0, "-9223372036854775808": 0, "-99999999999999999999": 0,
		"Fri, 27 Nov 2026 12:00:20 GMT": 20 * time.Second, "Fri, 27 Nov 2026 11:00:00 GMT": 0, "Fri, 31 Dec 9999 23:59:59 GMT": time.Hour,
	} {
		if got := workload.RetryAfter(header, now); got != want {
			t.Errorf("%q: got %s, want %s", header, got, want)
		}
	}
}
