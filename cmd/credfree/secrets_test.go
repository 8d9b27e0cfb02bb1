package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/credfree/credfree/broker/admin"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/broker/recent"
	"github.com/credfree/credfree/exchange/entratest"
)

// running is a whole broker in this process, over TLS and real sockets, with
// everything it writes kept.
type running struct {
	*service
	lab        *lab
	log, audit bytes.Buffer
	mu         sync.Mutex // guards log and audit
	spans      *tracetest.InMemoryExporter
	key        string
}

type locked struct {
	mu *sync.Mutex
	to *bytes.Buffer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}

func startService(t testing.TB, agents func(dir string) string) *running {
	t.Helper()
	return startServiceWith(t, func(header, dir string) string { return header + agents(dir) })
}

// startServiceWith runs the policy that is made of the lab's header.
func startServiceWith(t testing.TB, write func(header, dir string) string, options ...func(*serviceConfig)) *running {
	t.Helper()
	return startServiceOf(t, write, func(_ *running, cfg *serviceConfig) {
		for _, option := range options {
			option(cfg)
		}
	})
}

// startServiceOf runs it with another configuration.
func startServiceOf(t testing.TB, write func(header, dir string) string, change func(*running, *serviceConfig)) *running {
	t.Helper()
	return startConfigured(t, func(lab *lab, dir string) serviceConfig {
		p, err := policy.Parse(filepath.Join(dir, "credfree.yaml"), []byte(write(lab.header(), dir)))
		check(t, err)
		return serviceConfig{policy: p}
	}, change)
}

// startConfigured runs what is made of the lab, and then changed.
func startConfigured(t testing.TB, configure func(lab *lab, dir string) serviceConfig, changes ...func(*running, *serviceConfig)) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{spans: tracetest.NewInMemoryExporter(), key: "a-key-that-nobody-may-see-anywhere"}
	check(t, os.WriteFile(filepath.Join(dir, "key"), []byte(r.key), 0o600))
	lab, err := startLab(labConfig{dir: dir, workloadLifetime: time.Hour})
	check(t, err)
	r.lab = lab
	log := slog.New(traced{slog.NewJSONHandler(locked{&r.mu, &r.log}, &slog.HandlerOptions{Level: slog.LevelDebug})})
	memory := recent.New(time.Now())
	telemetry, err := newTelemetry(t.Context(), log, sdktrace.NewSimpleSpanProcessor(r.spans), spanKeeper{memory})
	check(t, err)
	cfg := configure(lab, dir)
	cfg.listen, cfg.adminListen, cfg.socketDir, cfg.audit, cfg.telemetry, cfg.log, cfg.memory = "127.0.0.1:0", "127.0.0.1:0", dir, locked{&r.mu, &r.audit}, telemetry, log, memory
	for _, change := range changes {
		change(r, &cfg)
	}
	r.service, err = newService(cfg)
	check(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := r.serve(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		serving.Wait()
		check(t, lab.host.Close())
	})
	return r
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do sends a request and returns status and body.
func do(t testing.TB, method, url, body string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	check(t, err)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	check(t, err)
	text, err := io.ReadAll(resp.Body)
	check(t, err)
	check(t, resp.Body.Close())
	return resp.StatusCode, string(text) + fmt.Sprint(resp.Header)
}

// exportEverything makes brokers that start from now on export spans, metrics and
// audit records to a collector, as fast as they can.
func exportEverything(t *testing.T) *collector {
	t.Helper()
	c := newCollector(t, http.StatusOK)
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_LOGS_EXPORTER": "otlp",
		"OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_BLRP_SCHEDULE_DELAY": "10", "OTEL_METRIC_EXPORT_INTERVAL": "50",
	} {
		t.Setenv(name, value)
	}
	return c
}

// searched fails when a collector has any of the secrets, or has not got all
// that there is to export.
func (c *collector) searched(t *testing.T, secrets []string) {
	t.Helper()
	text := c.text()
	for _, want := range []string{"/v1/traces", "/v1/metrics", "/v1/logs", "token.issue", "credfree.token.requests"} {
		if !strings.Contains(text, want) {
			t.Errorf("the collector never received %s: nothing was tested", want)
		}
	}
	search(t, secrets, map[string]string{"exports": text})
}

// Whatever is asked, and whatever goes wrong: no token, no assertion and no
// key in any log, audit line, span, metric, export, readiness page or error. In
// each format of the audit log, with its chain.
func TestNothingSecretIsWritten(t *testing.T) {
	for _, format := range []string{"native", "ocsf"} {
		t.Run(format, func(t *testing.T) {
			c := exportEverything(t)
			var secrets []string
			t.Run("broker", func(t *testing.T) { secrets = askForSecrets(t, format) })
			c.searched(t, secrets)
		})
	}
}

