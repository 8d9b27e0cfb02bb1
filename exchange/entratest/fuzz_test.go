package entratest_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzTokenEndpoint holds the endpoint to one property: whatever is sent, it
// does not panic, and it answers 200 only when the body carries the assertion
// of the trusted workload. ASSERTION and USER in a seed stand for valid tokens.
func FuzzTokenEndpoint(f *testing.F) {
	seeds, err := filepath.Glob("testdata/seeds/*.txt")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("got %d seeds, %v, want some in testdata/seeds", len(seeds), err)
	}
	for _, name := range seeds {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		path, body, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
		f.Add(path, "application/x-www-form-urlencoded", body)
	}
	w := newWorld(f)
	assertion, user := w.workloadToken(f), w.userForm(f).Get("assertion")
	replace := strings.NewReplacer("ASSERTION", assertion, "USER", user)

	f.Fuzz(func(t *testing.T, path, contentType, body string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, baseURL, strings.NewReader(replace.Replace(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Path = "/" + strings.TrimPrefix(path, "/")
		req.Header["Content-Type"] = []string{contentType}
		resp, err := w.server.RoundTripper().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return
		}
		form, err := url.ParseQuery(replace.Replace(body))
		if err != nil || form.Get("client_assertion") != assertion || form.Get("client_id") == "" {
			t.Errorf("got status 200 for %q, want a refusal without the valid assertion", body)
		}
	})
}

// TestSeedsReachSuccess fails when the seeds have rotted: a property about
// successes says nothing if there are none.
func TestSeedsReachSuccess(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"client_credentials.txt", "on_behalf_of.txt"} {
		data, err := os.ReadFile(filepath.Join("testdata", "seeds", name))
		if err != nil {
			t.Fatal(err)
		}
		path, body, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
		body = strings.NewReplacer("ASSERTION", w.workloadToken(t), "USER", w.userForm(t).Get("assertion")).Replace(body)
		a, err := w.send(t.Context(), http.MethodPost, path, "application/x-www-form-urlencoded", body)
		if err != nil || a.status != http.StatusOK {
			t.Errorf("%s: got status %d %s, %v, want 200", name, a.status, a.raw, err)
		}
	}
}
