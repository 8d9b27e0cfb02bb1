package usertoken

import (
	"context"
	"crypto/rsa"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

const (
	maxDocumentBytes = 1 << 20
	maxKeys          = 100
	minKeyBits       = 2048 // go-jose itself takes none of more than 4096
)

// checkHint is for answers that Entra does not give.
const checkHint = "something between the broker and the authority may be answering in its place: check cloud, authority and the proxy settings"

// fetch reads the tenant's metadata and then its keys, by their ids. There is at least
// one if there is no *Error.
func (v *Verifier) fetch(ctx context.Context, tenant string) (map[string]*rsa.PublicKey, *Error) {
	var metadata struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	issuer := v.issuer(tenant, version2)
	if failure := v.get(ctx, tenant, issuer+"/.well-known/openid-configuration", &metadata); failure != nil {
		return nil, failure
	}
	if metadata.Issuer != issuer {
		return nil, unavailable(tenant, "its metadata is that of issuer "+quote(metadata.Issuer), "the authority must be the host that its own metadata names: check the authority", nil)
	}
	if u, err := url.Parse(metadata.JWKSURI); err != nil || u.User != nil || u.Scheme+"://"+u.Host != v.cfg.Authority {
		return nil, unavailable(tenant, "its metadata leads to "+quote(metadata.JWKSURI)+", away from the authority", checkHint, nil)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if failure := v.get(ctx, tenant, metadata.JWKSURI, &set); failure != nil {
		return nil, failure
	}
	keys := map[string]*rsa.PublicKey{}
	for _, raw := range set.Keys[:min(len(set.Keys), maxKeys)] {
		// One by one: a key of a kind that is not used here must not hide the others.
		if id, key := parseKey(raw, tenant); key != nil && keys[id] == nil {
			keys[id] = key
		}
	}
	if len(keys) == 0 {
		return nil, unavailable(tenant, "it publishes none that could be used", checkHint, nil)
	}
	return keys, nil
}

// parseKey returns a key that may sign the tenant's tokens, or nil. Entra says of some
// keys whose tokens they sign; {tenantid} stands for every tenant.
func parseKey(raw []byte, tenant string) (id string, key *rsa.PublicKey) {
	var jwk jose.JSONWebKey
	var scope struct {
		Issuer string `json:"issuer"`
	}
	if json.Unmarshal(raw, &jwk) != nil || json.Unmarshal(raw, &scope) != nil || jwk.KeyID == "" {
		return "", nil
	}
	key, ok := jwk.Key.(*rsa.PublicKey)
	switch {
	case !ok || key.N.BitLen() < minKeyBits:
		return "", nil
	case jwk.Use != "" && jwk.Use != "sig", jwk.Algorithm != "" && jwk.Algorithm != "RS256":
		return "", nil
	case scope.Issuer != "" && !strings.Contains(scope.Issuer, "{tenantid}") && !strings.Contains(strings.ToLower(scope.Issuer), tenant):
		return "", nil
	}
	return jwk.KeyID, key
}

// get reads one JSON document.
func (v *Verifier) get(ctx context.Context, tenant, address string, into any) *Error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return unavailable(tenant, "their address is no URL", checkHint, err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := v.cfg.Transport.RoundTrip(req) // not a Client, which would follow
	if err != nil {
		return unreachable(tenant, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return unavailable(tenant, "the authority answered with status "+strconv.Itoa(resp.StatusCode), "check that the tenant exists in this cloud, and the proxy settings", nil)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocumentBytes+1))
	if err != nil {
		return unreachable(tenant, err)
	}
	if len(body) > maxDocumentBytes {
		return unavailable(tenant, "the answer is larger than 1 MiB", checkHint, nil)
	}
	if json.Unmarshal(body, into) != nil {
		return unavailable(tenant, "the answer is not the JSON it should be", checkHint, nil) // the decoder's error may quote it
	}
	return nil
}

// unreachable explains a request that got no answer.
func unreachable(tenant string, err error) *Error {
	what := "the authority cannot be reached"
	var netErr net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout() {
		what = "the authority did not answer in time"
	}
	return unavailable(tenant, what, "check the network path to the authority, and caFile for a custom cloud; the broker asks again by itself, within seconds", err)
}

func unavailable(tenant, what, hint string, err error) *Error {
	return &Error{Problem: KeysUnavailable, Message: "the keys of tenant " + tenant + " are not at hand: " + what, Hint: hint, Err: err}
}
