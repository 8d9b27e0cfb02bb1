package localapi

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// Whatever stands in the body: no panic; and what is read is what net/url
// reads, without parameters that are given twice.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{"", "grant_type=client_credentials&scope=https%3A%2F%2Fa%2F.default", "a=1&a=2", "a=%zz", "=x&&b", "a+b=c+d", "scope=a;b", strings.Repeat("a=b&", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest(http.MethodPost, "/oauth2/token", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		got, problem := readForm(r)
		if problem != nil {
			if problem.status < 400 || problem.message == "" || problem.hint == "" {
				t.Errorf("got problem %+v", problem)
			}
			return
		}
		want, err := url.ParseQuery(body)
		if strings.Contains(body, ";") {
			return // net/url refuses what browsers once wrote; a form may hold it
		}
		if err != nil || len(got) != len(want) {
			t.Fatalf("got %d parameters, want %d (%v)", len(got), len(want), err)
		}
		for _, p := range got {
			if values := want[p.name]; len(values) != 1 || values[0] != p.value {
				t.Errorf("got %q=%q, want %q", p.name, p.value, values)
			}
		}
	})
}

// Whatever the client authenticates with: no panic, and either credentials or
// a problem, never both.
func FuzzCredentials(f *testing.F) {
	for _, seed := range [][3]string{{"Basic ZGVtbzpr", "", ""}, {"Bearer k", "", ""}, {"", "k", ""}, {"basic", "", "demo"}, {"Negotiate x", "k", "demo"}, {"Basic !!!", "", ""}} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, authorization, identityHeader, clientID string) {
		r := httptest.NewRequest(http.MethodPost, "/oauth2/token", nil)
		for name, value := range map[string]string{"Authorization": authorization, "X-Identity-Header": identityHeader} {
			if value != "" {
				r.Header[name] = []string{value}
			}
		}
		agent, key, problem := credentials(r, form{{"client_id", clientID}})
		if problem != nil && (agent != "" || key != "") {
			t.Errorf("got agent %q and a key of %d bytes beside a problem", agent, len(key))
		}
	})
}
