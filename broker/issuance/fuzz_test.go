package issuance_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/issuance"
)

// Whatever is put between two lines of a chain shows, unless it is nothing.
func FuzzVerify(f *testing.F) {
	lines, head := chainOf(f, issuance.ChainConfig{}, 3)
	for _, seed := range []string{"", "\n", "x", "{}", lines[0], lines[2], `{"seq":3,"prev":"` + head + `"}`, `{"type":"audit_chain","seq":1,"prev":"` + strings.Repeat("0", 64) + `"}`, strings.Repeat("x", 300<<10)} {
		f.Add(seed, uint8(1))
	}
	f.Fuzz(func(t *testing.T, text string, place uint8) {
		at := 1 + int(place)%(len(lines)-1)
		log := strings.Join(lines[:at], "") + text + "\n" + strings.Join(lines[at:], "")
		findings, sum := verify(t, issuance.VerifyConfig{Head: head}, log)
		if len(findings) == 0 && strings.Trim(text, "\n") != "" {
			t.Errorf("%q went unnoticed: %+v", text, sum)
		}
		for line := range strings.Lines(text) {
			if sum.Broken == 0 && json.Valid([]byte(line)) {
				t.Errorf("%q was passed over: %q", text, findings)
			}
		}
		if sum.Lines > uint64(strings.Count(log, "\n")) {
			t.Errorf("got %d lines", sum.Lines)
		}
	})
}
