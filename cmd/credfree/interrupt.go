package main

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v2"
)

// endsAtOnce is for commands that have nothing to bring to an end: one signal ends
// them wherever they are.
func endsAtOnce(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		return unlessInterrupted(c.Context, func() error { return action(c) })
	}
}

// interruptedTime is for what is to be done when ctx has ended.
const interruptedTime = 300 * time.Millisecond

// unlessInterrupted returns what act returns, or that it was interrupted as soon as
// ctx ends, or a moment later: who reads a pipe, or opens one, waits for its other end
// and for nothing else, but who has started a command has to end it. What act is about
// after that is left where it is, for the end of the program.
func unlessInterrupted(ctx context.Context, act func() error) error {
	var err error // read once ended is closed
	ended := make(chan struct{})
	go func() {
		err = act()
		close(ended)
	}()
	select {
	case <-ended:
		if err == nil || ctx.Err() == nil {
			return err
		}
	case <-ctx.Done():
		select {
		case <-ended:
		case <-time.After(interruptedTime):
		}
	}
	return interrupted()
}

func interrupted() error { return fail(exitInterrupted, errors.New("interrupted")) }
