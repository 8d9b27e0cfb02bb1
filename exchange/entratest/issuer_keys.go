package entratest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// workloadKey is one published key of an Issuer.
type workloadKey struct {
	id        string
	algorithm jose.SignatureAlgorithm
	private   crypto.Signer
}

// sign makes a compact JWT of the claims with the given further headers.
func (k workloadKey) sign(claims any, headers map[jose.HeaderKey]any) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: k.algorithm,
		Key:       jose.JSONWebKey{Key: k.private, KeyID: k.id},
	}, &jose.SignerOptions{ExtraHeaders: headers})
	if err != nil {
		return "", fmt.Errorf("make signer: %w", err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}

// workloadKeys makes the keys of an Issuer, one for each algorithm, when they
// are first needed.
type workloadKeys struct {
	algorithms []jose.SignatureAlgorithm // the first one is the usual one
	name       func(fingerprint) string

	mu         sync.Mutex      // guards the fields below
	given      crypto.Signer   // the first key of its algorithm; nil afterwards
	rounds     [][]workloadKey // newest last; each has a key per algorithm
	generation int
	stale      bool // the newest round is not to be used any more
}

func newWorkloadKeys(algorithms []jose.SignatureAlgorithm, given crypto.Signer, name func(fingerprint) string) (*workloadKeys, error) {
	k := &workloadKeys{algorithms: algorithms, name: name, given: given, stale: true}
	for _, alg := range algorithms {
		if !slices.Contains([]jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.ES384}, alg) {
			return nil, fmt.Errorf("algorithm %q is not one of RS256, ES256 and ES384", alg)
		}
		if given != nil && algorithmOf(given) == alg {
			given = nil
		}
	}
	if given != nil {
		return nil, fmt.Errorf("the key is not for any of the algorithms %v", algorithms)
	}
	return k, nil
}

func (k *workloadKeys) rotate() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stale = true
}

// published returns all keys that verify tokens, the signing ones last.
func (k *workloadKeys) published() ([][]workloadKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.stale {
		return k.rounds, nil
	}
	round := make([]workloadKey, 0, len(k.algorithms))
	for _, alg := range k.algorithms {
		private, err := k.makeLocked(alg)
		if err != nil {
			return nil, err
		}
		id, err := k.identifyLocked(private, alg)
		if err != nil {
			return nil, err
		}
		round = append(round, workloadKey{id: id, algorithm: alg, private: private})
	}
	// A new slice, because earlier callers still read theirs.
	k.rounds = append(k.rounds[max(0, len(k.rounds)+1-maxPublishedKeys):len(k.rounds):len(k.rounds)], round)
	k.generation++
	k.stale = false
	return k.rounds, nil
}

func (k *workloadKeys) makeLocked(alg jose.SignatureAlgorithm) (crypto.Signer, error) {
	if k.given != nil && algorithmOf(k.given) == alg {
		given := k.given
		k.given = nil
		return given, nil
	}
	if alg == jose.ES256 {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if alg == jose.ES384 {
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	key, err := newKubernetesKey(time.Time{})
	return key.private, err
}

func (k *workloadKeys) identifyLocked(private crypto.Signer, alg jose.SignatureAlgorithm) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	jwk := jose.JSONWebKey{Key: private.Public()}
	thumbprint, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("thumbprint of public key: %w", err)
	}
	return k.name(fingerprint{der: sha256.Sum256(der), jwk: thumbprint, algorithm: alg, generation: k.generation}), nil
}

// current returns the signing key of an algorithm; "" is the usual one.
func (k *workloadKeys) current(algorithm string) (workloadKey, error) {
	rounds, err := k.published()
	if err != nil {
		return workloadKey{}, err
	}
	for _, key := range rounds[len(rounds)-1] {
		if algorithm == "" || string(key.algorithm) == algorithm {
			return key, nil
		}
	}
	return workloadKey{}, fmt.Errorf("the issuer does not sign with %q, only with %v", algorithm, k.algorithms)
}

// algorithmOf returns the algorithm a key is for, or "".
func algorithmOf(key crypto.Signer) jose.SignatureAlgorithm {
	switch public := key.Public().(type) {
	case *rsa.PublicKey:
		return jose.RS256
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			return jose.ES256
		case elliptic.P384():
			return jose.ES384
		}
	}
	return ""
}

// fingerprint is what a key id is made of.
type fingerprint struct {
	der        [sha256.Size]byte // of the public key
	jwk        []byte            // RFC 7638
	algorithm  jose.SignatureAlgorithm
	generation int
}

// How the platforms write their key ids. That of the Kubernetes API server and
// the RFC 7638 thumbprint are exact, the others only look alike.

func sha256KeyID(f fingerprint) string     { return base64.RawURLEncoding.EncodeToString(f.der[:]) }
func thumbprintKeyID(f fingerprint) string { return base64.RawURLEncoding.EncodeToString(f.jwk) }
func hexKeyID(f fingerprint) string        { return hex.EncodeToString(f.der[:20]) }
func shortKeyID(f fingerprint) string      { return base64.RawURLEncoding.EncodeToString(f.der[:20]) }
func guidKeyID(f fingerprint) string       { return derivedGUID("key", string(f.der[:])) }

func alphanumericKeyID(f fingerprint) string {
	return base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(f.der[:20])
}

// awsKeyID counts, so that the ids of all accounts are the same: only the
// issuer tells them apart.
func awsKeyID(f fingerprint) string {
	kind := "RSA_"
	if f.algorithm != jose.RS256 {
		kind = "EC" + strings.TrimPrefix(string(f.algorithm), "ES") + "_"
	}
	return kind + strconv.Itoa(f.generation)
}

// keySet is the document with the public keys.
func (s platform) keySet(rounds [][]workloadKey) (json.RawMessage, error) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, round := range rounds {
		for _, k := range round {
			key := jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: string(k.algorithm)}
			if !s.withoutUse {
				key.Use = "sig"
			}
			if !key.IsPublic() {
				return nil, errors.New("a key to be published is not public")
			}
			set.Keys = append(set.Keys, key)
		}
	}
	return json.Marshal(set)
}
