package main

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"
)

// logOutput is where a log goes. A standard error that takes nothing, such as a pipe
// that nobody reads, holds up whoever logs for a moment, once: lines that come before
// it has taken the one under way are lost, and counted.
type logOutput struct {
	to    io.Writer
	late  time.Duration
	again func(lost int) // told when lines are taken again

	mu   sync.Mutex // guards the rest
	busy bool       // a line is under way
	lost int
}

// lateLine is how long the log waits for a line to be taken.
const lateLine = time.Second

// Write implements io.Writer. Its caller has one line written at a time, so that one
// under way is one that is late.
func (o *logOutput) Write(line []byte) (int, error) {
	o.mu.Lock()
	if o.busy {
		o.lost++
		o.mu.Unlock()
		return len(line), nil
	}
	o.busy = true
	o.mu.Unlock()
	written := make(chan error, 1)
	go o.write(bytes.Clone(line), written)
	select {
	case err := <-written:
		return len(line), err
	case <-time.After(o.late):
		return len(line), nil
	}
}

func (o *logOutput) write(line []byte, written chan<- error) {
	_, err := o.to.Write(line)
	o.mu.Lock()
	lost := o.lost
	o.busy, o.lost = false, 0
	o.mu.Unlock()
	written <- err
	if lost > 0 {
		o.again(lost)
	}
}

// printed prints the error that a program ends with, as report does, and leaves nothing of
// it but its code. A standard error that takes nothing does not keep the program.
func printed(stderr io.Writer, err error) error {
	if err == nil {
		return nil
	}
	done := make(chan struct{})
	go func() {
		report(stderr, err)
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(lateLine):
	}
	return fail(codeOf(err), errors.New(""))
}
