//go:build unix

package issuance_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/issuance"
)

// Two chains in one file would both be broken: the second one does not begin, nor does one
// go over to a file that has another.
func TestOneChainInAFile(t *testing.T) {
	for range 2 { // a device is nobody's
		_, err := issuance.NewChain(issuance.ChainConfig{Sink: openFile(t, os.DevNull)})
		check(t, err)
	}
	path := filepath.Join(t.TempDir(), "audit.log")
	recorder, chain := chained(t, issuance.ChainConfig{Sink: openFile(t, path)})
	issue(t, recorder, "a")
	second := openFile(t, path)
	if _, err := issuance.NewChain(issuance.ChainConfig{Sink: second}); err == nil || !strings.Contains(err.Error(), "another broker") {
		t.Errorf("got %v", err)
	}
	check(t, chain.Reopen()) // nothing was moved
	check(t, os.Rename(path, path+".1"))
	other := openFile(t, path)
	_, err := issuance.NewChain(issuance.ChainConfig{Sink: other})
	check(t, err)
	if err := chain.Reopen(); err == nil || !strings.Contains(err.Error(), "another broker") {
		t.Errorf("got %v", err)
	}
	check(t, other.Close())
	check(t, chain.Reopen())
	issue(t, recorder, "b")
}
