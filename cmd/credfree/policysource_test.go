package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestLargeFilesAreNotRead: a file that took the policy's place by mistake must not
// take a broker's memory, and with it the tokens of all, each second.
func TestLargeFilesAreNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large.yaml")
	check(t, os.WriteFile(path, []byte("version: 1\n"), 0o600))
	check(t, os.Truncate(path, 256<<20)) // with a hole, which takes no room
	watch := fileWatch{path: path, settled: true}
	for name, read := range map[string]func() string{
		"check":           func() string { return runWith("", "check", "--config", path).stderr },
		"check a ceiling": func() string { return runWith("", "check", "--config", path, "--ceiling", path).stderr },
		"serve": func() string {
			_, _, _, err := startPolicy(path, nil, path, func(string) string { return "" })
			return err.Error()
		},
		"reload": func() string {
			data, err := watch.look()
			check(t, err)
			_, err = (&policyWatch{policy: watch}).parse(data)
			return err.Error()
		},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		said := read()
		runtime.ReadMemStats(&after)
		if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 32 || !strings.Contains(said, "the limit is 1048576") {
			t.Errorf("%s: got %d MiB of memory and %q, want 32 at most, and the limit", name, took, said)
		}
	}
}

// Who has taken the broker's right to read a file is not told to put it back.
func TestUnreadableHint(t *testing.T) {
	for cause, want := range map[error]string{os.ErrPermission: "let the user who runs credfree read the file", os.ErrNotExist: "put the policy file back"} {
		if got := unreadableHint(&os.PathError{Op: "open", Path: "credfree.yaml", Err: cause}); !strings.HasPrefix(got, want) {
			t.Errorf("%v: got %q, want %q", cause, got, want)
		}
	}
}

// What keeps a file from being read is said once, and again when it is something else.
func TestWhyAFileCannotBeRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credfree.yaml")
	watch := fileWatch{path: path, applied: []byte("version: 1\n")}
	for _, want := range []string{"no such file", "", "is a directory", ""} {
		if want == "is a directory" {
			check(t, os.Mkdir(path, 0o700))
		}
		data, err := watch.look()
		if data != nil || (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %q and %v, want %q", data, err, want)
		}
	}
	check(t, os.Remove(path))
	check(t, os.WriteFile(path, []byte("version: 1\n"), 0o600))
	if data, err := watch.look(); string(data) != "version: 1\n" || err != nil {
		t.Errorf("got %q and %v, want the file that is back", data, err)
	}
}
