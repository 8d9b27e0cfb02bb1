package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/policy"
)

// execCommand is told which signals this process was to ignore when it started.
func execCommand(std stdio, ignored []os.Signal) *cli.Command {
	return &cli.Command{
		Name:      "exec",
		Usage:     "run a command as one agent of a policy, with a broker of its own",
		ArgsUsage: "-- COMMAND [ARGUMENT…]",
		Description: "The command runs unmodified: its environment leads every Azure SDK to a broker that listens on a free port,\n" +
			"takes no key but the command's, and ends with it. A variable that holds the workload token is not the command's.\n" +
			"The command's exit code is returned, 128+N for signal N;\n" +
			"127 says that it was not found, 126 that it could not be started. The policy is the one at the start.\n\n" +
			"A signal is passed on to the command. Who signals a whole group reaches it twice, and many programs break off at\n" +
			"the second: let systemd do with KillMode=mixed, and timeout with --foreground.\n\n" +
			"The command runs as this user, and so could read what this user can, the workload token too: this is a way to\n" +
			"try and to develop. Where that matters, run serve as a user of its own.",
		Flags: []cli.Flag{
			configFlag(),
			ceilingFlag(),
			&cli.StringFlag{Name: "agent", Usage: "`NAME` of the agent in the policy (default: the one that this user is by its uid)"},
			&cli.StringFlag{Name: "identity", Usage: "`NAME` of the agent's identity for AZURE_CLIENT_ID (default: the agent's default)"},
			&cli.StringFlag{Name: "audit-log", Usage: "append the audit log to `FILE` (default: credfree/audit.log below $XDG_STATE_HOME or ~/.local/state)", EnvVars: []string{"CREDFREE_AUDIT_LOG"}},
		},
		Action: func(c *cli.Context) error {
			switch {
			case c.String("config") == "":
				return fail(exitUsage, errors.New("flag --config is missing"), "credfree exec --help says what it is")
			case !c.Args().Present():
				return fail(exitUsage, errors.New("there is no command to run"), "put it behind two hyphens: credfree exec --config FILE -- COMMAND")
			}
			for _, s := range ignored {
				signal.Ignore(s) // again: the command inherits it
			}
			return execute(c, std)
		},
	}
}

// Exit codes for a command that never ran, as those of env(1) and of shells.
const (
	exitNotStarted = 126
	exitNotFound   = 127
)

// execute starts the broker, runs the command to its end, and stops the broker.
func execute(c *cli.Context, std stdio) (err error) {
	cmd, err := command(c, std)
	if err != nil {
		return err
	}
	var p *policy.Policy
	if err := unlessInterrupted(c.Context, func() (err error) {
		p, err = readBrokersPolicy(c.String("config"), c.String("ceiling"))
		return err
	}); err != nil {
		return err
	}
	played, err := castAs(p, c.String("agent"), c.String("identity"), ownUID())
	if err != nil {
		return err
	}
	audit, err := openExecAudit(c.String("audit-log"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, audit.Close()) }()
	dir, err := os.MkdirTemp("", "credfree-exec-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	to := lead{key: newCommandKey(), keyFile: filepath.Join(dir, "key"), clientID: played.clientID, tokens: tokenVariables(p)}
	if err := os.WriteFile(to.keyFile, []byte(to.key), 0o600); err != nil {
		return err
	}
	// What this prints is among what the command prints: warnings alone.
	log := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	telemetry, err := newTelemetry(c.Context, log)
	if err != nil {
		return err
	}
	s, err := newExecService(serviceConfig{policy: p, audit: audit, telemetry: telemetry, log: log}, played, to.key)
	if err != nil {
		return err
	}
	to.url = "http://" + s.agentsAddr()
	cmd.Env = commandEnvironment(os.Environ(), to)
	return s.serveCommand(c.Context, cmd)
}

// command finds the command that is asked for. All that is open to it is what
// is open to this process.
func command(c *cli.Context, std stdio) (*exec.Cmd, error) {
	path, err := exec.LookPath(c.Args().First())
	if err != nil {
		code := exitNotFound
		if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EISDIR) {
			code = exitNotStarted
		}
		return nil, fail(code, fmt.Errorf("the command cannot be run: %w", err), "give its path, or add its folder to PATH")
	}
	cmd := exec.Command(path, c.Args().Tail()...) //nolint:noctx // it ends by the signals that this process gets, and is waited for
	cmd.Args[0] = c.Args().First()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.App.Reader, std.out, std.err
	return cmd, nil
}

