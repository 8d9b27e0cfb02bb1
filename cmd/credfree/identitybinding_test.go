package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/workload"
)

const proxyName = "cluster.ests.aks"

// cluster is a token proxy, with a certificate for a name that it is not
// reached by.
type cluster struct {
	*httptest.Server
	behind http.Handler

	mu    sync.Mutex // guards the rest
	leaf  tls.Certificate
	asked []string // host, path and TLS server name of each request
}

func newCluster(t *testing.T, behind http.Handler) (c *cluster, ca []byte) {
	t.Helper()
	c = &cluster{behind: behind}
	ca = c.rotate(t)
	c.Server = httptest.NewUnstartedServer(c)
	c.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		leaf := c.leaf
		return &leaf, nil
	}}
	c.Config.ErrorLog = log.New(io.Discard, "", 0)
	c.StartTLS()
	t.Cleanup(c.Close)
	return c, ca
}

// rotate gives the proxy a certificate of a new CA, and returns that.
func (c *cluster) rotate(t *testing.T) (ca []byte) {
	t.Helper()
	sign := func(template, parent *x509.Certificate, public any, key *ecdsa.PrivateKey) []byte {
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
		check(t, err)
		return der
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	root := &x509.Certificate{Subject: pkix.Name{CommonName: "cluster"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	rootDER := sign(root, root, caKey.Public(), caKey)
	root, err = x509.ParseCertificate(rootDER)
	check(t, err)
	leafDER := sign(&x509.Certificate{DNSNames: []string{proxyName}}, root, key.Public(), caKey)
	c.mu.Lock()
	c.leaf = tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key}
	c.mu.Unlock()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER})
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.asked = append(c.asked, r.Host+" "+r.URL.Path+" "+r.TLS.ServerName)
	c.mu.Unlock()
	r.URL.Path = strings.TrimPrefix(r.URL.Path, "/binding")
	c.behind.ServeHTTP(w, r)
}

// requests are those since the last call.
func (c *cluster) requests() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.asked
	c.asked = nil
	return asked
}

// A broker in a pod with an identity binding gets its tokens through the proxy,
// whatever becomes of the authority, and follows a change of the proxy's CA.
func TestIdentityBindingEndToEnd(t *testing.T) {
	var entra http.Handler // known when the broker runs
	var trusted string
	c, ca := newCluster(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { standIn(t, entra, trusted).ServeHTTP(w, r) }))
	caFile := filepath.Join(t.TempDir(), "ca.crt")
	check(t, os.WriteFile(caFile, ca, 0o600))
	t.Setenv(tokenProxyVariable, c.URL+"/binding")
	t.Setenv(proxyNameVariable, proxyName)
	t.Setenv(proxyCAVariable, caFile)
	scopes := []string{graphScope, vaultScope, "https://search.azure.com/.default", "https://management.azure.com/.default", "https://cognitiveservices.azure.com/.default"}
	r := startServiceWith(t, func(header, _ string) string {
		identities, _, _ := strings.Cut(header, "\napis:")
		return identities + fmt.Sprintf("\nagents:\n  demo: {identity: demo, callers: [{tcp: {uids: [%d]}}], allow: {scopes: ['%s']}}\n",
			os.Getuid(), strings.Join(scopes, "', '"))
	})
	entra = r.lab.host.Server
	token, err := os.ReadFile(filepath.Join(r.lab.dir, "workload-token"))
	check(t, err)
	trusted = string(token)
	bound, err := r.lab.host.Issuer.ServiceAccountToken(entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "demo", Audience: bindingAudience, Lifetime: time.Hour})
	check(t, err)
	check(t, r.lab.write("workload-token", bound))
	check(t, r.lab.host.Pause()) // the authority itself is out of reach

	next := 0
	ask := func() int {
		t.Helper()
		status, _ := do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+scopes[next])
		next++
		return status
	}
	want := []string{strings.TrimPrefix(c.URL, "https://") + " /binding/5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10/oauth2/v2.0/token " + proxyName}
	if status, diff := ask(), cmp.Diff(want, c.requests()); status != http.StatusOK || diff != "" {
		t.Fatalf("got %d, want 200; requests of the proxy: %s", status, diff)
	}
	// While the file is being replaced, what it said counts.
	check(t, os.Truncate(caFile, 0))
	if status, diff := ask(), cmp.Diff(want, c.requests()); status != http.StatusOK || diff != "" {
		t.Errorf("got %d, want 200; requests of the proxy: %s", status, diff)
	}
	ca = c.rotate(t)
	check(t, os.WriteFile(caFile, ca, 0o600))
	c.CloseClientConnections()
	if status, diff := ask(), cmp.Diff(want, c.requests()); status != http.StatusOK || diff != "" {
		t.Errorf("got %d, want 200; requests of the proxy: %s", status, diff)
	}
	// A proxy that the file does not vouch for gets nothing.
	c.rotate(t)
	c.CloseClientConnections()
	if status, asked := ask(), c.requests(); status != http.StatusServiceUnavailable || asked != nil {
		t.Errorf("got %d and %v, want 503 and no request", status, asked)
	}
}

