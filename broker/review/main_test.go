package review_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/broker/review"
)

var update = flag.Bool("update", false, "rewrite the results in testdata")

var (
	since = time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	now   = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	check(t, err)
	return data
}

// configOf is the configuration of a review that is compared with a policy.
func configOf(t testing.TB, file []byte) review.Config {
	t.Helper()
	p, err := policy.Parse("policy.yaml", file)
	check(t, err)
	return review.Config{Policy: p, File: file, Now: now, Users: 3}
}

func reportOf(t testing.TB, cfg review.Config, logs ...[]byte) *review.Report {
	t.Helper()
	r, err := review.New(cfg)
	check(t, err)
	for _, log := range logs {
		check(t, r.Read(bytes.NewReader(log)))
	}
	return r.Report()
}

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		check(t, os.WriteFile(filepath.Join("testdata", name), got, 0o644))
		return
	}
	if diff := cmp.Diff(string(testdata(t, name)), string(got)); diff != "" {
		t.Errorf("%s differs (run with -update) (-want +got):\n%s", name, diff)
	}
}
