package inject

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Certificate is the webhook's own, read again when its files change: kubelet
// replaces them when the Secret changes. It is safe for concurrent use.
type Certificate struct {
	certFile, keyFile string

	mu     sync.Mutex // guards the rest; reading two small files is all that is done under it
	loaded *tls.Certificate
	stamp  [2]fileStamp // of the files that it was read from
	broken error        // why the newest files were not taken
}

type fileStamp struct {
	modified time.Time
	size     int64
}

// LoadCertificate reads the two files, or says what is wrong with them.
func LoadCertificate(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	if _, err := c.current(); err != nil {
		return nil, err
	}
	return c, nil
}

// Get is for tls.Config.GetCertificate. Files that are broken or half written
// are passed over: the last certificate serves on.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current() }

// Expiry is the last moment at which the certificate is good, and what is wrong
// with its files, if anything.
func (c *Certificate) Expiry() (time.Time, error) {
	certificate, err := c.current()
	if err != nil {
		return time.Time{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return certificate.Leaf.NotAfter, c.broken
}

func (c *Certificate) current() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamp, err := c.look()
	if err == nil && stamp == c.stamp && c.loaded != nil {
		return c.loaded, nil // broken still says why the same files were passed over
	}
	if err == nil {
		var certificate tls.Certificate
		if certificate, err = tls.LoadX509KeyPair(c.certFile, c.keyFile); err == nil {
			c.loaded, c.stamp, c.broken = &certificate, stamp, nil
			return c.loaded, nil
		}
		// The same broken files are read again at the next handshake: they may
		// have been replaced one after the other.
	}
	c.broken = fmt.Errorf("webhook certificate: %w", err)
	if c.loaded == nil {
		return nil, c.broken
	}
	return c.loaded, nil
}

func (c *Certificate) look() ([2]fileStamp, error) {
	var stamps [2]fileStamp
	var problems []error
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		stamps[i] = fileStamp{info.ModTime(), info.Size()}
	}
	return stamps, errors.Join(problems...)
}
