package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	stressKeys    = 30
	stressEntries = 20
	stressBytes   = 15 * (EntryOverhead + 200)
)

// stress is one cache under load. The value of every fetch is its key's number and
// a serial number, so that a value tells whose it is and how old.
type stress struct {
	*testing.T
	c      *Cache[string]
	serial atomic.Int64
	purged atomic.Int64 // a value up to this number was purged
}

func (s *stress) fetch(i int) Fetch[string] {
	return func(context.Context) (Entry[string], error) {
		n := s.serial.Add(1)
		switch n % 17 {
		case 0:
			return Entry[string]{}, errors.New("refused")
		case 1:
			panic("lost")
		}
		return Entry[string]{
			Value:     fmt.Sprintf("%d/%d", i, n),
			Lifetime:  rand.N(200 * time.Microsecond),
			RefreshIn: time.Microsecond,
			Bytes:     rand.N(400),
		}, nil
	}
}

// check takes what came back for key i when everything up to purged was gone.
func (s *stress) check(i int, purged int64, v string) {
	var key int
	var n int64
	if _, err := fmt.Sscanf(v, "%d/%d", &key, &n); err != nil || key != i || n <= purged {
		s.Errorf("value %q under key %d, want one of that key, later than %d", v, i, purged)
	}
}

func (s *stress) ask(i int) {
	purged := s.purged.Load()
	v, _, refresh, ok := s.c.Lookup(numbered(i))
	if ok {
		s.check(i, purged, v)
	}
	if refresh {
		s.c.Refresh(s.Context(), numbered(i), s.fetch(i))
	}
	ctx, cancel := context.WithTimeout(s.Context(), rand.N(300*time.Microsecond))
	defer cancel()
	purged = s.purged.Load()
	v, _, _, err := s.c.Get(ctx, numbered(i), s.fetch(i))
	switch {
	case err == nil:
		s.check(i, purged, v)
	case v != "":
		s.Errorf("value %q beside the error %v", v, err)
	}
}

func (s *stress) purge() {
	before := s.serial.Load()
	s.c.Purge(func(Key) bool { return true })
	s.purged.Store(before)
	s.c.Purge(func(k Key) bool { return k.User[0]%2 == 0 })
	if st := s.c.Stats(); st.Entries > stressEntries || st.Bytes > stressBytes || st.Bytes < 0 {
		s.Errorf("Stats = %+v, want within bounds", st)
	}
}

// A value never shows under another key, nor after a purge that was over when the
// caller asked.
func TestValuesStayUnderTheirKeyWhateverHappens(t *testing.T) {
	s := &stress{T: t, c: newCache(t, Config{MaxEntries: stressEntries, MaxBytes: stressBytes})}
	var asking, purging sync.WaitGroup
	for range 16 {
		asking.Go(func() {
			for range 3000 {
				s.ask(rand.N(stressKeys))
			}
		})
	}
	stop := make(chan struct{})
	purging.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.purge()
				runtime.Gosched()
			}
		}
	})
	asking.Wait()
	close(stop)
	purging.Wait()

	if err := s.c.Close(t.Context()); err != nil {
		t.Errorf("Close = %v, want nil", err)
	}
	s.c.Purge(func(Key) bool { return true })
	if st := s.c.Stats(); st.Entries != 0 || st.Bytes != 0 || st.InFlight != 0 {
		t.Errorf("Stats at the end = %+v, want nothing left", st)
	}
}
