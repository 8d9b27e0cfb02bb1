package main

import (
	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/policy"
)

func schemaCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "schema",
		Usage: "print the JSON Schema of the policy file, for editors",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "ceiling", Usage: "print that of a ceiling instead"}},
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c); err != nil {
				return err
			}
			if c.Bool("ceiling") {
				_, err := std.out.Write(policy.CeilingSchema())
				return err
			}
			_, err := std.out.Write(policy.Schema())
			return err
		},
	}
}
