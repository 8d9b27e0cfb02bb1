package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

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

func adminFlag() *cli.StringFlag {
	return &cli.StringFlag{Name: "admin", Usage: "`URL` of the broker's admin listener", Value: "http://" + defaultAdminListen, EnvVars: []string{"CREDFREE_ADMIN_URL"}}
}

func purgeCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "purge",
		Usage: "make a running broker forget tokens and end sessions at once",
		Flags: []cli.Flag{
			adminFlag(),
			&cli.StringFlag{Name: "agent", Usage: "those of the agent `NAME`"},
			&cli.StringFlag{Name: "identity", Usage: "those of the identity `NAME`, or NAME/MEMBER of a fleet"},
			&cli.StringFlag{Name: "user", Usage: "those for the user `TENANT/OBJECT-ID`"},
			&cli.StringFlag{Name: "scope", Usage: "those with `SCOPE`"},
			&cli.BoolFlag{Name: "all", Usage: "all of them"},
		},
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
			var purged admin.Purged
			if err := askAdmin(c.Context, http.MethodPost, c.String("admin")+admin.PurgePath, form, &purged); err != nil {
				return err
			}
			_, err := fmt.Fprintf(std.out, "purged %d tokens and %d sessions\n", purged.Tokens, purged.Sessions)
			return err
		},
	}
}

const adminTimeout = 10 * time.Second

// askAdmin asks the admin listener and reads its JSON.
func askAdmin(ctx context.Context, method, target string, form url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(form.Encode()))
	if err != nil {
		return fail(exitUsage, err, "give the address as http://127.0.0.1:7401 with --admin")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// The listener is this machine's own, and behind no proxy.
	resp, err := (&http.Client{Transport: &http.Transport{}}).Do(req)
	if err != nil {
		return fail(exitUnreachable, fmt.Errorf("the admin listener cannot be reached: %w", errors.Unwrap(err)), "is credfree serve running? name its address with --admin")
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fail(exitUnreachable, errors.New("the admin listener's answer was cut off"), "ask again")
	}
	if resp.StatusCode != http.StatusOK {
		return fail(exitError, fmt.Errorf("the admin listener refused: %s", strings.TrimSpace(string(body))))
	}
	return json.Unmarshal(body, into)
}
