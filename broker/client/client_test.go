package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/client"
)

func ask(t *testing.T, cfg client.Config) (client.Token, error) {
	t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c.Token(t.Context(), client.TokenRequest{Scope: "https://a/.default", Agent: "demo", Identity: "i", Claims: "{}"})
}

func TestRequestAndAnswer(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("the-key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		want := map[string]string{"grant_type": "client_credentials", "scope": "https://a/.default", "client_id": "demo", "identity": "i", "claims": "{}"}
		for name, value := range want {
			if got := r.PostForm.Get(name); got != value {
				t.Errorf("got %s=%q, want %q", name, got, value)
			}
		}
		if got := r.Header.Get("Authorization"); got != "Bearer the-key" || r.URL.Path != client.TokenPath || r.URL.RawQuery != "" {
			t.Errorf("got %s %q", r.URL, got)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set(client.IssuanceHeader, "the-id")
		if _, err := w.Write([]byte(`{"access_token":"t","token_type":"Bearer","expires_in":7}`)); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	token, err := ask(t, client.Config{URL: server.URL + "/", KeyFile: key})
	if err != nil || token.AccessToken != "t" || token.ExpiresIn != 7 || token.IssuanceID != "the-id" {
		t.Errorf("got %+v, %v", token, err)
	}
}

// A user's token goes by RFC 8693, and in the body.
func TestOnBehalfOf(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		want := map[string]string{
			"grant_type":         "urn:ietf:params:oauth:grant-type:token-exchange",
			"subject_token":      "the-user's",
			"subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
			"scope":              "https://a/b",
		}
		for name, value := range want {
			if got := r.PostForm.Get(name); got != value {
				t.Errorf("got %s=%q, want %q", name, got, value)
			}
		}
		if len(r.PostForm) != len(want) || r.URL.RawQuery != "" || r.Header.Get("Authorization") != "" {
			t.Errorf("got %d parameters, want %d, at %s", len(r.PostForm), len(want), r.URL)
		}
		w.Header().Set("Content-Type", "application/json")
		if _, err := w.Write([]byte(`{"access_token":"t","token_type":"Bearer","expires_in":7,"issued_token_type":"x"}`)); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	c, err := client.New(client.Config{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	if token, err := c.Token(t.Context(), client.TokenRequest{Scope: "https://a/b", UserToken: "the-user's"}); err != nil || token.AccessToken != "t" {
		t.Errorf("got %+v, %v", token, err)
	}
}

func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		status      int
		contentType string
		body        string
		refusal     bool
	}{
		"refused":             {400, "application/json", `{"error":"invalid_scope","error_description":"no","hint":"h","refused_by":"policy"}`, true},
		"not ours":            {404, "text/html", "<html>", false},
		"not an OAuth error":  {500, "application/json", `{}`, false},
		"a redirect":          {307, "text/plain", "", false},
		"another JSON server": {200, "text/plain", `{"access_token":"t"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", test.contentType)
				w.Header().Set("Location", "http://127.0.0.1:1/")
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(test.status)
				if _, err := w.Write([]byte(test.body)); err != nil {
					t.Error(err)
				}
			}))
			defer server.Close()
			token, err := ask(t, client.Config{URL: server.URL})
			refusal, refused := errors.AsType[*client.Error](err)
			_, unreachable := errors.AsType[*client.UnreachableError](err)
			if token.AccessToken != "" || refused != test.refusal || unreachable == test.refusal {
				t.Fatalf("got %+v, %v", token, err)
			}
			if refused && (refusal.Status != 400 || refusal.Hint != "h" || refusal.RefusedBy != client.ByPolicy || refusal.RetryAfter != 7*time.Second) {
				t.Errorf("got %+v", refusal)
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	for name, cfg := range map[string]client.Config{"tcp": {URL: "http://127.0.0.1:1"}, "unix": {Socket: filepath.Join(t.TempDir(), "none.sock")}} {
		_, err := ask(t, cfg)
		if _, ok := errors.AsType[*client.UnreachableError](err); !ok {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := ask(t, client.Config{KeyFile: filepath.Join(t.TempDir(), "none")}); err == nil || !strings.Contains(err.Error(), "key") {
		t.Errorf("got %v, want an error about the key", err)
	}
	lines := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(lines, []byte("# the agent's key\nkey\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ask(t, client.Config{KeyFile: lines})
	if _, ok := errors.AsType[*client.UnreachableError](err); ok || err == nil || !strings.Contains(err.Error(), lines) || strings.Contains(err.Error(), "# the") {
		t.Errorf("got %v, want an error about the key file without its content", err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, client.Config{KeyFile: empty}); err == nil || !strings.Contains(err.Error(), "it is empty") {
		t.Errorf("got %v, want an error about the key: without it the broker may take the caller for another agent", err)
	}
	for _, url := range []string{"https://127.0.0.1", "ftp://x", "127.0.0.1:7400", "http://user@x", "http://x?y=z"} {
		if _, err := client.New(client.Config{URL: url}); err == nil {
			t.Errorf("URL %q was accepted", url)
		}
	}
}

// Who gives up has not found out that there is no broker; whose time is up has.
func TestGivingUp(t *testing.T) {
	asked := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		if r.URL.Path != client.TokenPath { // the answer begins, and goes no further
			w.Header().Set("Content-Length", "7")
			w.(http.Flusher).Flush()
		}
		select {
		case asked <- struct{}{}:
			<-r.Context().Done()
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	for name, url := range map[string]string{"before the answer": server.URL, "within it": server.URL + "/slow"} {
		c, err := client.New(client.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-asked; cancel() }()
		_, err = c.Token(ctx, client.TokenRequest{Scope: "s"})
		if _, ok := errors.AsType[*client.UnreachableError](err); ok || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want that it was canceled", name, err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
		_, err = c.Token(ctx, client.TokenRequest{Scope: "s"})
		cancel()
		if _, ok := errors.AsType[*client.UnreachableError](err); !ok || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want that none answers in time", name, err)
		}
	}
}
