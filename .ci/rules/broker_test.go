package rules

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const root = "../.."

// scraped is what a live broker's /metrics holds after a bit of everything; one
// for all tests.
var scraped = sync.OnceValues(scrape)

// started is a process that says when it is ready.
type started struct {
	*exec.Cmd
	ready string // the line
}

func start(pattern string, args ...string) (*started, error) {
	cmd := exec.Command(filepath.Join(folder, "credfree"), args...)
	// Audit records for a collector are counted only where there is one, if only in name.
	cmd.Env = append(os.Environ(), "OTEL_LOGS_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=http://127.0.0.1:1/v1/logs", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	_ = in.Close() // the process has its own
	s := &started{Cmd: cmd}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), pattern) {
			s.ready = lines.Text()
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return s, nil
}

func (s *started) stop() {
	_ = s.Process.Signal(syscall.SIGTERM)
	_ = s.Wait() // ended by a signal, or with telemetry that was not exported
}

// folder has the program, and what its runs leave behind.
var folder string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if folder, err = os.MkdirTemp("", "credfree-rules-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(folder)
	build := exec.Command("go", "build", "-o", filepath.Join(folder, "credfree"), "./cmd/credfree")
	build.Dir, build.Stderr, build.Env = root, os.Stderr, append(os.Environ(), "GOFLAGS=-trimpath")
	if err := build.Run(); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

func scrape() (string, error) {
	dir, err := os.MkdirTemp(folder, "broker-")
	if err != nil {
		return "", err
	}
	emulator, err := start("ready: ", "emulator", "--dir", dir, "--listen", "127.0.0.1:0", "--issuer-listen", "127.0.0.1:0", "--token-lifetime", "4s")
	if err != nil {
		return "", err
	}
	defer emulator.stop()
	// One more API, where nobody listens, and an identity that Entra does not know.
	file := filepath.Join(dir, "credfree.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	policy := strings.NewReplacer(
		"\n  profile:", "\n  gone: {baseURL: https://127.0.0.1:1, scopes: [graph]}\n  profile:",
		"\n  demo: {application:", "\n  ghost: {application: {clientID: 99999999-0000-4000-8000-000000000099, source: pod}}\n  demo: {application:",
		"apis: [graph, azure-openai]", "apis: [graph, gone]", "identities: [demo,", "identities: [ghost, demo,").Replace(string(text))
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		return "", err
	}
	broker, err := start(`"ready"`, "serve", "--config", file, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--audit-log", filepath.Join(dir, "audit.log"))
	if err != nil {
		return "", err
	}
	defer broker.stop()
	var ready struct{ Agents, Admin string }
	if err := json.Unmarshal([]byte(broker.ready), &ready); err != nil {
		return "", err
	}
	user, err := os.ReadFile(filepath.Join(dir, "user-token"))
	if err != nil {
		return "", err
	}
	return everything("http://"+ready.Agents, ready.Admin, string(user), filepath.Join(dir, "workload-token"))
}

// everything asks in all ways that are counted, and returns the metrics.
func everything(agents, admin, user, workload string) (string, error) {
	const graph = "https://graph.microsoft.com/.default"
	ask := func(pairs ...string) {
		form := url.Values{"grant_type": {"client_credentials"}, "scope": {graph}}
		for i := 0; i+1 < len(pairs); i += 2 {
			form.Set(pairs[i], pairs[i+1])
		}
		if resp, err := http.PostForm(agents+"/oauth2/token", form); err == nil {
			_ = resp.Body.Close()
		}
	}
	ask()
	ask() // a hit
	ask("scope", "https://vault.azure.net/.default")
	ask("identity", "ghost") // which Entra does not know
	ask("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "requested_token_use", "on_behalf_of", "scope", "https://graph.microsoft.com/User.Read", "assertion", user)
	for _, path := range []string{"/call/graph/users/x", "/call/gone/x"} {
		if resp, err := http.Get(agents + path); err == nil {
			_ = resp.Body.Close()
		}
	}
	text := ""
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		ask() // until one finds its token ageing, and then until it cannot be refreshed
		if strings.Contains(text, "credfree_token_refreshes_total{") {
			_ = os.Remove(workload) // the emulator may put it back
		}
		var err error
		if text, err = metrics(admin); err != nil {
			return "", err
		}
		if strings.Contains(text, `credfree_token_refreshes_total{agent="demo",reason="assertion`) && strings.Contains(text, "credfree_token_time_to_expiry_seconds{") {
			break
		}
	}
	return text, nil
}

// metrics is what a process says at /metrics.
func metrics(address string) (string, error) {
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(resp.Body)
	return string(text), errors.Join(err, resp.Body.Close())
}

func live(t *testing.T) string {
	t.Helper()
	text, err := scraped()
	if err != nil {
		t.Fatal(err)
	}
	return text
}
