package localapi_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// Links to further pages lead through the door where the policy says so, and
// nothing else of an answer changes.
func TestCallLinks(t *testing.T) {
	body := ""
	d, a := openCalls(t, caller, func(*door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json; odata.metadata=minimal")
			_, _ = io.WriteString(w, body) // the agent may be gone
		})
	})
	const api = "https://tools.example.com/base/v1"
	here := d.url + "/call/linked"
	for given, want := range map[string]string{
		`{"@odata.nextLink":"` + api + `/users?$top=1&$skiptoken=a%2Fb"}`:                   `{"@odata.nextLink":"` + here + `/users?$top=1&$skiptoken=a%2Fb"}`,
		" {\n\t\"value\" : [ 1.50, \"\\u00e9<&>\" ] , \"nextLink\" :\n \"" + api + "/b\" }": " {\n\t\"value\" : [ 1.50, \"\\u00e9<&>\" ] , \"nextLink\" :\n \"" + here + "/b\" }",
		`{"@odata.deltaLink":"` + api + `/d","@nextLink":"` + api + `/e"}`:                  `{"@odata.deltaLink":"` + here + `/d","@nextLink":"` + here + `/e"}`,
		`[{"a":{"members@odata.nextLink":"https:\/\/tools.example.com\/base\/v1\/m"}}]`:     `[{"a":{"members@odata.nextLink":"` + here + `/m"}}]`,
		`{"value":[{"x":1}],"@odata.nextLink":"` + api + `","n":1e400}`:                     `{"value":[{"x":1}],"@odata.nextLink":"` + here + `","n":1e400}`,
		// What is not a link of the API's stays.
		`{"@odata.context":"` + api + `/$metadata","webUrl":"` + api + `/x"}`:                 "",
		`{"value":["nextLink","` + api + `/x",{"y":"nextLink","z":"` + api + `/x"}]}`:         "",
		`{"nextLink":["` + api + `/x",{"a":"` + api + `/x"}]}`:                                "",
		`{"nextLink":{"a":"b"},"c":"` + api + `/x"}`:                                          "",
		`{"nextLink":null,"@odata.nextLink":"/base/v1/x"}`:                                    "",
		`{"nextLink":"https://tools.example.com/base/v2/x"}`:                                  "",
		`{"nextLink":"https://tools.example.com.evil.example/base/v1/x"}`:                     "",
		`{"nextLink":"https://elsewhere.example/base/v1/x","@odata.deltaLink":"http://[::1"}`: "",
		`{"@odata.nextLink":"` + api + `/x"`:                                                  "",
		`{"@odata.nextLink":"` + api + `/x",}`:                                                "",
		`{"@odata.nextLink":"` + api + "/x\x00\"}":                                            "",
		"": "",
		`{"@odata.nextLink":"` + api + `/x","a":"` + strings.Repeat("a", 100_000) + `"} trash`: "",
	} {
		if want == "" {
			want = given
		}
		body = given
		got := d.call(t, http.MethodGet, "linked/users", "", "Accept-Encoding", "gzip, br")
		if got.body != want || got.ContentLength != int64(len(want)) || got.StatusCode != 200 {
			t.Errorf("got %d %q of length %d, want %q", got.StatusCode, got.body, got.ContentLength, want)
		}
		if encoding := a.request().Header.Get("Accept-Encoding"); encoding != "identity" {
			t.Errorf("the API was asked for %q", encoding)
		}
		if got := d.call(t, http.MethodGet, "ruled/a", "", "Accept-Encoding", "gzip, br"); got.body != given || a.request().Header.Get("Accept-Encoding") != "gzip, br" {
			t.Errorf("where the policy says nothing: got %q for %q", got.body, given)
		}
	}
}

// A link that is followed calls the API again.
func TestCallFollowsLinks(t *testing.T) {
	d, a := openCalls(t, caller, func(*door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			page, _ := strconv.Atoi(r.URL.Query().Get("$skiptoken")) // 0 for the first
			if page == 2 {
				_, _ = io.WriteString(w, `{"value":[2]}`)
				return
			}
			_, _ = fmt.Fprintf(w, `{"value":[%d],"@odata.nextLink":"https://tools.example.com/base/v1/users?$skiptoken=%d"}`, page, page+1)
		})
	})
	next, pages := "linked/users", 0
	for next != "" {
		got := d.call(t, http.MethodGet, next, "")
		pages++
		_, link, _ := strings.Cut(got.body, d.url+"/call/")
		next = strings.TrimSuffix(link, `"}`)
	}
	if pages != 3 || a.calls.Load() != 3 || a.request().URL.RequestURI() != "/base/v1/users?$skiptoken=2" {
		t.Errorf("got %d pages in %d calls, the last of %s", pages, a.calls.Load(), a.request().URL.RequestURI())
	}
}

