package main

import (
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/credfree/credfree/exchange/entratest"
)

// A file of certificates that changes is trusted as it is now; one that says nothing
// changes nothing, and a broker does not start with it.
func TestRootsAreThoseOfNow(t *testing.T) {
	var hosts [2]*entratest.Host
	for n := range hosts {
		var err error
		hosts[n], err = entratest.Listen(entratest.HostConfig{})
		check(t, err)
		t.Cleanup(func() { check(t, hosts[n].Close()) })
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	write := func(pem []byte) { check(t, os.WriteFile(file, pem, 0o600)) }
	for name, pool := range map[string]func([]byte) *x509.CertPool{"only": onlyRoots, "also": alsoRoots} {
		t.Run(name, func(t *testing.T) {
			trusts := func(transport *trusting, want ...bool) {
				t.Helper()
				transport.looked = time.Time{}
				for n, host := range hosts {
					resp, err := (&http.Client{Transport: transport}).Get(host.URL)
					if err == nil {
						check(t, resp.Body.Close())
					}
					if got := err == nil; got != want[n] {
						t.Errorf("host %d is trusted: %t, want %t (%v)", n, got, want[n], err)
					}
				}
			}
			build := func(pem []byte) *http.Transport { return entraTransportWith(pool(pem)) }
			write(hosts[0].CA)
			transport, err := newTrusting(func() string { return file }, build)
			check(t, err)
			trusts(transport, true, false)
			write(hosts[1].CA)
			trusts(transport, false, true)
			write([]byte("junk"))
			trusts(transport, false, true)
			if _, err := newTrusting(func() string { return file }, build); err == nil {
				t.Error("a file without a certificate is taken at the start")
			}
			check(t, os.Remove(file))
			trusts(transport, false, true)
			if _, err := newTrusting(func() string { return file }, build); err == nil {
				t.Error("a file that is not there is taken at the start")
			}
			transport.file = func() string { return "" } // a policy without one
			trusts(transport, false, false)
			none, err := newTrusting(func() string { return "" }, build)
			check(t, err)
			trusts(none, false, false)
		})
	}
}
