package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the test binary the command itself when a script runs
// it under that name, and a server when a benchmark tells it to be one.
func TestMain(m *testing.M) {
	if serve, ok := benchServers[os.Getenv("CREDFREE_BENCH_SERVER")]; ok {
		serve()
		return
	}
	testscript.Main(m, map[string]func(){"credfree": main})
}

// The command line's specification is in testdata/script, one file per promise.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"background": background, "code": code, "free-port": freePort, "replace": replace, "wait-for": waitFor,
		},
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
	})
}
