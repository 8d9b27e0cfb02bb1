package entratest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // x5t is defined as a SHA-1 thumbprint; nothing is protected by it
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	rsaBits          = 2048
	maxPublishedKeys = 5
)

// signingKey is one published key. certificate is empty for issuers that
// publish bare keys.
type signingKey struct {
	id          string
	private     *rsa.PrivateKey
	certificate *x509.Certificate
}

// sign makes a compact JWT of the claims with the given further headers.
func (k signingKey) sign(claims any, headers map[jose.HeaderKey]any) (string, error) {
	opts := &jose.SignerOptions{ExtraHeaders: headers}
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: jose.RS256,
		Key:       jose.JSONWebKey{Key: k.private, KeyID: k.id},
	}, opts)
	if err != nil {
		return "", fmt.Errorf("make signer: %w", err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}

// keyring makes keys when they are first needed, because making one takes
// longer than everything else a test does.
type keyring struct {
	create func(now time.Time) (signingKey, error)
	now    func() time.Time

	mu    sync.Mutex // guards the fields below
	keys  []signingKey
	stale bool // the newest key is not to be used any more
}

func newKeyring(create func(time.Time) (signingKey, error), now func() time.Time) *keyring {
	return &keyring{create: create, now: now, stale: true}
}

func (k *keyring) rotate() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stale = true
}

// published returns all keys that verify tokens, the signing one last.
func (k *keyring) published() ([]signingKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stale {
		key, err := k.create(k.now())
		if err != nil {
			return nil, err
		}
		k.keys = append(k.keys[max(0, len(k.keys)+1-maxPublishedKeys):len(k.keys):len(k.keys)], key)
		k.stale = false
	}
	return k.keys, nil
}

// current returns the signing key.
func (k *keyring) current() (signingKey, error) {
	keys, err := k.published()
	if err != nil {
		return signingKey{}, err
	}
	return keys[len(keys)-1], nil
}

// find returns the published key with this id.
func (k *keyring) find(id string) (signingKey, bool) {
	keys, err := k.published()
	if err != nil {
		return signingKey{}, false
	}
	for _, key := range keys {
		if key.id == id {
			return key, true
		}
	}
	return signingKey{}, false
}

// newEntraKey wraps the key in a self-signed certificate, as Entra does: kid
// and x5t are its thumbprint, and so differ at every start.
func newEntraKey(now time.Time) (signingKey, error) {
	private, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return signingKey{}, fmt.Errorf("make signing key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return signingKey{}, fmt.Errorf("make serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "entratest signing key, never for production"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(5, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return signingKey{}, fmt.Errorf("make certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return signingKey{}, fmt.Errorf("parse certificate: %w", err)
	}
	thumbprint := sha1.Sum(der)
	return signingKey{
		id:          base64.RawURLEncoding.EncodeToString(thumbprint[:]),
		private:     private,
		certificate: cert,
	}, nil
}

// newKubernetesKey derives the key id the way the Kubernetes API server does:
// the SHA-256 of the public key's DER form.
func newKubernetesKey(time.Time) (signingKey, error) {
	private, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return signingKey{}, fmt.Errorf("make signing key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return signingKey{}, fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return signingKey{id: base64.RawURLEncoding.EncodeToString(sum[:]), private: private}, nil
}
