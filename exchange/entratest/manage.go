package entratest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"mime"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const maxManagementBody = 64 << 10

// Management serves what a person or a test at the same machine needs to steer
// a running emulator: GET / lists it with curl lines. The issuers are those
// whose tokens POST /workload-token mints.
//
// It mints tokens without asking who is there, and so it answers callers from
// this machine only and refuses what a web page could make a browser send:
// foreign Host headers, Origin, cross-site requests and bodies that are no JSON.
// Serve it with ListenLoopback.
func (s *Server) Management(issuers ...*Issuer) http.Handler {
	m := &management{server: s, issuers: issuers}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", m.index)
	mux.HandleFunc("GET /requests", m.requests)
	mux.HandleFunc("GET /requests.html", m.requestsPage)
	mux.HandleFunc("GET /behavior", m.behavior)
	mux.HandleFunc("PUT /behavior", m.setBehavior)
	mux.HandleFunc("PUT /claims-challenge", m.setClaimsChallenge)
	mux.HandleFunc("POST /keys/rotate", m.rotate)
	mux.HandleFunc("POST /user-token", m.userToken)
	mux.HandleFunc("POST /workload-token", m.workloadToken)
	return localOnly(mux)
}

type management struct {
	server  *Server
	issuers []*Issuer
}

// localOnly lets requests pass that come from this machine and not from a page
// in a browser.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		if reason := refuseForeign(r); reason != "" {
			manageError(w, http.StatusForbidden, reason)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuseForeign says why a request is not answered, or "".
func refuseForeign(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err != nil || !isLoopback(host) {
		return "only callers on this machine are answered"
	}
	// A name that an attacker points at 127.0.0.1 is not ours.
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if host = strings.Trim(host, "[]"); !strings.EqualFold(host, "localhost") && !isLoopback(host) {
		return "the Host header does not name this machine"
	}
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "Via"} {
		if r.Header.Get(name) != "" {
			return "forwarded requests are not answered"
		}
	}
	if len(r.Header.Values("Origin")) > 0 {
		return "requests of web pages are not answered"
	}
	// A person may look at the pages: an address that was typed in has "none".
	site, looking := r.Header.Get("Sec-Fetch-Site"), r.Method == http.MethodGet || r.Method == http.MethodHead
	if site == "" || looking && (site == "none" || site == "same-origin") {
		return ""
	}
	return "requests of web pages are not answered"
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func manageError(w http.ResponseWriter, status int, message string) {
	manageJSON(w, status, map[string]string{"error": message})
}

func manageJSON(w http.ResponseWriter, status int, doc any) {
	body, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error": "the answer could not be written"}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may be gone
}

// readJSON reads the body into v, or answers why it does not.
func readJSON(w http.ResponseWriter, r *http.Request, v any) bool {
	body, ok := readBody(w, r)
	if !ok {
		return false
	}
	if err := decodeFields(body, v); err != nil {
		manageError(w, http.StatusBadRequest, err.Error())
		return false
	}
	return true
}

// readBody reads a body of JSON, or answers why it does not.
func readBody(w http.ResponseWriter, r *http.Request) (body []byte, ok bool) {
	// Pages can send forms and plain text to anyone, but not JSON.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		manageError(w, http.StatusUnsupportedMediaType, "the body must be application/json")
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxManagementBody))
	if err != nil {
		manageError(w, http.StatusRequestEntityTooLarge, "the body is too large or cannot be read")
		return nil, false
	}
	return body, true
}

func (m *management) behavior(w http.ResponseWriter, _ *http.Request) {
	manageJSON(w, http.StatusOK, encodeFields(m.server.hostility.Load().Behavior))
}

func (m *management) setBehavior(w http.ResponseWriter, r *http.Request) {
	var b Behavior
	if !readJSON(w, r, &b) {
		return
	}
	if b.Status != 0 && (b.Status < 200 || b.Status > 599) {
		manageError(w, http.StatusBadRequest, fmt.Sprintf("status %d is not between 200 and 599", b.Status))
		return
	}
	m.server.SetBehavior(b)
	m.behavior(w, r)
}

