package rules

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// webhook is what the /metrics of a live webhook holds, after two requests.
var webhook = sync.OnceValues(scrapeWebhook)

func scrapeWebhook() (string, error) {
	dir, err := os.MkdirTemp(folder, "webhook-")
	if err != nil {
		return "", err
	}
	roots, err := certificate(dir)
	if err != nil {
		return "", err
	}
	config := filepath.Join(dir, "inject.json")
	if err := os.WriteFile(config, []byte(`{"image": "example.com/credfree:1"}`), 0o600); err != nil {
		return "", err
	}
	inject, err := start(`"ready"`, "inject", "--config", config, "--tls-cert", filepath.Join(dir, "tls.crt"), "--tls-key", filepath.Join(dir, "tls.key"),
		"--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--linger", "1ms")
	if err != nil {
		return "", err
	}
	defer inject.stop()
	var ready struct{ Pods, Health string }
	if err := json.Unmarshal([]byte(inject.ready), &ready); err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}}
	review := `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u", "operation": "CREATE", "resource": {"version": "v1", "resource": "pods"},
		"object": {"metadata": {"labels": {"credfree.dev/inject": "true"}}, "spec": {"containers": []}}}}`
	for _, body := range []string{review, "{}"} { // a pod that is refused, and nothing of the API server's
		resp, err := client.Post("https://"+ready.Pods+"/mutate", "application/json", strings.NewReader(body))
		if err != nil {
			return "", err
		}
		_ = resp.Body.Close()
	}
	return metrics(ready.Health)
}

// certificate writes one for localhost, which is its own authority.
func certificate(dir string) (*x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(30 * 24 * time.Hour)}
	public, err1 := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	private, err2 := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	var crt bytes.Buffer
	_ = pem.Encode(&crt, &pem.Block{Type: "CERTIFICATE", Bytes: public}) // to memory
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(crt.Bytes())
	return roots, errors.Join(
		os.WriteFile(filepath.Join(dir, "tls.crt"), crt.Bytes(), 0o600),
		os.WriteFile(filepath.Join(dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

// own are the lines about the webhook's own metrics.
func own(text string) string {
	var lines strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, "credfree_webhook_") {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

func liveWebhook(t *testing.T) string {
	t.Helper()
	text, err := webhook()
	if err != nil {
		t.Fatal(err)
	}
	return text
}
