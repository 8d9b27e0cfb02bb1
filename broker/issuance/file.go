package issuance

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// File is an audit log in a file that others move, truncate or delete while it
// is written to. It is safe for concurrent use.
//
// A file that was moved is written to until Reopen, as those who move it expect
// before they signal. One that was deleted is made anew with the next line, or
// within a millisecond when there are many; if that cannot be done, the line is
// not written. What is appended always stands at the end, so that a truncation
// leaves no hole.
type File struct {
	path string

	mu      sync.Mutex // guards what follows
	file    *os.File   // nil when it could not be opened again
	looked  time.Time  // when look was last called
	failing bool       // the last line could not be written
	size    int64      // of the file after the last write: a smaller one was truncated
	unended bool       // the file ends inside a line
	alone   bool       // nobody else may do as we do
	fresh   bool       // it had nothing but newlines when it was opened, or was truncated, and still has
}

// lookEvery is how often a busy file is looked after. A file system that was
// asked for a file's times has to keep those of the next line exactly, so that
// asking before each line makes writing it half as dear again.
const lookEvery = time.Millisecond

// OpenFile opens the audit log for appending, or makes it, for its owner alone.
func OpenFile(path string) (*File, error) {
	f := &File{path: path}
	if err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

// open replaces the file at hand by the one that the path names now. When there
// is none to be had, the one at hand stays.
func (f *File) open() error {
	file, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrPermission) { // it may be one that can only be written to
		file, err = os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	}
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	if f.file != nil {
		if old, err := f.file.Stat(); err == nil && os.SameFile(old, info) {
			f.measure(info.Size(), info.Mode().IsRegular())
			return file.Close()
		}
	}
	if f.alone {
		if err := lock(file); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	if f.file != nil {
		// Each line was written, or refused, long before.
		_ = f.file.Close()
	}
	f.file = file
	f.measure(info.Size(), info.Mode().IsRegular())
	return nil
}

var errLocked = errors.New("another broker chains its lines in this file: each needs a file of its own")

// keepOthersOut lets nobody else who asks for the same write to the file, nor to those
// that come in its place.
func (f *File) keepOthersOut() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alone = true
	if f.file == nil {
		return nil
	}
	return f.named(lock(f.file))
}

// measure takes note of a file whose content somebody else has made.
func (f *File) measure(size int64, regular bool) {
	f.size, f.unended, f.fresh = size, false, regular && size == 0
	if regular && size > 0 {
		end := make([]byte, min(size, maxNewlines))
		_, err := f.file.ReadAt(end, size-int64(len(end)))
		f.unended = err != nil || end[len(end)-1] != '\n' // when in doubt: an empty line does no harm
		f.fresh = err == nil && size <= maxNewlines && len(bytes.Trim(end, "\n")) == 0
	}
}

// maxNewlines is how many Err may have tried in a file that got no line.
const maxNewlines = 256

// Reopen goes over to the file that the path names now: for SIGHUP, after the
// old one was moved. No line is written to the old file once Reopen returns.
// When it fails, the old file is written to no more either, and each line tries
// again.
func (f *File) Reopen() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replace()
}

func (f *File) replace() error {
	err := f.open()
	if err == nil {
		return nil
	}
	if f.file != nil {
		_ = f.file.Close() // see open
	}
	f.file = nil
	return err
}

// look finds out what has become of the file since the last line.
func (f *File) look() error {
	f.looked = time.Now()
	if f.file == nil {
		return f.replace()
	}
	links, size, regular, err := state(f.file)
	switch {
	case err != nil:
		return err
	case !regular: // a pipe or a device
	case links == 0:
		return f.replace()
	case size < f.size:
		f.measure(size, true)
	}
	return nil
}

// isFresh reports whether the next line is the first of its file.
func (f *File) isFresh() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.look()
	return err == nil && f.fresh, err
}

// Err returns why the file cannot be written to. When the last line could not
// be, it tries a newline, so that what has mended is known without a request.
func (f *File) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.look(); err != nil {
		return f.named(err)
	}
	if !f.failing {
		return nil
	}
	_, err := f.append([]byte{'\n'})
	return f.named(err)
}

// named says which file it is about, once.
func (f *File) named(err error) error {
	if err == nil {
		return nil
	}
	if inner, ok := errors.AsType[*os.PathError](err); ok {
		err = inner.Err
	}
	return fmt.Errorf("audit log %s: %w", f.path, err)
}

// Write appends lines, which have to end in a newline. What a full disk leaves of
// one is closed by a newline before the next.
func (f *File) Write(lines []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil || f.failing || time.Since(f.looked) >= lookEvery {
		if err := f.look(); err != nil {
			f.failing = true
			return 0, f.named(err)
		}
	}
	given, added := len(lines), 0
	switch begins := given > 0 && lines[0] == '\n'; {
	case f.unended && !begins:
		lines, added = append([]byte{'\n'}, lines...), 1
	case !f.unended && begins: // it was meant to close a line of another file
		lines, added = lines[1:], -1
	}
	n, err := f.append(lines)
	if err != nil {
		return max(0, n-added), f.named(err)
	}
	return given, nil
}

func (f *File) append(lines []byte) (int, error) {
	n, err := f.file.Write(lines)
	f.size += int64(n)
	if n > 0 {
		f.unended = lines[n-1] != '\n'
		f.fresh = f.fresh && n == 1 // a newline of its own is no line
	}
	f.failing = err != nil
	return n, err
}

// tail returns the end of the file, which begins with the beginning of a line.
// Of a file that cannot be read it is an error, of a pipe or a device nothing.
func (f *File) tail(most int64) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil, os.ErrClosed
	}
	info, err := f.file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	end := make([]byte, min(most, info.Size()))
	if _, err := f.file.ReadAt(end, info.Size()-int64(len(end))); err != nil {
		return nil, f.named(err)
	}
	if int64(len(end)) < info.Size() {
		end = end[bytes.IndexByte(end, '\n')+1:]
	}
	return end, nil
}

// Close closes the file. Lines after that are refused.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.path = "" // no look brings it back
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}
