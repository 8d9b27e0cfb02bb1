package issuance

import (
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
	a := &audit{sink: sink}
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
	for gathered() < more {
		runtime.Gosched()
	}
	close(sink.release)
	all.Wait()
	if len(sink.writes) != 2 || strings.Count(sink.writes[1], "\n") != more {
		t.Errorf("got the writes %q, want two, the second of %d lines", sink.writes, more)
	}
}
