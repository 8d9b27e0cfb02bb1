package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/review"
)

func reviewCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "review",
		Usage:     "review from audit logs what each agent was granted and used, and propose a smaller policy",
		ArgsUsage: "[FILE…]",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "audit-log", Usage: "audit log `FILE`, compressed when its name ends in .gz; - is standard input; more files may follow the flags"},
			&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "policy `FILE` to compare with", EnvVars: []string{"CREDFREE_CONFIG"}},
			&cli.StringFlag{Name: "since", Usage: "leave out what is older than `TIME`: 30d or 24h ago; a date, today or yesterday, which are the beginning of that day in UTC; or an RFC 3339 time"},
			&cli.StringFlag{Name: "until", Usage: "leave out what is of `TIME` or newer, in the same forms: --since yesterday --until today is the whole of yesterday"},
			&cli.StringFlag{Name: "agent", Usage: "review the agent `NAME` alone"},
			&cli.StringFlag{Name: "user", Usage: "review what was done for the user `TENANT/OBJECT-ID`, or OBJECT-ID, alone; no policy is compared; of logs with users: hashed, the hash that credfree audit user prints"},
			&cli.StringFlag{Name: "users-key-file", Usage: "`FILE` that the policy names as usersKeyFile: finds --user TENANT/OBJECT-ID in logs with users: hashed too"},
			&cli.IntFlag{Name: "users", Usage: "list the `N` most frequent users of each agent", Value: 10},
			formatFlag("text", "csv", "json"),
			&cli.BoolFlag{Name: "propose", Usage: "print the allow blocks of a smaller policy instead, as YAML"},
		},
		Action: func(c *cli.Context) error { return reviewLogs(c, std, time.Now()) },
	}
}

func reviewLogs(c *cli.Context, std stdio, now time.Time) error {
	format, err := formatOf(c, "text", "csv", "json")
	if err != nil {
		return err
	}
	logs, err := logsOf(c)
	if err != nil {
		return err
	}
	if err := withValues(c, "agent", "user", "users-key-file", "since", "until"); err != nil {
		return err
	}
	if c.Bool("propose") && (c.String("config") == "" || format != "text") {
		return fail(exitUsage, errors.New("--propose prints YAML, and needs the policy"), "add --config FILE, and leave --format out")
	}
	cfg := review.Config{Now: now, Users: c.Int("users"), Agent: c.String("agent"), User: c.String("user")}
	if cfg.User != "" && c.Bool("propose") {
		return fail(exitUsage, errors.New("--propose needs all that the agents did, and --user leaves most of it out"), "leave one of the two out")
	}
	if cfg.UserHash, err = userHashOf(c); err != nil {
		return err
	}
	if cfg.Since, cfg.Until, err = timesOf(c, now); err != nil {
		return err
	}
	if path := c.String("config"); path != "" && cfg.User == "" {
		if cfg.Policy, cfg.File, err = readPolicy(path, ""); err != nil {
			return err
		}
	}
	r, err := review.New(cfg)
	if err != nil {
		return err
	}
	for _, path := range logs {
		if err := readLog(c, std.err, r, path); err != nil {
			return err
		}
	}
	report := r.Report()
	warnOfLines(std.err, report.Lines)
	if err := noAnswer(report); err != nil {
		return err
	}
	return writeReview(std.out, report, format, c.Bool("propose"))
}

// logsOf returns the names of the logs. Arguments are names too, so that a
// shell's pattern may follow the flag; flags among them would not be read.
func logsOf(c *cli.Context) ([]string, error) {
	logs := append(c.StringSlice("audit-log"), c.Args().Slice()...)
	if len(logs) == 0 {
		return nil, fail(exitUsage, errors.New("flag --audit-log is missing"), "name the files that credfree serve --audit-log has written")
	}
	return logs, noFlags(c)
}

// filesOf returns the names that follow the flags, at least one.
func filesOf(c *cli.Context, hint string) ([]string, error) {
	if !c.Args().Present() {
		return nil, fail(exitUsage, errors.New("no file was named"), hint)
	}
	return c.Args().Slice(), noFlags(c)
}

// noFlags refuses flags after the first argument, which are not parsed.
func noFlags(c *cli.Context) error {
	for _, name := range c.Args().Slice() {
		if strings.HasPrefix(name, "-") && name != "-" {
			return fail(exitUsage, fmt.Errorf("the flag %s follows a file, and would not be read", name), "write it before the files")
		}
	}
	return nil
}

// userHashOf returns what stands for the user in logs that hash them, "" without
// the key.
func userHashOf(c *cli.Context) (string, error) {
	path := c.String("users-key-file")
	if path == "" {
		return "", nil
	}
	if !userForm.MatchString(c.String("user")) {
		return "", fail(exitUsage, errors.New("--users-key-file needs one user, as --user TENANT-ID/OBJECT-ID"), "both are GUIDs: a hash is made of the two, and one of them does not do")
	}
	key, err := readKeyFile(path)
	if err != nil {
		return "", err
	}
	tenant, object, _ := strings.Cut(c.String("user"), "/")
	return issuance.NewPseudonyms(key).Of(tenant, object), nil
}

