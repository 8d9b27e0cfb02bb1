package localapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/exchange/entratest"
)

// A method that the document does not have is refused, and Allow names those that
// it has.
func TestOpenAPIMethods(t *testing.T) {
	d, admin := open(t, everything), operators(t, true)
	described := readDescription(t, localapi.OpenAPI())
	allowed := map[string][]string{}
	for _, o := range described.operations() {
		allowed[o.path] = append(allowed[o.path], o.method)
	}
	concrete := strings.NewReplacer("{tenant}", entratest.DemoTenantID, "{apiName}", "graph", "{api}", "graph", "{path}", "x")
	for path, has := range allowed {
		slices.Sort(has)
		item := described.root["paths"].(map[string]any)[path].(map[string]any)
		bases := []string{d.url}
		if item["servers"] != nil {
			bases = []string{admin}
		}
		if path == "/healthz" {
			bases = []string{d.url, admin}
		}
		for _, method := range methods {
			if slices.Contains(has, method) {
				continue
			}
			for _, base := range bases {
				req, err := http.NewRequestWithContext(t.Context(), method, base+concrete.Replace(path), nil)
				check(t, err)
				got := do(t, req)
				if got.StatusCode != http.StatusMethodNotAllowed || got.Header.Get("Allow") != strings.Join(has, ", ") {
					t.Errorf("%s %s: got %d, Allow %q, want 405 and %q", method, path, got.StatusCode, got.Header.Get("Allow"), strings.Join(has, ", "))
				}
			}
		}
	}
}

// A parameter that the document has, with a value that makes no sense, changes
// the answer; but for those that it says are ignored.
func TestOpenAPIParametersAreRead(t *testing.T) {
	d, _ := openCalls(t, everything, answering(200, "the API's"))
	described := readDescription(t, localapi.OpenAPI())
	user := d.user(t)
	for id, well := range map[string]struct {
		target  string
		bodies  []string
		headers []string
	}{
		"token":                              {"/oauth2/token", []string{good, exchanged(user), asserted(user)}, nil},
		"introspect":                         {"/oauth2/introspect", []string{form("token", user)}, nil},
		"appServiceToken":                    {msi, []string{""}, asAppService},
		"imdsToken":                          {imdsQuery, []string{""}, asIMDS},
		"AuthorizationHeader":                {header + "users", []string{""}, []string{"Authorization", "Bearer " + user}},
		"AuthorizationHeaderUnauthenticated": {ownHeader + "graph", []string{""}, nil},
		"callGet":                            {"/call/tools/x", []string{""}, nil},
	} {
		o := described.operation(t, id)
		for _, p := range described.parameters(o) {
			// Paths are read, or there would be no answer; and where the kernel vouches for
			// the caller, a needless key is taken.
			if p.in == "path" || p.name == "client_secret" || strings.Contains(p.text, "ignored") {
				continue
			}
			changed := false
			for _, body := range well.bodies {
				target, headers, other := well.target, slices.Clone(well.headers), body
				switch p.in {
				case "query":
					target = replaced(t, target, p.name)
				case "header":
					headers = append(headers, p.name, "no such thing")
				case "form":
					_, other, _ = strings.Cut(replaced(t, "?"+body, p.name), "?")
				}
				changed = changed || d.outcome(t, o.method, well.target, body, well.headers) != d.outcome(t, o.method, target, other, headers)
			}
			if !changed {
				t.Errorf("%s: %s changes nothing", id, p.name)
			}
		}
	}
}

// replaced is a path with a parameter of its query set to what makes no sense.
func replaced(t *testing.T, target, name string) string {
	t.Helper()
	path, query, _ := strings.Cut(target, "?")
	values, err := url.ParseQuery(query)
	check(t, err)
	values.Set(name, "no such thing")
	return path + "?" + values.Encode()
}

// outcome is what became of a request, without what is different each time.
func (d *door) outcome(t *testing.T, method, target, body string, headers []string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.url+target, strings.NewReader(body))
	check(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	got := do(t, req)
	text, err := io.ReadAll(got.Body)
	check(t, err)
	var refused struct{ Active bool }
	// What is no JSON object is the API's.
	_ = json.Unmarshal(text, &refused)
	return fmt.Sprint(got.StatusCode, refused.Active)
}
