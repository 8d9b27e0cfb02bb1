package workload

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"time"
)

// execTimeout is the longest that a command may take.
const execTimeout = 30 * time.Second

// Exec runs a command that prints the workload token: alone, or as JSON in one of
// the forms {"token": …}, {"value": …}, AWS's {"WebIdentityToken": …}, a
// Kubernetes ExecCredential, or Google's executable source with id_token. It runs
// anew at each exchange, without a shell, in the root folder, with nothing to
// read. Of what it prints at most 64 KiB are read; its standard error goes nowhere.
// In the end it is killed together with its process group; a child that left
// the group lives on, but is not waited for.
//
// The command's environment has PATH and HOME of this process, LANG=C, and
// Variables.
type Exec struct {
	Command []string // required: an absolute path, and arguments
	// Timeout is how long the command may take. Zero, or more than 30 seconds: 30
	// seconds.
	Timeout time.Duration
	// Variables are the names of further variables that the command gets, when
	// they are set.
	Variables []string
	// Getenv reads a variable. Nil: os.Getenv.
	Getenv func(string) string
}

// Assertion implements Source.
func (e Exec) Assertion(ctx context.Context) (Assertion, error) {
	if err := ctx.Err(); err != nil {
		return Assertion{}, givenUp(err)
	}
	if len(e.Command) == 0 || !filepath.IsAbs(e.Command[0]) {
		return Assertion{}, &Error{Problem: Malformed, Message: "the command for the workload token has no absolute path", Hint: "write the whole path of the program; PATH is not searched, and there is no shell"}
	}
	output, err := e.run(ctx)
	if err != nil {
		return Assertion{}, err
	}
	raw, err := tokenIn(e.who(), output, "")
	if err != nil {
		return Assertion{}, err
	}
	return Parse(raw)
}

// who names the command without its arguments, which may be secret.
func (e Exec) who() string { return "the command " + quote(e.Command[0]) }

func (e Exec) run(ctx context.Context) ([]byte, error) {
	timeout := e.timeout()
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	limited, stop := context.WithCancelCause(limited)
	defer stop(nil)

	output := &bounded{full: func() { stop(errTooLarge) }}
	cmd := exec.CommandContext(limited, e.Command[0], e.Command[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout = string(filepath.Separator), e.environment(), output
	cmd.SysProcAttr = ownGroup()
	cmd.Cancel = func() error { return killGroup(cmd.Process) }
	// A child that keeps the output open must not keep us.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, &Error{Problem: Unavailable, Message: e.who() + " cannot be started: " + reason(err), Hint: "check the path, and that the broker's user may run it", Err: err}
	}
	err := cmd.Wait()
	_ = killGroup(cmd.Process) // what it left behind; usually nothing
	reapGroup(cmd.Process)
	switch exit := (*exec.ExitError)(nil); {
	case ctx.Err() != nil:
		return nil, givenUp(ctx.Err())
	case errors.Is(context.Cause(limited), errTooLarge):
		return nil, &Error{Problem: Malformed, Message: e.who() + " printed more than any workload token is long", Hint: "it must print the token, or a JSON document with it, and nothing else"}
	case limited.Err() != nil:
		return nil, &Error{Problem: Unavailable, Message: e.who() + " did not end within " + timeout.String(), Hint: "run it by hand as the broker's user, without a terminal", Err: limited.Err()}
	case errors.As(err, &exit):
		return nil, &Error{Problem: Unavailable, Message: e.who() + " failed: " + exit.String(), Hint: "run it by hand as the broker's user; what it writes to standard error is not recorded here, because it may be secret"}
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return nil, &Error{Problem: Unavailable, Message: "the output of " + e.who() + " cannot be read", Hint: "run it by hand as the broker's user", Err: err}
	}
	return output.text.Bytes(), nil
}

func (e Exec) timeout() time.Duration {
	if e.Timeout <= 0 {
		return execTimeout
	}
	return min(e.Timeout, execTimeout)
}

func (e Exec) environment() []string {
	env := []string{"LANG=C"}
	for _, name := range append([]string{"PATH", "HOME"}, e.Variables...) {
		if value := getenv(e.Getenv, name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// bounded keeps what a command prints, and calls full when that is too much.
type bounded struct {
	text bytes.Buffer
	full func()
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.text.Len()+len(p) > maxTokenBytes {
		b.full()
		return 0, errTooLarge
	}
	return b.text.Write(p)
}
