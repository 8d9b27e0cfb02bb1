package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/broker/recent"
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
			ceilingFlag(),
			&cli.StringFlag{Name: "listen", Usage: "loopback `ADDRESS` for agents", Value: defaultListen, EnvVars: []string{"CREDFREE_LISTEN"}},
			&cli.StringFlag{Name: "admin-listen", Usage: "loopback `ADDRESS` for operators", Value: defaultAdminListen, EnvVars: []string{"CREDFREE_ADMIN_LISTEN"}},
			&cli.StringFlag{Name: "socket-dir", Usage: "`FOLDER` of the agents' unix sockets", Value: defaultSocketDir, EnvVars: []string{"CREDFREE_SOCKET_DIR"}},
			&cli.BoolFlag{Name: "socket-folders", Usage: "put each socket into a folder of its own, FOLDER/NAME/socket/NAME.sock, that one agent alone can be given", EnvVars: []string{"CREDFREE_SOCKET_FOLDERS"}},
			&cli.StringSliceFlag{Name: "host", Usage: "host `NAME` to accept beside localhost; may be repeated"},
			&cli.BoolFlag{Name: "auth-sidecar", Usage: "open the door of Microsoft's own sidecar too: a plain GET of an agent's gets a token there", EnvVars: []string{"CREDFREE_AUTH_SIDECAR"}},
			&cli.StringFlag{Name: "admin-key-file", Usage: "`FILE` with the operator key, for operators who are neither root nor the broker's own user", EnvVars: []string{"CREDFREE_ADMIN_KEY_FILE"}},
			&cli.BoolFlag{Name: "legacy-msi", Usage: "answer clients at /msi/token too that know MSI_ENDPOINT and MSI_SECRET only (api-version 2017-09-01)", EnvVars: []string{"CREDFREE_LEGACY_MSI"}},
			&cli.StringFlag{Name: "auth-sidecar-compatibility", Usage: "what that door does with overrides that it does not allow: `MODE` refuse, or silent to pass over them as Microsoft's does", Value: overridesRefused, EnvVars: []string{"CREDFREE_AUTH_SIDECAR_COMPATIBILITY"}},
		}, slices.Concat(auditFlags(), logFlags())...),
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c); err != nil {
				return err
			}
			return printed(std.err, serve(c, std))
		},
	}
}

func serve(c *cli.Context, std stdio) (err error) {
	// A SIGHUP that comes before anybody waits for it must not end the program:
	// what it asks for is about to be read anyway.
	early := make(chan os.Signal, 1)
	signal.Notify(early, syscall.SIGHUP)
	defer signal.Stop(early)
	level, err := logLevel(c)
	if err != nil {
		return err
	}
	path := c.String("config")
	found, err := policySource(path)
	if err != nil {
		return err
	}
	if err := found.sidecarFlags(c); err != nil {
		return err
	}
	log, flush := newLogger(std.err, level)
	defer flush()
	outlivePipes()
	var p *policy.Policy
	var watched *policyWatch
	var ceilingErr error
	if err := unlessInterrupted(c.Context, func() (err error) {
		p, watched, ceilingErr, err = startPolicy(path, found.text, c.String("ceiling"), os.Getenv)
		return err
	}); err != nil {
		return err
	}
	tellPolicy(log, p)
	found.report(log)
	audit, err := openAuditLog(c, std.out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, within(closeTime, audit.close)) }()
	memory := recent.New(time.Now())
	telemetry, err := newTelemetry(c.Context, log, spanKeeper{memory})
	if err != nil {
		return err
	}
	s, err := newService(serviceConfig{
		policy:        p,
		policyFile:    path,
		ceiling:       watched.ceiling.path != "",
		listen:        found.listen,
		adminListen:   c.String("admin-listen"),
		adminKey:      c.String("admin-key-file"),
		socketDir:     c.String("socket-dir"),
		socketFolders: c.Bool("socket-folders"),
		hosts:         c.StringSlice("host"),
		authSidecar:   found.authSidecar,
		sidecar:       found.sidecar,
		legacyMSI:     c.Bool("legacy-msi"),
		inPod:         inPod(os.Getenv),
		audit:         audit.sink,
		auditFormat:   audit.format,
		auditDetail:   audit.describe,
		memory:        memory,
		telemetry:     telemetry,
		log:           log,
	})
	if err != nil {
		return err
	}
	debug.FreeOSMemory() // what starting took, most of it parsing, is given back
	useOneProcessor(os.Getenv)
	s.logStart(c, audit, level)
	if watched.ceiling.path != "" {
		s.ceilingRead(p.Ceiling(), ceilingErr)
	}
	watching, stop := context.WithCancel(c.Context)
	watch := s.watch(watching, watched, audit)
	defer func() {
		stop()
		err = errors.Join(err, within(closeTime, func() error { watch.Wait(); return nil }))
	}()
	if err := s.serve(c.Context); err != nil {
		return err
	}
	log.Info("stopped", "audit", audit.describe())
	return nil
}