// openExecAudit opens the audit log. There is always one: what is not recorded
// is not issued.
func openExecAudit(path string) (*issuance.File, error) {
	const hint = "name a file that this user may append to with --audit-log"
	if path == "" {
		folder := os.Getenv("XDG_STATE_HOME")
		if !filepath.IsAbs(folder) {
			home, err := os.UserHomeDir()
			if err != nil {
				return nil, fail(exitError, fmt.Errorf("there is no place for the audit log: %w", err), hint)
			}
			folder = filepath.Join(home, ".local", "state")
		}
		path = filepath.Join(folder, "credfree", "audit.log")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fail(exitError, fmt.Errorf("there is no place for the audit log: %w", err), hint)
		}
	}
	file, err := issuance.OpenFile(path)
	if err != nil {
		return nil, fail(exitError, fmt.Errorf("the audit log cannot be opened: %w", err), hint)
	}
	return file, nil
}

// newExecService is a broker for one command: on one free port, for one agent,
// behind a key. It opens no socket and no door for operators, which may be
// those of a broker that serves.
func newExecService(cfg serviceConfig, played part, key string) (*service, error) {
	cfg.authSidecar = true // its clients have no key, but every request here has the command's
	s := &service{cfg: cfg}
	if err := s.assemble(); err != nil {
		return nil, err
	}
	s.rules.Keys = &peer.Keys{} // of other agents, none counts here
	if played.keyFile != "" {
		s.rules.Keys = peer.NewKeys([]string{played.keyFile})
	}
	s.agents.Handler = &commandDoor{key: key, keyFile: played.keyFile, keys: s.rules.Keys, broker: s.broker, doors: s.agents.Handler}
	agents, err := peer.ListenLoopback(anyPort)
	if err != nil {
		return nil, errors.Join(err, s.rules.close(nil))
	}
	s.tcp = [2]net.Listener{agents, nobodysListener{}}
	if err := s.broker.Use(s.rules.Rules); err != nil {
		return nil, errors.Join(err, s.closeListeners(), s.rules.close(nil))
	}
	return s, nil
}

// serveCommand runs cmd and serves until it has ended. The error holds its exit
// code.
func (s *service) serveCommand(signalled context.Context, cmd *exec.Cmd) error {
	ctx := context.WithoutCancel(signalled) // it is for the command to end
	child, err := startCommand(cmd)
	if err != nil {
		return errors.Join(fail(exitNotStarted, fmt.Errorf("the command cannot be started: %w", err)), s.closeListeners(), s.rules.close(nil))
	}
	// Not before: a limit on core files would be the command's too.
	if err := makeUndumpable(); err != nil && !errors.Is(err, errNotLinux) { // the command runs as the same user anyway
		s.cfg.log.Warn("the broker's memory can be dumped", "err", err)
	}
	if signalled.Err() != nil { // before signals were passed on
		child.end()
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	var served error
	var wait sync.WaitGroup
	wait.Go(func() {
		if served = s.serve(serving); served != nil {
			child.end() // it would ask in vain
		}
	})
	err = child.wait()
	stop()
	wait.Wait()
	return errors.Join(err, served)
}

// nobodysListener is one that nobody can reach: closed from the start.
type nobodysListener struct{}

func (nobodysListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (nobodysListener) Close() error              { return nil }
func (nobodysListener) Addr() net.Addr            { return &net.TCPAddr{} }
