package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"
)

// endsAtOnce is for commands that have nothing to bring to an end: one signal ends
// them wherever they are.
func endsAtOnce(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		return unlessInterrupted(c.Context, func() error { return action(c) })
	}
}

// unlessInterrupted returns what act returns, or that it was interrupted as soon as
// ctx ends: who reads a pipe, or opens one, waits for its other end and for nothing
// else. What act is about then is left where it is, for the end of the program.
func unlessInterrupted(ctx context.Context, act func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- act() }()
	select {
	case err := <-ended:
		if err == nil || ctx.Err() == nil {
			return err
		}
	case <-ctx.Done():
	}
	return fail(exitInterrupted, errors.New("interrupted"))
}
