//go:build linux

package main

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/entratest"
)

func TestExposures(t *testing.T) {
	p, err := policy.Parse("credfree.yaml", []byte(`version: 1
tenant: `+entratest.DemoTenantID+`
sources: {pod: {env: {name: T}}}
identities: {demo: {application: {clientID: `+entratest.DemoClientID+`, source: pod}}}
agents:
  one: {identity: demo, callers: [{tcp: {uids: [10001]}}, {socket: s, uids: [10001]}], allow: {scopes: [graph]}}
  two: {identity: demo, callers: [{socket: two, uids: [10002, 10003]}], allow: {scopes: [graph]}}
`))
	check(t, err)
	none := func(uids ...uint32) func() (map[uint32]bool, error) {
		return func() (map[uint32]bool, error) {
			seen := map[uint32]bool{}
			for _, uid := range uids {
				seen[uid] = true
			}
			return seen, nil
		}
	}
	for name, test := range map[string]struct {
		own        uint32
		visible    func() (map[uint32]bool, error)
		undumpable error
		want       []string
	}{
		"apart":              {65532, none(65532, 0), nil, nil},
		"same user":          {10001, none(10001), nil, []string{"runs as uid 10001, and so do agents one"}},
		"shared namespace":   {65532, none(65532, 10003), nil, []string{"process namespace with agents two (uid 10003)"}},
		"two of them":        {65532, none(10001, 10002), nil, []string{"agents one", "agents two"}},
		"can be dumped":      {65532, none(), errors.New("not permitted"), []string{"can be dumped: not permitted"}},
		"nothing to be seen": {65532, func() (map[uint32]bool, error) { return nil, errors.New("no /proc") }, nil, []string{"no /proc"}},
	} {
		problems, hints := exposures(p, test.own, test.visible, test.undumpable)
		if len(problems) != len(test.want) || len(hints) != len(problems) {
			t.Errorf("%s: got %q with hints %q, want %q", name, problems, hints, test.want)
			continue
		}
		for i, want := range test.want {
			if !strings.Contains(problems[i], want) {
				t.Errorf("%s: got %q, want %q", name, problems[i], want)
			}
		}
	}
}

func TestMemoryCannotBeDumped(t *testing.T) {
	if err := makeUndumpable(); err != nil {
		t.Fatal(err)
	}
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
		t.Errorf("got dumpable %d, %v, want 0", dumpable, err)
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core.Cur != 0 {
		t.Errorf("got a core file limit of %d, %v, want 0", core.Cur, err)
	}
	seen, err := visibleUIDs()
	if err != nil || !seen[0] && !seen[ownUID()] {
		t.Errorf("got %v, %v, want this very process at least", seen, err)
	}
}
