package issuance

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strconv"
	"sync"
	"time"
)

// ChainConfig is what NewChain needs.
type ChainConfig struct {
	Sink io.Writer // required; a *File lets a chain go on after a restart
	// Key makes the seals HMACs, which nobody makes who has not got it. Nil: plain
	// SHA-256, which shows accidents and those who do not recompute it.
	Key    []byte
	Format Format // of the lines
}

// Chain writes audit lines so that each carries its number and the seal of the
// line before: one that is edited, removed, inserted or moved shows. That lines
// are missing at the end shows only to those who know the head. It is safe for
// concurrent use.
//
// The chain goes on over rotations, and in a file over restarts: each file, and
// each run, begins with a record of its own that carries the seal of what was
// before.
type Chain struct {
	sink   io.Writer
	file   *File // the sink, if it is one
	format Format
	seal   hash.Hash

	mu      sync.Mutex // guards what follows, and seal
	seq     uint64     // of the last line; 0 before the first
	head    [32]byte   // its seal
	pending bool       // a record has to go before the next line
	torn    bool       // the sink stopped inside a line
	text    []byte     // lines to be written
	added   []sealed   // the same

	telling  sync.Mutex // guards what follows, and is not held while anything is written
	toldSeq  uint64     // seq, for Head
	toldHead [32]byte
}

// sealed is a line of Chain.text.
type sealed struct {
	end  int
	seal [32]byte
}

// NewChain returns a chain that goes on from the last whole line of a file, or
// begins. Another chain in the same file, of whatever process, is an error: neither would
// hold.
func NewChain(cfg ChainConfig) (*Chain, error) {
	if cfg.Sink == nil {
		return nil, errors.New("a chain needs a sink")
	}
	c := &Chain{sink: cfg.Sink, format: cfg.Format, seal: newSeal(cfg.Key), pending: true}
	c.file, _ = cfg.Sink.(*File)
	if c.file == nil {
		return c, nil
	}
	if err := c.file.keepOthersOut(); err != nil {
		return nil, err
	}
	end, err := c.file.tail(tailBytes)
	if err != nil {
		return nil, err
	}
	for len(end) > 0 {
		at := bytes.LastIndexByte(end[:len(end)-1], '\n') + 1
		line := bytes.TrimSuffix(end[at:], []byte{'\n'})
		if link := readLink(line); link.seq > 0 { // else it is none of ours, or torn
			c.seq, c.head = link.seq, sealOf(c.seal, line)
			c.tell()
			break
		}
		end = end[:at]
	}
	return c, nil
}

// tailBytes is how far back the last whole line is looked for.
const tailBytes = 1 << 20

func newSeal(key []byte) hash.Hash {
	if len(key) > 0 {
		return hmac.New(sha256.New, key)
	}
	return sha256.New()
}

// sealOf seals a line without its newline.
func sealOf(seal hash.Hash, line []byte) (sum [32]byte) {
	seal.Reset()
	_, _ = seal.Write(line) // a hash takes everything
	seal.Sum(sum[:0])
	return sum
}

// link is what makes a line part of a chain. The zero value is none.
type link struct {
	seq  uint64
	prev [32]byte // the seal of the line before
}

// chainType is the type of the records that a chain has of its own.
const chainType = "audit_chain"

// append appends the link, and the end of the line.
func (l link) append(b []byte, format Format) []byte {
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, l.seq, 10)
	b = append(b, `,"prev":"`...)
	b = hex.AppendEncode(b, l.prev[:])
	b = append(b, '"')
	return append(b, format.end()...)
}

// readLink returns the link that a line without its newline ends with. One that is
// not to the letter as append writes it is none: others may read it in another way.
func readLink(line []byte) (found link) {
	at := bytes.LastIndex(line, []byte(`,"seq":`))
	if at < 0 || line[0] != '{' {
		return link{}
	}
	number, seal, _ := bytes.Cut(line[at+len(`,"seq":`):], []byte(`,"prev":"`))
	seq, err := strconv.ParseUint(string(number), 10, 64)
	if err != nil || len(seal) < hex.EncodedLen(len(found.prev)) {
		return link{}
	}
	found.seq = seq
	_, _ = hex.Decode(found.prev[:], seal[:hex.EncodedLen(len(found.prev))]) // what is no seal is compared with one
	for _, format := range []Format{Native, OCSF} {
		if bytes.Equal(line[at:], bytes.TrimSuffix(found.append(nil, format), []byte{'\n'})) {
			return found
		}
	}
	return link{}
}

