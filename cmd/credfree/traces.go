package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
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
			query, err := filterOf(c)
			if err != nil {
				return err
			}
			limit := c.Int("limit")
			if limit < 1 || limit > recent.MaxIssuances {
				return fail(exitUsage, fmt.Errorf("%d issuances cannot be listed", limit), fmt.Sprintf("--limit is a number from 1 to %d", recent.MaxIssuances))
			}
			client, err := adminOf(c)
			if err != nil {
				return err
			}
			if id := c.Args().First(); id != "" {
				query.Set("id", id)
			}
			draws := query.Has("id") || query.Has("correlation_id")
			if draws && !c.IsSet("limit") {
				limit = recent.MaxIssuances // the exchange is the oldest of those with its id
			}
			query.Set("limit", strconv.Itoa(limit))
			var found admin.Issuances
			if err := client.ask(c.Context, http.MethodGet, admin.IssuancesPath+"?"+query.Encode(), nil, &found); err != nil {
				return err
			}
			if draws {
				return drawTraces(c.Context, std.out, client, found, c.Bool("json"))
			}
			if c.Bool("json") {
				return encodeJSON(std.out, found)
			}
			return listTraces(std, found)
		},
	}
}

// listTraces prints a line for each issuance, which a terminal has room for, the newest
// first.
func listTraces(std stdio, found admin.Issuances) error {
	for n := range found.Issuances {
		i := &found.Issuances[n]
		how := dash(i.Cache)
		if i.Inspected() {
			how = "inspected"
		}
		line := fmt.Sprintf("%s %s %-5s %-12s %-6s %.2f ms",
			i.Start.UTC().Format(time.TimeOnly), i.ID, i.Decision, cut(dash(i.Agent), 12), how, float64(i.Took.Microseconds())/1000)
		_, err := fmt.Fprintln(std.out, visible(line))
		if err != nil {
			return err
		}
	}
	if shown := len(found.Issuances); found.Matching > shown {
		fmt.Fprintf(std.err, "%d more are remembered: see --limit\n", found.Matching-shown)
	}
	return nil
}

// drawTraces draws each trace that the issuances belong to, once. Of plain cache hits,
// which say nothing of how their token was come by, it draws one if there is nothing
// else, and counts the others. As JSON it prints each issuance, and a refresh in the
// background as spans of no issuance.
func drawTraces(ctx context.Context, out io.Writer, client *adminClient, found admin.Issuances, asJSON bool) error {
	seen := map[recent.TraceID]bool{}
	details := []admin.Detail{}
	if asJSON && len(found.Background) > 0 {
		details = append(details, admin.Detail{Steps: []recent.Step{}, Spans: found.Background})
	}
	hits, drawn := 0, len(found.Background) > 0 || slices.ContainsFunc(found.Issuances, func(i recent.Issuance) bool { return !i.Plain() })
	for _, i := range found.Issuances {
		if drawn && i.Plain() && !asJSON {
			hits++
			continue
		}
		if !asJSON && seen[i.TraceID] && i.TraceID != (recent.TraceID{}) {
			continue
		}
		var d admin.Detail
		err := client.ask(ctx, http.MethodGet, admin.IssuancesPath+"/"+url.PathEscape(i.ID), nil, &d)
		if refused, ok := errors.AsType[*refusedByAdmin](err); ok && refused.status == http.StatusNotFound {
			continue // it has been forgotten since it was listed
		}
		if err != nil {
			return err
		}
		drawn, seen[i.TraceID] = true, true
		details = append(details, d)
	}
	if len(details)+hits == 0 && len(found.Background) == 0 {
		return fail(exitError, errors.New("nothing that is remembered has that id"),
			fmt.Sprintf("the broker remembers %d issuances since it started; the audit log has them all", recent.MaxIssuances))
	}
	if asJSON {
		return encodeJSON(out, details)
	}
	var text strings.Builder
	if len(found.Background) > 0 {
		text.WriteString("a refresh in the background, which nobody waited for\n" + spanTree(found.Background))
	}
	for n := range details {
		text.WriteString(describeTrace(&details[n]))
	}
	if hits > 0 {
		fmt.Fprintf(&text, "and from the cache, with the same id: %d\n", hits)
	}
	_, err := io.WriteString(out, text.String())
	return err
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
	decision := i.Decision
	if i.Inspected() {
		decision += ", inspected"
	}
	line("decision", strings.TrimSpace(decision+" "+reasonOf(i)))
	line("rule", i.Rule)
	line("hint", i.Hint)
	line("policy", i.Revision)
	line("shared with", d.SharedWith)
	for _, step := range d.Steps {
		line(fmt.Sprintf("step %d", step.Number), fmt.Sprintf("%-9s %s  %s", step.Name, verdict(step.OK), step.Detail))
	}
	b.WriteString(spanTree(d.Spans))
	return visible(b.String())
}
