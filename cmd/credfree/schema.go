package main

import (
	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
)

func schemaCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "schema",
		Usage: "print the JSON Schema of the policy file, for editors, or of an audit line",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "audit", Usage: "of an audit line instead"}},
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c); err != nil {
				return err
			}
			schema := policy.Schema
			if c.Bool("audit") {
				schema = issuance.Schema
			}
			_, err := std.out.Write(schema())
			return err
		},
	}
}
