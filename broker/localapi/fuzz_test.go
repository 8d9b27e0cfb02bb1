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
		got, problem := readForm(r, nil)
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

// Whatever is asked for: no panic, and either a problem to show or a request
// that says whether it is for a user.
func FuzzTokenRequest(f *testing.F) {
	user := "&scope=https%3A%2F%2Fa%2F.default"
	for _, seed := range []string{"grant_type=client_credentials&resource=https://a/", "grant_type=client_credentials&audience=a&resource=a/&scope=a/b",
		"grant_type=" + url.QueryEscape(grantTokenExchange) + "&subject_token=x&subject_token_type=" + url.QueryEscape(typeJWT) + user,
		"grant_type=" + url.QueryEscape(grantJWTBearer) + "&assertion=x&requested_token_use=on_behalf_of" + user, "grant_type=password", "scope=+&resource=+",
		"grant_type=client_credentials&resource=a&resource=a/&audience=a&client_id=" + appID} {
		f.Add(seed)
	}
	p := selectable()
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest(http.MethodPost, "/oauth2/token", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		got, problem := readTokenRequest(r, p)
		if problem != nil {
			if problem.status < 400 || problem.message == "" || problem.hint == "" {
				t.Errorf("got problem %+v", problem)
			}
			return
		}
		if !got.Raw || got.Grant == "" || got.OnBehalfOf != (got.UserToken.Len() > 0) || got.OnBehalfOf == (got.Grant == grantClientCredentials) {
			t.Errorf("got %+v", got)
		}
		if (got.issuedType != "") != (got.Grant == grantTokenExchange) {
			t.Errorf("grant %s is answered with issued type %q", got.Grant, got.issuedType)
		}
		if got.byTarget && (len(strings.Fields(got.Scope)) != 1 || !strings.HasSuffix(got.Scope, "/.default")) {
			t.Errorf("a resource became the scopes %q", got.Scope)
		}
	})
}

// Whatever a client of managed identities asks for: no panic, and either a
// problem with a status that it does not retry, or one scope of what it named.
func FuzzIdentityRequest(f *testing.F) {
	for _, seed := range []string{"api-version=2019-08-01&resource=https://a", "api-version=2017-09-01&resource=a&clientid=x", "resource=a+b&api-version=2018-02-01",
		"api-version=2018-02-01&resource=https%3A%2F%2Fa%2F&client_id=" + appID, "api-version=2019-08-01&resource=x&mi_res_id=a&object_id=b", "%zz", "&&=&"} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	p := selectable()
	f.Fuzz(func(t *testing.T, query string, imds bool) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.RawQuery = query
		r.Header.Set("X-Identity-Header", noKey)
		r.Header.Set("Metadata", "true")
		got, problem := readIdentityRequest(r, p, imds, true)
		if problem != nil {
			if problem.status < 400 || problem.status == 404 || problem.status == 408 || problem.status == 410 || problem.status > 428 || problem.message == "" || problem.hint == "" {
				t.Errorf("got problem %+v", problem)
			}
			return
		}
		if !got.Raw || got.OnBehalfOf || got.Key != "" || len(strings.Fields(got.Scope)) != 1 || got.Scope != strings.TrimSuffix(got.resource, "/")+"/.default" {
			t.Errorf("got %+v", got)
		}
	})
}

// Whatever the path: what comes out is not changed again, and differs from what
// went in by slashes alone.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"/oauth2/token", "//a//b/", "/", "", "///", "/a/../b", "a//b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got := plainPath(path)
		if strings.Contains(got, "//") || plainPath(got) != got || strings.HasSuffix(got, "/") {
			t.Errorf("got %q of %q", got, path)
		}
		if strings.ReplaceAll(got, "/", "") != strings.ReplaceAll(path, "/", "") {
			t.Errorf("got %q of %q", got, path)
		}
	})
}
