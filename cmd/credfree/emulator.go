package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/exchange/entratest"
)

func emulatorCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "emulator",
		Usage: "run an Entra emulator on loopback, with everything a broker needs to try it; never for production",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Usage: "`FOLDER` to write ca.pem, workload-token, user-token, agent-user-token and credfree.yaml into"},
			&cli.StringFlag{Name: "listen", Usage: "loopback `ADDRESS` of the token service (default: a free port, kept in the folder)"},
			&cli.StringFlag{Name: "issuer-listen", Usage: "loopback `ADDRESS` of the workload token issuer (default: a free port, kept in the folder)"},
			&cli.StringFlag{Name: "manage-listen", Usage: "loopback `ADDRESS` of the management endpoint: what was asked, hostility, keys (default: a free port)"},
			&cli.StringFlag{Name: "directory", Usage: "`FILE` of further tenants, in YAML, beside the demo's"},
			&cli.DurationFlag{Name: "token-lifetime", Usage: "how long access tokens live", DefaultText: "60 to 90 minutes at random, as Entra's"},
			&cli.DurationFlag{Name: "workload-token-lifetime", Usage: "how long workload tokens live; the file is replaced at half of it", Value: time.Hour},
		},
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c, "dir"); err != nil {
				return err
			}
			if err := emulatorFlags(c); err != nil {
				return err
			}
			return emulate(c, std)
		},
	}
}

// emulatorFlags refuses what no emulator runs with.
func emulatorFlags(c *cli.Context) error {
	for _, name := range []string{"listen", "issuer-listen", "manage-listen"} {
		if address := c.String(name); address != "" && !onLoopback(address) {
			return fail(exitUsage, fmt.Errorf("--%s %q is not loopback", name, address), "write 127.0.0.1:PORT; port 0 is any free one")
		}
	}
	if lifetime := c.Duration("token-lifetime"); lifetime < 0 {
		return fail(exitUsage, fmt.Errorf("access tokens cannot live %s", lifetime), "give a time like 10m with --token-lifetime, or leave it out")
	}
	if lifetime := c.Duration("workload-token-lifetime"); lifetime < 10*time.Second {
		return fail(exitUsage, fmt.Errorf("workload tokens that live %s cannot be kept fresh", lifetime), "give them ten seconds at least")
	}
	return nil
}

func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

func emulate(c *cli.Context, std stdio) error {
	dir, err := filepath.Abs(c.String("dir"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(exitError, fmt.Errorf("the folder cannot be made: %w", err), "name another with --dir")
	}
	var tenants []entratest.Tenant
	if err := unlessInterrupted(c.Context, func() (err error) {
		tenants, err = readTenants(c.String("directory"))
		return err
	}); err != nil {
		return err
	}
	lab, err := startLab(labConfig{
		dir: dir, listen: c.String("listen"), issuerListen: c.String("issuer-listen"), manageListen: cmp.Or(c.String("manage-listen"), anyPort),
		tenants: tenants, tokenLifetime: c.Duration("token-lifetime"), workloadLifetime: c.Duration("workload-token-lifetime"),
	})
	if err != nil {
		return err
	}
	if err := lab.write("credfree.yaml", lab.header()+anyProcess()); err != nil {
		return errors.Join(err, lab.host.Close())
	}
	if _, err := fmt.Fprintf(std.out, "ready: Entra emulator at %s (APIs %s, management %s), never for production; next: %s serve --config %s\n",
		lab.host.URL, lab.host.APIURL, lab.host.ManagementURL, callable(), filepath.Join(dir, "credfree.yaml")); err != nil {
		return errors.Join(err, lab.host.Close())
	}
	return errors.Join(lab.keepFresh(c.Context), lab.host.Close())
}

// lab is an emulator with the folder a broker reads from.
type lab struct {
	labConfig
	host *entratest.Host
}

type labConfig struct {
	dir                                string // absolute
	listen, issuerListen, manageListen string // manageListen "": no management endpoint
	tenants                            []entratest.Tenant
	tokenLifetime, workloadLifetime    time.Duration
}

const anyPort = "127.0.0.1:0"

// readTenants reads the tenants of a directory file; "" has none.
func readTenants(path string) ([]entratest.Tenant, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fail(exitError, fmt.Errorf("the directory cannot be read: %w", err), "name a YAML file with --directory")
	}
	directory, err := entratest.ParseDirectory(text)
	if err != nil {
		return nil, fail(exitError, fmt.Errorf("%s: %w", path, err), "the fields are those of entratest.Directory: go doc github.com/credfree/credfree/exchange/entratest.Directory")
	}
	return directory.Tenants, nil
}

// stateFile keeps the emulator's addresses and its certificate authority, so
// that one that is started again is the one its brokers know.
const stateFile = "emulator-state.pem"

