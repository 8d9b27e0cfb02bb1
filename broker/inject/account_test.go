package inject

import (
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// cluster is an API server that knows one service account.
func cluster(t *testing.T, answer http.HandlerFunc) *Cluster {
	t.Helper()
	server := httptest.NewTLSServer(answer)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for name, text := range map[string]string{"ca.crt": string(authority), "token": "the-token\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(at.Host)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCluster(host, port, dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAccountIsRead(t *testing.T) {
	c := cluster(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/api/v1/namespaces/agents/serviceaccounts/research" || r.Header.Get("Authorization") != "Bearer the-token" {
			t.Errorf("got %s %s", r.Method, r.URL.Path)
		}
		_, _ = w.Write([]byte(`{"metadata": {"annotations": {"azure.workload.identity/client-id": "c"}, "later": 1}}`)) // a reader that is gone is its own fault
	})
	got, err := c.Account(t.Context(), "agents", "research")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Account{Annotations: map[string]string{"azure.workload.identity/client-id": "c"}}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestAccountThatCannotBeRead(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		want   string // "" is an account without annotations
	}{
		"missing":   {404, `{"kind": "Status"}`, ""},
		"forbidden": {403, `{"message": "a-secret"}`, "may the webhook get service accounts?"},
		"moved":     {302, "", "answered 302"},
		"broken":    {200, `{"metadata": [`, "not a service account"},
		"down":      {500, "a-secret", "answered 500"},
	} {
		c := cluster(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(test.status)
			_, _ = w.Write([]byte(test.body)) // a reader that is gone is its own fault
		})
		got, err := c.Account(t.Context(), "agents", "research")
		if test.want == "" {
			if err != nil || got.Annotations != nil {
				t.Errorf("%s: got %v (%v), want an empty account", name, got, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "a-secret") {
			t.Errorf("%s: got %v, want an error that says %q and nothing of the body", name, err, test.want)
		}
	}
}

func TestClusterNeedsAPod(t *testing.T) {
	if _, err := NewCluster("", "", t.TempDir()); err == nil {
		t.Error("got a cluster outside of a pod")
	}
	if _, err := NewCluster("10.0.0.1", "443", t.TempDir()); err == nil {
		t.Error("got a cluster without its authority")
	}
}