// standIn does what the service behind the proxy does: it takes a token that is
// meant for it, and asks Entra in its own name.
func standIn(t *testing.T, entra http.Handler, trusted string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		if a, err := workload.Parse(r.PostForm.Get("client_assertion")); err != nil || !slices.Equal(a.Audience, []string{bindingAudience}) {
			t.Errorf("got a workload token for %v (%v), want one for %s", a.Audience, err, bindingAudience)
		}
		r.PostForm.Set("client_assertion", trusted)
		body := r.PostForm.Encode()
		r.Body, r.ContentLength, r.Form, r.PostForm = io.NopCloser(strings.NewReader(body)), int64(len(body)), nil, nil
		entra.ServeHTTP(w, r)
	})
}

// roundTrips is a transport made of a function.
type roundTrips func(*http.Request) (*http.Response, error)

func (f roundTrips) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Only token requests for the authority take the proxy; the request itself
// stays as it was, and nothing is followed.
func TestIdentityBindingRoutes(t *testing.T) {
	t.Parallel()
	c, ca := newCluster(t, http.RedirectHandler("https://127.0.0.1:1/", http.StatusTemporaryRedirect))
	const authority = "https://login.example"
	base := roundTrips(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusTeapot, Body: http.NoBody}, nil
	})
	for proxy, prefix := range map[string]string{c.URL: "", c.URL + "/": "", c.URL + "/binding": "/binding", c.URL + "/binding/": "/binding"} {
		bound, err := identityBinding(env(tokenProxyVariable, proxy, proxyNameVariable, proxyName, proxyCADataVariable, string(ca)), authority, base)
		check(t, err)
		for address, through := range map[string]string{
			authority + "/t/oauth2/v2.0/token":                     prefix + "/t/oauth2/v2.0/token",
			authority + "/t/v2.0/.well-known/openid-configuration": "",
			authority + "/t/discovery/v2.0/keys":                   "",
			"https://other.example/t/oauth2/v2.0/token":            "",
			"http://login.example/t/oauth2/v2.0/token":             "",
		} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"?a=b", strings.NewReader("x=y"))
			check(t, err)
			resp, err := bound.RoundTrip(req)
			check(t, err)
			check(t, resp.Body.Close())
			var want []string
			status := http.StatusTeapot
			if through != "" {
				want, status = []string{strings.TrimPrefix(c.URL, "https://") + " " + through + " " + proxyName}, http.StatusTemporaryRedirect
			}
			if diff := cmp.Diff(want, c.requests()); diff != "" || resp.StatusCode != status || req.URL.String() != address+"?a=b" {
				t.Errorf("%s through %s: got %d, want %d; requests of the proxy: %s", address, proxy, resp.StatusCode, status, diff)
			}
		}
	}
}

