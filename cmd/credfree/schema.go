package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
)

func schemaCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "schema",
		Usage: "print the JSON Schema of the policy file, for editors, or of what else is said",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "audit", Usage: "of an audit line instead"},
			&cli.BoolFlag{Name: "ceiling", Usage: "of a ceiling instead"},
		},
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c); err != nil {
				return err
			}
			schema := policy.Schema
			switch {
			case c.Bool("audit") && c.Bool("ceiling"):
				return fail(exitUsage, errors.New("--audit and --ceiling are two schemas"), "ask for one at a time")
			case c.Bool("audit"):
				schema = issuance.Schema
			case c.Bool("ceiling"):
				schema = policy.CeilingSchema
			}
			_, err := std.out.Write(schema())
			return err
		},
	}
}
