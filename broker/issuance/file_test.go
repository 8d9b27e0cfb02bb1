package issuance_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/broker/issuance"
)

func openFile(t *testing.T, path string) *issuance.File {
	t.Helper()
	file, err := issuance.OpenFile(path)
	check(t, err)
	t.Cleanup(func() { check(t, file.Close()) })
	return file
}

func write(t *testing.T, file *issuance.File, line string) {
	t.Helper()
	n, err := file.Write([]byte(line))
	check(t, err)
	if n != len(line) {
		t.Fatalf("wrote %d of %d bytes without an error", n, len(line))
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	check(t, err)
	return string(text)
}

// Files are moved away while many write: every line is in one of them, whole,
// and none is written to a file that was left.
func TestRotationLosesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	file := openFile(t, path)
	recorder, err := issuance.NewRecorder(issuance.Config{Audit: file})
	check(t, err)
	const writers, lines, rotations = 8, 400, 20
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range lines {
				if err := recorder.Close(t.Context(), &issuance.Record{ID: issuance.NewID(), Start: time.Now(), Decision: issuance.Allow}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range rotations {
		old := fmt.Sprintf("%s.%d", path, i)
		check(t, os.Rename(path, old))
		check(t, file.Reopen())
		left := content(t, old)
		defer func() {
			if got := content(t, old); got != left {
				t.Errorf("%s got %d bytes more after it was left", old, len(got)-len(left))
			}
		}()
	}
	all.Wait()
	seen := map[string]bool{}
	files, err := filepath.Glob(path + "*")
	check(t, err)
	for _, name := range files {
		for line := range strings.Lines(content(t, name)) {
			var rec struct {
				ID string `json:"issuance_id"`
			}
			if err := json.Unmarshal([]byte(line), &rec); err != nil || seen[rec.ID] {
				t.Fatalf("%s has the line %q: %v", name, line, err)
			}
			seen[rec.ID] = true
		}
	}
	if len(seen) != writers*lines || len(files) != rotations+1 {
		t.Errorf("got %d lines in %d files, want %d in %d", len(seen), len(files), writers*lines, rotations+1)
	}
}

// A moved file is written to until the signal comes.
func TestMovedFileIsWrittenUntilReopened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	file := openFile(t, path)
	write(t, file, "one\n")
	check(t, os.Rename(path, path+".1"))
	write(t, file, "two\n")
	check(t, file.Reopen())
	write(t, file, "three\n")
	if old, now := content(t, path+".1"), content(t, path); old != "one\ntwo\n" || now != "three\n" {
		t.Errorf("got %q and %q", old, now)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want a file for its owner alone", info.Mode(), err)
	}
}

// copytruncate leaves no hole, and no empty line.
func TestTruncatedFile(t *testing.T) { synctest.Test(t, testTruncatedFile) }

func testTruncatedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	file := openFile(t, path)
	write(t, file, "one\n")
	check(t, os.Truncate(path, 0))
	time.Sleep(time.Millisecond) // as long as a busy file may go unlooked at
	write(t, file, "\ntwo\n")    // as after a line that was torn before
	if got := content(t, path); got != "two\n" {
		t.Errorf("got %q", got)
	}
	write(t, file, "three\n")
	check(t, os.Truncate(path, 6)) // inside a line
	time.Sleep(time.Millisecond)
	write(t, file, "four\n")
	if got := content(t, path); got != "two\nth\nfour\n" {
		t.Errorf("got %q", got)
	}
}

// A deleted file is made anew with the next line, or within a millisecond; without
// its folder there is no line, until the folder is back.
func TestDeletedFile(t *testing.T) { synctest.Test(t, testDeletedFile) }

func testDeletedFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	check(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "audit.log")
	file := openFile(t, path)
	write(t, file, "one\n")
	check(t, os.Remove(path))
	time.Sleep(time.Millisecond) // as long as a busy file may go unlooked at
	write(t, file, "two\n")
	if got := content(t, path); got != "two\n" {
		t.Errorf("got %q", got)
	}
	check(t, os.RemoveAll(dir))
	time.Sleep(time.Millisecond)
	if n, err := file.Write([]byte("lost\n")); n != 0 || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a folder, and before anybody asked: got %d, %v", n, err)
	}
	if err := file.Err(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a folder, and before any line: got %v", err)
	}
	if n, err := file.Write([]byte("three\n")); n != 0 || !errors.Is(err, fs.ErrNotExist) || strings.Count(err.Error(), path) != 1 {
		t.Errorf("without a folder: got %d, %v", n, err)
	}
	if err := file.Reopen(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a folder: got %v", err)
	}
	check(t, os.Mkdir(dir, 0o700))
	write(t, file, "four\n")
	check(t, file.Err())
	if got := content(t, path); got != "four\n" {
		t.Errorf("got %q", got)
	}
}

// When the new file cannot be opened, nothing more goes to the old one.
func TestReopenThatFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	check(t, os.Mkdir(dir, 0o700))
	file := openFile(t, filepath.Join(dir, "audit.log"))
	write(t, file, "one\n")
	check(t, os.Rename(dir, dir+".old"))
	if err := file.Reopen(); err == nil {
		t.Error("a folder that is gone was no error")
	}
	if _, err := file.Write([]byte("two\n")); err == nil {
		t.Error("a line was written nobody knows where")
	}
	if got := content(t, filepath.Join(dir+".old", "audit.log")); got != "one\n" {
		t.Errorf("got %q in the file that was left", got)
	}
}

// A full disk: no line, said so, and mended without a restart or a request.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	check(t, os.Symlink("/dev/full", path))
	file := openFile(t, path)
	recorder, err := issuance.NewRecorder(issuance.Config{Audit: file})
	check(t, err)
	check(t, recorder.AuditError())
	rec := issuance.Record{ID: issuance.NewID(), Start: time.Now(), Decision: issuance.Allow}
	if err := recorder.Close(t.Context(), &rec); !errors.Is(err, syscall.ENOSPC) || rec.Decision != issuance.Fail {
		t.Errorf("got %v and %s", err, rec.Decision)
	}
	for range 2 {
		if err := recorder.AuditError(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("got %v, want %v", err, syscall.ENOSPC)
		}
	}
	check(t, os.Remove(path))
	check(t, os.WriteFile(path, nil, 0o600))
	check(t, file.Reopen())
	if err := recorder.AuditError(); err != nil {
		t.Errorf("there is room again, and it still says %v", err)
	}
}

// A program that was killed inside a line leaves one that the next closes.
func TestTornLineOfAnEarlierRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	check(t, os.WriteFile(path, []byte("whole\nhal"), 0o600))
	write(t, openFile(t, path), "next\n")
	if got := content(t, path); got != "whole\nhal\nnext\n" {
		t.Errorf("got %q", got)
	}
}

func TestOpenFileThatCannotBeOpened(t *testing.T) {
	if _, err := issuance.OpenFile(filepath.Join(t.TempDir(), "no", "audit.log")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	file := openFile(t, filepath.Join(t.TempDir(), "audit.log"))
	check(t, file.Close())
	if _, err := file.Write([]byte("late\n")); err == nil {
		t.Error("a closed file took a line")
	}
}

func BenchmarkFileWrite(b *testing.B) {
	file, err := issuance.OpenFile(filepath.Join(b.TempDir(), "audit.log"))
	check(b, err)
	line := append(bytes.Repeat([]byte{'x'}, 700), '\n')
	b.ReportAllocs()
	for b.Loop() {
		if _, err := file.Write(line); err != nil {
			b.Fatal(err)
		}
	}
	check(b, file.Close())
}
