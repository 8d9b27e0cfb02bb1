package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"syscall"
)

// child is a command under way, which gets the signals that this process gets.
type child struct {
	cmd     *exec.Cmd
	signals chan os.Signal
	passing sync.WaitGroup
	release func() // to be called by who has started it
}

// ignoredSignals are those that nohup, or a shell, has this process and what it
// starts ignore. Go keeps SIGHUP and SIGINT that way until they are asked for,
// and knows it of no other.
func ignoredSignals() []os.Signal {
	return slices.DeleteFunc(slices.Clone(passedOn), func(s os.Signal) bool { return !signal.Ignored(s) })
}

// startCommand starts cmd. The same goroutine has to wait for its end.
func startCommand(cmd *exec.Cmd) (*child, error) {
	c := &child{cmd: cmd, signals: make(chan os.Signal, 16)}
	// First, so that none gets lost. To ask for one that is ignored would end that.
	signal.Notify(c.signals, slices.DeleteFunc(slices.Clone(passedOn), signal.Ignored)...)
	c.release = endWithStarter(cmd)
	if err := cmd.Start(); err != nil {
		c.release()
		signal.Stop(c.signals)
		return nil, err
	}
	c.passing.Go(func() {
		for s := range c.signals {
			if !sentByTerminal(s) {
				c.pass(s)
			}
		}
	})
	return c, nil
}

// pass sends the command a signal, unless it has ended.
func (c *child) pass(s os.Signal) {
	if err := c.cmd.Process.Signal(s); err != nil {
		return // it has ended, which wait tells
	}
}

// end asks the command to end.
func (c *child) end() { c.pass(syscall.SIGTERM) }

// wait waits for the command's end. The error holds its exit code, and no text:
// the command has said itself what was wrong.
func (c *child) wait() error {
	err := c.cmd.Wait()
	c.release()
	signal.Stop(c.signals)
	close(c.signals)
	c.passing.Wait()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	code := exit.ExitCode()
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = 128 + int(status.Signal())
	}
	return fail(code, errors.New(""))
}
