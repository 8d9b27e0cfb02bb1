package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/inject"
)

// webhookCertificate writes a certificate for the name of the webhook's service.
func webhookCertificate(t *testing.T, dir string) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	check(t, os.WriteFile(certFile, public, 0o600))
	check(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(public)
	return certFile, keyFile, roots
}

// TestWebhook runs the webhook as the chart does, over TLS.
func TestWebhook(t *testing.T) {
	certFile, keyFile, roots := webhookCertificate(t, t.TempDir())
	var mu sync.Mutex
	var logged bytes.Buffer
	log := slog.New(slog.NewJSONHandler(locked{&mu, &logged}, nil))
	telemetry, err := newTelemetry(t.Context(), log)
	check(t, err)
	w := &webhook{log: log}
	w.certificate, err = inject.LoadCertificate(certFile, keyFile)
	check(t, err)
	check(t, w.assemble(inject.Config{Image: "example.com/credfree:1"}, telemetry))
	check(t, w.listen(t.Context(), "127.0.0.1:0", "127.0.0.1:0"))
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- w.serve(ctx) }()

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}}
	review := `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u", "operation": "CREATE", "resource": {"version": "v1", "resource": "pods"},
		"object": {"metadata": {"labels": {"credfree.dev/inject": "true"}}, "spec": {"containers": []}}}}`
	resp, err := client.Post("https://"+w.podsAt.Addr().String()+inject.Path, "application/json", strings.NewReader(review)) //nolint:noctx // the server is of this process
	check(t, err)
	body, err := io.ReadAll(resp.Body)
	check(t, err)
	check(t, resp.Body.Close())
	var answer struct{ Response struct{ Allowed bool } }
	if err := json.Unmarshal(body, &answer); err != nil || answer.Response.Allowed || !strings.Contains(string(body), "no container is an agent") {
		t.Errorf("got %s (%v), want a refusal that says why", body, err)
	}
	if resp.TLS.Version != tls.VersionTLS13 {
		t.Errorf("got TLS version %x, want 1.3", resp.TLS.Version)
	}
	old := &tls.Config{RootCAs: roots, ServerName: "localhost", MaxVersion: tls.VersionTLS12, MinVersion: tls.VersionTLS12} //nolint:gosec // it has to be refused
	if c, err := tls.Dial("tcp", w.podsAt.Addr().String(), old); err == nil {                                               //nolint:noctx // the server is of this process
		t.Error("TLS 1.2 was accepted", c.Close())
	}
	health := "http://" + w.toolsAt.Addr().String()
	for _, probe := range []struct{ path, want string }{{"/healthz", "ok"}, {"/readyz", `"ready":true`}, {"/metrics", `credfree_webhook_admissions_total{outcome="refused"} 1`}, {"/metrics", "credfree_webhook_certificate_expires_in_seconds 35"}} {
		if status, body := do(t, http.MethodGet, health+probe.path, ""); status != http.StatusOK || !strings.Contains(body, probe.want) {
			t.Errorf("%s: got %d %s, want %q", probe.path, status, body, probe.want)
		}
	}
	// The chart's alerts are about metrics that there are.
	_, metrics := do(t, http.MethodGet, health+"/metrics", "")
	rules, err := os.ReadFile("../../charts/credfree/files/webhook-rules.yaml")
	check(t, err)
	named := regexp.MustCompile(`credfree_webhook_[a-z_]+`).FindAllString(string(rules), -1)
	for _, name := range named {
		if !strings.Contains(metrics, "\n"+name) {
			t.Errorf("an alert is about %s, which is not a metric", name)
		}
	}
	if len(named) < 3 {
		t.Errorf("got alerts about %v", named)
	}
	w.ending.Store(true)
	if status, _ := do(t, http.MethodGet, health+"/readyz", ""); status != http.StatusServiceUnavailable {
		t.Errorf("got %d while ending, want not ready", status)
	}
	stop()
	check(t, <-ended)
}

// TestSocketFolders: each socket is in a folder of its own, so that each agent
// can be given a volume with its own alone.
func TestSocketFolders(t *testing.T) {
	s := &service{cfg: serviceConfig{socketDir: "/run/credfree/agents"}}
	if got := s.socketPath("researcher.sock"); got != "/run/credfree/agents/researcher.sock" {
		t.Errorf("got %s", got)
	}
	s.cfg.socketFolders = true
	if got := s.socketPath("researcher.sock"); got != "/run/credfree/agents/researcher/socket/researcher.sock" {
		t.Errorf("got %s", got)
	}
}
