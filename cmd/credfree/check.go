package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/policy"
)

// configFlag names the policy file; check and explain read the same one that
// serve runs.
func configFlag() *cli.StringFlag {
	return &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "policy `FILE`", EnvVars: []string{"CREDFREE_CONFIG"}}
}

func checkCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "check a policy file and print everything that is wrong with it",
		Flags: []cli.Flag{configFlag()},
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c, "config"); err != nil {
				return err
			}
			p, err := loadPolicy(c.String("config"))
			if err != nil {
				return err
			}
			warn(std.err, p)
			_, err = fmt.Fprintf(std.out, "%s: ok, revision %s, %d agents, %d identities, %d warnings\n",
				c.String("config"), p.Revision, len(p.Agents), len(p.Identities), len(p.Warnings))
			return err
		},
	}
}

// loadPolicy reads and parses a policy file. Its error lists every problem.
func loadPolicy(path string) (*policy.Policy, error) {
	p, _, err := readPolicy(path)
	return p, err
}

// readPolicy is loadPolicy with what was read.
func readPolicy(path string) (*policy.Policy, []byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fail(exitError, fmt.Errorf("the policy cannot be read: %w", err), "name it with --config FILE; credfree emulator --dir DIR writes one to start from")
	}
	p, err := policy.Parse(path, data)
	if err == nil {
		return p, data, nil
	}
	var problems policy.Problems
	if !errors.As(err, &problems) {
		return nil, nil, err
	}
	return nil, nil, problemsFailure(problems)
}

// problemsFailure prints each problem with its hint behind it.
func problemsFailure(problems policy.Problems) error {
	lines := make([]error, 0, len(problems))
	var hints []string
	for _, problem := range problems {
		lines = append(lines, errors.New(problem.String()))
		if problem.Hint != "" {
			hints = append(hints, fmt.Sprintf("line %d: %s", problem.Line, problem.Hint))
		}
	}
	return fail(exitError, errors.Join(lines...), hints...)
}

func warn(w io.Writer, p *policy.Policy) {
	for _, warning := range p.Warnings {
		fmt.Fprintln(w, "warning: "+warning.String())
		if warning.Hint != "" {
			fmt.Fprintln(w, "hint: "+warning.Hint)
		}
	}
}
