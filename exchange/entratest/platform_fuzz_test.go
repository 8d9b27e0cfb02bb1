package entratest_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzPlatforms holds all platform endpoints to one property: whatever is sent,
// they do not panic, hand out a token only to a request that carries what the
// platform demands, and record no secret.
func FuzzPlatforms(f *testing.F) {
	p := newPlatforms(f)
	names := slices.Sorted(maps.Keys(p.all))
	if len(names) == 0 {
		f.Fatal("got no seeds, want one for every platform")
	}
	for n, name := range names {
		good := p.all[name].good
		headers := slices.Sorted(maps.Keys(good.header))
		first, second := headers[0], ""
		if len(headers) > 1 {
			second = headers[1]
		}
		f.Add(uint(n), good.method, good.path, first, good.header[first], second, good.header[second], good.body)
	}
	f.Fuzz(func(t *testing.T, n uint, method, path, name1, value1, name2, value2, body string) {
		name := names[n%uint(len(names))]
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, platformOrigin, strings.NewReader(body))
		r.Method = method
		r.URL.Path, r.URL.RawQuery, _ = strings.Cut(path, "?")
		r.Header[http.CanonicalHeaderKey(name1)] = []string{value1}
		r.Header[http.CanonicalHeaderKey(name2)] = []string{value2}
		w := httptest.NewRecorder()
		p.all[name].endpoint.ServeHTTP(w, r)

		if strings.Contains(w.Body.String(), "eyJ") {
			demanded := map[string]string{
				"imds": "true", "cloud shell": "true", "arc": "Basic ", "google": "Google", "aws": "AWS4-HMAC-SHA256",
			}
			proof := demanded[name]
			if proof == "" {
				proof = platformSecret
			}
			if !strings.Contains(strings.ToLower(value1+" "+value2), strings.ToLower(proof)) {
				t.Errorf("%s: got a token for %q %q with %q and %q", name, method, path, value1, value2)
			}
		}
		all := p.all[name].endpoint.Requests()
		if got := all[len(all)-1]; strings.Contains(got.Path+got.Audience+got.Identity+got.Method+got.Error, platformSecret) {
			t.Errorf("%s: got the secret in a record", name)
		}
	})
}

// FuzzBehaviorJSON: a document is either refused, and changes nothing, or what
// GET then says can be sent back and means the same.
func FuzzBehaviorJSON(f *testing.F) {
	seeds := []string{
		`{}`, `{"hang": true}`, `{"delay": "1h2m3.5s", "lifetime": "-5m"}`, `{"status": 429, "retryAfter": "7", "body": "{}"}`,
		`{"code": 53003, "truncate": true, "huge": false}`, `{"delay": 1}`, `{"hang": null}`, `{"hang": true, "hang": false}`, `[]`, `{`,
	}
	for _, seed := range seeds {
		f.Add(seed)
	}
	w := newWorld(f)
	h := w.server.Management()
	f.Fuzz(func(t *testing.T, body string) {
		if body == "" {
			return // not sent as JSON
		}
		before := manage(t, h, "GET", "/behavior", "").body
		a := manage(t, h, "PUT", "/behavior", body)
		after := manage(t, h, "GET", "/behavior", "")
		if a.status != http.StatusOK {
			if diff := cmp.Diff(before, after.body); diff != "" || a.text("error") == "" {
				t.Errorf("%q: got status %d %s and a change (-before +after):\n%s", body, a.status, a.raw, diff)
			}
			return
		}
		if again := manage(t, h, "PUT", "/behavior", string(after.raw)); again.status != http.StatusOK || !cmp.Equal(after.body, again.body) {
			t.Errorf("%q: got %s, which says %s when it is sent back", body, after.raw, again.raw)
		}
	})
}
