package peer

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	minKeySize     = 16
	maxKeyFileSize = 4 << 10
	// settleTime is longer than the clock step of any file system's times: a file that was read later than this after its last
	// change cannot have changed again under the same time.
	settleTime = 2 * time.Second
)

// Keys compares presented keys with the contents of key files. It keeps SHA-256 digests, not the keys.
// Create it with [NewKeys]; the zero value and nil hold no key. Safe for concurrent use.
type Keys struct{ files []*keyFile }

// keyFile is one path and what was last read from it. Readers load the state and never wait for the file of another.
type keyFile struct {
	path  string
	state atomic.Pointer[keyState]
}

type keyState struct {
	digest  [sha256.Size]byte
	usable  int         // 1 if digest is that of a key that may match; an int for crypto/subtle
	info    os.FileInfo // of the open file that digest was read from; nil if it could not be opened
	settled bool        // info can be trusted to change when the file does
	problem error       // nil exactly if usable
}

// NewKeys reads the key files at paths, each of which holds one key. A file that is missing or unusable matches nothing until it is
// repaired, and [Keys.Problems] names it. A path that is given twice counts once.
func NewKeys(paths []string) *Keys {
	k := &Keys{}
	seen := make(map[string]bool, len(paths))
	for _, path := range paths {
		if seen[path] {
			continue
		}
		seen[path] = true
		f := &keyFile{path: path}
		f.state.Store(readKey(path))
		k.files = append(k.files, f)
	}
	return k
}

// Len returns the number of different key files.
func (k *Keys) Len() int {
	if k == nil {
		return 0
	}
	return len(k.files)
}

// Match returns the path of the file that holds the presented key, as it was passed to [NewKeys].
//
// White space around the presented key and around the file's content is ignored. Never matched: a key shorter than 16 bytes or longer
// than 4 KiB, a file that users outside its owner and group can read or change, a key that several files hold. A changed file counts
// at once, whether a key appears in it or disappears from it.
//
// The presented key is compared with every file, also after a match: the time does not tell which file matched, nor how
// much of a key was right.
func (k *Keys) Match(presented string) (path string, ok bool) {
	presented = strings.TrimSpace(presented)
	if k == nil || len(presented) < minKeySize || len(presented) > maxKeyFileSize {
		return "", false
	}
	digest := sha256.Sum256([]byte(presented))
	k.refresh() // all of them: another may hold this key now
	if i, ok := k.find(&digest); ok {
		return k.files[i].path, true
	}
	return "", false
}

// find returns the one file whose key has this digest.
func (k *Keys) find(digest *[sha256.Size]byte) (index int, ok bool) {
	matches := 0
	for i, f := range k.files {
		s := f.state.Load()
		equal := subtle.ConstantTimeCompare(s.digest[:], digest[:]) & s.usable
		index = subtle.ConstantTimeSelect(equal, i, index)
		matches += equal
	}
	return index, matches == 1
}

// Stamp changes when the content of a key file does: what a key was good for at one stamp, it need not be at another. It tells
// nothing about the keys.
func (k *Keys) Stamp() [sha256.Size]byte {
	if k == nil {
		return [sha256.Size]byte{}
	}
	k.refresh()
	all := sha256.New()
	for _, f := range k.files {
		s := f.state.Load()
		all.Write(s.digest[:])
	}
	return [sha256.Size]byte(all.Sum(nil))
}

func (k *Keys) refresh() {
	for _, f := range k.files {
		if !f.current() {
			f.state.Store(readKey(f.path))
		}
	}
}

// Problems says what is wrong with the key files now, one error per problem; none of them contains any part of a key.
func (k *Keys) Problems() []error {
	if k == nil {
		return nil
	}
	k.refresh()
	var problems []error
	holder := make(map[[sha256.Size]byte]string, len(k.files))
	for _, f := range k.files {
		s := f.state.Load()
		if s.problem != nil {
			problems = append(problems, s.problem)
			continue
		}
		if other, taken := holder[s.digest]; taken {
			problems = append(problems, fmt.Errorf("key file %s holds the same key as %s, so neither matches; write a new key into one of them", f.path, other))
			continue
		}
		holder[s.digest] = f.path
	}
	return problems
}

// current says whether the state still describes the file.
func (f *keyFile) current() bool {
	s := f.state.Load()
	if !s.settled {
		return false
	}
	now, err := os.Stat(f.path)
	return err == nil && sameContent(s.info, now)
}

func sameContent(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode() &&
		changeTime(a).Equal(changeTime(b)) // a copy can bring the modification time along
}

func readKey(path string) *keyState {
	// Without waiting, should the path be a pipe.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return &keyState{problem: fmt.Errorf("key file: %w", err)}
	}
	defer f.Close()
	s := &keyState{}
	before, err := f.Stat()
	if err != nil {
		s.problem = fmt.Errorf("key file: %w", err)
		return s
	}
	s.info = before
	s.settled = time.Since(before.ModTime()) > settleTime && time.Since(changeTime(before)) > settleTime
	if err := checkKeyFile(before); err != nil {
		s.problem = fmt.Errorf("key file %s %w", path, err)
		return s
	}
	content, err := io.ReadAll(io.LimitReader(f, maxKeyFileSize+1))
	defer clear(content)
	key := bytes.TrimSpace(content)
	switch {
	case err != nil:
		s.problem = fmt.Errorf("key file: %w", err)
		s.settled = false // the file need not change for the next attempt to go well
	case len(content) > maxKeyFileSize:
		s.problem = fmt.Errorf("key file %s is longer than %d bytes; write one key into it and nothing else", path, maxKeyFileSize)
	case len(key) == 0:
		s.problem = fmt.Errorf("key file %s is empty; write a random key of at least %d bytes into it", path, minKeySize)
	case len(key) < minKeySize:
		s.problem = fmt.Errorf("key file %s holds a key of %d bytes; write a random one of at least %d", path, len(key), minKeySize)
	default:
		s.digest, s.usable = sha256.Sum256(key), 1
	}
	return s
}

// checkKeyFile refuses a file whose content users outside its owner and group could know or choose.
func checkKeyFile(info os.FileInfo) error {
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return errors.New("is not a regular file; name the file that holds the key")
	case runtime.GOOS == "windows":
		return errors.New("cannot be trusted on Windows, where its permissions are not visible here; use Linux or macOS")
	case mode.Perm()&0o006 != 0:
		return fmt.Errorf("can be read or written by every user (mode %04o); run chmod o-rw, or set defaultMode: 0440 on a Kubernetes secret volume", mode.Perm())
	}
	return nil
}
