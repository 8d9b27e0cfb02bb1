package exchange

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Whatever Entra answers: no panic; a token only from a well-formed answer;
// and no error that shows the body.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{`{"access_token":"a.b.c","token_type":"Bearer","expires_in":3599}`, `{"access_token":"a.b.c","token_type":"Bearer","expires_in":"3599","refresh_in":7}`,
		`{"access_token":"a.b.c","expires_in":1e9}`, `{"error":"invalid_client","error_codes":[700016],"claims":"{}"}`, `{`, ``, `null`, `[]`} {
		f.Add(seed, 200)
		f.Add(seed, 400)
	}
	f.Fuzz(func(t *testing.T, body string, status int) {
		a, failure := parseAnswer([]byte(body))
		if (a == nil) == (failure == nil) {
			t.Fatal("want an answer or a failure")
		}
		if a != nil && (a.AccessToken == "" || !bearer(a.AccessToken) || a.ExpiresIn <= 0 || !json.Valid([]byte(body))) {
			t.Errorf("got a token from %q", body)
		}
		refused := refusal(&http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}, "Retry-After": {body}}}, []byte(body), time.Unix(0, 0))
		for _, e := range []*Error{failure, refused} {
			if e == nil {
				continue
			}
			if e.Reason == "" || e.Message == "" || e.RetryAfter < 0 || e.RetryAfter > time.Hour {
				t.Errorf("got %+v", e)
			}
			if len(body) > 80 && strings.Contains(e.Message+e.Hint+e.Code+e.Suberror, body) {
				t.Errorf("the error shows the body: %+v", e)
			}
		}
	})
}

// Whatever the token holds: no panic, and no kind is told of what cannot be read.
func FuzzClaims(f *testing.F) {
	for _, seed := range []string{"a.b.c", "e30.e30.x", "e30.eyJzY3AiOiJhIn0.x", "", "...", "e30.bnVsbA.x"} {
		f.Add(seed)
	}
	want := func(kind Kind) expectation {
		return expectation{kind: kind, tenant: "5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10", client: "a1d4c0de-0000-4000-8000-00000000a9e7", scopes: []string{"https://graph.microsoft.com/.default"}}
	}
	f.Fuzz(func(t *testing.T, token string) {
		c, failure := readClaims(token)
		if failure != nil {
			return
		}
		if c.check(want(AppOnly)) == nil && c.check(want(Delegated)) == nil {
			t.Errorf("%q is of both kinds", token)
		}
	})
}
