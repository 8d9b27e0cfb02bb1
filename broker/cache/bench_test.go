package cache

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// benchTexts are keys without a user: the names come from a configuration, so that
// many keys share their text.
var benchTexts = func() (keys [50]Key) {
	for i := range keys {
		keys[i] = Key{
			Agent:    fmt.Sprintf("agent-%d", i),
			Identity: fmt.Sprintf("identity-%d", i%5),
			Tenant:   fmt.Sprintf("%08d-2222-3333-4444-555555555555", i%3),
			Client:   fmt.Sprintf("%08d-bbbb-cccc-dddd-eeeeeeeeeeee", i%5),
			Scopes:   fmt.Sprintf("https://graph.microsoft.com/Mail.Read%d https://graph.microsoft.com/User.Read", i%7),
		}
	}
	return keys
}()

// benchKey is the key of user i of an agent.
func benchKey(i int) Key {
	key := benchTexts[i%len(benchTexts)]
	binary.LittleEndian.PutUint64(key.User[:], uint64(i))
	return key
}

// filled returns a cache of n entries with values of 2 KB.
func filled(b *testing.B, n int) *Cache[*[2048]byte] {
	b.Helper()
	c, err := New[*[2048]byte](Config{MaxEntries: 200_000, MaxBytes: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close(context.Background()) })
	for i := range n {
		key := benchKey(i)
		key.Scopes = strings.Clone(key.Scopes) // parsed from a request
		_, _, _, err := c.Get(context.Background(), key, func(context.Context) (Entry[*[2048]byte], error) {
			return Entry[*[2048]byte]{Value: new([2048]byte), Lifetime: time.Hour, Bytes: 2048}, nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return c
}

// BenchmarkLookup asks for ten keys in turn, whatever the number of entries: what
// the number itself costs. "all" asks for every entry in turn, so that at 100,000
// none is still in the processor's caches: what main memory costs.
func BenchmarkLookup(b *testing.B) {
	for _, bm := range []struct {
		entries, asked int
		name           string
	}{
		{10, 10, "10"}, {1_000, 10, "1000"}, {100_000, 10, "100000"}, {100_000, 100_000, "100000/all"},
	} {
		c := filled(b, bm.entries)
		ask := func(i int) bool {
			_, _, _, ok := c.Lookup(benchKey(i % bm.asked * 7919 % bm.entries))
			return ok
		}
		b.Run("entries="+bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if !ask(i) {
					b.Fatal("miss")
				}
			}
		})
		b.Run("entries="+bm.name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			var start atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				for i := int(start.Add(1)) * bm.asked / 3; pb.Next(); i++ {
					if !ask(i) {
						b.Error("miss")
						return
					}
				}
			})
		})
	}
}

func BenchmarkGetMiss(b *testing.B) {
	c := newCache(b, Config{})
	key := benchKey(0)
	fetch := brings("token", time.Hour)
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		binary.LittleEndian.PutUint64(key.User[:], i)
		if _, _, how, err := c.Get(context.Background(), key, fetch); err != nil || how.Outcome != Miss {
			b.Fatal(how, err)
		}
	}
}

// BenchmarkPurge is one pass over 100,000 entries of which none matches.
func BenchmarkPurge(b *testing.B) {
	c := filled(b, 100_000)
	for b.Loop() {
		c.Purge(func(Key) bool { return false })
	}
}

// overhead is the heap that n entries take, each, beyond their values of 2 KB.
func overhead(b *testing.B, n int) float64 {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	c := filled(b, n)
	total := float64(heap() - before)
	runtime.KeepAlive(c)
	return total/float64(n) - 2048
}

// BenchmarkMemory reports bytes per entry beyond the value, the text of the key
// included, and fails if that is more than is counted against MaxBytes.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			var each float64
			for b.Loop() {
				each = overhead(b, n)
			}
			b.ReportMetric(each, "overhead-B/entry")
			b.ReportMetric(0, "ns/op")
			if each > EntryOverhead {
				b.Errorf("overhead = %.0f bytes per entry, want at most EntryOverhead, %d", each, EntryOverhead)
			}
		})
	}
}