// timesOf returns from when and until when lines count.
func timesOf(c *cli.Context, now time.Time) (since, until time.Time, err error) {
	if since, err = parseTime("since", c.String("since"), now); err != nil {
		return since, until, err
	}
	if until, err = parseTime("until", c.String("until"), now); err != nil {
		return since, until, err
	}
	if !until.IsZero() && !until.After(since) {
		return since, until, fail(exitUsage, fmt.Errorf("--until %s is not after --since %s", c.String("until"), c.String("since")),
			"a date is the beginning of its day: all of 2026-10-01 is --since 2026-10-01 --until 2026-10-02")
	}
	return since, until, nil
}

// parseTime reads how long ago, or when. Days are those of UTC, as in the logs.
func parseTime(flag, text string, now time.Time) (time.Time, error) {
	today := now.UTC().Truncate(24 * time.Hour)
	switch text {
	case "":
		return time.Time{}, nil
	case "today":
		return today, nil
	case "yesterday":
		return today.AddDate(0, 0, -1), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	const longest = 100 * 365
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= longest {
			return now.AddDate(0, 0, -n), nil
		}
	} else if ago, err := time.ParseDuration(text); err == nil && ago > 0 {
		return now.Add(-ago), nil
	}
	return time.Time{}, fail(exitUsage, fmt.Errorf("--%s %q is no time", flag, text), "write 30d, 24h, yesterday, today, 2026-10-01 or 2026-10-01T00:00:00Z")
}

// warnOfLines says what of the logs the result does not rest on.
func warnOfLines(w io.Writer, lines review.Lines) {
	if lines.Unreadable > 0 {
		fmt.Fprintf(w, "warning: lines that are torn or no JSON, and were left out: %d\n", lines.Unreadable)
	}
	if lines.OCSF > 0 {
		fmt.Fprintf(w, "warning: lines in the format ocsf, which a review does not read, and were left out: %d\n", lines.OCSF)
	}
	if lines.Other > 0 {
		fmt.Fprintf(w, "warning: lines that are no audit lines, and were left out: %d\n", lines.Other)
	}
	if lines.Hashed > 0 && lines.Counted > 0 {
		fmt.Fprintf(w, "warning: audit lines with a hash in the place of the user, which may be of this one, and were left out: %d\n", lines.Hashed)
	}
	if lines.Unhashed > 0 && lines.Counted > 0 {
		fmt.Fprintf(w, "warning: audit lines that name the user, which may be the one of the hash, and were left out: %d\n", lines.Unhashed)
	}
	if lines.Counted == 0 {
		fmt.Fprintf(w, "warning: no audit line was counted; older ones: %d, newer ones: %d, of other agents and users: %d\n", lines.Older, lines.Newer, lines.Unselected)
	}
}

// noAnswer is the error when there were lines, and none from which the question
// could be answered: a result would say that nothing had happened.
func noAnswer(report *review.Report) error {
	lines := report.Lines
	if lines.Hashed > 0 && lines.Counted == 0 {
		return fail(exitError, fmt.Errorf("whether requests were for user %s is not known: the logs have hashes in the place of users", report.User),
			"give --user TENANT-ID/OBJECT-ID and --users-key-file FILE, the usersKeyFile of the policy; or --user the hash that is printed by: credfree audit user --key-file FILE TENANT-ID/OBJECT-ID")
	}
	if lines.Unhashed > 0 && lines.Counted == 0 {
		return fail(exitError, fmt.Errorf("whether requests were for user %s is not known: it is a hash, and the logs name users", report.User), "give --user TENANT-ID/OBJECT-ID")
	}
	if foreign := lines.Unreadable + lines.OCSF + lines.Other; !lines.None() || foreign == 0 {
		return nil
	}
	if lines.OCSF > 0 {
		return fail(exitError, errors.New("no line of the logs is an audit line in the format native"),
			"lines in the format ocsf have the native one inside: jq -c .unmapped FILE | credfree review --audit-log -")
	}
	return fail(exitError, errors.New("no line of the logs is an audit line"), "name the files that credfree serve --audit-log has written")
}

func writeReview(w io.Writer, report *review.Report, format string, propose bool) error {
	switch {
	case propose:
		if err := report.WriteProposal(w); err != nil {
			return fail(exitError, err, "review a log of the time in which the agents worked: see --audit-log, --since and --until")
		}
		return nil
	case format == "json":
		return encodeJSON(w, report)
	case format == "csv":
		return report.WriteCSV(w)
	}
	return report.WriteText(w)
}
