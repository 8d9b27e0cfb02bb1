package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	keyA = "0123456789abcdef-A"
	keyB = "0123456789abcdef-B"
	keyC = "0123456789abcdef-C"
)

func write(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// rest is the time after which Keys trusts the times of files that it has read.
func rest(k *Keys) {
	for _, f := range k.files {
		s := *f.state.Load()
		s.settled = true
		f.state.Store(&s)
	}
}

// age sets back a file's modification time by an hour.
func age(t testing.TB, path string) {
	t.Helper()
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

func wantMatch(t *testing.T, k *Keys, presented, want string) {
	t.Helper()
	if got, ok := k.Match(presented); got != want || ok != (want != "") {
		t.Errorf("Match(%.30q) = %q, %v; want %q", presented, got, ok, want)
	}
}

func TestKeyFileContents(t *testing.T) {
	long := strings.Repeat("x", maxKeyFileSize)
	tests := []struct {
		name      string
		content   string
		mode      os.FileMode
		presented string
		ok        bool
		problem   string
	}{
		{"exact", keyA, 0o600, keyA, true, ""},
		{"white space around it", " \t" + keyA + "\r\n\n", 0o600, keyA, true, ""},
		{"white space presented", keyA, 0o600, keyA + "\n", true, ""},
		{"white space inside", keyA + " " + keyB, 0o600, keyA + " " + keyB, true, ""},
		{"first line only", keyA + "\n" + keyB, 0o600, keyA, false, ""},
		{"another key", keyA, 0o600, keyB, false, ""},
		{"another case", keyA, 0o600, strings.ToUpper(keyA), false, ""},
		{"beginning", keyA, 0o600, keyA[:16], false, ""},
		{"empty file, empty key", "", 0o600, "", false, "is empty"},
		{"blank file, blank key", "   \n                  ", 0o600, "                    ", false, "is empty"},
		{"15 bytes", keyA[:15], 0o600, keyA[:15], false, "15 bytes"},
		{"15 bytes and white space", keyA[:15] + "\n\n\n\n", 0o600, keyA[:15] + "\n\n\n\n", false, "15 bytes"},
		{"16 bytes", keyA[:16], 0o600, keyA[:16], true, ""},
		{"4 KiB", long, 0o600, long, true, ""},
		{"4 KiB and one", long + "x", 0o600, long + "x", false, "longer than 4096"},
		{"4 KiB and one presented", long, 0o600, long + "x", false, ""},
		{"group-readable", keyA, 0o440, keyA, true, ""},
		{"world-readable", keyA, 0o644, keyA, false, "every user"},
		{"world-readable only", keyA, 0o604, keyA, false, "every user"},
		{"world-writable", keyA, 0o602, keyA, false, "every user"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			write(t, path, tt.content, tt.mode)
			want := ""
			if tt.ok {
				want = path
			}
			k := NewKeys([]string{path})
			wantMatch(t, k, tt.presented, want)
			wantProblem(t, k, tt.problem)
		})
	}
}

func wantProblem(t *testing.T, k *Keys, want string) {
	t.Helper()
	got := k.Problems()
	if want == "" {
		if len(got) != 0 {
			t.Errorf("problems %v, want none", got)
		}
		return
	}
	if len(got) != 1 || !strings.Contains(got[0].Error(), want) {
		t.Errorf("problems %v, want one that says %q", got, want)
	}
	for _, key := range []string{keyA[:15], keyB[:15]} {
		if strings.Contains(fmt.Sprint(got), key) {
			t.Errorf("problems %v hold a key", got)
		}
	}
}

func TestFilesThatAreNotKeys(t *testing.T) {
	dir := t.TempDir()
	wantProblem(t, NewKeys([]string{dir}), "not a regular file")
	wantProblem(t, NewKeys([]string{filepath.Join(dir, "none")}), "none")
	var zero Keys
	wantMatch(t, &zero, keyA, "")
	wantMatch(t, nil, keyA, "")
	wantMatch(t, NewKeys(nil), keyA, "")
	if zero.Len() != 0 || (*Keys)(nil).Len() != 0 || len((*Keys)(nil).Problems()) != 0 {
		t.Error("the zero value holds something")
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	k := NewKeys([]string{path})
	wantMatch(t, k, keyA, "")

	write(t, path, keyA, 0o600)
	wantMatch(t, k, keyA, path)
	// The same size, at once: most file systems give both versions the same modification time.
	write(t, path, keyB, 0o600)
	wantMatch(t, k, keyA, "")
	wantMatch(t, k, keyB, path)

	// After a long rest, which is when the times are trusted.
	age(t, path)
	wantMatch(t, k, keyB, path)
	rest(k)
	write(t, path, keyC, 0o600)
	wantMatch(t, k, keyB, "")
	wantMatch(t, k, keyC, path)

	// By renaming, with the same size and modification time.
	age(t, path)
	wantMatch(t, k, keyC, path)
	rest(k)
	next := filepath.Join(dir, "next")
	write(t, next, keyA, 0o600)
	age(t, next)
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	wantMatch(t, k, keyC, "")
	wantMatch(t, k, keyA, path)

	// Permissions and removal count at once too.
	rest(k)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	wantMatch(t, k, keyA, "")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	wantMatch(t, k, keyA, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantMatch(t, k, keyA, "")
}

// Coarse clocks give two versions of a file, written soon after each other, the same modification time.
func TestRotationWithinOneClockStep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, keyA, 0o600)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	k := NewKeys([]string{path})
	wantMatch(t, k, keyA, path)
	write(t, path, keyB, 0o600)
	if err := os.Chtimes(path, before.ModTime(), before.ModTime()); err != nil {
		t.Fatal(err)
	}
	wantMatch(t, k, keyA, "")
	wantMatch(t, k, keyB, path)
}

// Kubernetes rotates a secret by moving a link to a folder.
func TestRotationThroughALink(t *testing.T) {
	dir := t.TempDir()
	for name, key := range map[string]string{"old": keyA, "new": keyB} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "key"), key, 0o440)
		age(t, filepath.Join(dir, name, "key"))
	}
	link := func(to string) {
		if err := os.Symlink(to, filepath.Join(dir, "tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, "data")); err != nil {
			t.Fatal(err)
		}
	}
	link("old")
	path := filepath.Join(dir, "data", "key")
	k := NewKeys([]string{path})
	wantMatch(t, k, keyA, path)
	rest(k)
	link("new")
	wantMatch(t, k, keyA, "")
	wantMatch(t, k, keyB, path)
}

