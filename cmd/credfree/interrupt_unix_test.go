//go:build unix

package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// interrupt runs credfree, sends it one signal once busy has returned, and wants it
// to end by that, with nothing said but that.
func interrupt(t *testing.T, signal os.Signal, stdin io.Reader, busy func(), args ...string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "credfree", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	check(t, cmd.Start())
	busy()
	check(t, cmd.Process.Signal(signal))
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it went, its state says
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("it goes on")
		check(t, cmd.Process.Kill())
		<-ended
	}
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
		t.Errorf("got exit code %d, want %d", code, exitInterrupted)
	}
	if got := stderr.String(); got != "error: interrupted\n" || stdout.Len() > 0 {
		t.Errorf("got %q and %q", stdout.String(), got)
	}
}

// One signal ends a command that waits for its input.
func TestInterruptedReading(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "credfree.yaml")
	check(t, os.WriteFile(policy, []byte(readmePolicy(t)), 0o600))
	for _, args := range []string{
		"token --scope s --user-token -",
		"credential-process --scope s --user-token -",
		"review --audit-log -",
		"audit verify -",
		"explain --agent researcher --scope s --user-token - --config " + policy,
		"doctor --pod -",
		"check --config /dev/stdin",
	} {
		t.Run(args, func(t *testing.T) {
			out, in, err := os.Pipe()
			check(t, err)
			defer in.Close()
			interrupt(t, os.Interrupt, out, func() {
				check(t, out.Close()) // it is the command's alone now
				// More than a pipe holds: it has been read from when this returns.
				_, err := in.WriteString(strings.Repeat(" ", 100<<10))
				check(t, err)
			}, strings.Fields(args)...)
		})
	}
}

// So it does when the other end of a pipe is not there, or says nothing.
func TestInterruptedOpening(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "ff")
	check(t, syscall.Mkfifo(fifo, 0o600))
	for _, args := range []string{
		"check --config FF",
		"check --config x --ceiling FF",
		"doctor --config FF",
		"explain --agent a --scope s --config FF",
		"exec --config FF -- true",
		"serve --config FF",
		"serve --config " + fifo + "x --ceiling FF",
		"token --scope s --key-file FF",
		"inject --config FF --tls-cert c --tls-key k",
		"emulator --dir " + t.TempDir() + " --directory FF",
	} {
		t.Run(args, func(t *testing.T) {
			interrupt(t, syscall.SIGTERM, nil, func() {
				// There is no reader until the command is one.
				for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
					in, err := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0)
					if err == nil {
						t.Cleanup(func() { check(t, in.Close()) })
						return
					}
					if !errors.Is(err, syscall.ENXIO) || time.Now().After(deadline) {
						t.Fatal(err)
					}
				}
			}, strings.Fields(strings.ReplaceAll(args, "FF", fifo))...)
		})
	}
}

// Who interrupts is not told that no broker answers.
func TestInterruptedAsking(t *testing.T) {
	asked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		asked <- struct{}{}
		<-r.Context().Done() // which ends when its body was read, and the client is gone
	}))
	defer server.Close()
	for _, args := range []string{
		"token --scope s --url URL", "credential-process --scope s --url URL", "healthcheck --timeout 10m --url URL", "healthcheck --timeout 10m --wait 10m --url URL",
		"traces --admin URL", "purge --all --admin URL",
	} {
		t.Run(args, func(t *testing.T) {
			interrupt(t, os.Interrupt, nil, func() { <-asked }, strings.Fields(strings.ReplaceAll(args, "URL", server.URL))...)
		})
	}
}

// A command that a source has started does not outlive who was interrupted.
func TestInterruptedSourceEndsItsCommand(t *testing.T) {
	dir := t.TempDir()
	script, started := filepath.Join(dir, "slow.sh"), filepath.Join(dir, "pid")
	check(t, os.WriteFile(script, []byte("#!/bin/sh\necho $$ >"+started+".new\nmv "+started+".new "+started+"\nsleep 60\n"), 0o700))
	policy := filepath.Join(dir, "credfree.yaml")
	check(t, os.WriteFile(policy, []byte("version: 1\ntenant: 5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10\nsources: {s: {exec: {command: ["+script+"]}}}\n"+
		"identities: {demo: {application: {clientID: a1d4c0de-0000-4000-8000-00000000a9e7, source: s}}}\nagents: {a: {identity: demo, callers: [{tcp: {uids: [1]}}], allow: {scopes: [graph]}}}\n"), 0o600))
	var pid int
	interrupt(t, syscall.SIGTERM, nil, func() {
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if text, err := os.ReadFile(started); err == nil {
				pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
				check(t, err)
				return
			}
		}
		t.Fatal("the command has not started")
	}, "doctor", "--config", policy, "--format", "json")
	for deadline := time.Now().Add(10 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it goes on")
		}
	}
}

// A standard error that nobody reads does not keep a program that cannot start.
func TestUnreadErrorsEnd(t *testing.T) {
	for _, args := range []string{"serve --config none.yaml", "inject --config none --tls-cert c --tls-key k"} {
		t.Run(args, func(t *testing.T) {
			log, logging, err := os.Pipe()
			check(t, err)
			t.Cleanup(func() { check(t, errors.Join(log.Close(), logging.Close())) })
			go func() { _, _ = logging.Write(make([]byte, 1<<20)) }() // which stays until the test ends
			time.Sleep(100 * time.Millisecond)
			cmd := exec.CommandContext(t.Context(), "credfree", strings.Fields(args)...)
			cmd.Stderr = logging
			check(t, cmd.Start())
			end := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
			err = cmd.Wait()
			if !end.Stop() || cmd.ProcessState.ExitCode() != exitError {
				t.Errorf("got %v, want exit code %d", err, exitError)
			}
		})
	}
}