// closeTime bounds what has to do with the audit log at the end: one that takes
// nothing does not keep the program.
const closeTime = 3 * time.Second

// within returns what end does, if it ends in time.
func within(most time.Duration, end func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- end() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(most):
		return errors.New("the audit log does not take what is written to it, and was left as it is")
	}
}

// useOneProcessor has one goroutine run at a time, unless GOMAXPROCS says
// otherwise. An answer takes microseconds; handing parts of it to another thread
// takes as long, and a sidecar has better things to leave a processor to.
func useOneProcessor(getenv func(string) string) {
	if getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
}

// tellPolicy logs what is worth knowing about a policy before it is in force.
func tellPolicy(log *slog.Logger, p *policy.Policy) {
	for _, value := range p.FromPod {
		log.Info("policy: the pod says what this is", "path", value.Path, "value", value.Value)
	}
	for _, warning := range p.Warnings {
		log.Warn("policy: "+warning.String(), "hint", warning.Hint)
	}
}

// watch warns of what is to be warned of, and looks after what may change, until
// ctx ends.
func (s *service) watch(ctx context.Context, policies *policyWatch, audit *auditLog) *sync.WaitGroup {
	s.warnOfOperators()
	s.warnOfExpiry()
	var watch sync.WaitGroup
	watch.Go(s.warnOfExposures) // which may have to wait for an answer that does not come
	watch.Go(func() { s.watchPolicy(ctx, policies) })
	watch.Go(func() { s.watchAudit(ctx, audit) })
	watch.Go(func() { watchReadiness(ctx, s.cfg.log, s.parts) })
	return &watch
}

// What the door of Microsoft's own sidecar does with overrides that its own
// passes over.
const (
	overridesRefused = "refuse"
	overridesSilent  = "silent"
)

// sidecarFlags are the flags that the environment may have an opinion about.
func (f *fromEnvironment) sidecarFlags(c *cli.Context) error {
	switch c.String("auth-sidecar-compatibility") {
	case overridesRefused:
	case overridesSilent:
		f.sidecar.Silent = true
	default:
		return fail(exitUsage, errors.New("flag --auth-sidecar-compatibility is neither refuse nor silent"), "write refuse, or leave it out")
	}
	f.authSidecar = f.authSidecar || c.Bool("auth-sidecar")
	if f.listen == "" || c.IsSet("listen") {
		f.listen = c.String("listen")
	}
	return nil
}

// report logs what is worth knowing about where the policy comes from.
func (f *fromEnvironment) report(log *slog.Logger) {
	for _, note := range f.notes {
		log.Warn("environment: " + note)
	}
	if f.sidecar.Silent && f.authSidecar {
		log.Warn("the door of Microsoft's sidecar passes over what it does not allow: a client may get a token of another identity than it asks for",
			"hint", "this is for trying clients out: leave --auth-sidecar-compatibility out")
	}
}

// inPod reports whether this is a container of a Kubernetes pod.
func inPod(getenv func(string) string) bool { return getenv("KUBERNETES_SERVICE_HOST") != "" }