// askForSecrets makes a broker do all it can do wrong with secrets, looks for
// them in all that it wrote, and returns them.
func askForSecrets(t *testing.T, format string) []string {
	const chainKey, usersKey = "the-key-of-the-chain-of-lines", "the-key-of-the-hashes-of-users"
	keys := t.TempDir()
	check(t, os.WriteFile(filepath.Join(keys, "chain"), []byte(chainKey), 0o600))
	check(t, os.WriteFile(filepath.Join(keys, "users"), []byte(usersKey), 0o600))
	path := filepath.Join(keys, "audit.log")
	a := auditOf(t, "--audit-log", path, "--audit-format", format, "--audit-chain", "--audit-chain-key-file", filepath.Join(keys, "chain"))
	t.Cleanup(func() { check(t, a.close()) })
	r := startServiceOf(t, func(header, dir string) string {
		return header + fmt.Sprintf(`users: hashed
usersKeyFile: %s/users
agents:
  demo:
    identity: demo
    callers: [{tcp: {uids: [%d]}}]
    allow: {scopes: [%q], apis: [graph]}
    onBehalfOf: {allow: {scopes: [%q]}}
  keyed: {identity: demo, callers: [{tcp: {keyFile: %s/key}}], allow: {scopes: [%q]}}
`, keys, os.Getuid(), vaultScope, userScope, dir, graphScope)
	}, withAudit(a))
	tokenURL := "http://" + r.agentsAddr() + "/oauth2/token"
	workload, err := os.ReadFile(filepath.Join(r.lab.dir, "workload-token"))
	check(t, err)
	user, err := os.ReadFile(filepath.Join(r.lab.dir, "user-token"))
	check(t, err)
	tenant, object := demoUser(t, r)
	secrets := []string{string(workload), string(user), r.key, chainKey, usersKey}
	var answers strings.Builder

	ask := func(pairs ...string) {
		form := url.Values{"grant_type": {"client_credentials"}, "scope": {graphScope}}
		for i := 0; i+1 < len(pairs); i += 2 {
			form.Set(pairs[i], pairs[i+1])
		}
		status, body := do(t, http.MethodPost, tokenURL, form.Encode())
		if status != http.StatusOK {
			answers.WriteString(body)
			return
		}
		var issued struct {
			AccessToken string `json:"access_token"`
		}
		check(t, json.NewDecoder(strings.NewReader(body)).Decode(&issued))
		secrets = append(secrets, issued.AccessToken)
	}
	reject := func(method, url, body string, headers ...string) {
		status, text := do(t, method, url, body, headers...)
		if status < 400 {
			t.Errorf("%s %.60s: got %d, want a refusal", method, url, status)
		}
		answers.WriteString(text)
	}

	ask()
	ask()
	const onBehalfOf = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	before := len(secrets)
	ask("grant_type", onBehalfOf, "requested_token_use", "on_behalf_of", "scope", userScope, "assertion", string(user))
	if len(secrets) == before {
		t.Errorf("there was no token for a user: %s", answers.String())
	}
	ask("grant_type", onBehalfOf, "requested_token_use", "on_behalf_of", "scope", userScope, "assertion", string(user)+"x")
	// Confused agents put their secrets everywhere.
	for _, secret := range secrets[:3] {
		for _, parameter := range []string{"scope", "identity", "claims", "client_id", "client_secret", "grant_type", "assertion", "unknown"} {
			ask(parameter, secret)
		}
		if secret != r.key { // a permission may well be called like a key
			ask("scope", "https://graph.microsoft.com/"+secret)
		}
		reject(http.MethodPost, tokenURL+"/"+secret, "")
		reject(http.MethodPost, tokenURL+"?access_token="+url.QueryEscape(secret), "")
		reject(http.MethodPost, tokenURL, secret)
		reject(http.MethodPost, tokenURL, "", "Content-Type", secret)
		reject(http.MethodPost, tokenURL, "", "traceparent", secret, "baggage", "token="+url.QueryEscape(secret))
		reject(http.MethodGet, "http://"+r.agentsAddr()+"/call/graph/"+secret+"?token="+url.QueryEscape(secret), "", "credfree-user-token", secret)
		reject(http.MethodGet, "http://"+r.agentsAddr()+"/msi/token?api-version=2019-08-01&resource="+url.QueryEscape(secret), "", "X-IDENTITY-HEADER", secret)
		reject(http.MethodGet, "http://"+r.adminAddr()+"/"+secret, "")
	}
	_, body := do(t, http.MethodPost, tokenURL, "grant_type=client_credentials&scope="+url.QueryEscape(graphScope), "Authorization", "Bearer "+r.key)
	if !strings.HasPrefix(body, `{"access_token"`) {
		t.Errorf("the key was refused: %s", body)
	}
	// The workload token is broken, and shows part of itself.
	for _, broken := range []string{string(workload) + ".x", string(workload)[:200], strings.ReplaceAll(string(workload), ".", "")} {
		check(t, r.lab.write("workload-token", broken))
		ask("scope", vaultScope)
		_, text := r.ready(t)
		answers.WriteString(text)
	}
	_, purged := do(t, http.MethodPost, "http://"+r.adminAddr()+"/purge", "user="+tenant+"/"+object)
	_, purgedInAll := do(t, http.MethodPost, "http://"+r.adminAddr()+"/purge", "user="+object)
	_, metrics := do(t, http.MethodGet, "http://"+r.adminAddr()+"/metrics", "")
	lines, err := os.ReadFile(path)
	check(t, err)
	r.audit.Write(lines)

	r.searchFor(t, secrets, map[string]string{"metrics": metrics, "answers": answers.String(), "operators' pages": r.pages(t)})
	// Nor is the user's id, which is no secret but is to be hashed.
	r.searchFor(t, []string{object}, map[string]string{"metrics": metrics, "purged": purged + purgedInAll})
	return append(secrets, object)
}

