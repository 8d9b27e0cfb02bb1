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
//
// A sink that takes nothing, such as a pipe that nobody reads, holds up the one request
// that writes: once its Write is overdue all other lines are refused until it ends.
type audit struct {
	sink    io.Writer
	format  Format
	late    time.Duration // how long a Write may take
	batches sync.Pool

	mu      sync.Mutex // guards what follows, and the lines of filling
	filling *batch     // that takes lines until its Write begins; nil: the next line begins one
	current *batch     // of the Write under way
	since   time.Time  // when that Write, or a question to the sink, began; zero: there is none
	watched bool       // overdue is going to look
	stuck   bool       // it is overdue
	failure error      // of the last Write

	writing sync.Mutex // held for a Write, or a question to the sink; and guards what follows
	torn    bool       // the last one stopped inside a line

	alone atomic.Uint32 // Writes of one line, since the last of several
}

// batch is the lines of one Write.
type batch struct {
	lines []byte // behind a newline, which is for when the Write before stopped inside a line
	users atomic.Int32
	done  sync.WaitGroup // until it is written, or not
	over  bool           // it is done; guarded by audit.mu

	written int   // how much of lines
	err     error // why that is not all
}

// overdueAfter is how long a Write may take.
const overdueAfter = 5 * time.Second

func newAudit(sink io.Writer, format Format) *audit {
	return &audit{sink: sink, format: format, late: overdueAfter}
}

var (
	errStuck     = errors.New("the audit log does not take what is written to it")
	errUnwritten = errors.New("the audit line was not written")
)

// write returns when the record's line has been written, or why it could not be. A
// line that it says was not may be written all the same by a Write that is overdue.
func (a *audit) write(rec *Record, end time.Time, span trace.SpanContext) error {
	b, until, first := a.add(rec, end, span)
	if b == nil {
		return errStuck
	}
	if first {
		if alone := a.alone.Load(); alone < patience || alone%waitEvery == 0 {
			runtime.Gosched() // who is ready to write a line comes along
		}
		if a.writing.TryLock() {
			a.commit(b)
		} else { // it waits for its turn as the others do
			go func() {
				a.writing.Lock()
				a.commit(b)
			}()
		}
	}
	b.done.Wait()
	var err error
	if b.written < until-1 { // the newline goes before the next line
		err = b.err
	}
	a.leave(b)
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

// leave is for each user of a batch, and for its Write, when they need it no more.
func (a *audit) leave(b *batch) {
	if b.users.Add(-1) == 0 && cap(b.lines) <= maxSpareBytes {
		a.batches.Put(b)
	}
}

// add encodes the line, and returns where it is: in b, up to until. Who is first
// in a batch has it written. There is no batch when no lines are taken.
func (a *audit) add(rec *Record, end time.Time, span trace.SpanContext) (b *batch, until int, first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stuck {
		return nil, 0, false
	}
	first = a.filling == nil
	if first {
		if b, _ = a.batches.Get().(*batch); b == nil {
			b = new(batch)
		}
		b.lines, b.written, b.err, b.over = append(b.lines[:0], '\n'), 0, nil, false
		b.done.Add(1)
		b.users.Add(1) // of the Write
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

// commit writes a batch. It is called with writing held, and unlocks it.
func (a *audit) commit(b *batch) {
	defer a.leave(b)
	defer a.writing.Unlock()
	if !a.begin(b) {
		return
	}
	if b.users.Load() > 2 {
		a.alone.Store(0)
	} else {
		a.alone.Add(1)
	}
	written, err := 0, errUnwritten // should the sink panic
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.failure = err
		a.end()
		b.finish(written, err)
	}()
	start := 1
	if a.torn {
		start = 0
	}
	n, err := a.sink.Write(b.lines[start:])
	if err == nil && start+n < len(b.lines) {
		err = io.ErrShortWrite
	}
	written = start + n
	if n > 0 {
		a.torn = b.lines[written-1] != '\n'
	}
}

// begin takes note of a Write that begins, unless its batch was given up before.
func (a *audit) begin(b *batch) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b.over {
		return false
	}
	a.filling, a.current = nil, b
	a.watch()
	return true
}

// watch has overdue look after what begins now. It is called with mu held, and so
// are those below.
func (a *audit) watch() {
	a.since = time.Now()
	if !a.watched {
		a.watched = true
		time.AfterFunc(a.late, a.overdue)
	}
}

func (a *audit) end() { a.current, a.since, a.stuck = nil, time.Time{}, false }

// finish lets the users of a batch go. It does so once.
func (b *batch) finish(written int, err error) {
	if !b.over {
		b.over, b.written, b.err = true, written, err
		b.done.Done()
	}
}

// overdue looks whether what is under way takes too long.
func (a *audit) overdue() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since.IsZero() {
		a.watched = false
		return
	}
	if left := a.late - time.Since(a.since); left > 0 {
		time.AfterFunc(left, a.overdue)
		return
	}
	a.watched, a.stuck = false, true
	for _, b := range []*batch{a.current, a.filling} {
		if b != nil {
			b.finish(0, errStuck)
		}
	}
	a.filling = nil
}

// lastError is why there are no lines now. A sink that knows better than the
// last line is asked.
func (a *audit) lastError() error {
	a.mu.Lock()
	stuck, failure := a.stuck, a.failure
	a.mu.Unlock()
	sink, ok := a.sink.(interface{ Err() error })
	switch {
	case stuck:
		return errStuck
	case !ok:
		return failure
	}
	answer := make(chan error, 1)
	go func() {
		a.writing.Lock()
		defer a.writing.Unlock()
		a.mu.Lock()
		a.watch()
		a.mu.Unlock()
		answer <- sink.Err()
		a.mu.Lock()
		a.end()
		a.mu.Unlock()
	}()
	select {
	case err := <-answer:
		return err
	case <-time.After(askedFor):
		return errNoAnswer
	}
}

// askedFor is how long a sink may take to say how it is. A readiness probe has two
// seconds.
const askedFor = time.Second

var errNoAnswer = errors.New("the audit log does not answer")
