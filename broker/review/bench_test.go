package review_test

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/credfree/credfree/broker/review"
)

const benchLines = 1_000_000

// manyLines are the lines of 50 agents and 5000 users, of the size that the
// broker writes.
func manyLines() []byte {
	var log bytes.Buffer
	for i := range benchLines {
		fmt.Fprintf(&log, `{"time":"2026-10-%02dT10:00:00.123456Z","type":"audit","event":"token.issued","issuance_id":"%032x","trace_id":"%032x","span_id":"%016x","agent":"agent-%d","owner":"team@contoso.com","peer_network":"unix","peer_socket":"a.sock","peer_uid":1001,"door":"oauth","grant":"client_credentials","identity":"research","tenant_id":"8a0c5b0e-1111-4222-8333-444455556666","client_id":"11111111-2222-4333-8444-555555555555","scopes":["https://graph.microsoft.com/scope.%d"],"on_behalf_of":true,"user_tenant_id":"8a0c5b0e-1111-4222-8333-444455556666","user_object_id":"00000000-0000-4000-8000-%012d","decision":"allow","rule":"agents.agent.allow.scopes[0]","policy_revision":"0123456789ab","cache":"hit","token_kind":"user","expires_at":"2026-10-01T11:00:00Z","uti":"abcdefghijklmnop","duration_us":42}`+"\n",
			i%28+1, i, i, i, i%50, i%7, i%5000)
	}
	return log.Bytes()
}

// BenchmarkRead reads a million lines, and reports what is kept of them.
func BenchmarkRead(b *testing.B) {
	log := manyLines()
	b.SetBytes(int64(len(log)))
	var kept uint64
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		r, err := review.New(review.Config{Users: 10})
		check(b, err)
		check(b, r.Read(bytes.NewReader(log)))
		runtime.GC()
		runtime.ReadMemStats(&after)
		kept = after.HeapAlloc - min(before.HeapAlloc, after.HeapAlloc)
		if got := r.Report().Lines.Counted; got != benchLines {
			b.Fatalf("got %d lines, want %d", got, benchLines)
		}
		check(b, r.Report().WriteText(io.Discard))
	}
	b.ReportMetric(float64(b.N)*benchLines/b.Elapsed().Seconds(), "lines/s")
	b.ReportMetric(float64(kept)/(1<<20), "MiB-kept")
}