// Entra answers with tokens where none belong. Each answer meets a broker of
// its own, which has no reason yet to hold its request back.
func TestNothingSecretOfHostileAnswersIsWritten(t *testing.T) {
	const hostile = "eyJhbGciOiJSUzI1NiJ9.eyJob3N0aWxlIjoiZW50cmEifQ.aG9zdGlsZS1zaWduYXR1cmU"
	c := exportEverything(t)
	t.Run("answers", func(t *testing.T) {
		for name, behavior := range map[string]entratest.Behavior{
			"truncated": {Truncate: true}, "wrong kind": {WrongGrant: true}, "huge": {Huge: true}, "outage": {Status: 503}, "throttled": {Status: 429, RetryAfter: hostile},
			"refused": {Code: 700016}, "blocked": {Code: 53003}, "redirect": {Redirect: "https://127.0.0.1:1/" + hostile},
			"no expiry": {Status: 200, Body: `{"access_token":"` + hostile + `","token_type":"Bearer"}`}, "page": {Status: 200, Body: "<html>" + hostile},
			"odd refusal": {Status: 400, Body: `{"error":"` + hostile + `","error_description":"` + hostile + `","suberror":"` + hostile + `","claims":"` + hostile + `"}`},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := startService(t, func(string) string { return anyProcess() })
				workload, err := os.ReadFile(filepath.Join(r.lab.dir, "workload-token"))
				check(t, err)
				r.lab.host.Server.SetBehavior(behavior)
				status, answer := do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+graphScope)
				if status < 400 || r.lab.host.Server.TokenRequests() == 0 {
					t.Errorf("got %d from %d requests, want a refusal of Entra's", status, r.lab.host.Server.TokenRequests())
				}
				_, ready := r.ready(t)
				_, metrics := do(t, http.MethodGet, "http://"+r.adminAddr()+"/metrics", "")
				r.searchFor(t, []string{hostile, string(workload)}, map[string]string{"answer": answer, "readiness": ready, "metrics": metrics, "operators' pages": r.pages(t)})
			})
		}
	})
	c.searched(t, []string{hostile})
}

// pages is everything that operators can see, as pages and as JSON.
func (r *running) pages(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	var list admin.Issuances
	look := func(path string, headers ...string) string {
		status, text := do(t, http.MethodGet, "http://"+r.adminAddr()+path, "", headers...)
		if status != http.StatusOK {
			t.Errorf("%s: got %d %s", path, status, text)
		}
		all.WriteString(text)
		return text
	}
	check(t, json.NewDecoder(strings.NewReader(look("/issuances?limit=1000"))).Decode(&list))
	if len(list.Issuances) == 0 {
		t.Error("nothing is remembered")
	}
	paths := []string{"/", "/agents", "/health", "/policy", "/state"}
	for _, i := range list.Issuances {
		paths = append(paths, "/issuances/"+i.ID)
	}
	for _, path := range paths {
		look(path, "Accept", "text/html")
		if path != "/agents" && path != "/health" && path != "/policy" && path != "/" {
			look(path)
		}
	}
	return all.String()
}

// searchFor looks for secrets in texts and in everything the broker has written.
func (r *running) searchFor(t *testing.T, secrets []string, texts map[string]string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	spans, err := json.Marshal(r.spans.GetSpans())
	check(t, err)
	texts["log"], texts["audit log"], texts["spans"] = r.log.String(), r.audit.String(), string(spans)
	search(t, secrets, texts)
}

// search looks for secrets in texts.
func search(t *testing.T, secrets []string, texts map[string]string) {
	t.Helper()
	for name, text := range texts {
		if len(text) < 20 && name != "log" {
			t.Errorf("%s is empty: nothing was tested", name)
		}
		for i, secret := range secrets {
			for _, form := range everyForm(secret) {
				if at := strings.Index(text, form); at >= 0 {
					t.Errorf("secret %d is in the %s, as …%s…", i, name, text[max(0, at-80):min(len(text), at+40)])
				}
			}
		}
	}
}

// everyForm is the ways in which a secret, or the part of a JWT that makes it
// one, could be written.
func everyForm(secret string) []string {
	forms := []string{secret}
	if parts := strings.Split(secret, "."); len(parts) == 3 {
		forms = append(forms, parts[1], parts[2])
	}
	for _, form := range forms[:1] {
		forms = append(forms, url.QueryEscape(form), base64.StdEncoding.EncodeToString([]byte(form)), base64.RawURLEncoding.EncodeToString([]byte(form)), fmt.Sprintf("%x", form), fmt.Sprintf("%X", form))
	}
	return forms
}