// setClaimsChallenge has the resource APIs ask for claims; {} ends that.
func (m *management) setClaimsChallenge(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	claims := string(bytes.TrimSpace(body))
	if claims == "{}" {
		claims = ""
	}
	if err := m.server.SetClaimsChallenge(claims); err != nil {
		manageError(w, http.StatusBadRequest, strings.TrimPrefix(err.Error(), "entratest: "))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// rotate makes new keys for the server, or for the issuer that is named.
func (m *management) rotate(w http.ResponseWriter, r *http.Request) {
	if !r.URL.Query().Has("issuer") {
		m.server.RotateKeys()
		w.WriteHeader(http.StatusNoContent)
		return
	}
	i, err := m.issuer(r.URL.Query().Get("issuer"))
	if err != nil {
		manageError(w, http.StatusBadRequest, err.Error())
		return
	}
	i.RotateKeys()
	w.WriteHeader(http.StatusNoContent)
}

func (m *management) userToken(w http.ResponseWriter, r *http.Request) {
	var req UserTokenRequest
	if !readJSON(w, r, &req) {
		return
	}
	token, err := m.server.UserToken(req)
	writeToken(w, r, token, err)
}

func (m *management) workloadToken(w http.ResponseWriter, r *http.Request) {
	var req struct {
		// Issuer is the URL of one of the issuers. Empty: the first one.
		Issuer string
		Workload
	}
	if !readJSON(w, r, &req) {
		return
	}
	i, err := m.issuer(req.Issuer)
	if err != nil {
		manageError(w, http.StatusBadRequest, err.Error())
		return
	}
	token, err := i.WorkloadToken(req.Workload)
	writeToken(w, r, token, err)
}

func (m *management) issuer(url string) (*Issuer, error) {
	var known []string
	for _, i := range m.issuers {
		if url == "" || url == i.cfg.URL {
			return i, nil
		}
		known = append(known, i.cfg.URL)
	}
	return nil, fmt.Errorf("there is no issuer %q: want one of %v", url, known)
}

// writeToken answers with the token alone where the client wants plain text, so
// that a shell can take it as it is.
func writeToken(w http.ResponseWriter, r *http.Request, token string, err error) {
	switch {
	case err != nil:
		manageError(w, http.StatusBadRequest, strings.TrimPrefix(err.Error(), "entratest: "))
	case r.Header.Get("Accept") == "text/plain":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, token+"\n") // the client may be gone
	default:
		manageJSON(w, http.StatusOK, map[string]string{"token": token})
	}
}

// newest are the requests a query asks for, newest first.
func (m *management) newest(r *http.Request) ([]Request, error) {
	limit := 100
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("limit %q is not a positive number", text)
		}
		limit = n
	}
	all := m.server.Requests()
	slices.Reverse(all)
	return all[:min(limit, len(all))], nil
}

func (m *management) requests(w http.ResponseWriter, r *http.Request) {
	newest, err := m.newest(r)
	if err != nil {
		manageError(w, http.StatusBadRequest, err.Error())
		return
	}
	list := make([]map[string]any, 0, len(newest))
	for _, req := range newest {
		list = append(list, encodeFields(req))
	}
	manageJSON(w, http.StatusOK, map[string]any{"requests": list})
}

func (m *management) requestsPage(w http.ResponseWriter, r *http.Request) {
	newest, err := m.newest(r)
	if err != nil {
		manageError(w, http.StatusBadRequest, err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = requestsTemplate.Execute(w, newest) // the client may be gone
}

var requestsTemplate = template.Must(template.New("requests").Parse(`<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Requests to the emulator</title></head>
<body>
<h1>Requests to the emulator, newest first</h1>
<table border="1" cellpadding="4">
<thead><tr><th scope="col">Time</th><th scope="col">Request</th><th scope="col">Grant</th><th scope="col">Client</th><th scope="col">Scope</th><th scope="col">Status</th><th scope="col">Error</th><th scope="col">Correlation id</th></tr></thead>
<tbody>
{{range .}}<tr><td>{{.Time.Format "15:04:05.000"}}</td><td>{{.Method}} {{.Path}}</td><td>{{.Grant}}</td><td>{{.ClientID}}</td><td>{{.Scope}}</td><td>{{.Status}}</td><td>{{.Error}}{{range .Codes}} {{.}}{{end}}</td><td>{{.CorrelationID}}</td></tr>
{{else}}<tr><td colspan="8">Nothing was asked yet.</td></tr>
{{end}}</tbody>
</table>
</body>
</html>
`))

// index lists everything as commands that can be pasted.
func (m *management) index(w http.ResponseWriter, r *http.Request) {
	curl, base := "  curl ", "http://"+r.Host
	if r.TLS != nil {
		curl, base = "  curl --cacert CA.pem ", "https://"+r.Host
	}
	const asJSON = " -H 'Content-Type: application/json' -d "
	lines := []string{
		"An emulator of Microsoft Entra ID, for tests only.", "",
		"What was asked, as JSON or as a page for a browser:",
		curl + "'" + base + "/requests?limit=20'", "  " + base + "/requests.html", "",
		"How it behaves. PUT replaces everything; {} is well-behaved:",
		curl + base + "/behavior",
		curl + "-X PUT " + base + "/behavior" + asJSON + `'{"status": 503, "retryAfter": "30"}'`,
		curl + "-X PUT " + base + "/behavior" + asJSON + `'{"delay": "2s", "lifetime": "10m"}'`, "",
		"Claims that the resource APIs ask for. {} is none:",
		curl + "-X PUT " + base + "/claims-challenge" + asJSON + `'{"access_token": {"nbf": {"essential": true, "value": "1900000000"}}}'`, "",
		"New signing keys, for the token service or for an issuer:",
		curl + "-X POST " + base + "/keys/rotate",
		curl + "-X POST '" + base + "/keys/rotate?issuer=…'", "",
		"Tokens for tests. With -H 'Accept: text/plain' the answer is the token alone:",
		curl + base + "/user-token" + asJSON + `'{"user": "ada@demo.example", "audience": "` + DemoClientID + `"}'`,
		curl + base + "/workload-token" + asJSON + `'{"parameters": {"namespace": "agents", "serviceaccount": "demo"}}'`, "",
		"Issuers of workload tokens:",
	}
	for _, i := range m.issuers {
		lines = append(lines, "  "+i.cfg.URL+" ("+string(i.cfg.Platform)+": "+strings.Join(i.cfg.Platform.Forms(), ", ")+")")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	// The client may be gone.
	_, _ = io.WriteString(w, strings.Join(lines, "\n")+"\n") //nolint:gosec // Plain text, and the Host header is known to be an address.
}
