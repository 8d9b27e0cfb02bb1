package main

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/workload"
)

const (
	documentLimit    = 5 * time.Second
	maxDocumentBytes = 1 << 20
	// storedKeys is how many keys of an issuer Entra stores:
	// https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations.
	storedKeys = 100

	discoveryPath = "/.well-known/openid-configuration"
	privateHint   = "Entra fetches the issuer's keys over the Internet: if the issuer is public, and only this machine cannot reach it, all is well; " +
		"a cluster whose issuer is private needs a public one"
)

// issuerTransport trusts the system's authorities, and those of the policy's
// caFile beside them: a cloud of one's own may have an issuer of one's own.
func issuerTransport(cloud policy.Cloud) (http.RoundTripper, error) {
	pem, err := readRoots(cloud.CAFile)
	if err != nil {
		return nil, err
	}
	return &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: alsoRoots(pem)},
		DisableKeepAlives: true,
		ForceAttemptHTTP2: true,
	}, nil
}

// issuer looks for the key of the workload token where Entra will look for it.
func (d *doctor) issuer(ctx context.Context, a workload.Assertion) step {
	const name = "issuer"
	if u, err := url.Parse(a.Issuer); err != nil || u.Scheme != "https" || u.Host == "" {
		return skipped(name, "the issuer is not an https URL")
	}
	ctx, cancel := context.WithTimeout(ctx, documentLimit)
	defer cancel()
	jwksURI, bad := d.discover(ctx, name, a.Issuer)
	if bad != nil {
		return *bad
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if bad := d.published(ctx, name, "the issuer's key set", jwksURI, &set); bad != nil {
		return *bad
	}
	return checkSignature(name, a, set.Keys)
}

// discover returns where the issuer says that its keys are.
func (d *doctor) discover(ctx context.Context, name, issuer string) (jwksURI string, bad *step) {
	var metadata struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	// OpenID Connect Discovery 1.0 §4.1 removes one slash at the end.
	address := strings.TrimSuffix(issuer, "/") + discoveryPath
	if bad := d.published(ctx, name, "the issuer's discovery document", address, &metadata); bad != nil {
		return "", bad
	}
	if metadata.Issuer != issuer {
		hint := "the issuer must be configured to call itself the same in its tokens and in its discovery document"
		if strings.TrimRight(metadata.Issuer, "/") == strings.TrimRight(issuer, "/") {
			hint += ": a slash at the end counts"
		}
		s := failed(name, "the discovery document is that of "+quoteClaim(metadata.Issuer)+", and the token is from "+quoteClaim(issuer), hint)
		return "", &s
	}
	if u, err := url.Parse(metadata.JWKSURI); err != nil || u.Scheme != "https" || u.Host == "" {
		s := failed(name, "jwks_uri of the discovery document, "+quoteClaim(metadata.JWKSURI)+", is not an https URL", "configure the issuer to publish its keys at a public https URL")
		return "", &s
	}
	return metadata.JWKSURI, nil
}

// published reads a document of the issuer. What the network does to it here
// says little about what Entra will see; an answer says much.
func (d *doctor) published(ctx context.Context, name, what, address string, into any) *step {
	status, body, err := getDocument(ctx, d.outside, address)
	var s step
	switch {
	case err != nil:
		s = doubted(name, what+" cannot be read from here: "+err.Error(), privateHint)
	case status >= 500:
		s = doubted(name, what+" came with status "+strconv.Itoa(status), "the issuer has an outage, or a proxy answers in its place")
	case status >= 300 && status < 400:
		s = doubted(name, what+" is redirected to another place", "publish it at "+address+" itself: nobody promises that Entra follows")
	case status != http.StatusOK:
		s = failed(name, what+" came with status "+strconv.Itoa(status), "the issuer must show it to everybody, without authentication, at "+address)
	case json.Unmarshal(body, into) != nil:
		s = failed(name, what+" is not JSON", "the issuer must publish it at "+address)
	default:
		return nil
	}
	return &s
}

// getDocument makes one GET request, and follows nothing.
func getDocument(ctx context.Context, transport http.RoundTripper, address string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	// An API server of Kubernetes shows its keys as nothing but a key set (RFC 7517
	// §8.5), and answers 406 to who asks for JSON alone.
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	resp, err := transport.RoundTrip(req) // not a Client, which would follow
	if err != nil {
		return 0, nil, err
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxDocumentBytes+1))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return 0, nil, err
	}
	if len(body) > maxDocumentBytes {
		return 0, nil, errors.New("it is larger than 1 MiB")
	}
	return resp.StatusCode, body, nil
}

// checkSignature looks the token's key up in a key set, and verifies with it.
func checkSignature(name string, a workload.Assertion, keys []json.RawMessage) step {
	has := "discovery document and key set can be read (" + count(len(keys), "key", "keys") + ")"
	signed, err := jose.ParseSignedCompact(a.Reveal(), []jose.SignatureAlgorithm{jose.RS256}) //nolint:forbidigo // it is verified here, and nothing of it is printed
	if err != nil || len(signed.Signatures) != 1 {
		return doubted(name, has+"; the signature cannot be checked", "Entra accepts tokens that are signed with RS256 only")
	}
	id := signed.Signatures[0].Header.KeyID
	if id == "" {
		return doubted(name, has+"; the token does not say which key it is signed with", "configure the issuer to write kid into the header of its tokens: Entra finds keys by it")
	}
	at, key := findKey(keys, id)
	switch {
	case at < 0:
		return failed(name, "the key "+quoteClaim(id)+" of the token is not in the issuer's key set", "the token may be from before a change of keys, or from another issuer of that name: get a new token, and compare jwks_uri with the issuer's real keys")
	case key == nil:
		return failed(name, "the key "+quoteClaim(id)+" of the token is not an RSA key", "configure the issuer to sign with an RSA key")
	case at >= storedKeys:
		return failed(name, fmt.Sprintf("the key %s of the token is number %d in the issuer's key set, and Entra stores %d", quoteClaim(id), at+1, storedKeys), "remove old keys from the key set")
	}
	if _, err := signed.Verify(key); err != nil {
		return failed(name, "the signature of the token does not verify with the issuer's key "+quoteClaim(id), "the token is not from this issuer, or was changed on its way")
	}
	if len(keys) > storedKeys {
		return doubted(name, has+"; the signature verifies", fmt.Sprintf("Entra stores the first %d keys: remove old ones", storedKeys))
	}
	return passed(name, has+"; the signature verifies")
}

// findKey returns the place of a key in the set, -1 for none, and the key if
// it is RSA.
func findKey(keys []json.RawMessage, id string) (int, *rsa.PublicKey) {
	for i, raw := range keys {
		var named struct {
			ID string `json:"kid"`
		}
		if json.Unmarshal(raw, &named) != nil || named.ID != id {
			continue
		}
		var jwk jose.JSONWebKey
		if json.Unmarshal(raw, &jwk) != nil {
			return i, nil
		}
		key, _ := jwk.Key.(*rsa.PublicKey)
		return i, key
	}
	return -1, nil
}
