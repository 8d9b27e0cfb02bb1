package localapi

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"reflect"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/policy"
)

// asServersSee is what servers may make of a path: decoded some times over, with
// slashes of all kinds, and without parameters.
func asServersSee(escaped string) []string {
	var all []string
	text := escaped
	for range 4 {
		decoded, err := url.PathUnescape(text)
		if err != nil {
			break
		}
		text = decoded
		var segments []string
		for segment := range strings.SplitSeq(strings.ReplaceAll(text, `\`, "/"), "/") {
			segment, _, _ = strings.Cut(segment, ";")
			segments = append(segments, strings.TrimRight(segment, " "))
		}
		all = append(all, path.Clean("/"+text), path.Clean("/"+strings.Join(segments, "/")))
	}
	return all
}

// Whatever the path: the call goes to the configured host, below the base URL;
// and what the policy is asked about is where it goes, however a server reads it.
func FuzzCallPath(f *testing.F) {
	for _, seed := range []string{"/call/x/a/b", "/call/x", "//call//x//b//", "/call/x/..", "/call/x/b/%2e%2e/%2e%2e/c", "/call/x/b/..%2f..%2fc", `/call/x/b/..\..\c`, "/call/x/b/%252e%252e%252fc",
		"/call/x/b/..;a/c", "/call/x@evil.example/a", "/call/x/@evil.example", "/call/x/%40evil", "/call/x/:80/a", "/call/x//evil.example/a", "/call/x/b/%00", "/call/x/b/%c0%ae", "/call/x/?a=b", "/call/x/b/a%2", "/call/x/b/é", "/call/x/b/.. /c"} {
		f.Add(seed, "?q=1")
		f.Add(seed, "")
	}
	f.Fuzz(func(t *testing.T, raw, query string) {
		asked, err := url.ParseRequestURI(raw + query)
		if err != nil {
			return
		}
		name, rest, ok := callTarget(asked)
		if !ok {
			return
		}
		if name == "" || strings.Contains(name, "/") || rest != "" && rest[0] != '/' {
			t.Fatalf("%q: got the API %q and %q below", raw, name, rest)
		}
		escaped, plain, problem := cleanPath(rest)
		if problem != nil {
			if problem.status != http.StatusBadRequest || problem.message == "" || problem.hint == "" || escaped+plain != "" {
				t.Errorf("%q: got %q, %q and %+v", raw, escaped, plain, problem)
			}
			return
		}
		if again, same, problem := cleanPath(escaped); again != escaped || same != plain || problem != nil {
			t.Errorf("%q: %q becomes %q, and %q becomes %q", raw, escaped, again, plain, same)
		}
		if plain[0] != '/' || strings.Contains(plain, "//") || escaped != "" && escaped[0] != '/' {
			t.Errorf("%q: got %q and %q", raw, escaped, plain)
		}
		for _, base := range []string{"https://api.example.com", "https://api.example.com:8443/v1.0", "http://127.0.0.1:8080/a/b"} {
			checkTarget(t, base, escaped, plain, asked)
		}
	})
}

func checkTarget(t *testing.T, base, escaped, plain string, asked *url.URL) {
	t.Helper()
	target, problem := targetOf(policy.API{Name: "x", BaseURL: base}, escaped, asked)
	if problem != nil {
		return
	}
	root, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	bare := *target
	bare.RawQuery, bare.ForceQuery = "", false
	if text := bare.String(); text != base && !strings.HasPrefix(text, base+"/") || target.Host != root.Host || target.Scheme != root.Scheme || target.User != nil || target.Fragment != "" {
		t.Errorf("%q: the call goes to %q", escaped, text)
	}
	if target.RawQuery != asked.RawQuery {
		t.Errorf("%q: the query is %q, want %q", escaped, target.RawQuery, asked.RawQuery)
	}
	wire, err := url.ParseRequestURI(target.RequestURI())
	if err != nil || wire.EscapedPath() != root.Path+escaped && root.Path+escaped != "" {
		t.Errorf("%q: %v and %q on the wire", escaped, err, wire.EscapedPath())
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(plain, "/"), "/")
	for _, seen := range asServersSee(root.Path + escaped) {
		below, ok := strings.CutPrefix(seen+"/", root.Path+"/")
		if !ok || strings.HasPrefix(plain, "/"+first+"/") && isWord(first) && !strings.HasPrefix(below, first+"/") {
			t.Errorf("%q, decided on as %q: a server may see %q", escaped, plain, seen)
		}
	}
}

// isWord reports whether a segment could stand in a policy.
func isWord(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") == ""
}

// Whatever Location an API sends: it stays as it is, or leads to this API's door.
func FuzzLocation(f *testing.F) {
	for _, seed := range []string{"", "/", "a", "../../..", "https://api.example.com/v1/a?b#c", "https://api.example.com/v1", "//evil.example/v1", "https://api.example.com@evil.example/v1/x", "https://api.example.com/v1/../x", "?q", "#f", "/v1/%2e%2e/x"} {
		f.Add(seed)
	}
	api := policy.API{Name: "x", BaseURL: "https://api.example.com/v1"}
	target := &url.URL{Scheme: "https", Host: "api.example.com", Path: "/v1/a/b"}
	f.Fuzz(func(t *testing.T, location string) {
		got := localOf(api, target, "localhost:7400", location)
		if got == location {
			return
		}
		below, ok := strings.CutPrefix(got, "http://localhost:7400/call/x")
		u, err := url.Parse(got)
		if !ok || below != "" && !strings.Contains("/?#", below[:1]) || err != nil || u.Host != "localhost:7400" {
			t.Errorf("%q becomes %q (%v)", location, got, err)
		}
	})
}

// Whatever an API challenges with: no panic, and claims are a JSON object that
// is not empty; and what is quoted is read as it was.
func FuzzChallenge(f *testing.F) {
	for _, seed := range []string{`Bearer realm="", error="insufficient_claims", claims="e30="`, `Bearer`, `a=b`, `Bearer a="\"", b=c, PoP x=y`, `Bearer a="`, `Basic YTpi==, Bearer error=insufficient_claims,claims=eyJhIjoxfQ`, ",,,", "=", `Bearer a = "b"`} {
		f.Add(seed, "x")
	}
	f.Fuzz(func(t *testing.T, header, value string) {
		if claims := challengeIn([]string{header}); claims != "" {
			var object map[string]json.RawMessage
			if json.Unmarshal([]byte(claims), &object) != nil || len(object) == 0 || len(claims) > maxClaimsBytes {
				t.Errorf("%q: got the claims %q", header, claims)
			}
		}
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
		claims := `{"a":1}`
		good := `PoP nonce=` + quoted + `, Bearer realm=` + quoted + `, error="insufficient_claims", claims="` + base64.StdEncoding.EncodeToString([]byte(claims)) + `"`
		if got := challengeIn([]string{header, good}); got == "" || challengeIn([]string{header}) == "" && got != claims {
			t.Errorf("%q: got %q", good, got)
		}
		parsed := parseChallenges(good)
		if len(parsed) != 2 || parsed[0].parameters["nonce"] != value || parsed[1].parameters["realm"] != value {
			t.Errorf("%q: got %v", good, parsed)
		}
	})
}

// A proxy is for what is not on this machine, whatever the environment says.
func TestAPITransportKeepsLoopbackDirect(t *testing.T) {
	everywhere := func(*http.Request) (*url.URL, error) { return url.Parse("http://proxy.example:3128") }
	for host, want := range map[string]bool{"api.example.com": true, "localhost": false, "127.0.0.1:80": false, "[::1]:80": false, "127.8.8.8": false, "[::ffff:127.0.0.1]": false, "localhost.example.com": true} {
		req := &http.Request{URL: &url.URL{Scheme: "https", Host: host}}
		if proxy, err := APITransport(nil, everywhere).Proxy(req); err != nil || (proxy != nil) != want {
			t.Errorf("%s: got the proxy %v and %v", host, proxy, err)
		}
		if proxy, err := APITransport(nil, nil).Proxy(req); err != nil || proxy != nil {
			t.Errorf("%s: got the proxy %v and %v, and there is none", host, proxy, err)
		}
	}
}

// Whatever the body: what is not a link stays byte for byte, and JSON stays JSON.
func FuzzRewriteLinks(f *testing.F) {
	for _, seed := range []string{`{"@odata.nextLink":"https://a/b"}`, `[{"nextLink" : "https://a/b?x&y"},{"nextLink":["https://a/b"]}]`, `{"nextLink":"https://a/b"`, `{"a":{"x@odata.deltaLink":"http://a\u002fb"}} {}`, `"nextLink"`, `{"nextLink":"https://a/b"}]`, ``} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if same, changed := rewriteLinks(text, func(link string) string { return link }); changed || string(same) != string(text) {
			t.Errorf("%q: got %q though no link changes", text, same)
		}
		var links []string
		to := func(link string) string { links = append(links, link); return link + "/\"<&" }
		got, changed := rewriteLinks(text, to)
		if !changed {
			if string(got) != string(text) {
				t.Errorf("%q: got %q, and no change", text, got)
			}
			return
		}
		if len(links) == 0 || json.Valid(text) != json.Valid(got) {
			t.Fatalf("%q: got %q after %d links", text, got, len(links))
		}
		// Undone, it is what it was: as values, since the spelling of links may differ.
		back, _ := rewriteLinks(got, func(link string) string { return strings.TrimSuffix(link, "/\"<&") })
		var want, have any
		if json.Valid(text) && (json.Unmarshal(text, &want) != nil || json.Unmarshal(back, &have) != nil || !reflect.DeepEqual(want, have)) {
			t.Errorf("%q: got %q, and undone %q", text, got, back)
		}
	})
}

// Links and locations are spelled as the agent has found the door.
func TestCallHere(t *testing.T) {
	for asked, want := range map[string]string{"/call/x/a?b=/call": "localhost", "/KEY/call/x/a": "localhost/KEY", "http://localhost/call/x/a": "localhost", "//evil.example/call/x/a": "localhost", "": "localhost"} {
		c := &call{in: &http.Request{Host: "localhost", RequestURI: asked, URL: &url.URL{Path: "/call/x/a"}}}
		if got := c.here(); got != want {
			t.Errorf("%q: got %q, want %q", asked, got, want)
		}
	}
}
