package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/admin"
	"github.com/credfree/credfree/broker/recent"
)

func tracesCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "traces",
		Usage:     "list the traces that a running broker remembers, or draw one: by its id, an issuance's, or one of Entra's",
		ArgsUsage: "[ID]",
		Flags: append(append(adminFlags(), filterFlags()...),
			&cli.IntFlag{Name: "limit", Usage: "list at most `N`", Value: 20},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		),
		Action: func(c *cli.Context) error {
			if c.Args().Len() > 1 || strings.HasPrefix(c.Args().First(), "-") {
				return fail(exitUsage, errors.New("name one id, after the flags"), "credfree traces --help lists the flags")
			}
			client, err := adminOf(c)
			if err != nil {
				return err
			}
			query := filterOf(c)
			query.Set("limit", strconv.Itoa(c.Int("limit")))
			if id := c.Args().First(); id != "" {
				query.Set("id", id)
			}
			var found admin.Issuances
			if err := client.ask(c.Context, http.MethodGet, admin.IssuancesPath+"?"+query.Encode(), nil, &found); err != nil {
				return err
			}
			if query.Has("id") || query.Has("correlation_id") {
				return drawTraces(c.Context, std.out, client, found, c.Bool("json"))
			}
			if c.Bool("json") {
				return encodeJSON(std.out, found)
			}
			return listTraces(std, found)
		},
	}
}

// listTraces prints a line for each issuance, the newest first.
func listTraces(std stdio, found admin.Issuances) error {
	for n := range found.Issuances {
		i := &found.Issuances[n]
		_, err := fmt.Fprintf(std.out, "%s  %s  %-5s  %-12s  %-6s  %.2f ms\n",
			i.Start.UTC().Format(time.TimeOnly), i.ID, i.Decision, cut(dash(i.Agent), 12), dash(i.Cache), float64(i.Took.Microseconds())/1000)
		if err != nil {
			return err
		}
	}
	if shown := len(found.Issuances); found.Matching > shown {
		fmt.Fprintf(std.err, "%d more are remembered: see --limit\n", found.Matching-shown)
	}
	return nil
}

// drawTraces draws each trace that the issuances belong to, once.
func drawTraces(ctx context.Context, out io.Writer, client *adminClient, found admin.Issuances, asJSON bool) error {
	if len(found.Issuances) == 0 {
		return fail(exitError, errors.New("nothing that is remembered has that id"),
			fmt.Sprintf("the broker remembers the last %d issuances since it started; the audit log has them all", recent.MaxIssuances))
	}
	seen := map[recent.TraceID]bool{}
	details := []admin.Detail{}
	for _, i := range found.Issuances {
		if seen[i.TraceID] && i.TraceID != (recent.TraceID{}) {
			continue
		}
		seen[i.TraceID] = true
		var d admin.Detail
		if err := client.ask(ctx, http.MethodGet, admin.IssuancesPath+"/"+url.PathEscape(i.ID), nil, &d); err != nil {
			return err
		}
		details = append(details, d)
	}
	if asJSON {
		return encodeJSON(out, details)
	}
	for n := range details {
		if _, err := io.WriteString(out, describeTrace(&details[n])); err != nil {
			return err
		}
	}
	return nil
}

func describeTrace(d *admin.Detail) string {
	i := &d.Issuance
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-15s %s\n", name, value)
		}
	}
	line("issuance", i.ID)
	line("trace", i.TraceID.String())
	line("correlation id", i.CorrelationID)
	line("time", i.Start.UTC().Format(time.RFC3339))
	line("agent", dash(i.Agent))
	line("user", i.User())
	line("scope", i.Scope())
	line("decision", strings.TrimSpace(i.Decision+" "+i.Reason))
	line("rule", i.Rule)
	line("hint", i.Hint)
	line("policy", i.Revision)
	line("shared with", d.SharedWith)
	b.WriteString(spanTree(d.Spans))
	return b.String()
}
