package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/admin"
)

// purge is what the admin listener calls.
func (s *service) purge(selected admin.Selection) admin.Purged {
	tokens, sessions := s.broker.Purge(broker.Selection(selected))
	user := selected.User
	if hashes := s.inForce().Pseudonyms; hashes != nil && user != "" {
		tenant, object, _ := strings.Cut(user, "/")
		user = hashes.Of(tenant, object)
	}
	s.cfg.log.Info("purged", "agent", selected.Agent, "identity", selected.Identity, "user", user, "scope", selected.Scope, "tokens", tokens, "sessions", sessions)
	return admin.Purged{Tokens: tokens, Sessions: sessions}
}

func purgeCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "purge",
		Usage: "make a running broker forget tokens and end sessions at once",
		Flags: append(adminFlags(),
			&cli.StringFlag{Name: "agent", Usage: "those of the agent `NAME`"},
			&cli.StringFlag{Name: "identity", Usage: "those of the identity `NAME`, or NAME/MEMBER of a fleet"},
			&cli.StringFlag{Name: "user", Usage: "those for the user `TENANT/OBJECT-ID`"},
			&cli.StringFlag{Name: "scope", Usage: "those with `SCOPE`"},
			&cli.BoolFlag{Name: "all", Usage: "all of them"},
		),
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c); err != nil {
				return err
			}
			form := url.Values{}
			for _, name := range []string{"agent", "identity", "user", "scope"} {
				if value := c.String(name); value != "" {
					form.Set(name, value)
				}
			}
			if c.Bool("all") {
				form.Set("all", "true")
			}
			client, err := adminOf(c)
			if err != nil {
				return err
			}
			var purged admin.Purged
			if err := client.ask(c.Context, http.MethodPost, admin.PurgePath, form, &purged); err != nil {
				return err
			}
			_, err = fmt.Fprintf(std.out, "purged %d tokens and %d sessions\n", purged.Tokens, purged.Sessions)
			return err
		},
	}
}
