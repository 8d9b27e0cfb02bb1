package main

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// trusting is a transport that trusts what a caFile holds now: authorities renew their
// certificates, and no broker is to be started anew for it.
type trusting struct {
	file  func() string                    // its path; "" for none
	build func(pem []byte) *http.Transport // nil: without a file

	mu      sync.Mutex // guards the rest
	looked  time.Time
	pem     []byte
	current *http.Transport
}

// rootsInterval is how often the file is looked at, as long as somebody asks.
const rootsInterval = time.Second

// newTrusting returns an error when the file cannot be read, or holds no certificate.
func newTrusting(file func() string, build func(pem []byte) *http.Transport) (*trusting, error) {
	pem, err := readRoots(file())
	if err != nil {
		return nil, err
	}
	return &trusting{file: file, build: build, looked: time.Now(), pem: pem, current: build(pem)}, nil
}

// RoundTrip implements http.RoundTripper.
func (t *trusting) RoundTrip(r *http.Request) (*http.Response, error) { return t.now().RoundTrip(r) }

// now is the transport for what the file holds. A file that cannot be read, or holds no
// certificate, changes nothing.
func (t *trusting) now() *http.Transport {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.looked) < rootsInterval {
		return t.current
	}
	t.looked = time.Now()
	if pem, err := readRoots(t.file()); err == nil && !bytes.Equal(pem, t.pem) {
		t.current.CloseIdleConnections()
		t.pem, t.current = pem, t.build(pem)
	}
	return t.current
}

// readRoots reads a caFile; "" is none.
func readRoots(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fail(exitError, fmt.Errorf("caFile cannot be read: %w", err), "caFile holds the certificates, in PEM, that sign the authority's")
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return nil, fail(exitError, fmt.Errorf("caFile %s holds no certificate", path), "it has to be PEM")
	}
	return pem, nil
}

// onlyRoots are those of a caFile; nil, which stands for the system's, without one.
func onlyRoots(pem []byte) *x509.CertPool {
	if pem == nil {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return pool
}

// alsoRoots are the system's and those of a caFile.
func alsoRoots(pem []byte) *x509.CertPool {
	if pem == nil {
		return nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM(pem)
	return pool
}