// What cannot be read as a whole, or not at all, passes as it is.
func TestCallLinksLeaveAlone(t *testing.T) {
	const text = `{"@odata.nextLink":"https://tools.example.com/base/v1/x"}`
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, err := io.WriteString(zip, text)
	check(t, err)
	check(t, zip.Close())
	large := text[:len(text)-1] + `,"a":"` + strings.Repeat("a", 8<<20) + `"}`
	for name, c := range map[string]struct {
		status  int
		body    string
		headers []string
	}{
		"no JSON":             {200, text, []string{"Content-Type", "text/plain"}},
		"no type":             {200, text, []string{"Content-Type", ""}},
		"events":              {200, "data: " + text + "\n\n", []string{"Content-Type", "text/event-stream"}},
		"JSON lines":          {200, text + "\n" + text, []string{"Content-Type", "application/x-ndjson"}},
		"packed":              {200, packed.String(), []string{"Content-Type", "application/json", "Content-Encoding", "gzip"}},
		"an error":            {404, text, []string{"Content-Type", "application/json"}},
		"too large":           {200, large, []string{"Content-Type", "application/json"}},
		"too large and sized": {200, large, []string{"Content-Type", "application/json", "Content-Length", strconv.Itoa(len(large))}},
		"trailers":            {200, text, []string{"Content-Type", "application/json", "Trailer", "X-Sum"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := openCalls(t, caller, answering(c.status, c.body, c.headers...))
			got := d.call(t, http.MethodGet, "linked/x", "")
			if got.StatusCode != c.status || got.body != c.body {
				t.Errorf("got %d and %d bytes, want %d and %d as they were", got.StatusCode, len(got.body), c.status, len(c.body))
			}
		})
	}
	d, _ := openCalls(t, caller, answering(200, text, "Content-Type", "application/json", "Content-Length", strconv.Itoa(len(text))))
	if got := d.call(t, http.MethodHead, "linked/x", ""); got.StatusCode != 200 || got.Header.Get("Content-Length") != strconv.Itoa(len(text)) {
		t.Errorf("HEAD: got %s", got.wire())
	}
}

// What says something of the bytes says nothing wrong.
func TestCallLinksHeaders(t *testing.T) {
	const text, plain = `{"nextLink":"https://tools.example.com/base/v1/x"}`, `{"value":[]}`
	for body, want := range map[string]string{text: "W/\"1\" ", plain: "\"1\" x"} {
		d, _ := openCalls(t, caller, answering(200, body, "Content-Type", "application/problem+json", "Etag", `"1"`, "Content-Md5", "x", "Content-Digest", "x", "Last-Modified", "y"))
		got := d.call(t, http.MethodGet, "linked/x", "")
		if headers := got.Header.Get("Etag") + " " + got.Header.Get("Content-Md5"); headers != want || got.Header.Get("Content-Digest") != got.Header.Get("Content-Md5") || got.Header.Get("Last-Modified") != "y" {
			t.Errorf("%s: got %s, want %q", body, got.wire(), want)
		}
	}
	d, _ := openCalls(t, caller, answering(200, text, "Content-Type", "application/json", "Etag", `W/"1"`))
	if got := d.call(t, http.MethodGet, "linked/x", "", "If-None-Match", `W/"1"`); got.Header.Get("Etag") != `W/"1"` {
		t.Errorf("got %s, want the weak tag as it was", got.wire())
	}
}

// A body that ends too early is no answer.
func TestCallLinksOfHalfAnAnswer(t *testing.T) {
	d, _ := openCalls(t, caller, func(*door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"value":[]}`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
	})
	if got := d.call(t, http.MethodGet, "linked/x", ""); got.StatusCode != 502 || refusalOf(t, got).Error.Reason != "api_unreachable" {
		t.Errorf("got %s, want 502", got.wire())
	}
}
