package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/broker/recent"
	"github.com/credfree/credfree/exchange/entratest"
)

func demoCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "show an emulator, a broker and four agents at work, without an account",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "keep", Usage: "go on running, with requests to try"}},
		Action: func(c *cli.Context) (err error) {
			if err := flagsOnly(c); err != nil {
				return err
			}
			dir, err := os.MkdirTemp("", "credfree-demo-")
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
			outlivePipes() // whoever reads may stop reading, as head does: the folder is removed all the same
			err = demo(c.Context, std, dir, c.Bool("keep"))
			switch {
			case errors.Is(err, syscall.EPIPE):
				return nil
			case err != nil && c.Err() != nil:
				return interrupted()
			}
			return err
		},
	}
}

const (
	graphScope = "https://graph.microsoft.com/.default"
	vaultScope = "https://vault.azure.net/.default"
	userScope  = "https://graph.microsoft.com/User.Read"
)

// demo runs everything in one process and over the real doors.
func demo(ctx context.Context, std stdio, dir string, keep bool) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	lab, err := startLab(labConfig{dir: dir, workloadLifetime: time.Hour})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.host.Close()) }()
	p, err := policy.Parse(filepath.Join(dir, "credfree.yaml"), []byte(lab.header()+demoAgents()))
	if err != nil {
		return err
	}
	audit := &auditTap{}
	log := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	memory := recent.New(time.Now())
	telemetry, err := newTelemetry(ctx, log, spanKeeper{memory})
	if err != nil {
		return err
	}
	s, err := newService(serviceConfig{
		policy: p, listen: "127.0.0.1:0", adminListen: "127.0.0.1:0", socketDir: dir,
		audit: audit, telemetry: telemetry, log: log, memory: memory,
	})
	if err != nil {
		return err
	}
	var serving sync.WaitGroup
	var served error
	serving.Go(func() { served = s.serve(ctx) })
	defer func() { stop(); serving.Wait(); err = errors.Join(err, served) }()

	hints, err := askAll(ctx, s, dir)
	if err != nil {
		return err
	}
	if err := showDemo(std.out, audit.lines(), hints, memory); err != nil {
		return err
	}
	if !keep {
		return nil
	}
	if err := showKeep(std.out, s, dir); err != nil {
		return err
	}
	return lab.keepFresh(ctx)
}

// demoAgents are three agents that differ in what they may have. Nobody is let
// in over TCP.
func demoAgents() string {
	agent := func(name, identity, rights string) string {
		return fmt.Sprintf("  %s:\n    owner: %[1]s@demo.example\n    expires: %s\n    identity: %s\n    callers:\n      - {socket: %[1]s.sock, uids: [%[4]d]}\n%s",
			name, time.Now().AddDate(1, 0, 0).Format(time.DateOnly), identity, os.Getuid(), rights)
	}
	return "agents:\n" +
		agent("reporter", "demo", "    allow: {apis: [graph]}\n") +
		agent("assistant", "agent", "    onBehalfOf: {allow: {scopes: [graph/User.Read]}, clients: ["+entratest.DemoFrontendClientID+"]}\n") +
		agent("archivist", "demo", "    allow: {scopes: [keyvault]}\n")
}

// askAll lets the four agents ask: one is allowed twice, one acts for a user,
// one wants what it was not given, one is nobody. It returns what the refused
// were told.
func askAll(ctx context.Context, s *service, dir string) (hints []string, err error) {
	user, err := os.ReadFile(filepath.Join(dir, "agent-user-token"))
	if err != nil {
		return nil, err
	}
	socket := func(agent string) client.Config { return client.Config{Socket: filepath.Join(dir, agent+".sock")} }
	for _, ask := range []struct {
		who     client.Config
		req     client.TokenRequest
		refused bool
	}{
		{socket("reporter"), client.TokenRequest{Scope: graphScope}, false},
		{socket("reporter"), client.TokenRequest{Scope: graphScope}, false},
		{socket("assistant"), client.TokenRequest{Scope: userScope, UserToken: string(user)}, false},
		{socket("archivist"), client.TokenRequest{Scope: graphScope}, true},
		{client.Config{URL: "http://" + s.agentsAddr()}, client.TokenRequest{Scope: graphScope}, true},
	} {
		asker, err := client.New(ask.who)
		if err != nil {
			return nil, err
		}
		_, err = asker.Token(ctx, ask.req)
		refusal, refused := errors.AsType[*client.Error](err)
		if refused != ask.refused || err != nil && !refused {
			return nil, fmt.Errorf("the demo went otherwise than it should: %w", err)
		}
		if refused {
			hints = append(hints, refusal.Error()+"\n    hint: "+refusal.Hint)
		}
	}
	return hints, nil
}

