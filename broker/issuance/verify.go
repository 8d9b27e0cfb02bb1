package issuance

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
)

// VerifyConfig is what NewVerifier needs.
type VerifyConfig struct {
	Key []byte // the chain's; nil for none
	// Head is the seal of a line that has to be there; "" for none. Without one,
	// lines that are missing at the end do not show.
	Head string
	// From is the seal of the line before the first, or "start" when the first has
	// to begin the chain; "" for either. Without it, lines that are missing at the
	// beginning are noted only.
	From string
	// Restarts lets a new chain begin after the first: every run begins one
	// where the log is no file.
	Restarts bool
	// Report is told each finding, in the order of the log. Required.
	Report func(Finding)
}

// Finding is one thing that is wrong with a log, or worth knowing.
type Finding struct {
	File string
	Line int // counted from 1
	// Broken: the chain does not hold here. Else it does, and the finding only
	// says what it does not cover.
	Broken bool
	Text   string
}

// Verified sums up what a Verifier has read.
type Verified struct {
	Lines  uint64 // that belong to the chain
	Broken uint64 // findings that break it
	Seq    uint64 // of the last line
	Head   string // its seal
	After  uint64 // lines after the one that VerifyConfig.Head is of
}

// Verifier follows a chain through files, the oldest first. It keeps one line
// in memory.
type Verifier struct {
	cfg     VerifyConfig
	seal    hash.Hash
	sum     Verified
	head    [32]byte
	headHas bool // VerifyConfig.Head was seen
	others  bool // there were lines before the first of the chain
	file    string
	number  int // of the line
}

// fromStart is VerifyConfig.From of a log that has to be there from its first line.
const fromStart = "start"

// NewVerifier returns a Verifier, or an error when cfg.Head or cfg.From is no seal.
func NewVerifier(cfg VerifyConfig) (*Verifier, error) {
	if !isSeal(cfg.Head) && cfg.Head != "" {
		return nil, errors.New("a head is 64 hexadecimal digits")
	}
	if !isSeal(cfg.From) && cfg.From != "" && cfg.From != fromStart {
		return nil, errors.New("a chain goes on from 64 hexadecimal digits, or from its start")
	}
	cfg.Head, cfg.From = strings.ToLower(cfg.Head), strings.ToLower(cfg.From)
	return &Verifier{cfg: cfg, seal: newSeal(cfg.Key)}, nil
}

func isSeal(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == sha256.Size
}

// maxChained is the longest line that is read. The broker's own are far below.
const maxChained = 256 << 10

// Read follows the chain through one file. The error is the reader's.
func (v *Verifier) Read(name string, log io.Reader) error {
	v.file, v.number = name, 0
	lines := bufio.NewReaderSize(log, maxChained)
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 {
			v.number++
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			v.broken("the line is too long to be one of the broker's")
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = lines.ReadSlice('\n')
			}
			line = nil
		}
		body, whole := bytes.CutSuffix(line, []byte{'\n'})
		switch {
		case len(body) == 0:
		case !whole && err != nil && (readLink(body).seq == 0 || !json.Valid(body)): // else nothing but the newline is missing
			v.note("the last line is torn: it does not end")
		default:
			v.line(body)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (v *Verifier) line(line []byte) {
	found := readLink(line)
	switch {
	case found.seq > 0:
	case isTorn(line):
		v.others = true
		v.note("the line is torn: it is not whole")
		return
	case v.sum.Lines == 0:
		v.others = true
		v.note("the line is from before the chain, which does not cover it")
		return
	default:
		v.broken("the line has no number and no seal, as the broker writes them: it was inserted, changed, or written while the chain was off")
		return
	}
	v.follow(found, found.seq == 1 && begins(line))
	v.sum.Lines++
	v.sum.Seq, v.head = found.seq, sealOf(v.seal, line)
	v.sum.After++
	if v.cfg.Head != "" && subtle.ConstantTimeCompare([]byte(hex.EncodeToString(v.head[:])), []byte(v.cfg.Head)) == 1 {
		v.headHas, v.sum.After = true, 0
	}
}

// isTorn reports whether a line is the beginning of an object, as a broker leaves it
// that is killed, or whose disk is full: nobody can take it for a whole one.
func isTorn(line []byte) bool {
	if line[0] != '{' {
		return false
	}
	var whole json.RawMessage
	return errors.Is(json.NewDecoder(bytes.NewReader(line)).Decode(&whole), io.ErrUnexpectedEOF)
}

// follow compares a line's link with the line before. begins: it begins a chain.
func (v *Verifier) follow(found link, begins bool) {
	fits := subtle.ConstantTimeCompare(found.prev[:], v.head[:]) == 1
	switch last := v.sum.Seq; {
	case v.sum.Lines == 0:
		if text := v.from(found, begins); text != "" {
			v.broken(text)
		} else if !begins && v.others {
			v.broken(fmt.Sprintf("the chain goes on from its line %d, and what stands before is not that line", found.seq-1))
		} else if !begins && v.cfg.From == "" {
			v.note(fmt.Sprintf("the log goes on from line %d of its chain, with the seal %x, which is not among these files", found.seq-1, found.prev))
		}
	case begins:
		if v.cfg.Restarts {
			v.note("a new chain begins: lines may be missing at the end of the one before")
		} else {
			v.broken("a new chain begins: what was before has lost its end, or another broker wrote here")
		}
	case found.seq == last+1 && fits:
	case found.seq == last+1:
		v.broken(fmt.Sprintf("the seal of line %d of the chain does not fit: that line, just before, was changed, or this one", last))
	case found.seq > last+1:
		v.broken(fmt.Sprintf("lines %d to %d of the chain are missing before", last+1, found.seq-1))
	default:
		v.broken(fmt.Sprintf("line %d of the chain comes after line %d: it was inserted or moved", found.seq, last))
	}
}

// from is what is wrong with where the chain begins here, or "".
func (v *Verifier) from(found link, begins bool) string {
	switch seal := hex.EncodeToString(found.prev[:]); {
	case v.cfg.From == "", v.cfg.From == fromStart && begins, v.cfg.From == seal && !begins:
		return ""
	case begins:
		return "a chain begins here, which is not the one that was to go on: lines before are missing, or it is another log"
	case v.cfg.From == fromStart:
		return fmt.Sprintf("lines 1 to %d of the chain are missing before", found.seq-1)
	default:
		return fmt.Sprintf("line %d of the chain does not follow the seal asked for: lines before are missing, or it is another log or key", found.seq)
	}
}

func (v *Verifier) broken(text string) {
	v.sum.Broken++
	v.cfg.Report(Finding{File: v.file, Line: v.number, Broken: true, Text: text})
}

func (v *Verifier) note(text string) {
	v.cfg.Report(Finding{File: v.file, Line: v.number, Text: text})
}

// End says what was found, after the last file. A log without a chain, and one
// that lacks the head asked for, are broken.
func (v *Verifier) End() Verified {
	switch {
	case v.sum.Lines == 0:
		v.broken("no line belongs to a chain")
	case v.cfg.Head != "" && !v.headHas:
		v.broken("no line has the seal asked for: the end of the log is missing, or it is another log or key")
	}
	v.sum.Head = hex.EncodeToString(v.head[:])
	if v.cfg.Head == "" {
		v.sum.After = 0
	}
	return v.sum
}
