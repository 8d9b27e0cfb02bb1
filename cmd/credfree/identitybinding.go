package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// The variables by which the Azure Workload Identity webhook tells a pod of an
// identity binding: https://learn.microsoft.com/azure/aks/identity-bindings-concepts.
const (
	tokenProxyVariable  = "AZURE_KUBERNETES_TOKEN_PROXY" // https URL of the proxy
	proxyNameVariable   = "AZURE_KUBERNETES_SNI_NAME"    // name in the proxy's certificate; unset: the URL's host
	proxyCAVariable     = "AZURE_KUBERNETES_CA_FILE"     // roots to trust, in PEM; or
	proxyCADataVariable = "AZURE_KUBERNETES_CA_DATA"     // the PEM itself; with neither, the system's roots
)

// bindingAudience is what workload tokens are meant for that the webhook mounts
// for an identity binding.
const bindingAudience = "api://AKSIdentityBinding"

// identityBinding sends the token requests for authority, an https origin, to
// the proxy that getenv names, and all others through base. It returns base
// itself where no proxy is named, and an error of fail's where the variables
// contradict each other. What it returns is safe for concurrent use, never
// follows a redirect, and trusts a new content of the CA file with the next
// request.
func identityBinding(getenv func(string) string, authority string, base http.RoundTripper) (http.RoundTripper, error) {
	address, caFile, caData := getenv(tokenProxyVariable), getenv(proxyCAVariable), getenv(proxyCADataVariable)
	p := &tokenProxy{base: base, name: getenv(proxyNameVariable), caFile: caFile}
	if address == "" {
		if p.name != "" || caFile != "" || caData != "" {
			return nil, fail(exitError, fmt.Errorf("%s is not set, and other variables of the proxy are", tokenProxyVariable),
				"set it, or unset "+proxyNameVariable+", "+proxyCAVariable+" and "+proxyCADataVariable)
		}
		return base, nil
	}
	if caFile != "" && caData != "" {
		return nil, fail(exitError, fmt.Errorf("%s and %s are both set", proxyCAVariable, proxyCADataVariable), "unset one of them")
	}
	var err error
	if p.authority, err = url.Parse(authority); err != nil {
		return nil, err
	}
	if p.address, err = parseTokenProxy(address); err != nil {
		return nil, fail(exitError, err, "write https://<host>[:<port>][/<path>]; in a pod with an identity binding the webhook sets it")
	}
	if p.current, err = p.first(caData); err != nil {
		return nil, fail(exitError, err, "it has to hold certificates in PEM")
	}
	return p, nil
}

// parseTokenProxy does not repeat the address, which may have a password in it.
func parseTokenProxy(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New(tokenProxyVariable + " is not a URL")
	case u.Scheme != "https" || u.Hostname() == "":
		return nil, errors.New(tokenProxyVariable + " is not an https URL")
	case u.User != nil:
		return nil, errors.New(tokenProxyVariable + " has a user in it")
	case u.RawQuery != "" || u.ForceQuery:
		return nil, errors.New(tokenProxyVariable + " has a query")
	case u.Fragment != "":
		return nil, errors.New(tokenProxyVariable + " has a fragment")
	}
	if u.Path == "" {
		u.Path = "/" // what is joined to no path at all is relative
	}
	return u, nil
}

// tokenProxy is a way to the token endpoint through a proxy of the cluster.
type tokenProxy struct {
	base      http.RoundTripper
	authority *url.URL
	address   *url.URL
	name      string // in the proxy's certificate; "" for the address's host
	caFile    string // "" when the roots never change

	mu      sync.Mutex // guards what follows; not held while the file is read
	pem     []byte     // content of caFile that current trusts
	current *http.Transport
}

// first makes the transport that the proxy is first asked through.
func (p *tokenProxy) first(caData string) (*http.Transport, error) {
	switch {
	case p.caFile != "":
		return p.transport()
	case caData != "":
		return p.trusting(proxyCADataVariable, []byte(caData))
	}
	return p.to(nil), nil
}

// RoundTrip implements http.RoundTripper.
func (p *tokenProxy) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != p.authority.Scheme || req.URL.Host != p.authority.Host || !strings.HasSuffix(req.URL.Path, "/oauth2/v2.0/token") {
		return p.base.RoundTrip(req)
	}
	transport, err := p.transport()
	if err != nil {
		if req.Body != nil {
			err = errors.Join(err, req.Body.Close())
		}
		return nil, err
	}
	there := req.Clone(req.Context())
	there.URL = p.address.JoinPath(req.URL.EscapedPath())
	there.URL.RawQuery = req.URL.RawQuery
	there.Host = "" // the proxy's own
	return transport.RoundTrip(there)
}

// transport is the one that trusts what the CA file holds now. A file that is
// empty is being replaced, and changes nothing.
func (p *tokenProxy) transport() (*http.Transport, error) {
	var pem []byte
	if p.caFile != "" {
		var err error
		if pem, err = os.ReadFile(p.caFile); err != nil {
			return nil, fmt.Errorf("%s cannot be read: %w", proxyCAVariable, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil && (len(pem) == 0 || bytes.Equal(pem, p.pem)) {
		return p.current, nil
	}
	made, err := p.trusting(proxyCAVariable, pem)
	if err != nil {
		return nil, err
	}
	if p.current != nil {
		p.current.CloseIdleConnections()
	}
	p.current, p.pem = made, pem
	return made, nil
}

// trusting makes a transport that trusts the certificates in pem alone.
func (p *tokenProxy) trusting(variable string, pem []byte) (*http.Transport, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New(variable + " holds no certificate")
	}
	return p.to(roots), nil
}

func (p *tokenProxy) to(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, ServerName: p.name, RootCAs: roots},
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 20 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
	}
}
