package issuance

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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
	line    []byte
}

// NewChain returns a chain that goes on from the last whole line of a file, or
// begins.
func NewChain(cfg ChainConfig) (*Chain, error) {
	if cfg.Sink == nil {
		return nil, errors.New("a chain needs a sink")
	}
	c := &Chain{sink: cfg.Sink, format: cfg.Format, seal: newSeal(cfg.Key), pending: true}
	c.file, _ = cfg.Sink.(*File)
	if c.file == nil {
		return c, nil
	}
	end, err := c.file.tail(tailBytes)
	if err != nil {
		return nil, err
	}
	for len(end) > 0 {
		at := bytes.LastIndexByte(end[:len(end)-1], '\n') + 1
		line := end[at:]
		if link, ok := readLink(line); ok && link.Seq > 0 && line[len(line)-1] == '\n' {
			c.seq, c.head = link.Seq, sealOf(c.seal, line[:len(line)-1])
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

// link is what makes a line part of a chain.
type link struct {
	Seq  uint64 `json:"seq"`
	Prev string `json:"prev"`
	Type string `json:"type"`
}

// chainType is the type of the records that a chain has of its own.
const chainType = "audit_chain"

// readLink returns the link of a line, and whether the line is a JSON object.
// One that is and has no link has number 0.
func readLink(line []byte) (link, bool) {
	var text struct {
		link
		Unmapped link `json:"unmapped"` // in OCSF
	}
	if len(line) == 0 || line[0] != '{' || json.Unmarshal(line, &text) != nil {
		return link{}, false
	}
	found := text.link
	if found.Seq == 0 {
		found = text.Unmapped
	}
	if len(found.Prev) != 2*sha256.Size {
		found.Seq = 0
	}
	return found, true
}

// Write implements io.Writer for one whole line of the chain's format.
func (c *Chain) Write(line []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.begin(); err != nil {
		return 0, err
	}
	body, ok := bytes.CutSuffix(bytes.TrimPrefix(line, []byte{'\n'}), []byte(c.format.end()))
	if !ok {
		return 0, errors.New("an audit line does not end as its format does")
	}
	if err := c.append(body); err != nil {
		return 0, err // nothing of it counts: c knows about the rest
	}
	return len(line), nil
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
	if err := c.append(c.format.chainRecord(event, time.Now())); err != nil {
		return err
	}
	c.pending = false
	return nil
}

// append writes a line whose end, as the format has it, is left off.
func (c *Chain) append(body []byte) error {
	c.line = c.line[:0]
	if c.torn {
		c.line = append(c.line, '\n')
	}
	start := len(c.line)
	c.line = append(c.line, body...)
	c.line = append(c.line, `,"seq":`...)
	c.line = strconv.AppendUint(c.line, c.seq+1, 10)
	c.line = append(c.line, `,"prev":"`...)
	c.line = hex.AppendEncode(c.line, c.head[:])
	c.line = append(c.line, '"')
	c.line = append(c.line, c.format.end()...)
	n, err := c.sink.Write(c.line)
	if err != nil {
		c.torn = n > 0 && n < len(c.line) || c.torn && n == 0
		return err
	}
	c.torn = false
	c.seq, c.head = c.seq+1, sealOf(c.seal, c.line[start:len(c.line)-1])
	return nil
}

// Head returns the number and the seal of the last line: who keeps them
// elsewhere can tell later whether lines are missing at the end.
func (c *Chain) Head() (seq uint64, seal string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seq, hex.EncodeToString(c.head[:])
}

// Err returns why there are no lines now, as far as the sink knows.
func (c *Chain) Err() error {
	if c.file != nil {
		return c.file.Err()
	}
	return nil
}