// env is an environment of pairs.
func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestIdentityBindingVariables(t *testing.T) {
	t.Parallel()
	_, ca := newCluster(t, nil)
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, content, 0o600))
		return path
	}
	const proxy = "https://proxy.example/x"
	base := &http.Transport{}
	for name, test := range map[string]struct {
		env  []string
		says string // "" when they can be used
	}{
		"a proxy with system roots":     {[]string{tokenProxyVariable, proxy}, ""},
		"a proxy with a name":           {[]string{tokenProxyVariable, proxy, proxyNameVariable, proxyName}, ""},
		"a proxy with a file":           {[]string{tokenProxyVariable, proxy, proxyCAVariable, file("ca", ca)}, ""},
		"a proxy with data":             {[]string{tokenProxyVariable, proxy, proxyCADataVariable, string(ca)}, ""},
		"a file and data":               {[]string{tokenProxyVariable, proxy, proxyCAVariable, file("ca", ca), proxyCADataVariable, string(ca)}, "both set"},
		"a name without a proxy":        {[]string{proxyNameVariable, proxyName}, tokenProxyVariable + " is not set"},
		"a file without a proxy":        {[]string{proxyCAVariable, "/ca"}, tokenProxyVariable + " is not set"},
		"data without a proxy":          {[]string{proxyCADataVariable, string(ca)}, tokenProxyVariable + " is not set"},
		"a proxy without TLS":           {[]string{tokenProxyVariable, "http://proxy.example"}, "not an https URL"},
		"a proxy without a host":        {[]string{tokenProxyVariable, "https:///x"}, "not an https URL"},
		"a proxy with a password":       {[]string{tokenProxyVariable, "https://u:hunter2@proxy.example"}, "has a user"},
		"a proxy with a query":          {[]string{tokenProxyVariable, "https://proxy.example/?a=hunter2"}, "has a query"},
		"a proxy with an empty query":   {[]string{tokenProxyVariable, "https://proxy.example/?"}, "has a query"},
		"a proxy with a fragment":       {[]string{tokenProxyVariable, "https://proxy.example/#hunter2"}, "has a fragment"},
		"a proxy that is no URL":        {[]string{tokenProxyVariable, "https://proxy.example/%hunter2"}, "not a URL"},
		"a file that is not there":      {[]string{tokenProxyVariable, proxy, proxyCAVariable, filepath.Join(dir, "none")}, "cannot be read"},
		"a file that is empty at first": {[]string{tokenProxyVariable, proxy, proxyCAVariable, file("empty", nil)}, "holds no certificate"},
		"a file of something else":      {[]string{tokenProxyVariable, proxy, proxyCAVariable, file("odd", []byte("odd"))}, "holds no certificate"},
		"data of something else":        {[]string{tokenProxyVariable, proxy, proxyCADataVariable, "odd"}, "holds no certificate"},
	} {
		bound, err := identityBinding(env(test.env...), "https://login.example", base)
		switch {
		case test.says == "" && (err != nil || bound == http.RoundTripper(base)):
			t.Errorf("%s: got %v, want the proxy", name, err)
		case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("%s: got %v, want %q and nothing secret", name, err, test.says)
		}
	}
	if bound, err := identityBinding(env(), "https://login.example", base); err != nil || bound != http.RoundTripper(base) {
		t.Errorf("without variables: got %v and %v, want the transport itself", bound, err)
	}
}

// A CA file that goes bad while the broker runs stops the requests, and one
// that is good again lets them go on.
func TestIdentityBindingCAFile(t *testing.T) {
	t.Parallel()
	c, ca := newCluster(t, http.NotFoundHandler())
	caFile := filepath.Join(t.TempDir(), "ca.crt")
	check(t, os.WriteFile(caFile, ca, 0o600))
	bound, err := identityBinding(env(tokenProxyVariable, c.URL, proxyNameVariable, proxyName, proxyCAVariable, caFile), "https://login.example", nil)
	check(t, err)
	ask := func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://login.example/t/oauth2/v2.0/token", strings.NewReader("x=y"))
		check(t, err)
		resp, err := bound.RoundTrip(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	check(t, ask())
	for what, spoil := range map[string]func() error{
		"holds no certificate": func() error { return os.WriteFile(caFile, []byte("odd"), 0o600) },
		"cannot be read":       func() error { return os.Remove(caFile) },
	} {
		check(t, spoil())
		if err := ask(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want %q", err, what)
		}
		check(t, os.WriteFile(caFile, ca, 0o600))
		check(t, ask())
	}
	// Many at once, while it changes.
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10 {
				if err := ask(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 10 {
		content := append(append([]byte{}, ca...), []byte(fmt.Sprintf("\n# %d\n", i))...)
		check(t, os.WriteFile(caFile+".new", content, 0o600))
		check(t, os.Rename(caFile+".new", caFile))
	}
	all.Wait()
}
