package main

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/policy"
)

// commandDoor stands before all doors of a broker that one command has, and
// lets in who presents that command's key. The doors see in its place what the
// policy knows the agent by. Documents anybody may read. It is safe for
// concurrent use.
type commandDoor struct {
	key     string
	keyFile string     // of the agent's caller; "" when the kernel vouches for it
	keys    *peer.Keys // with that of keyFile
	broker  *broker.Broker
	doors   http.Handler
}

// newCommandKey returns 256 bits in letters that a URL may hold.
func newCommandKey() string {
	key := make([]byte, 32)
	rand.Read(key) // never fails
	return base64.RawURLEncoding.EncodeToString(key)
}

// ServeHTTP implements http.Handler.
func (d *commandDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	inner := r.Clone(r.Context())
	known := d.takeKey(inner)
	switch {
	case !known && localapi.IsDocument(inner.URL): // as nobody, but past the same guard
	case !known:
		d.refuse(w, r, "present the key of the variable IDENTITY_HEADER: this broker serves the command that credfree exec has started")
		return
	case d.keyFile != "":
		key, err := os.ReadFile(d.keyFile)
		if _, ok := d.keys.Match(string(key)); err != nil || !ok {
			// Without a key the request would be that of whoever has this uid.
			d.refuse(w, r, "the agent's key file cannot be read, or holds no key that is one: put it back")
			return
		}
		inner.Header.Set("X-Identity-Header", strings.TrimSpace(string(key)))
	case path.Clean(inner.URL.Path) == client.ManagedIdentityPath:
		inner.Header.Set("X-Identity-Header", "none") // the door wants the header, not a key
	}
	d.doors.ServeHTTP(w, inner)
}

// takeKey takes the command's key from wherever its clients can put one, and
// says whether it was there: in a header, before the path, or in a form.
func (d *commandDoor) takeKey(r *http.Request) (taken bool) {
	for _, name := range []string{"X-Identity-Header", "Authorization", "Api-Key", "X-Api-Key"} {
		presented := r.Header.Get(name)
		if name == "Authorization" {
			presented = bareKey(r)
		}
		if len(r.Header[name]) == 1 && d.is(presented) {
			r.Header.Del(name)
			taken = true
		}
	}
	if first, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); ok && d.is(first) {
		r.URL.Path = "/" + rest
		r.URL.RawPath = strings.TrimPrefix(r.URL.RawPath, "/"+first)
		taken = true
	}
	return taken || d.takeSecret(r)
}

// maxTokenForm bounds what is read of a request to find its client_secret, as
// the door for it does.
const maxTokenForm = 64 << 10

// takeSecret takes the command's key from the form of an OAuth client
// (RFC 6749 §2.3.1), and leaves the rest as it is.
func (d *commandDoor) takeSecret(r *http.Request) (taken bool) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" || !localapi.TakesClientSecret(r.URL) || r.ContentLength > maxTokenForm {
		return false
	}
	form, err := io.ReadAll(io.LimitReader(r.Body, maxTokenForm+1))
	if err != nil || len(form) > maxTokenForm {
		return false
	}
	pairs := strings.Split(string(form), "&")
	others := slices.DeleteFunc(slices.Clone(pairs), func(pair string) bool {
		name, value, _ := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(value)
		return name == "client_secret" && err == nil && d.is(value)
	})
	rest := strings.Join(others, "&")
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(rest)), int64(len(rest))
	return len(pairs)-len(others) == 1
}

// bareKey returns what the Authorization header presents as a key.
func bareKey(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(key)
}

func (d *commandDoor) is(presented string) bool {
	return subtle.ConstantTimeCompare([]byte(presented), []byte(d.key)) == 1
}

// refuse records who was not let in, and says so in the words of all doors.
func (d *commandDoor) refuse(w http.ResponseWriter, r *http.Request, hint string) {
	issued, err := d.broker.Refuse(r.Context(), broker.Request{Door: "exec"}, policy.UnknownAgent, hint)
	body := struct {
		client.Error
		StatusCode int    `json:"statusCode"`
		Message    string `json:"message"`
	}{client.Error{Code: "invalid_client", Description: err.Error(), Hint: hint, Reason: string(policy.UnknownAgent), RefusedBy: client.ByPolicy, IssuanceID: issued.ID}, http.StatusUnauthorized, hint}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set(client.IssuanceHeader, issued.ID)
	w.WriteHeader(http.StatusUnauthorized)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		return // whoever it was has gone
	}
}
