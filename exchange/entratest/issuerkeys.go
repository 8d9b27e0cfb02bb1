package entratest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	issuerTimeout  = 10 * time.Second
	issuerBodyMax  = 1 << 20
	issuerKeysMax  = 100 // Entra stores no more keys of an issuer
	issuerFreshFor = 5 * time.Minute
	// A key id nobody knows makes the server look again, so that a rotation is
	// seen at once; but only this often, so that made-up ids cannot make it
	// hammer the issuer.
	refetchesPerMinute = 5
)

var errUnknownKey = errors.New("the key was not found")

// issuerKeys fetches and briefly keeps the keys of federated issuers. Callers
// only ask for issuers that a federated credential names, which bounds it.
type issuerKeys struct {
	client *http.Client
	now    func() time.Time

	mu      sync.Mutex // guards issuers; not held while fetching
	issuers map[string]issuerState
}

type issuerState struct {
	keys      map[string]jose.JSONWebKey
	fetched   time.Time
	minute    time.Time // start of the minute in which refetches are counted
	refetches int
}

func newIssuerKeys(client *http.Client, now func() time.Time) *issuerKeys {
	return &issuerKeys{client: client, now: now, issuers: map[string]issuerState{}}
}

// key returns the issuer's key with this id: errUnknownKey when the issuer does
// not publish it, another error when the issuer cannot be asked.
func (k *issuerKeys) key(ctx context.Context, issuer, id string) (jose.JSONWebKey, error) {
	key, known, fetch := k.kept(issuer, id)
	if !fetch {
		if !known {
			return jose.JSONWebKey{}, errUnknownKey
		}
		return key, nil
	}
	keys, err := k.fetch(ctx, issuer)
	if err != nil {
		return jose.JSONWebKey{}, err
	}
	k.mu.Lock()
	state := k.issuers[issuer]
	state.keys, state.fetched = keys, k.now()
	k.issuers[issuer] = state
	k.mu.Unlock()
	if key, known = keys[id]; !known {
		return jose.JSONWebKey{}, errUnknownKey
	}
	return key, nil
}

// kept looks the key up and decides whether the issuer must be asked.
func (k *issuerKeys) kept(issuer, id string) (key jose.JSONWebKey, known, fetch bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	state := k.issuers[issuer]
	if age := now.Sub(state.fetched); state.keys == nil || age < 0 || age >= issuerFreshFor {
		return jose.JSONWebKey{}, false, true
	}
	if key, known = state.keys[id]; known {
		return key, true, false
	}
	if now.Sub(state.minute) >= time.Minute {
		state.minute, state.refetches = now, 0
	}
	state.refetches++
	k.issuers[issuer] = state
	return jose.JSONWebKey{}, false, state.refetches <= refetchesPerMinute
}

// fetch reads the issuer's discovery document and then its keys.
func (k *issuerKeys) fetch(ctx context.Context, issuer string) (map[string]jose.JSONWebKey, error) {
	ctx, cancel := context.WithTimeout(ctx, issuerTimeout)
	defer cancel()
	var doc struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := k.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", &doc); err != nil {
		return nil, fmt.Errorf("discovery document: %w", err)
	}
	if doc.Issuer != issuer {
		return nil, fmt.Errorf("the discovery document is for issuer %q, not %q", doc.Issuer, issuer)
	}
	if u, err := url.Parse(doc.JWKSURI); err != nil || u.Scheme != "https" {
		return nil, fmt.Errorf("jwks_uri %q is not an https URL", doc.JWKSURI)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := k.get(ctx, doc.JWKSURI, &set); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	keys := map[string]jose.JSONWebKey{}
	for _, raw := range set.Keys[:min(len(set.Keys), issuerKeysMax)] {
		// One by one: a key of a kind we cannot read must not hide the others.
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) == nil && key.KeyID != "" && key.IsPublic() {
			keys[key.KeyID] = key
		}
	}
	return keys, nil
}

func (k *issuerKeys) get(ctx context.Context, address string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	// An API server of Kubernetes shows its keys as nothing but a key set (RFC 7517
	// §8.5), and answers 406 to who asks for JSON alone.
	req.Header.Set("Accept", "application/json, "+jwksMediaType)
	resp, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("got status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, issuerBodyMax+1))
	if err != nil {
		return err
	}
	if len(body) > issuerBodyMax {
		return fmt.Errorf("longer than %d bytes", issuerBodyMax)
	}
	return json.Unmarshal(body, v)
}
