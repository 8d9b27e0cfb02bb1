// Command credfree is a local sidecar token broker for credential-free agents.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

func main() {
	os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run is the program. Results go to stdout, everything else to stderr, so that
// TOKEN=$(credfree token …) holds a token or nothing.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ignored := ignoredSignals() // before any is asked for, which ends it
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	std := stdio{out: stdout, err: stderr}
	app := &cli.App{
		Name:  "credfree",
		Usage: "Entra tokens for agents that hold no credential",
		Commands: []*cli.Command{
			demoCommand(std), serveCommand(std), emulatorCommand(std), tokenCommand(std), credentialProcessCommand(std), execCommand(std, ignored), watchCommand(std), tracesCommand(std), purgeCommand(std),
			checkCommand(std), explainCommand(std), reviewCommand(std), auditCommand(std), schemaCommand(std), openAPICommand(std), doctorCommand(std), injectCommand(std), healthcheckCommand(std), versionCommand(std),
		},
		HideVersion:     true,
		HideHelpCommand: true,
		Reader:          stdin,
		Writer:          stderr, // usage is not a result
		ErrWriter:       stderr,
		ExitErrHandler:  func(*cli.Context, error) {},
		Action:          noCommand(std),
		OnUsageError:    usageError,
	}
	for _, command := range app.Commands {
		command.OnUsageError = usageError
		command.HideHelpCommand = true
		switch command.Name {
		case "demo", "serve", "emulator", "exec", "watch", "inject": // end in order, when ctx does
		default:
			command.Action = endsAtOnce(command.Action)
			for _, sub := range command.Subcommands {
				sub.Action = endsAtOnce(sub.Action)
			}
		}
	}
	return report(stderr, app.RunContext(ctx, args))
}

// stdio is where a command writes: out for its result alone.
type stdio struct{ out, err io.Writer }

// Exit codes; part of the contract with scripts.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitDenied      = 3
	exitEntra       = 4
	exitUnreachable = 5
	exitInterrupted = 130 // as shells say of what SIGINT has ended
)

// failure is an error with what to do about it.
type failure struct {
	code  int
	err   error
	hints []string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func fail(code int, err error, hints ...string) error {
	return &failure{code: code, err: err, hints: hints}
}

func usageError(_ *cli.Context, err error, _ bool) error {
	return fail(exitUsage, err, "credfree --help lists the commands, credfree COMMAND --help the flags")
}

func noCommand(std stdio) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.Args().Present() {
			return fail(exitUsage, fmt.Errorf("there is no command %q", c.Args().First()), "credfree --help lists the commands")
		}
		if err := cli.ShowAppHelp(c); err != nil {
			return err
		}
		return fail(exitUsage, errors.New("no command was given"), "start with: credfree demo")
	}
}

// flagsOnly refuses positional arguments, and flags that are missing. A flag
// that follows an argument is not parsed, and would be lost without a word.
func flagsOnly(c *cli.Context, required ...string) error {
	if c.Args().Present() {
		return fail(exitUsage, fmt.Errorf("unexpected argument %q", c.Args().First()), "this command takes flags only; credfree "+c.Command.Name+" --help lists them")
	}
	for _, name := range required {
		if c.String(name) == "" {
			return fail(exitUsage, fmt.Errorf("flag --%s is missing", name), "credfree "+c.Command.Name+" --help says what it is")
		}
	}
	return nil
}

// report prints an error and returns the exit code. It is the one place that
// does either.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	var hints []string
	if f, ok := errors.AsType[*failure](err); ok {
		hints = f.hints
	}
	if text := err.Error(); text != "" {
		for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
			fmt.Fprintln(stderr, "error: "+line)
		}
	}
	for _, hint := range hints {
		if hint != "" {
			fmt.Fprintln(stderr, "hint: "+hint)
		}
	}
	return codeOf(err)
}

// codeOf is the exit code of an error.
func codeOf(err error) int {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.code
	}
	return exitError
}
