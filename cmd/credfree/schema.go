package main

import (
	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/policy"
)

func schemaCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "schema",
		Usage: "print the JSON Schema of the policy file, for editors",
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c); err != nil {
				return err
			}
			_, err := std.out.Write(policy.Schema())
			return err
		},
	}
}