func TestSeveralKeyFiles(t *testing.T) {
	dir := t.TempDir()
	a, b, broken := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "broken")
	write(t, a, keyA, 0o600)
	write(t, b, keyB, 0o600)
	k := NewKeys([]string{broken, a, b, a})
	if k.Len() != 3 {
		t.Errorf("Len() = %d, want 3", k.Len())
	}
	wantMatch(t, k, keyA, a)
	wantMatch(t, k, keyB, b)
	wantMatch(t, k, keyC, "")
	wantProblem(t, k, "broken")
}

// The comparison visits every file, also after a match: one that stopped early would return the first of two files with the
// same key, and its time would tell which file a key is in.
func TestComparisonDoesNotStopAtAMatch(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for i, key := range []string{keyA, keyB, keyC, keyA} {
		path := filepath.Join(dir, fmt.Sprint(i))
		write(t, path, key, 0o600)
		paths = append(paths, path)
	}
	k := NewKeys(paths)
	wantMatch(t, k, keyA, "")
	wantMatch(t, k, keyB, paths[1])
	wantMatch(t, k, keyC, paths[2])
	wantProblem(t, k, "same key")
	write(t, paths[3], keyA+"2", 0o600)
	wantMatch(t, k, keyA, paths[0])
	wantProblem(t, k, "")
	// From the moment that another file holds it, and until it does not.
	rest(k)
	write(t, paths[3], keyB, 0o600)
	wantMatch(t, k, keyB, "")
	wantMatch(t, k, keyA, paths[0])
	write(t, paths[1], keyA, 0o600)
	wantMatch(t, k, keyA, "")
	wantMatch(t, k, keyB, paths[3])
}

// Under the race detector; and whatever is seen while the file changes, a wrong key never matches.
func TestKeysConcurrently(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, keyA, 0o600)
	k := NewKeys([]string{path})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				k.Match(keyA)
				if _, ok := k.Match(keyC); ok {
					t.Error("a wrong key matched")
				}
				k.Problems()
			}
		})
	}
	for i := range 50 {
		write(t, path, []string{keyB, keyA}[i%2], 0o600)
	}
	wg.Wait()
	wantMatch(t, k, keyA, path)
}

func BenchmarkKeysMatch(b *testing.B) {
	dir := b.TempDir()
	var paths []string
	for i := range 20 {
		path := filepath.Join(dir, fmt.Sprint(i))
		write(b, path, fmt.Sprintf("%s-%d", keyA, i), 0o600)
		age(b, path)
		paths = append(paths, path)
	}
	k := NewKeys(paths)
	rest(k)
	b.ReportAllocs()
	for _, bm := range []struct{ name, key string }{{"first", keyA + "-0"}, {"last", keyA + "-19"}, {"wrong", keyC}} {
		b.Run(bm.name, func(b *testing.B) {
			for b.Loop() {
				k.Match(bm.key)
			}
		})
	}
}
