package main

import (
	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/localapi"
)

func openAPICommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "openapi",
		Usage: "print what the broker answers, in OpenAPI 3.1",
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c); err != nil {
				return err
			}
			_, err := std.out.Write(localapi.OpenAPI())
			return err
		},
	}
}