// Write implements io.Writer for whole lines of the chain's format. When it fails
// it returns the length of the lines that are part of the chain: those of which
// nothing but a newline is missing.
func (c *Chain) Write(lines []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.begin(); err != nil {
		return 0, err
	}
	rest := bytes.TrimPrefix(lines, []byte{'\n'}) // c knows itself about a line that was torn
	for line := range bytes.Lines(rest) {
		body, ok := bytes.CutSuffix(line, []byte(c.format.end()))
		if !ok {
			c.text, c.added = c.text[:0], c.added[:0]
			return 0, errors.New("an audit line does not end as its format does")
		}
		c.add(body)
	}
	whole, err := c.commit()
	for range whole {
		_, rest, _ = bytes.Cut(rest, []byte{'\n'})
	}
	return len(lines) - len(rest), err
}

// Begin writes the record that a run or a new file begins with, if it is due.
// Otherwise it goes before the next line.
func (c *Chain) Begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.begin()
}

// Reopen goes over to the file that the path of the sink names now, as
// File.Reopen does, and begins it before any line. Other sinks are as they were.
func (c *Chain) Reopen() error {
	if c.file == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.file.Reopen(); err != nil {
		return err
	}
	return c.begin()
}

func (c *Chain) begin() error {
	if c.file != nil {
		fresh, err := c.file.isFresh()
		if err != nil {
			return err
		}
		c.pending = c.pending || fresh
	}
	if !c.pending {
		return nil
	}
	event := "chain.continued"
	if c.seq == 0 {
		event = "chain.begun"
	}
	c.add(c.format.chainRecord(event, time.Now()))
	if _, err := c.commit(); err != nil {
		return err
	}
	c.pending = false
	return nil
}

// add seals a line, whose end as the format has it is left off, for commit to write.
func (c *Chain) add(body []byte) {
	seq, head := c.seq+1+uint64(len(c.added)), c.head
	if len(c.added) > 0 {
		head = c.added[len(c.added)-1].seal
	} else if c.torn {
		c.text = append(c.text, '\n')
	}
	start := len(c.text)
	c.text = append(c.text, body...)
	c.text = link{seq, head}.append(c.text, c.format)
	c.added = append(c.added, sealed{len(c.text), sealOf(c.seal, c.text[start:len(c.text)-1])})
}

// commit writes what was added, and returns how many lines of it are whole now.
func (c *Chain) commit() (whole int, err error) {
	n, err := c.sink.Write(c.text)
	if err == nil && n < len(c.text) {
		err = io.ErrShortWrite
	}
	if n > 0 {
		c.torn = c.text[n-1] != '\n'
	}
	for _, line := range c.added {
		if n < line.end-1 { // the newline may still come
			break
		}
		whole, c.seq, c.head = whole+1, c.seq+1, line.seal
	}
	c.text, c.added = c.text[:0], c.added[:0]
	c.tell()
	return whole, err
}

func (c *Chain) tell() {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.toldSeq, c.toldHead = c.seq, c.head
}

// Head returns the number and the seal of the last line: who keeps them
// elsewhere can tell later whether lines are missing at the end.
func (c *Chain) Head() (seq uint64, seal string) {
	c.telling.Lock()
	defer c.telling.Unlock()
	return c.toldSeq, hex.EncodeToString(c.toldHead[:])
}

// Err returns why there are no lines now, as far as the sink knows. A file that it
// finds made anew gets its record, before anything else can become of it.
func (c *Chain) Err() error {
	if c.file == nil {
		return nil
	}
	if err := c.file.Err(); err != nil {
		return err
	}
	return c.Begin()
}
