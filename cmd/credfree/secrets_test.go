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

	"github.com/credfree/credfree/broker/policy"
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
	dir := t.TempDir()
	r := &running{spans: tracetest.NewInMemoryExporter(), key: "a-key-that-nobody-may-see-anywhere"}
	check(t, os.WriteFile(filepath.Join(dir, "key"), []byte(r.key), 0o600))
	lab, err := startLab(labConfig{dir: dir, workloadLifetime: time.Hour})
	check(t, err)
	r.lab = lab
	p, err := policy.Parse(filepath.Join(dir, "credfree.yaml"), []byte(write(lab.header(), dir)))
	check(t, err)
	log := slog.New(slog.NewJSONHandler(locked{&r.mu, &r.log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	telemetry, err := newTelemetry(t.Context(), log, sdktrace.NewSimpleSpanProcessor(r.spans))
	check(t, err)
	cfg := serviceConfig{policy: p, listen: "127.0.0.1:0", adminListen: "127.0.0.1:0", socketDir: dir, audit: locked{&r.mu, &r.audit}, telemetry: telemetry, log: log}
	for _, option := range options {
		option(&cfg)
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

// Whatever is asked, and whatever goes wrong: no token, no assertion and no
// key in any log, audit line, span, metric, readiness page or error.
func TestNothingSecretIsWritten(t *testing.T) {
	r := startService(t, func(dir string) string {
		return fmt.Sprintf(`agents:
  demo: {identity: demo, callers: [{tcp: {uids: [%d]}}], allow: {scopes: [%q, %q]}}
  keyed: {identity: demo, callers: [{tcp: {keyFile: %s/key}}], allow: {scopes: [%q]}}
`, os.Getuid(), graphScope, vaultScope, dir, graphScope)
	})
	tokenURL := "http://" + r.agentsAddr() + "/oauth2/token"
	workload, err := os.ReadFile(filepath.Join(r.lab.dir, "workload-token"))
	check(t, err)
	user, err := os.ReadFile(filepath.Join(r.lab.dir, "user-token"))
	check(t, err)
	secrets := []string{string(workload), string(user), r.key}
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
	// Confused agents put their secrets everywhere.
	for _, secret := range secrets[:3] {
		for _, parameter := range []string{"scope", "identity", "claims", "client_id", "client_secret", "grant_type", "unknown"} {
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
		_, text := do(t, http.MethodGet, "http://"+r.adminAddr()+"/readyz", "")
		answers.WriteString(text)
	}
	_, metrics := do(t, http.MethodGet, "http://"+r.adminAddr()+"/metrics", "")

	r.searchFor(t, secrets, map[string]string{"metrics": metrics, "answers": answers.String()})
}

// Entra answers with tokens where none belong. Each answer meets a broker of
// its own, which has no reason yet to hold its request back.
func TestNothingSecretOfHostileAnswersIsWritten(t *testing.T) {
	const hostile = "eyJhbGciOiJSUzI1NiJ9.eyJob3N0aWxlIjoiZW50cmEifQ.aG9zdGlsZS1zaWduYXR1cmU"
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
			_, ready := do(t, http.MethodGet, "http://"+r.adminAddr()+"/readyz", "")
			_, metrics := do(t, http.MethodGet, "http://"+r.adminAddr()+"/metrics", "")
			r.searchFor(t, []string{hostile, string(workload)}, map[string]string{"answer": answer, "readiness": ready, "metrics": metrics})
		})
	}
}

// searchFor looks for secrets in texts and in everything the broker has written.
func (r *running) searchFor(t *testing.T, secrets []string, texts map[string]string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	spans, err := json.Marshal(r.spans.GetSpans())
	check(t, err)
	texts["log"], texts["audit log"], texts["spans"] = r.log.String(), r.audit.String(), string(spans)
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
		forms = append(forms, url.QueryEscape(form), base64.StdEncoding.EncodeToString([]byte(form)), base64.RawURLEncoding.EncodeToString([]byte(form)), fmt.Sprintf("%x", form))
	}
	return forms
}