func startLab(cfg labConfig) (*lab, error) {
	hostConfig := entratest.HostConfig{TokenLifetime: cfg.tokenLifetime, Management: cfg.manageListen, Directory: func(issuerURL string) entratest.Directory {
		directory := entratest.DemoDirectory(issuerURL)
		directory.Tenants = append(directory.Tenants, cfg.tenants...)
		return directory
	}}
	switch state, err := os.ReadFile(filepath.Join(cfg.dir, stateFile)); {
	case err == nil:
		hostConfig.State = state
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("the emulator's state cannot be read: %w", err)
	}
	hostConfig.Addr, hostConfig.IssuerAddr = cfg.listen, cfg.issuerListen
	host, err := entratest.Listen(hostConfig)
	if err != nil {
		return nil, fail(exitError, err, "is another emulator running in this folder? name other addresses with --listen and --issuer-listen, or another folder")
	}
	l := &lab{labConfig: cfg, host: host}
	state, err := host.State()
	err = errors.Join(err, l.write(stateFile, string(state)), l.write("ca.pem", string(host.CA)), l.refreshTokens())
	if err != nil {
		return nil, errors.Join(err, host.Close())
	}
	return l, nil
}

// write replaces a file as kubelet does, at once: a reader sees the old or the
// new content. Only this user may read it.
func (l *lab) write(name, content string) error {
	path := filepath.Join(l.dir, name)
	temporary := path + ".new"
	if err := os.WriteFile(temporary, []byte(content), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func (l *lab) refreshTokens() error {
	workload, err1 := l.host.Issuer.ServiceAccountToken(entratest.ServiceAccountToken{
		Namespace: "agents", ServiceAccount: "demo", Pod: "demo-0", Node: "node-0",
		Audience: entratest.TokenExchangeAudience, Lifetime: l.workloadLifetime,
	})
	user, err2 := l.userToken(entratest.DemoClientID)
	agents, err3 := l.userToken(entratest.DemoBlueprintClientID)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	return errors.Join(l.write("workload-token", workload), l.write("user-token", user), l.write("agent-user-token", agents))
}

// userToken is Ada's, from the front end, for an application or a blueprint.
func (l *lab) userToken(audience string) (string, error) {
	return l.host.Server.UserToken(entratest.UserTokenRequest{
		Tenant: entratest.DemoTenantID, User: entratest.DemoUserID,
		Audience: audience, Client: entratest.DemoFrontendClientID, Lifetime: l.workloadLifetime,
	})
}

// keepFresh replaces the tokens at half of their life until ctx ends.
func (l *lab) keepFresh(ctx context.Context) error {
	ticker := time.NewTicker(l.workloadLifetime / 2)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := l.refreshTokens(); err != nil {
				return err
			}
		}
	}
}

// header is a policy file for this emulator up to its agents.
func (l *lab) header() string {
	return fmt.Sprintf(`# A policy for the Entra emulator in this folder; never for production.
version: 1
tenant: %s
cloud: custom
authority: %s
caFile: %s

sources: # where the platform's proof of identity comes from
  pod: {file: {path: %s}}

identities: # who the broker can be at Entra
  demo: {application: {clientID: %s, source: pod}}
  agent: {agent: {blueprintID: %s, agentID: %s, source: pod}}
  agent-user: {agentUser: {blueprintID: %[6]s, agentID: %[7]s, username: %s, source: pod}}

apis: # what agents call
  graph: {baseURL: %[9]s/v1.0, scopes: [graph], rewriteLinks: true}
  profile: {baseURL: %[9]s/v1.0/me, scopes: [graph/User.Read]}
  azure-openai: {baseURL: %[9]s, scopes: [azure-openai], paths: [/openai/*]}

`, entratest.DemoTenantID, l.host.URL, quoteYAML(filepath.Join(l.dir, "ca.pem")), quoteYAML(filepath.Join(l.dir, "workload-token")), entratest.DemoClientID,
		entratest.DemoBlueprintClientID, entratest.DemoAgentIdentityID, entratest.DemoAgentUserName, l.host.APIURL)
}

// anyProcess is one agent, demo: any process of this user, over TCP.
func anyProcess() string {
	return fmt.Sprintf(`agents: # who may ask, and for what
  demo:
    owner: you@demo.example
    expires: %s
    identity: demo
    identities: [demo, agent, agent-user]
    callers:
      - {tcp: {uids: [%d]}} # any process of this user
    allow: {apis: [graph, azure-openai]}
    onBehalfOf:
      allow: {apis: [profile]}
      clients: [%s] # the app whose users it may act for
`, time.Now().AddDate(1, 0, 0).Format(time.DateOnly), os.Getuid(), entratest.DemoFrontendClientID)
}

// quoteYAML writes a path as a quoted YAML scalar, where it can without an escape:
// a policy has none.
func quoteYAML(s string) string {
	if strings.Contains(s, "'") && !strings.ContainsAny(s, `"\`) {
		return `"` + s + `"`
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}
