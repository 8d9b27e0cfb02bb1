package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/issuance"
)

func auditCommand(std stdio) *cli.Command {
	command := &cli.Command{
		Name:  "audit",
		Usage: "verify the chain of audit logs, or look up the hash of a user",
		Subcommands: []*cli.Command{
			{
				Name:      "verify",
				Usage:     "follow the chain through audit logs, the oldest first, and say where it is broken",
				ArgsUsage: "FILE…",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "key-file", Usage: "`FILE` with the key of the chain", EnvVars: []string{"CREDFREE_AUDIT_CHAIN_KEY_FILE"}},
					&cli.StringFlag{Name: "head", Usage: "seal that some line has to have, noted earlier from /readyz or the log; `HEAD` shows whether lines are missing at the end"},
					&cli.StringFlag{Name: "from", Usage: "where the first line goes on: the `HEAD` that verify has printed of the files before, or start; shows whether lines are missing at the beginning"},
					&cli.BoolFlag{Name: "restarts", Usage: "let a new chain begin with each start of the broker, where the log is no file"},
				},
				Action: func(c *cli.Context) error { return auditVerify(c, std) },
			},
			{
				Name:      "user",
				Usage:     "print the hash that stands for a user in records made with users: hashed",
				ArgsUsage: "TENANT-ID/OBJECT-ID",
				Flags:     []cli.Flag{&cli.StringFlag{Name: "key-file", Usage: "`FILE` that the policy names as usersKeyFile"}},
				Action:    func(c *cli.Context) error { return auditUser(c, std) },
			},
		},
		Action: func(c *cli.Context) error {
			return fail(exitUsage, errors.New("audit does not say what to do"), "credfree audit --help lists what there is")
		},
	}
	for _, sub := range command.Subcommands {
		sub.OnUsageError = usageError
		sub.HideHelpCommand = true
	}
	return command
}

func auditVerify(c *cli.Context, std stdio) error {
	logs, err := filesOf(c, "name the audit logs, the oldest first")
	if err != nil {
		return err
	}
	cfg := issuance.VerifyConfig{Head: c.String("head"), From: c.String("from"), Restarts: c.Bool("restarts")}
	if path := c.String("key-file"); path != "" {
		if cfg.Key, err = readKeyFile(path); err != nil {
			return err
		}
	}
	cfg.Report = func(f issuance.Finding) {
		word := "note"
		if f.Broken {
			word = "broken"
		}
		fmt.Fprintf(std.err, "%s: %s:%d: %s\n", word, f.File, f.Line, f.Text)
	}
	v, err := issuance.NewVerifier(cfg)
	if err != nil {
		return fail(exitUsage, err, "the end stands in /readyz, and in the log of the broker when it stops; verify prints that of the files it reads")
	}
	for _, path := range logs {
		if err := verifyLog(c, std.err, v, path); err != nil {
			return err
		}
	}
	sum := v.End()
	if sum.Broken > 0 {
		return fail(exitError, fmt.Errorf("the chain is broken in %s", count(int(sum.Broken), "place", "places")), "files go in the order in which they were written, the oldest first; a keyed chain needs --key-file")
	}
	result := fmt.Sprintf("whole: %s in %s\nhead: %s (line %d of the chain)\n", count(int(sum.Lines), "line", "lines"), count(len(logs), "file", "files"), sum.Head, sum.Seq)
	if cfg.Head == "" {
		fmt.Fprintln(std.err, "note: whether the last line was changed, or lines after it removed, shows with --head alone")
	} else {
		result += fmt.Sprintf("after the head given: %s\n", count(int(sum.After), "line", "lines"))
	}
	_, err = io.WriteString(std.out, result)
	return err
}

var userForm = regexp.MustCompile(`^(?i:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)

func auditUser(c *cli.Context, std stdio) error {
	if c.NArg() != 1 || !userForm.MatchString(c.Args().First()) {
		return fail(exitUsage, errors.New("want one user, as TENANT-ID/OBJECT-ID, after the flags"), "both are GUIDs; the object id stands on the user's page in the Entra admin center")
	}
	if c.String("key-file") == "" {
		return fail(exitUsage, errors.New("flag --key-file is missing"), "name the file that the policy names as usersKeyFile")
	}
	key, err := readKeyFile(c.String("key-file"))
	if err != nil {
		return err
	}
	tenant, object, _ := strings.Cut(c.Args().First(), "/")
	_, err = fmt.Fprintln(std.out, issuance.NewPseudonyms(key).Of(tenant, object))
	return err
}

func verifyLog(c *cli.Context, stderr io.Writer, v *issuance.Verifier, path string) error {
	log, err := openLog(c, path)
	if err != nil {
		return fail(exitError, fmt.Errorf("the audit log %s cannot be read: %w", path, err), "name a file that credfree serve --audit-log has written")
	}
	defer log.Close()
	err = v.Read(path, log)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		fmt.Fprintf(stderr, "note: %s ends early\n", path)
		return nil
	}
	if err != nil {
		return fail(exitError, fmt.Errorf("the audit log %s cannot be read to its end: %w", path, err))
	}
	return nil
}
