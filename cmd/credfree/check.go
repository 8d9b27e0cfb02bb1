package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/policy"
)

// configFlag names the policy file; check and explain read the same one that
// serve runs.
func configFlag() *cli.StringFlag {
	return &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "policy `FILE`", EnvVars: []string{"CREDFREE_CONFIG"}}
}

// formatFlag chooses the form of a result; the first of formats is the default.
func formatFlag(formats ...string) *cli.StringFlag {
	return &cli.StringFlag{Name: "format", Usage: "`FORMAT` of the result: " + strings.Join(formats, " or "), Value: formats[0]}
}

func formatOf(c *cli.Context, formats ...string) (string, error) {
	format := c.String("format")
	if !slices.Contains(formats, format) {
		return "", fail(exitUsage, fmt.Errorf("format %q is not one of %s", format, strings.Join(formats, ", ")), "without --format it is "+formats[0])
	}
	return format, nil
}

// encodeJSON prints a result for scripts.
func encodeJSON(w io.Writer, result any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(result)
}

func checkCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "check a policy file and print everything that is wrong with it",
		Flags: []cli.Flag{
			configFlag(),
			ceilingFlag(),
			formatFlag("text", "json"),
			&cli.BoolFlag{Name: "from-environment", Usage: "check the policy that the environment makes, as serve does without --config"},
			&cli.BoolFlag{Name: "print", Usage: "print the policy as a file instead: with --from-environment, one to start from"},
			&cli.BoolFlag{Name: "strict-warnings", Usage: "fail when there are warnings too"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print nothing but what is wrong"},
		},
		Action: func(c *cli.Context) error {
			if c.Bool("from-environment") {
				return checkEnvironment(c, std)
			}
			if c.Bool("print") {
				return fail(exitUsage, errors.New("--print writes down the policy that the environment makes"), "add --from-environment; a policy file is one already")
			}
			if err := flagsOnly(c, "config"); err != nil {
				return err
			}
			format, err := formatOf(c, "text", "json")
			if err != nil {
				return err
			}
			checked, err := checkPolicy(c.String("config"), c.String("ceiling"), time.Now(), c.Bool("strict-warnings"))
			if err != nil {
				return err
			}
			checked.quiet = c.Bool("quiet")
			if format == "json" {
				return checked.printJSON(std.out)
			}
			return checked.print(std)
		},
	}
}

// checkEnvironment checks, or prints, the policy that the environment makes.
func checkEnvironment(c *cli.Context, std stdio) error {
	if err := flagsOnly(c); err != nil {
		return err
	}
	format, err := formatOf(c, "text", "json")
	if err != nil {
		return err
	}
	if given(c, "config", "CREDFREE_CONFIG") {
		return fail(exitUsage, errors.New("--config and --from-environment exclude each other"), "one is a policy in a file, the other what serve makes without one")
	}
	for _, name := range []string{"format", "strict-warnings", "quiet"} {
		if c.Bool("print") && c.IsSet(name) {
			return fail(exitUsage, fmt.Errorf("--print and --%s exclude each other", name), "the policy is printed as it is; leave --print out to check it")
		}
	}
	if c.String("ceiling") != "" {
		return fail(exitUsage, errors.New("--ceiling looks at a policy file"), "write the policy into one with --print, and check that with --config")
	}
	found, err := readEnvironment(os.Environ())
	if err != nil {
		return err
	}
	if c.Bool("print") {
		_, err := std.out.Write(found.text)
		return err
	}
	checked := checkedPolicy(environmentName, found.policy, found.text, time.Now(), c.Bool("strict-warnings"))
	checked.quiet = c.Bool("quiet")
	if format == "json" {
		return checked.printJSON(std.out)
	}
	return checked.print(std)
}

// parsePolicy returns what is wrong with the file as policy.Problems.
func parsePolicy(path string, options policy.Options) (*policy.Policy, []byte, error) {
	data, err := readDocument(path)
	if err != nil {
		return nil, nil, fail(exitError, fmt.Errorf("the policy cannot be read: %w", err), policyHint(err))
	}
	p, err := policy.ParseWith(path, data, options)
	return p, data, err
}

// readDocument reads a policy or a ceiling, and no more of it than shows that it is
// too large.
func readDocument(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, policy.MaxFileBytes+1))
}

// policyHint says what to do about a policy that cannot be read.
func policyHint(err error) string {
	switch {
	case errors.Is(err, syscall.EISDIR):
		return "this is a folder: name the file in it"
	case errors.Is(err, os.ErrPermission):
		return "let the user who runs credfree read the file, and enter the folders above it"
	}
	return "name it with --config FILE; credfree emulator --dir DIR writes one to start from"
}

// problemsFailure prints each problem with its hint behind it.
func problemsFailure(problems policy.Problems) error {
	lines := make([]error, 0, len(problems))
	var hints []string
	for _, problem := range problems {
		lines = append(lines, errors.New(problem.String()))
		switch {
		case problem.Hint == "":
		case problem.Line == 0: // about the file as a whole
			hints = append(hints, problem.Hint)
		default:
			hints = append(hints, fmt.Sprintf("line %d: %s", problem.Line, problem.Hint))
		}
	}
	return fail(exitError, errors.Join(lines...), hints...)
}
