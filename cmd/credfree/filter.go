package main

import (
	"fmt"
	"net/url"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/admin"
)

// filterFlags choose issuances.
func filterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "agent", Usage: "those of the agent `NAME`; - for callers nobody knows"},
		&cli.StringFlag{Name: "user", Usage: "those for the user `TENANT/OBJECT-ID`, or OBJECT-ID"},
		&cli.StringFlag{Name: "scope", Usage: "those with `TEXT` in a scope"},
		&cli.StringFlag{Name: "decision", Usage: "`DECISION`: allow, deny or error"},
		&cli.StringFlag{Name: "reason", Usage: "those denied or failed for `REASON`"},
		&cli.StringFlag{Name: "door", Usage: "`DOOR`: oauth, managed_identity, auth_sidecar or call_through"},
		&cli.StringFlag{Name: "cache", Usage: "`HOW` the token was come by: hit, joined or miss"},
		&cli.StringFlag{Name: "correlation-id", Usage: "`ID` of an exchange, as in Entra's sign-in log"},
	}
}

// filterOf makes the query of the flags. The listener checks it too, and knows no
// flags.
func filterOf(c *cli.Context) (url.Values, error) {
	query := url.Values{}
	names := []string{"agent", "user", "scope", "decision", "reason", "door", "cache"}
	if err := withValues(c, append(names, "correlation-id")...); err != nil {
		return nil, err
	}
	for _, name := range names {
		value := c.String(name)
		if wrong := admin.WrongFilter(name, value); wrong != "" {
			return nil, fail(exitUsage, fmt.Errorf("there is no %s %q", name, value), "--"+wrong)
		}
		if value != "" {
			query.Set(name, value)
		}
	}
	if id := c.String("correlation-id"); id != "" {
		query.Set("correlation_id", id)
	}
	return query, nil
}
