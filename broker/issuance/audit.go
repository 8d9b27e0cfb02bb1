package issuance

import (
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// audit writes lines to the sink: those of requests that are answered at the same
// time in one Write, for the system call is dearer than all else about a line.
type audit struct {
	sink    io.Writer
	format  Format
	batches sync.Pool

	mu      sync.Mutex // guards the lines of filling, and
	filling *batch     // that takes lines until its Write begins; nil: the next line begins one

	writing sync.Mutex // held for a Write, and guards what follows
	torn    bool       // the last one stopped inside a line
	failure error      // of the last one

	alone atomic.Uint32 // Writes of one line, since the last of several
}

// batch is the lines of one Write.
type batch struct {
	lines []byte // behind a newline, which is for when the Write before stopped inside a line
	users atomic.Int32
	done  sync.WaitGroup // until it is written, or not

	written int   // how much of lines
	err     error // why that is not all
}

var errUnwritten = errors.New("the audit line was not written")

// write returns when the record's line has been written, or why it could not be.
func (a *audit) write(rec *Record, end time.Time, span trace.SpanContext) error {
	b, until, first := a.add(rec, end, span)
	if first {
		if alone := a.alone.Load(); alone < patience || alone%waitEvery == 0 {
			runtime.Gosched() // who is ready to write a line comes along
		}
		a.commit(b)
	}
	b.done.Wait()
	var err error
	if b.written < until-1 { // the newline goes before the next line
		err = b.err
	}
	if b.users.Add(-1) == 0 && cap(b.lines) <= maxSpareBytes {
		a.batches.Put(b)
	}
	return err
}

// Letting others come along takes time where nobody does: after patience lines
// that nobody joined it is done for one in waitEvery. Among many requests, too, a
// line is alone now and then.
const (
	patience  = 16
	waitEvery = 64
)

// maxSpareBytes is how large a batch may be to be kept for the next.
const maxSpareBytes = 64 << 10

// add encodes the line, and returns where it is: in b, up to until. Who is first
// in a batch commits it.
func (a *audit) add(rec *Record, end time.Time, span trace.SpanContext) (b *batch, until int, first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first = a.filling == nil
	if first {
		if b, _ = a.batches.Get().(*batch); b == nil {
			b = new(batch)
		}
		b.lines, b.written, b.err = append(b.lines[:0], '\n'), 0, errUnwritten
		b.done.Add(1)
		a.filling = b
	}
	b = a.filling
	b.users.Add(1)
	if a.format == OCSF {
		b.lines = rec.appendOCSF(b.lines, end, span)
	} else {
		b.lines = rec.appendLine(b.lines, end, span)
	}
	return b, len(b.lines), first
}

func (a *audit) commit(b *batch) {
	defer b.done.Done()
	a.writing.Lock()
	defer a.writing.Unlock()
	a.mu.Lock()
	a.filling = nil
	a.mu.Unlock()
	if b.users.Load() > 1 {
		a.alone.Store(0)
	} else {
		a.alone.Add(1)
	}
	start := 1
	if a.torn {
		start = 0
	}
	n, err := a.sink.Write(b.lines[start:])
	if err == nil && start+n < len(b.lines) {
		err = io.ErrShortWrite
	}
	b.written, b.err, a.failure = start+n, err, err
	if n > 0 {
		a.torn = b.lines[b.written-1] != '\n'
	}
}

// lastError is why there are no lines now. A sink that knows better than the
// last line is asked.
func (a *audit) lastError() error {
	if sink, ok := a.sink.(interface{ Err() error }); ok {
		return sink.Err()
	}
	a.writing.Lock()
	defer a.writing.Unlock()
	return a.failure
}
