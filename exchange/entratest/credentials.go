package entratest

import (
	"crypto/rsa"
	"crypto/sha1" // x5t is defined as a SHA-1 thumbprint; nothing is protected by it
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// FederatedCredential trusts one external workload, or those that an
// expression matches. Issuer, subject and audience are compared exactly, case
// included.
type FederatedCredential struct {
	Name   string `yaml:"name,omitempty"`
	Issuer string `yaml:"issuer"`
	// Subject is the sub of the workload's token. Required, unless there is a
	// ClaimsMatchingExpression.
	Subject  string `yaml:"subject,omitempty"`
	Audience string `yaml:"audience"`
	// ClaimsMatchingExpression makes the credential a flexible one.
	ClaimsMatchingExpression *ClaimsMatchingExpression `yaml:"claimsMatchingExpression,omitempty"`
}

// ClaimsMatchingExpression is what a flexible federated credential has in
// place of a subject: conditions joined by " and ", such as
//
//	claims['sub'] matches 'repo:contoso/*:ref:refs/heads/main' and claims['job_workflow_ref'] eq '…'
//
// eq compares exactly; in matches, * stands for any text and ? for one
// character. A quote inside a value is written twice. Only GitHub's (sub,
// job_workflow_ref), GitLab's and Terraform Cloud's (sub) issuers are allowed.
type ClaimsMatchingExpression struct {
	Value string `yaml:"value"`
	// LanguageVersion is 1. Required.
	LanguageVersion int `yaml:"languageVersion"`
}

// ClientSecret is a password of an application.
type ClientSecret struct {
	Name  string `yaml:"name,omitempty"`
	Value string `yaml:"value"`
	// ExpiresAt is when requests with it begin to fail with 7000222. Zero: never.
	ExpiresAt time.Time `yaml:"expiresAt,omitempty"`
}

// Certificate is one whose key signs an application's client assertions.
type Certificate struct {
	Name string `yaml:"name,omitempty"`
	// PEM is the certificate without its private key. The key is RSA.
	PEM string `yaml:"pem"`
	// Revoked refuses the certificate with 7000214.
	Revoked bool `yaml:"revoked,omitempty"`
}

// clientCertificate is a Certificate that can be found by its thumbprints.
type clientCertificate struct {
	*x509.Certificate
	x5t, x5tS256 string
	revoked      bool
}

func parseCertificates(tenantID string, a Application, p *problems) []clientCertificate {
	var parsed []clientCertificate
	for i, c := range a.Certificates {
		cert, err := parseCertificate(c.PEM)
		if err != nil {
			p.addf("tenant %s: application %s: certificate %d: %w", tenantID, a.ClientID, i+1, err)
			continue
		}
		short, long := sha1.Sum(cert.Raw), sha256.Sum256(cert.Raw)
		parsed = append(parsed, clientCertificate{
			Certificate: cert,
			x5t:         base64.RawURLEncoding.EncodeToString(short[:]),
			x5tS256:     base64.RawURLEncoding.EncodeToString(long[:]),
			revoked:     c.Revoked,
		})
	}
	return parsed
}

func parseCertificate(text string) (*x509.Certificate, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != blockCertificate {
		return nil, errors.New("pem holds no certificate")
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errors.New("pem holds more than one certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	if _, ok := cert.PublicKey.(*rsa.PublicKey); !ok {
		return nil, fmt.Errorf("its key is %v, not RSA", cert.PublicKeyAlgorithm)
	}
	return cert, nil
}

func checkClientSecrets(tenantID string, a Application, p *problems) {
	for i, c := range a.ClientSecrets {
		if c.Value == "" {
			p.addf("tenant %s: application %s: client secret %d is empty", tenantID, a.ClientID, i+1)
		}
	}
}
