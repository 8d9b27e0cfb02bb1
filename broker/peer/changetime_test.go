//go:build linux || darwin

package peer

import (
	"os"
	"path/filepath"
	"testing"
)

// Some tools rotate a key in place and keep the file's modification time, as rsync --times and cp -p do.
func TestRotationThatKeepsTheTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, keyA, 0o600)
	age(t, path)
	k := NewKeys([]string{path})
	if s := k.files[0].state.Load(); s.settled {
		t.Error("a file that was written just now counts as one that has not changed for long")
	}
	rest(k)
	read := changeTime(k.files[0].state.Load().info)
	for now := read; now.Equal(read); { // until the file system's clock has moved
		write(t, path, keyB, 0o600)
		if err := os.Chtimes(path, k.files[0].state.Load().info.ModTime(), k.files[0].state.Load().info.ModTime()); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		now = changeTime(info)
	}
	wantMatch(t, k, keyA, "")
	wantMatch(t, k, keyB, path)
}
