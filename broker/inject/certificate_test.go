package inject

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writeCertificate puts a certificate of the given life into dir, as kubelet
// does, and returns its files.
func writeCertificate(t *testing.T, dir string, serial int64, life time.Duration) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "webhook"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		// The clock of files is coarse, and two of them are written in no time.
		if err := os.Chtimes(name, time.Time{}, time.Unix(1_700_000_000+serial, 0)); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func serial(t *testing.T, c *Certificate) int64 {
	t.Helper()
	certificate, err := c.Get(nil)
	if err != nil {
		t.Fatal(err)
	}
	return certificate.Leaf.SerialNumber.Int64()
}

func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := writeCertificate(t, dir, 1, time.Hour)
	c, err := LoadCertificate(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if got := serial(t, c); got != 1 {
		t.Errorf("got certificate %d, want 1", got)
	}
	writeCertificate(t, dir, 2, 2*time.Hour)
	if got := serial(t, c); got != 2 {
		t.Errorf("got certificate %d, want the new one", got)
	}
	if err := os.WriteFile(keyFile, []byte("half wri"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(t, c); got != 2 {
		t.Errorf("got certificate %d, want the last good one", got)
	}
	expiry, err := c.Expiry()
	if err == nil || time.Until(expiry) < time.Hour {
		t.Errorf("got %v (%v), want the end of the last good one, and an error", expiry, err)
	}
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	if got := serial(t, c); got != 2 {
		t.Errorf("got certificate %d, want the last good one", got)
	}
	writeCertificate(t, dir, 3, time.Hour)
	if got := serial(t, c); got != 3 {
		t.Errorf("got certificate %d, want the mended one", got)
	}
	if _, err := c.Expiry(); err != nil {
		t.Errorf("got %v after it was mended", err)
	}
}

func TestCertificateThatWasNeverGood(t *testing.T) {
	if _, err := LoadCertificate(filepath.Join(t.TempDir(), "tls.crt"), "tls.key"); err == nil {
		t.Error("loaded what is not there")
	}
}
