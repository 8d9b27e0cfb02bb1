package entratest

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// The blocks of a Host's state.
const (
	blockCertificate = "CERTIFICATE"
	blockKey         = "PRIVATE KEY"
	blockAddresses   = "ENTRATEST ADDRESSES"
)

// State is what a later Host needs to be the same one to its clients: the
// private CA with its key, and the addresses. It is PEM, and as secret as a CA
// that may only vouch for loopback has to be. Signing keys are not part of it:
// a Host that starts again has new ones, as after a rotation.
func (h *Host) State() ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(h.ca.key)
	if err != nil {
		return nil, fmt.Errorf("entratest: state: %w", err)
	}
	state := h.ca.pem()
	state = append(state, pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: key})...)
	return append(state, pem.EncodeToMemory(&pem.Block{Type: blockAddresses, Headers: map[string]string{
		"Token-Service": h.tokens.addr, "Issuer": h.issuer.addr, "API": h.apis.addr,
	}})...), nil
}

// restore fills in what cfg leaves open from cfg.State, and returns its CA. A
// state without a CA that is still valid is an error: its clients would not
// trust another.
func restore(cfg *HostConfig) (*privateCA, error) {
	ca := &privateCA{}
	for rest := cfg.State; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		var err error
		switch block.Type {
		case blockCertificate:
			ca.cert, err = x509.ParseCertificate(block.Bytes)
		case blockKey:
			var key any
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
			ca.key, _ = key.(*ecdsa.PrivateKey)
		case blockAddresses:
			if cfg.Addr == "" {
				cfg.Addr = block.Headers["Token-Service"]
			}
			if cfg.IssuerAddr == "" {
				cfg.IssuerAddr = block.Headers["Issuer"]
			}
			if cfg.APIAddr == "" {
				cfg.APIAddr = block.Headers["API"]
			}
		}
		if err != nil {
			return nil, fmt.Errorf("state: %w", err)
		}
	}
	switch {
	case ca.cert == nil || ca.key == nil:
		return nil, errors.New("the state holds no certificate authority: remove it to start anew")
	case !ca.key.PublicKey.Equal(ca.cert.PublicKey):
		return nil, errors.New("the state's key is not that of its certificate: remove it to start anew")
	case time.Now().After(ca.cert.NotAfter):
		return nil, errors.New("the state's certificate authority has expired: remove it to start anew")
	}
	return ca, nil
}
