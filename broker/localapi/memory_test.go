package localapi_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// What is remembered of a request keeps nothing else of it in memory: its body may
// hold a user's token, and is large.
func TestNoRequestStaysInMemory(t *testing.T) {
	const requests, bytes = 300, 60_000
	for name, test := range map[string]struct {
		mode string
		form []string // as it is sent: what has to be decoded is a copy anyway
	}{
		"grant of the agent": {"enforce", []string{"grant_type=client_credentials", "scope=https://storage.azure.com/.default"}},
		"grant for a user":   {"enforce", []string{"grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer", "requested_token_use=on_behalf_of", "assertion=x", "scope=https://storage.azure.com/.default"}},
		"identity":           {"enforce", []string{"grant_type=client_credentials", "identity=nobody", "scope=https://storage.azure.com/.default"}},
		"scope":              {"audit", []string{"grant_type=client_credentials", "scope=https://storage.azure.com/NUMBER"}},
		"scopes":             {"audit", []string{"grant_type=client_credentials", "scope=https://storage.azure.com/NUMBER+https://storage.azure.com/Other"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, func(dir string) string { return thisUser(dir) + "mode: " + test.mode + "\n" })
			before := heap()
			for n := range requests {
				body := strings.ReplaceAll(strings.Join(test.form, "&"), "NUMBER", fmt.Sprint("Right.", n)) + "&padding=" + strings.Repeat("x", bytes)
				d.send(t, "POST", "/oauth2/token", body, "Baggage", fmt.Sprint("gen_ai.conversation.id=", n))
			}
			if kept := heap() - before; kept > requests*bytes/4 {
				t.Errorf("%d requests of %d bytes keep %d KiB", requests, bytes, kept>>10)
			}
			runtime.KeepAlive(d)
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
