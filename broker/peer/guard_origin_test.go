package peer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A listener with pages answers its own, and none that only looks like them.
func TestGuardSameOrigin(t *testing.T) {
	for headers, want := range map[string]string{
		"Origin: http://localhost:7401":                                                  "",
		"Sec-Fetch-Site: same-origin":                                                    "",
		"Origin: http://localhost:7401\nSec-Fetch-Site: same-origin":                     "",
		"Sec-Fetch-Site: none":                                                           "",
		"Origin: https://localhost:7401":                                                 "origin",
		"Origin: http://localhost":                                                       "origin",
		"Origin: http://127.0.0.1:7401":                                                  "origin",
		"Origin: http://localhost:7401/":                                                 "origin",
		"Origin: HTTP://LOCALHOST:7401":                                                  "origin",
		"Origin: null":                                                                   "origin",
		"Origin:":                                                                        "origin",
		"Origin: http://localhost:7401\nOrigin: https://evil.example":                    "origin",
		"Sec-Fetch-Site: same-site":                                                      "fetch_site",
		"Sec-Fetch-Site: cross-site":                                                     "fetch_site",
		"Sec-Fetch-Site: same-origin\nSec-Fetch-Site: cross-site":                        "fetch_site",
		"Origin: http://localhost:7401\nSec-Fetch-Site: cross-site":                      "fetch_site",
		"Origin: https://evil.example\nSec-Fetch-Site: same-origin":                      "origin",
		"Origin: http://localhost:7401\nAccess-Control-Request-Method: POST":             "preflight",
		"Origin: http://localhost:7401\nX-Forwarded-Host: localhost:7401":                "forwarded",
		"Origin: http://localhost:7401\nSec-Fetch-Site: same-origin\nVia: 1.1 localhost": "forwarded",
	} {
		t.Run(headers, func(t *testing.T) {
			r := parse(t, "GET / HTTP/1.1\nHost: localhost:7401\n"+headers)
			_ = wantRefusal(t, Guard{SameOrigin: true}, r, want)
			if want == "" && !strings.HasSuffix(headers, ": none") && (Guard{}).Check(r) == nil {
				t.Error("a door without pages lets a page in")
			}
		})
	}
}

// A stamp is that of the files' contents: it changes when one of them does, and
// not otherwise.
func TestStamp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Repeat("a", 32))
	keys := NewKeys([]string{path})
	first := keys.Stamp()
	if keys.Stamp() != first {
		t.Error("the stamp of the same file differs")
	}
	write(strings.Repeat("b", 32))
	if keys.Stamp() == first {
		t.Error("the stamp of another key is the same")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if gone := keys.Stamp(); gone == first || gone == (*Keys)(nil).Stamp() {
		t.Errorf("the stamp of no key is that of one, or of no file: %x", gone)
	}
}
