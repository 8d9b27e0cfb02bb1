package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// piped is serve as a process whose standard output is a pipe.
type piped struct {
	*exec.Cmd
	out           io.ReadCloser
	log, logging  *os.File // both ends of its standard error
	agents, admin string   // URLs
}

// pipe starts serve. recording is what the policy says of its audit log.
func pipe(t *testing.T, recording string) *piped {
	t.Helper()
	dir := t.TempDir()
	policy := filepath.Join(dir, "credfree.yaml")
	check(t, os.WriteFile(policy, []byte(fmt.Sprintf("version: 1\ntenant: 5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10\n%ssources: {pod: {file: {path: %s}}}\n"+
		"identities: {demo: {application: {clientID: a1d4c0de-0000-4000-8000-00000000a9e7, source: pod}}}\nagents:\n  demo:\n    identity: demo\n    callers: [{tcp: {uids: [%d]}}]\n    allow: {scopes: [graph]}\n",
		recording, filepath.Join(dir, "none"), os.Getuid())), 0o600))
	exe, err := os.Executable()
	check(t, err)
	p := &piped{Cmd: exec.CommandContext(t.Context(), exe)}
	p.Args = []string{"credfree", "serve", "--config", policy, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--socket-dir", dir}
	p.out, err = p.StdoutPipe()
	check(t, err)
	p.log, p.logging, err = os.Pipe()
	check(t, err)
	t.Cleanup(func() { _, _ = p.log.Close(), p.logging.Close() }) // to end what still reads or writes
	p.Stderr = p.logging
	check(t, p.Start())
	addresses := make(chan [2]string, 1)
	go func() {
		for lines := bufio.NewScanner(p.log); lines.Scan(); { // to the end: nothing else is to be stuck
			var line struct{ Msg, Agents, Admin string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "ready" {
				addresses <- [2]string{line.Agents, line.Admin}
			}
		}
	}()
	select {
	case found := <-addresses:
		p.agents, p.admin = "http://"+found[0], "http://"+found[1]
	case <-time.After(20 * time.Second):
		t.Fatal("serve does not start")
	}
	return p
}

// unread has nobody read standard error any more, and fills it.
func (p *piped) unread(t *testing.T) {
	t.Helper()
	check(t, p.log.SetReadDeadline(time.Now()))
	go func() { _, _ = p.logging.Write(make([]byte, 1<<20)) }() // which stays until the test ends
	time.Sleep(100 * time.Millisecond)
}

// ask asks for what the policy denies, and returns the status; 0 for no answer.
func (p *piped) ask(t *testing.T) int {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post(p.agents+"/oauth2/token", "application/x-www-form-urlencoded", strings.NewReader("grant_type=client_credentials&scope=https://vault.azure.net/.default"))
	if err != nil {
		return 0
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode
}

func (p *piped) ready(t *testing.T) (int, string) {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(p.admin + "/readyz")
	check(t, err)
	body, err := io.ReadAll(resp.Body)
	check(t, err)
	check(t, resp.Body.Close())
	return resp.StatusCode, string(body)
}

// end has the process end by SIGTERM, as a supervisor does.
func (p *piped) end(t *testing.T) {
	t.Helper()
	check(t, p.Process.Signal(syscall.SIGTERM))
	ended := make(chan error, 1)
	go func() { ended <- p.Wait() }()
	select {
	case err := <-ended: // with whatever code
		if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || !exit.Exited()) {
			t.Errorf("it ended by %v", err)
		}
	case <-time.After(20 * time.Second):
		check(t, p.Process.Kill())
		t.Error("it does not end")
	}
}

// Nobody reads the audit log: but for the one request that writes, all are answered,
// with what the policy says of such a log; probes are too, and the program ends.
func TestAuditLogThatNobodyReads(t *testing.T) {
	for recording, want := range map[string]int{"": http.StatusServiceUnavailable, "audit: best-effort\n": http.StatusBadRequest} {
		t.Run(recording, func(t *testing.T) {
			t.Parallel()
			p := pipe(t, recording)
			var silent, odd atomic.Int32
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for range 60 {
						switch got := p.ask(t); {
						case got == 0:
							silent.Add(1)
						case got != want && got != http.StatusBadRequest:
							odd.Add(1)
						}
					}
				})
			}
			all.Wait()
			if silent.Load() > 1 || odd.Load() > 0 {
				t.Errorf("%d requests have no answer, %d an odd one", silent.Load(), odd.Load())
			}
			if got := p.ask(t); got != want {
				t.Errorf("got status %d, want %d", got, want)
			}
			if _, body := p.ready(t); !strings.Contains(body, "does not take what is written to it") {
				t.Errorf("got %s", body)
			}
			p.end(t)
		})
	}
}

// Nobody reads standard error either, as when what collects a container's output hangs:
// what is logged about the audit log holds nobody up.
func TestLogThatNobodyReads(t *testing.T) {
	t.Parallel()
	p := pipe(t, "")
	p.unread(t)
	var silent atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				if p.ask(t) == 0 {
					silent.Add(1)
				}
			}
		})
	}
	all.Wait()
	if silent.Load() > 1 {
		t.Errorf("%d requests have no answer", silent.Load())
	}
	if status, body := p.ready(t); status != http.StatusServiceUnavailable {
		t.Errorf("got %d: %s", status, body)
	}
	p.end(t)
}

// Whoever read the audit log is gone.
func TestAuditLogWhoseReaderIsGone(t *testing.T) {
	for recording, want := range map[string]int{"": http.StatusServiceUnavailable, "audit: best-effort\n": http.StatusBadRequest} {
		t.Run(recording, func(t *testing.T) {
			t.Parallel()
			p := pipe(t, recording)
			check(t, p.out.Close())
			for range 3 {
				if got := p.ask(t); got != want {
					t.Errorf("got status %d, want %d", got, want)
				}
			}
			if _, body := p.ready(t); !strings.Contains(body, "broken pipe") {
				t.Errorf("got %s", body)
			}
			p.end(t)
		})
	}
}