// auditLine is what the demo shows of an audit line.
type auditLine struct {
	Agent    string         `json:"agent"`
	User     string         `json:"user_object_id"`
	Scopes   []string       `json:"scopes"`
	Decision string         `json:"decision"`
	Reason   string         `json:"reason"`
	Rule     string         `json:"rule"`
	Cache    string         `json:"cache"`
	TraceID  recent.TraceID `json:"trace_id"`
	Took     int64          `json:"duration_us"`
}

func showDemo(w io.Writer, lines [][]byte, hints []string, memory *recent.Memory) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var problems []error
	row := func(cells ...string) {
		_, err := fmt.Fprintln(table, strings.Join(cells, "\t"))
		problems = append(problems, err)
	}
	_, err := fmt.Fprint(w, "An Entra emulator, a broker and four agents in one process; no account, no credential.\nWhat the audit log says of their requests:\n\n")
	problems = append(problems, err)
	row("AGENT", "FOR USER", "ASKED FOR", "DECISION", "REASON", "RULE", "CACHE", "TOOK")
	var own, forUser recent.TraceID
	for _, line := range lines {
		var a auditLine
		if err := json.Unmarshal(line, &a); err != nil {
			return fmt.Errorf("an audit line is not JSON: %w", err)
		}
		if own == (recent.TraceID{}) {
			own = a.TraceID
		}
		if a.User != "" {
			forUser = a.TraceID
		}
		user, _, _ := strings.Cut(a.User, "-")
		asked := strings.TrimPrefix(strings.Join(a.Scopes, " "), "https://")
		row(dash(a.Agent), dash(user), asked, a.Decision, dash(a.Reason), dash(a.Rule), dash(a.Cache), fmt.Sprintf("%.2f ms", float64(a.Took)/1000))
	}
	problems = append(problems, table.Flush())
	_, err = fmt.Fprintf(w, "\nWhat the refused were told:\n\n  %s\n\nThe trace of the first request:\n\n%s\nThe trace of the one on behalf of a user, by an agent identity that its blueprint proves:\n\n%s",
		strings.Join(hints, "\n  "), spanTree(memory.Trace(own).Spans), spanTree(memory.Trace(forUser).Spans))
	return errors.Join(append(problems, err)...)
}

func showKeep(w io.Writer, s *service, dir string) error {
	const form = "-d grant_type=client_credentials -d scope="
	_, err := fmt.Fprintf(w, `Still running; Ctrl-C ends it. Open http://%[5]s/ in a browser, or try, from another terminal:

  curl --unix-socket %[1]s/reporter.sock %[2]s%[3]s http://localhost/oauth2/token
  curl --unix-socket %[1]s/archivist.sock %[2]s%[3]s http://localhost/oauth2/token
  %[7]s token --socket %[1]s/assistant.sock --scope %[6]s --user-token %[1]s/agent-user-token
  curl %[2]s%[3]s http://%[4]s/oauth2/token
  %[7]s watch --admin http://%[5]s
  curl http://%[5]s/readyz
  curl http://%[5]s/metrics
`, dir, form, graphScope, s.agentsAddr(), s.adminAddr(), userScope, callable())
	return err
}

// callable is how this program can be called from another terminal: by its name
// where that finds it, else, as under go run, by its path.
func callable() string {
	path, err := os.Executable()
	if err != nil {
		return "credfree"
	}
	if found, err := exec.LookPath("credfree"); err == nil && sameFile(found, path) {
		return "credfree"
	}
	return path
}

func sameFile(a, b string) bool {
	one, err1 := os.Stat(a)
	other, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, other)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// auditTap is an audit sink in memory. The demo is its only reader, so it is
// bounded by the requests somebody types while --keep runs.
type auditTap struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

const auditTapBytes = 1 << 20

func (t *auditTap) Write(line []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text.Len() > auditTapBytes {
		t.text.Reset()
	}
	return t.text.Write(line)
}

func (t *auditTap) lines() [][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Split(bytes.TrimSpace(bytes.Clone(t.text.Bytes())), []byte("\n"))
}
