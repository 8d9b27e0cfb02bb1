package issuance

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// held is a sink whose first Write waits.
type held struct {
	begun, release chan struct{}
	writes         []string
}

func (h *held) Write(lines []byte) (int, error) {
	if h.writes = append(h.writes, string(lines)); len(h.writes) == 1 {
		close(h.begun)
		<-h.release
	}
	return len(lines), nil
}

// While a line is being written others gather, and go in one Write.
func TestLinesOfTheSameTimeAreWrittenTogether(t *testing.T) {
	sink := &held{begun: make(chan struct{}), release: make(chan struct{})}
	a := newAudit(sink, Native)
	var all sync.WaitGroup
	write := func() {
		all.Go(func() {
			if err := a.write(&Record{Decision: Allow}, time.Now(), trace.SpanContext{}); err != nil {
				t.Error(err)
			}
		})
	}
	write()
	<-sink.begun
	const more = 8
	for range more {
		write()
	}
	gathered := func() int32 {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.filling == nil {
			return 0
		}
		return a.filling.users.Load()
	}
	for gathered() < more+1 { // and the Write itself
		runtime.Gosched()
	}
	close(sink.release)
	all.Wait()
	if len(sink.writes) != 2 || strings.Count(sink.writes[1], "\n") != more {
		t.Errorf("got the writes %q, want two, the second of %d lines", sink.writes, more)
	}
}

// A sink that takes nothing holds up the one that writes to it, and nobody else; when
// it takes lines again they are written again.
func TestStuckSink(t *testing.T) {
	sink := &held{begun: make(chan struct{}), release: make(chan struct{})}
	a := newAudit(sink, Native)
	a.late = 20 * time.Millisecond
	write := func() error { return a.write(&Record{Decision: Allow}, time.Now(), trace.SpanContext{}) }
	first := make(chan error)
	go func() { first <- write() }()
	<-sink.begun
	var all sync.WaitGroup
	for range 8 { // wait behind it
		all.Go(func() {
			if err := write(); !errors.Is(err, errStuck) {
				t.Errorf("got %v, want %v", err, errStuck)
			}
		})
	}
	all.Wait()
	for range 1000 { // come later
		if err := write(); !errors.Is(err, errStuck) {
			t.Fatalf("got %v, want %v", err, errStuck)
		}
	}
	if err := a.lastError(); !errors.Is(err, errStuck) {
		t.Errorf("got %v, want %v", err, errStuck)
	}
	close(sink.release)
	if err := <-first; !errors.Is(err, errStuck) { // it was given up, although it was written
		t.Errorf("got %v", err)
	}
	for errors.Is(a.lastError(), errStuck) {
		runtime.Gosched()
	}
	if err := write(); err != nil {
		t.Error(err)
	}
	if len(sink.writes) != 2 || strings.Count(sink.writes[1], "\n") != 1 {
		t.Errorf("got the writes %q, want the first and the last line", sink.writes)
	}
}

// silent is a sink that does not say how it is.
type silent struct{ held }

func (s *silent) Err() error {
	<-s.release
	return nil
}

// Whoever asks how the log is gets an answer, whatever the log does.
func TestSinkThatDoesNotAnswer(t *testing.T) {
	sink := &silent{held{begun: make(chan struct{}), release: make(chan struct{})}}
	a := newAudit(sink, Native)
	a.late = 20 * time.Millisecond
	for range 3 {
		if err := a.lastError(); err == nil {
			t.Error("the log is well")
		}
	}
	if err := a.write(&Record{Decision: Allow}, time.Now(), trace.SpanContext{}); !errors.Is(err, errStuck) {
		t.Errorf("got %v", err)
	}
	close(sink.release)
	for a.lastError() != nil {
		runtime.Gosched()
	}
}

// broken is a sink with a defect.
type broken struct{}

func (broken) Write([]byte) (int, error) { panic("a defect") }

// Whatever goes wrong in a sink, nobody waits for what does not come.
func TestSinkThatPanics(t *testing.T) {
	a := newAudit(broken{}, Native)
	for range 3 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("it did not panic")
				}
			}()
			_ = a.write(&Record{Decision: Allow}, time.Now(), trace.SpanContext{})
		}()
		if err := a.lastError(); !errors.Is(err, errUnwritten) {
			t.Errorf("got %v", err)
		}
	}
}
