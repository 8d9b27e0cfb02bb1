package main

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/urfave/cli/v2"
)

const (
	defaultListen      = "127.0.0.1:7400"
	defaultAdminListen = "127.0.0.1:7401"
	defaultSocketDir   = "/run/credfree"
)

func serveCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "run the broker until SIGTERM; the audit log goes to standard output",
		Flags: append([]cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "listen", Usage: "loopback `ADDRESS` for agents", Value: defaultListen, EnvVars: []string{"CREDFREE_LISTEN"}},
			&cli.StringFlag{Name: "admin-listen", Usage: "loopback `ADDRESS` for operators", Value: defaultAdminListen, EnvVars: []string{"CREDFREE_ADMIN_LISTEN"}},
			&cli.StringFlag{Name: "socket-dir", Usage: "`FOLDER` of the agents' unix sockets", Value: defaultSocketDir, EnvVars: []string{"CREDFREE_SOCKET_DIR"}},
			&cli.StringSliceFlag{Name: "host", Usage: "host `NAME` to accept beside localhost; may be repeated"},
			&cli.BoolFlag{Name: "auth-sidecar", Usage: "open the door of Microsoft's own sidecar too: a plain GET of an agent's gets a token there", EnvVars: []string{"CREDFREE_AUTH_SIDECAR"}},
		}, slices.Concat(auditFlags(), logFlags())...),
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c, "config"); err != nil {
				return err
			}
			return serve(c, std)
		},
	}
}

func serve(c *cli.Context, std stdio) (err error) {
	level, err := logLevel(c)
	if err != nil {
		return err
	}
	path := c.String("config")
	p, data, err := readPolicy(path)
	if err != nil {
		return err
	}
	log, flush := newLogger(std.err, level)
	defer flush()
	for _, warning := range p.Warnings {
		log.Warn("policy: "+warning.String(), "hint", warning.Hint)
	}
	audit, err := openAuditLog(c, std.out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, audit.close()) }()
	telemetry, err := newTelemetry(c.Context, log)
	if err != nil {
		return err
	}
	s, err := newService(serviceConfig{
		policy: p, listen: c.String("listen"), adminListen: c.String("admin-listen"), socketDir: c.String("socket-dir"),
		hosts: c.StringSlice("host"), authSidecar: c.Bool("auth-sidecar"), audit: audit.sink, auditFormat: audit.format, auditDetail: audit.describe, telemetry: telemetry, log: log,
	})
	if err != nil {
		return err
	}
	debug.FreeOSMemory() // what starting took, most of it parsing, is given back
	s.logStart(c, audit, level)
	s.warnOfExposures()
	s.warnOfExpiry()
	watching, stop := context.WithCancel(c.Context)
	var watch sync.WaitGroup
	watch.Go(func() { s.watchPolicy(watching, path, data) })
	watch.Go(func() { s.watchAudit(watching, audit) })
	watch.Go(func() { watchReadiness(watching, log, s.parts) })
	defer watch.Wait()
	defer stop()
	if err := s.serve(c.Context); err != nil {
		return err
	}
	log.Info("stopped", "audit", audit.describe())
	return nil
}
