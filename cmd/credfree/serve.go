package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
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
		Flags: []cli.Flag{
			configFlag(),
			ceilingFlag(),
			&cli.StringFlag{Name: "listen", Usage: "loopback `ADDRESS` for agents", Value: defaultListen, EnvVars: []string{"CREDFREE_LISTEN"}},
			&cli.StringFlag{Name: "admin-listen", Usage: "loopback `ADDRESS` for operators", Value: defaultAdminListen, EnvVars: []string{"CREDFREE_ADMIN_LISTEN"}},
			&cli.StringFlag{Name: "socket-dir", Usage: "`FOLDER` of the agents' unix sockets", Value: defaultSocketDir, EnvVars: []string{"CREDFREE_SOCKET_DIR"}},
			&cli.BoolFlag{Name: "socket-folders", Usage: "put each socket into a folder of its own, FOLDER/NAME/socket/NAME.sock, that one agent alone can be given", EnvVars: []string{"CREDFREE_SOCKET_FOLDERS"}},
			&cli.StringFlag{Name: "audit-log", Usage: "append the audit log to `FILE` instead", EnvVars: []string{"CREDFREE_AUDIT_LOG"}},
			&cli.StringSliceFlag{Name: "host", Usage: "host `NAME` to accept beside localhost; may be repeated"},
			&cli.BoolFlag{Name: "auth-sidecar", Usage: "open the door of Microsoft's own sidecar too: a plain GET of an agent's gets a token there", EnvVars: []string{"CREDFREE_AUTH_SIDECAR"}},
			&cli.BoolFlag{Name: "verbose", Usage: "log more"},
		},
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c, "config"); err != nil {
				return err
			}
			return serve(c, std)
		},
	}
}

func serve(c *cli.Context, std stdio) (err error) {
	log := newLogger(std.err, c.Bool("verbose"))
	p, watched, ceilingErr, err := startPolicy(c.String("config"), c.String("ceiling"), os.Getenv)
	if err != nil {
		return err
	}
	for _, value := range p.FromPod {
		log.Info("policy: the pod says what this is", "path", value.Path, "value", value.Value)
	}
	for _, warning := range p.Warnings {
		log.Warn("policy: "+warning.String(), "hint", warning.Hint)
	}
	audit := std.out
	if path := c.String("audit-log"); path != "" {
		file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return fail(exitError, fmt.Errorf("the audit log cannot be opened: %w", err), "name a file the broker may append to with --audit-log")
		}
		defer file.Close() // every line was written, or its token withheld, long before
		audit = file
	}
	telemetry, err := newTelemetry(c.Context, log)
	if err != nil {
		return err
	}
	s, err := newService(serviceConfig{
		policy: p, listen: c.String("listen"), adminListen: c.String("admin-listen"), socketDir: c.String("socket-dir"), socketFolders: c.Bool("socket-folders"),
		hosts: c.StringSlice("host"), authSidecar: c.Bool("auth-sidecar"), audit: audit, telemetry: telemetry, log: log,
		inPod: inPod(os.Getenv), ceiling: watched.ceiling.path != "",
	})
	if err != nil {
		return err
	}
	debug.FreeOSMemory() // what starting took, most of it parsing, is given back
	log.Info("ready", "agents", s.agentsAddr(), "admin", s.adminAddr(), "sockets", p.Sockets(), "policy", p.Revision,
		"tenant", p.Tenant, "authority", p.Cloud.Authority, "version", buildVersion())
	if watched.ceiling.path != "" {
		s.ceilingRead(p.Ceiling(), ceilingErr)
	}
	s.warnOfExpiry()
	watching, stop := context.WithCancel(c.Context)
	var watch sync.WaitGroup
	watch.Go(s.warnOfExposures) // which may have to wait for an answer that does not come
	watch.Go(func() { s.watchPolicy(watching, watched) })
	defer watch.Wait()
	defer stop()
	if err := s.serve(c.Context); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

// newLogger writes text for people and JSON for everything else.
func newLogger(w io.Writer, verbose bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if verbose {
		options.Level = slog.LevelDebug
	}
	if file, ok := w.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return slog.New(slog.NewTextHandler(w, options))
		}
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// inPod reports whether this is a container of a Kubernetes pod.
func inPod(getenv func(string) string) bool { return getenv("KUBERNETES_SERVICE_HOST") != "" }
