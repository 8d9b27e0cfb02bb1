package world

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // what older libraries call a certificate by
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"time"

	"github.com/credfree/credfree/exchange/entratest"
)

const (
	graph    = "https://graph.microsoft.com"
	vault    = "https://vault.azure.net"
	ledger   = "api://ledger"
	ledgerID = "1ed6e400-0000-4000-8000-000000000001"

	bareID      = "ba4e0000-0000-4000-8000-000000000001"
	unknownID   = "dead0000-0000-4000-8000-000000000001"
	otherTenant = "07be4000-0000-4000-8000-000000000001"

	secret        = "only~for~the~emulator"
	expiredSecret = "not~even~for~the~emulator"
)

// directory is the demonstration tenant with an API of its own, whose tokens
// are of version 2, an application that trusts nobody, and another tenant.
func directory(issuerURL, certificate string) entratest.Directory {
	d := entratest.DemoDirectory(issuerURL)
	t := &d.Tenants[0]
	t.Resources = append(t.Resources, entratest.Resource{
		ClientID: ledgerID, Name: "ledger", IdentifierURIs: []string{ledger},
		DelegatedScopes: []string{"run"}, AppRoles: []string{"Run"},
	})
	for i := range t.Applications {
		a := &t.Applications[i]
		if a.ClientID != entratest.DemoClientID {
			continue
		}
		a.AppRoles[ledger] = []string{"Run"}
		a.Delegated[ledger] = []string{"run"}
		a.ClientSecrets = []entratest.ClientSecret{{Value: secret}, {Value: expiredSecret, ExpiresAt: time.Now().Add(-time.Hour)}}
		a.Certificates = []entratest.Certificate{{PEM: certificate}}
	}
	t.Applications = append(t.Applications, entratest.Application{ClientID: bareID, Name: "bare"})
	d.Tenants = append(d.Tenants, entratest.Tenant{ID: otherTenant, Domains: []string{"other.example"}})
	return d
}

// trusted is the service account that the application trusts.
func trusted() entratest.ServiceAccountToken {
	return entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "demo"}
}

// certificate is a client certificate and its key, in PEM, with its thumbprints.
type certificate struct{ certificate, key, sha1, sha256 string }

func newCertificate() (certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "conformance"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return certificate{}, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return certificate{}, err
	}
	short, long := sha1.Sum(der), sha256.Sum256(der)
	return certificate{
		sha1:        hex.EncodeToString(short[:]),
		sha256:      hex.EncodeToString(long[:]),
		certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		key:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
	}, nil
}
