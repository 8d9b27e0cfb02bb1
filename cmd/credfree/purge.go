package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/admin"
)

// purge is what the admin listener calls.
func (s *service) purge(selected admin.Selection) (admin.Purged, error) {
	selected, err := s.resolve(selected)
	if err != nil {
		return admin.Purged{}, err
	}
	tokens, sessions, err := s.broker.Purge(broker.Selection(selected))
	if err != nil {
		return admin.Purged{}, selectionError(err)
	}
	s.cfg.log.Info("purged", "agent", selected.Agent, "identity", selected.Identity, "user", s.userInLog(selected.User), "scope", selected.Scope, "tokens", tokens, "sessions", sessions)
	return admin.Purged{Tokens: tokens, Sessions: sessions}, nil
}

// resolve is what the admin listener calls before it asks whether to purge.
func (s *service) resolve(selected admin.Selection) (admin.Selection, error) {
	resolved, err := s.broker.Resolve(broker.Selection(selected))
	return admin.Selection(resolved), selectionError(err)
}

// selectionError is the broker's in the words of the admin listener, which does
// not know the broker.
func selectionError(err error) error {
	if wrong, ok := errors.AsType[*broker.SelectionError](err); ok {
		return (*admin.SelectionError)(wrong)
	}
	return err
}

// userInLog is who was selected, as the log may know it.
func (s *service) userInLog(user string) string {
	hashes := s.inForce().Pseudonyms
	tenant, object, whole := strings.Cut(user, "/")
	switch {
	case hashes == nil || user == "" || !strings.Contains(user, "-"): // a hash has no dashes
		return user
	case !whole: // with which hash depends on the tenant
		return "an object id, which is not named: users are hashed"
	}
	return hashes.Of(tenant, object)
}

// userHash is what stands for a user that operators look for, "" where users are not
// hashed.
func (s *service) userHash(user string) (string, error) {
	hashes := s.inForce().Pseudonyms
	tenant, object, whole := strings.Cut(user, "/")
	switch {
	case hashes == nil || !strings.Contains(user, "-"): // a hash has no dashes
		return "", nil
	case !whole: // with which hash depends on the tenant
		return "", errors.New("users are hashed, and an object id alone does not tell with which hash: write TENANT/OBJECT-ID")
	}
	return hashes.Of(tenant, object), nil
}

func purgeCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "purge",
		Usage: "make a running broker forget tokens and end sessions at once",
		Flags: append(adminFlags(),
			&cli.StringFlag{Name: "agent", Usage: "those of the agent `NAME`"},
			&cli.StringFlag{Name: "identity", Usage: "those of the identity `NAME`, or NAME/MEMBER of a fleet"},
			&cli.StringFlag{Name: "user", Usage: "those for the user `TENANT/OBJECT-ID`, or OBJECT-ID, or with users: hashed the hash"},
			&cli.StringFlag{Name: "scope", Usage: "those with `SCOPE`, written out or as a shorthand of the policy"},
			&cli.BoolFlag{Name: "all", Usage: "all of them"},
		),
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c); err != nil {
				return err
			}
			form, err := selectionOf(c)
			if err != nil {
				return err
			}
			client, err := adminOf(c)
			if err != nil {
				return err
			}
			var purged admin.Purged
			if err := client.ask(c.Context, http.MethodPost, admin.PurgePath, form, &purged); err != nil {
				return err
			}
			_, err = fmt.Fprintf(std.out, "purged %s\n", purged)
			return err
		},
	}
}

// withValues refuses flags that are given without a value, which would be lost: a script's
// variable may be empty.
func withValues(c *cli.Context, names ...string) error {
	for _, name := range names {
		if c.IsSet(name) && c.String(name) == "" {
			return fail(exitUsage, fmt.Errorf("--%s has no value", name), "give it one, or leave the flag away")
		}
	}
	return nil
}

// selectionOf makes the form of the flags.
func selectionOf(c *cli.Context) (url.Values, error) {
	form := url.Values{}
	names := []string{"agent", "identity", "user", "scope"}
	if err := withValues(c, names...); err != nil {
		return nil, err
	}
	for _, name := range names {
		if value := c.String(name); value != "" {
			form.Set(name, value)
		}
	}
	const hint = "choose with --agent, --identity, --user and --scope, or purge everything with --all alone"
	switch {
	case c.Bool("all") && len(form) > 0:
		return nil, fail(exitUsage, errors.New("--all stands alone"), hint)
	case c.Bool("all"):
		form.Set("all", "true")
	case len(form) == 0:
		return nil, fail(exitUsage, errors.New("nothing is chosen to be purged"), hint)
	}
	return form, nil
}
