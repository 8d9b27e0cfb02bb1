package localapi_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Slashes are forgiven, and nothing else of a path; nobody is redirected.
func TestPaths(t *testing.T) {
	d := open(t, thisUser)
	for path, status := range map[string]int{
		"/oauth2/token": 200, "/oauth2/token/": 200, "//oauth2/token": 200, "/oauth2//token//": 200, "///oauth2///token": 200,
		"/OAuth2/token": 404, "/oauth2/token/x": 404, "/oauth2/./token": 404, "/oauth2/../oauth2/token": 404, "/oauth2/%74oken": 404, "/oauth2%2Ftoken": 404,
		"/%6Fauth2/token": 404, "/oauth2/token%2F": 404, "/oauth2/token%20": 404, "/oauth2\\token": 404, "/": 404, "//": 404, "/oauth2": 404, "/msi/token/x": 404,
	} {
		got := d.send(t, http.MethodPost, path, good)
		if got.StatusCode != status || got.Header.Get("Location") != "" {
			t.Errorf("%s: got %d %s, want %d", path, got.StatusCode, got.body, status)
		}
	}
	query := "?api-version=2018-02-01&resource=" + resource
	for path, status := range map[string]int{
		"/metadata/identity/oauth2/token": 200, "/metadata/identity/oauth2/token/": 200, "//metadata/identity/oauth2/token": 200, "/Metadata/identity/oauth2/token": 200,
		"/metadata/Identity/oauth2/token": 404, "/metadata/identity/oauth2/tokens": 404, "/metadata/identity": 404, "/metadata/instance": 404, "/metadata": 404,
	} {
		if got := d.send(t, http.MethodGet, path+query, "", asIMDS...); got.StatusCode != status {
			t.Errorf("%s: got %d %s, want %d", path, got.StatusCode, got.body, status)
		}
	}
	for _, path := range []string{"/.well-known/oauth-authorization-server/", "//.well-known//oauth-authorization-server"} {
		if got := d.send(t, http.MethodGet, path, ""); got.StatusCode != 200 {
			t.Errorf("%s: got %d %s", path, got.StatusCode, got.body)
		}
	}
}

func TestMethods(t *testing.T) {
	d := open(t, thisUser)
	for path, allowed := range map[string]string{
		"/oauth2/token": "POST", "/.well-known/oauth-authorization-server": "GET, HEAD", appService: "GET", imds: "GET",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"} {
			got := d.send(t, method, path, "", append(asIMDS, asAppService...)...)
			refused := got.StatusCode == http.StatusMethodNotAllowed
			if refused == strings.Contains(allowed, method) || refused != (got.Header.Get("Allow") == allowed) {
				t.Errorf("%s %s: got %d, Allow %q; allowed is %s", method, path, got.StatusCode, got.Header.Get("Allow"), allowed)
			}
		}
	}
}

func TestRepeatedCredentials(t *testing.T) {
	d := open(t, keyHolder)
	for _, name := range []string{"Authorization", "X-Identity-Header"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.url+"/oauth2/token", strings.NewReader(good))
		check(t, err)
		req.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, name: {"Bearer " + keyText, "Bearer " + keyText}}
		resp, err := http.DefaultTransport.RoundTrip(req)
		check(t, err)
		check(t, resp.Body.Close())
		if resp.StatusCode != 400 {
			t.Errorf("two headers %s: got %d, want 400", name, resp.StatusCode)
		}
	}
}

// A user's token, or a key, that a confused agent sends in the wrong place is
// neither recorded nor sent back.
func TestSecretsInWrongPlaces(t *testing.T) {
	for name, agents := range map[string]func(string) string{"by uid": forUsers(""), "by key": keyHolder} {
		d := open(t, agents)
		for _, secret := range []string{d.user(t), keyText + "-of-another"} {
			var bodies []string
			for _, field := range []string{"grant_type", "scope", "resource", "audience", "client_id", "client_secret", "identity", "claims", "subject_token", "subject_token_type",
				"requested_token_type", "actor_token", "assertion", "requested_token_use", "unheard_of"} {
				for _, body := range []string{good, exchanged("x.y.z"), asserted("x.y.z")} {
					values, err := url.ParseQuery(body)
					check(t, err)
					values.Set(field, secret)
					bodies = append(bodies, values.Encode())
				}
			}
			d.audited()
			var answers strings.Builder
			for _, body := range bodies {
				answers.WriteString(d.send(t, http.MethodPost, "/oauth2/token", body).wire())
			}
			basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(secret+":"+secret))
			for _, headers := range [][]string{{"Authorization", "Bearer " + secret}, {"Authorization", basic}, {"X-Identity-Header", secret}, {"traceparent", secret}, {"Authorization", secret}} {
				answers.WriteString(d.send(t, http.MethodPost, "/oauth2/token", good, headers...).wire())
				answers.WriteString(d.send(t, http.MethodGet, appService, "", append(asAppService, headers...)...).wire())
			}
			for _, field := range []string{"api-version", "resource", "client_id", "object_id", "mi_res_id", "identity", "claims"} {
				values := url.Values{"api-version": {"2019-08-01"}, "resource": {resource}}
				values.Set(field, secret)
				answers.WriteString(d.send(t, http.MethodGet, "/msi/token?"+values.Encode(), "", asAppService...).wire())
			}
			audited := d.audited()
			// Half of a secret is a secret too.
			for _, text := range []string{secret, secret[:len(secret)/2], secret[len(secret)/2:]} {
				for where, all := range map[string]string{"an answer": answers.String(), "the audit log": audited} {
					if at := strings.Index(all, text); at >= 0 {
						t.Errorf("%s: %s holds the secret: ...%.300s", name, where, all[max(0, at-100):])
					}
				}
			}
			if want := len(bodies); strings.Count(audited, "\n") < want {
				t.Errorf("%s: %d requests are recorded, want at least %d", name, strings.Count(audited, "\n"), want)
			}
		}
	}
}

// wire is all of an answer.
func (got answer) wire() string { return fmt.Sprint(got.StatusCode, got.Header, got.body) }
