package localapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// raw writes bytes on a connection of its own, and reads as many answers as there
// are methods.
func (d *door) raw(t testing.TB, text string, methods ...string) (answers []answer) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(d.url, "http://"))
	check(t, err)
	defer func() { check(t, conn.Close()) }()
	check(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, text)
	check(t, err)
	reader := bufio.NewReader(conn)
	for _, method := range methods {
		resp, err := http.ReadResponse(reader, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%.60q: answer %d: %v", text, len(answers)+1, err)
		}
		body, err := io.ReadAll(resp.Body)
		check(t, err)
		check(t, resp.Body.Close())
		answers = append(answers, answer{Response: resp, body: string(body)})
	}
	return answers
}

// ask is a request for a token, with lines of header in place of those that it
// needs.
func ask(line string, body string, headers ...string) string {
	return line + "\r\n" + strings.Join(append(headers, "", ""), "\r\n") + body
}

// What no client library sends. Whatever it is, the answer is one that HTTP has
// for it, nobody is redirected, and there is no token but for what was meant as a
// request for one.
func TestRawRequests(t *testing.T) {
	const (
		line     = "POST /oauth2/token HTTP/1.1"
		host     = "Host: 127.0.0.1"
		formType = "Content-Type: application/x-www-form-urlencoded"
	)
	length := fmt.Sprintf("Content-Length: %d", len(good))
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(good), good)
	d := open(t, thisUser)
	for name, test := range map[string]struct {
		text   string
		status int
	}{
		"as clients do":               {ask(line, good, host, formType, length), 200},
		"HTTP/1.0":                    {ask("POST /oauth2/token HTTP/1.0", good, host, formType, length), 200},
		"HTTP/1.0 without a host":     {ask("POST /oauth2/token HTTP/1.0", good, formType, length), 403},
		"no host":                     {ask(line, good, formType, length), 400},
		"two hosts":                   {ask(line, good, host, "Host: localhost", formType, length), 400},
		"an empty host":               {ask(line, good, "Host:", formType, length), 403},
		"HTTP/2":                      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 403},
		"HTTP/3.0":                    {ask("POST /oauth2/token HTTP/3.0", good, host, formType, length), 505},
		"an upgrade to HTTP/2":        {ask(line, good, host, formType, length, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"), 200},
		"absolute form":               {ask("POST http://127.0.0.1/oauth2/token HTTP/1.1", good, host, formType, length), 403},
		"absolute form elsewhere":     {ask("POST http://evil.example/oauth2/token HTTP/1.1", good, host, formType, length), 403},
		"authority form":              {ask("POST 127.0.0.1:80 HTTP/1.1", good, host, formType, length), 400},
		"asterisk form":               {ask("OPTIONS * HTTP/1.1", "", host), 403},
		"CONNECT":                     {ask("CONNECT 127.0.0.1:80 HTTP/1.1", "", host), 403},
		"CONNECT with a path":         {ask("CONNECT /oauth2/token HTTP/1.1", "", host), 403},
		"TRACE":                       {ask("TRACE /oauth2/token HTTP/1.1", "", host, "Secret: x"), 405},
		"no method":                   {ask(" /oauth2/token HTTP/1.1", "", host), 400},
		"a method of its own":         {ask("G@T /oauth2/token HTTP/1.1", "", host), 400},
		"a method in small letters":   {ask("post /oauth2/token HTTP/1.1", good, host, formType, length), 405},
		"chunked":                     {ask(line, chunked, host, formType, "Transfer-Encoding: chunked"), 200},
		"chunked with a length":       {ask(line, chunked, host, formType, "Transfer-Encoding: chunked", "Content-Length: 3"), 200},
		"chunked and compressed":      {ask(line, chunked, host, formType, "Transfer-Encoding: gzip, chunked"), 501},
		"chunked twice":               {ask(line, chunked, host, formType, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 501},
		"a broken chunk":              {ask(line, "zz\r\n", host, formType, "Transfer-Encoding: chunked"), 400},
		"two lengths":                 {ask(line, good, host, formType, length, "Content-Length: 3"), 400},
		"a length that is none":       {ask(line, good, host, formType, "Content-Length: +5"), 400},
		"an endless body":             {ask(line, strings.Repeat("10000\r\n"+strings.Repeat("a", 65536)+"\r\n", 2), host, formType, "Transfer-Encoding: chunked") + "0\r\n\r\n", 413},
		"a body that is expected":     {ask(line, good, host, formType, length, "Expect: 100-continue"), 100},
		"what nobody expects":         {ask(line, good, host, formType, length, "Expect: the-unexpected"), 417},
		"a null byte in the path":     {ask("POST /oauth2/token\x00 HTTP/1.1", good, host, formType, length), 400},
		"an encoded one":              {ask("POST /oauth2/token%00 HTTP/1.1", good, host, formType, length), 404},
		"a null byte in a header":     {ask(line, good, host, formType, length, "Authorization: Bearer a\x00b"), 400},
		"a null byte in the body":     {ask(line, strings.Replace(good, "scope", "sc\x00pe", 1), host, formType, fmt.Sprintf("Content-Length: %d", len(good))), 400},
		"a folded header":             {ask(line, good, host, formType, length, "X-A: b", " Origin: null"), 200},
		"a space before the colon":    {ask(line, good, host, formType, length, "Origin : null"), 400},
		"a header without a name":     {ask(line, good, host, formType, length, ": x"), 400},
		"an underscore for a hyphen":  {ask(line, good, host, formType, length, "X_IDENTITY_HEADER: x"), 200},
		"large headers":               {ask(line, good, host, formType, length, "X-A: "+strings.Repeat("a", 40<<10)), 431},
		"many headers":                {ask(line, good, host, formType, length, strings.TrimSuffix(strings.Repeat("A: b\r\n", 10<<10), "\r\n")), 431},
		"a long path":                 {ask("POST /"+strings.Repeat("a", 20<<10)+" HTTP/1.1", good, host, formType, length), 404},
		"a longer one":                {ask("POST /"+strings.Repeat("a", 60<<10)+" HTTP/1.1", good, host, formType, length), 431},
		"dots":                        {ask("POST /x/../oauth2/token HTTP/1.1", good, host, formType, length), 404},
		"a fragment":                  {ask("POST /oauth2/token#x HTTP/1.1", good, host, formType, length), 404},
		"an empty query":              {ask("POST /oauth2/token? HTTP/1.1", good, host, formType, length), 200},
		"a backslash":                 {ask(`POST \oauth2\token HTTP/1.1`, good, host, formType, length), 400},
		"no HTTP at all":              {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400},
		"type in another case":        {ask(line, good, host, "Content-Type: Application/X-WWW-Form-URLEncoded; charset=UTF-8", length), 200},
		"two types":                   {ask(line, good, host, formType, "Content-Type: application/json", length), 200},
		"a compressed body":           {ask(line, good, host, formType, "Content-Encoding: gzip", length), 415},
		"a parameter twice, encoded":  {ask(line, good+"&sc%6Fpe=x", host, formType, fmt.Sprintf("Content-Length: %d", len(good)+10)), 400},
		"a browser, in small letters": {ask(line, good, host, formType, length, "origin: null"), 403},
	} {
		t.Run(name, func(t *testing.T) {
			d.audited()
			got := d.raw(t, test.text, strings.Fields(test.text)[0])[0]
			if got.StatusCode != test.status || got.Header.Get("Location") != "" {
				t.Errorf("got %d %s, want %d", got.StatusCode, got.body, test.status)
			}
			if strings.Contains(got.body, "access_token") != (test.status == 200) || strings.Contains(got.body, "Secret: x") {
				t.Errorf("got %s", got.body)
			}
			if test.status == 100 { // the token comes in the next answer
				return
			}
			if allowed := strings.Contains(d.audited(), `"decision":"allow"`); allowed != (test.status == 200) {
				t.Errorf("recorded as allowed: %t", allowed)
			}
		})
	}
}

// Requests that do not wait for answers get them in order, one each; and what is
// hidden behind a body is a request like any other.
func TestPipelinedRequests(t *testing.T) {
	d := open(t, thisUser)
	headers := []string{"Host: 127.0.0.1", "Content-Type: application/x-www-form-urlencoded"}
	post := func(body string) string {
		return ask("POST /oauth2/token HTTP/1.1", body, append(headers, fmt.Sprintf("Content-Length: %d", len(body)))...)
	}
	hidden := ask("GET /msi/token?api-version=2019-08-01&resource="+resource+" HTTP/1.1", "", "Host: 127.0.0.1")
	got := d.raw(t, post(good)+post("grant_type=password")+ask("HEAD /oauth2/token HTTP/1.1", "", headers[0])+post(good)+
		ask("POST /oauth2/token HTTP/1.1", "0\r\n\r\n"+hidden, append(headers, "Transfer-Encoding: chunked", fmt.Sprintf("Content-Length: %d", 5+len(hidden)))...),
		"POST", "POST", "HEAD", "POST", "POST")
	for i, status := range []int{200, 400, 405, 200, 400} {
		if got[i].StatusCode != status {
			t.Errorf("answer %d: got %d %s, want %d", i+1, got[i].StatusCode, got[i].body, status)
		}
	}
	ids := map[string]bool{}
	for _, one := range got {
		ids[one.Header.Get("Credfree-Issuance-Id")] = true
	}
	if len(ids) != len(got) || strings.Count(d.audited(), `"decision":"allow"`) != 2 {
		t.Errorf("got issuances %v", ids)
	}
}

// A thousand callers at once, each on a connection of its own: everybody gets the
// token, and everybody is recorded.
func TestThousandCallers(t *testing.T) {
	d := open(t, thisUser)
	const callers = 1000
	var all sync.WaitGroup
	begin, refused := make(chan struct{}), make(chan string, callers)
	for range callers {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(d.url, "http://"))
		check(t, err)
		defer func() { check(t, conn.Close()) }()
		all.Go(func() {
			<-begin
			text := ask("POST /oauth2/token HTTP/1.1", good, "Host: 127.0.0.1", "Content-Type: application/x-www-form-urlencoded", fmt.Sprintf("Content-Length: %d", len(good)))
			if _, err := io.WriteString(conn, text); err != nil {
				refused <- err.Error()
				return
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				refused <- err.Error()
				return
			}
			if resp.StatusCode != http.StatusOK {
				refused <- resp.Status
			}
			if err := resp.Body.Close(); err != nil {
				refused <- err.Error()
			}
		})
	}
	close(begin)
	all.Wait()
	close(refused)
	for why := range refused {
		t.Error(why)
	}
	if asked, recorded := d.entra.TokenRequests(), strings.Count(d.audited(), `"decision":"allow"`); asked != 1 || recorded != callers {
		t.Errorf("Entra was asked %d times, and %d are recorded; want 1 and %d", asked, recorded, callers)
	}
}
