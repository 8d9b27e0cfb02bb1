package usertoken_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/exchange/usertoken"
)

const (
	metadataPath = "/" + tenant + "/v2.0/.well-known/openid-configuration"
	keysPath     = "/" + tenant + "/discovery/v2.0/keys"
	canary       = "canary-in-the-body"
)

func metadata(issuer, keys string) string {
	return `{"issuer":"` + issuer + `","jwks_uri":"` + keys + `"}`
}

// Whatever answers in the authority's place: no key, no second address, and nothing of
// the answer in the error.
func TestHostileAnswers(t *testing.T) {
	issuer := authority + "/" + tenant + "/v2.0"
	for name, c := range map[string]struct {
		path   string // whose answer is replaced
		status int
		body   string
	}{
		"metadata: 404":                  {metadataPath, 404, canary},
		"metadata: 500":                  {metadataPath, 500, canary},
		"metadata: redirect":             {metadataPath, 302, canary},
		"metadata: 500, all the same":    {metadataPath, 500, metadata(issuer, authority+keysPath)},
		"metadata: no content":           {metadataPath, 204, ""},
		"metadata: a page":               {metadataPath, 200, "<html>" + canary},
		"metadata: cut off":              {metadataPath, 200, `{"issuer":"` + canary},
		"metadata: too large":            {metadataPath, 200, metadata(issuer, authority+keysPath) + strings.Repeat(" ", 1<<20)},
		"metadata: a member twice":       {metadataPath, 200, `{"issuer":"x",` + metadata(issuer, authority+keysPath)[1:]},
		"metadata: another issuer":       {metadataPath, 200, metadata(authority+"/"+otherTenant+"/v2.0", authority+keysPath)},
		"metadata: the shared issuer":    {metadataPath, 200, metadata(authority+"/{tenantid}/v2.0", authority+keysPath)},
		"metadata: keys elsewhere":       {metadataPath, 200, metadata(issuer, "https://evil.example"+keysPath)},
		"metadata: keys without TLS":     {metadataPath, 200, metadata(issuer, strings.Replace(authority, "https", "http", 1)+keysPath)},
		"metadata: keys on another port": {metadataPath, 200, metadata(issuer, authority+":8443"+keysPath)},
		"metadata: keys with a user":     {metadataPath, 200, metadata(issuer, strings.Replace(authority, "//", "//u:p@", 1)+keysPath)},
		"metadata: keys are no URL":      {metadataPath, 200, metadata(issuer, "%")},
		"metadata: keys are missing":     {metadataPath, 200, `{"issuer":"` + issuer + `"}`},
		"keys: 404":                      {keysPath, 404, canary},
		"keys: redirect":                 {keysPath, 307, canary},
		"keys: a page":                   {keysPath, 200, "<html>" + canary},
		"keys: too large":                {keysPath, 200, `{"keys":[]}` + strings.Repeat(" ", 1<<20)},
		"keys: none":                     {keysPath, 200, `{"keys":[]}`},
		"keys: none of a known form":     {keysPath, 200, `{"keys":[{"kty":"` + canary + `"},7,{}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPublisher()
			p.answer = func(r *http.Request) (*http.Response, error) {
				if r.URL.Path != c.path {
					return nil, nil
				}
				resp := respond(r, c.status, c.body)
				resp.Header.Set("Location", authority+"/elsewhere")
				return resp, nil
			}
			e := refusal(t, newVerifier(t, p), sign(t, header(), good()), usertoken.KeysUnavailable)
			if strings.Contains(e.Message+e.Hint, canary) || e.Err != nil {
				t.Errorf("the error shows the answer: %+v", *e)
			}
			want := []string{metadataPath, keysPath}
			if c.path == metadataPath {
				want = want[:1]
			}
			if diff := cmp.Diff(want, p.requests); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnreachableAuthority(t *testing.T) {
	p := newPublisher()
	gone := errors.New("no route to host")
	p.answer = func(*http.Request) (*http.Response, error) { return nil, gone }
	if e := refusal(t, newVerifier(t, p), sign(t, header(), good()), usertoken.KeysUnavailable); !errors.Is(e, gone) {
		t.Errorf("got cause %v, want %v", e.Err, gone)
	}
}

// A key set with keys that are not for us still serves the one that is.
func TestKeysThatAreNotForUs(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // to be refused
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x, y := curve.X.Bytes(), curve.Y.Bytes()
	second := &authorityKeys()[1].PublicKey
	for name, bad := range map[string]map[string]any{
		"weak":                  jwk("k1", &weak.PublicKey),
		"elliptic curve":        {"kty": "EC", "crv": "P-256", "kid": "k1", "x": encode(x), "y": encode(y)},
		"a secret":              {"kty": "oct", "kid": "k1", "k": encode([]byte("secret"))},
		"for encryption":        set(jwk("k1", second), "use", "enc"),
		"for another algorithm": set(jwk("k1", second), "alg", "PS256"),
		"another tenant's":      set(jwk("k1", second), "issuer", authority+"/"+otherTenant+"/v2.0"),
		"personal accounts'":    set(jwk("k1", second), "issuer", authority+"/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"),
		"without an id":         set(jwk("k1", second), "kid", nil),
		"huge":                  jwk("k1", &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 8192, 1), E: 65537}),
		"not of this kind":      {"kty": "LWE", "kid": "k1"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPublisher()
			p.publish(bad, p.keys[0])
			v := newVerifier(t, p)
			verified(t, v, sign(t, header(), good()))
			refused(t, v, signWith(t, 1, header("kid", "k1"), good()), usertoken.UnknownKey)
		})
	}
	for name, fine := range map[string]map[string]any{
		"for all tenants": set(jwk("k1", second), "issuer", authority+"/{tenantid}/v2.0"),
		"for this tenant": set(jwk("k1", second), "issuer", authority+"/"+strings.ToUpper(tenant)+"/v2.0", "alg", "RS256"),
		"for any use":     set(jwk("k1", second), "use", nil),
	} {
		t.Run(name, func(t *testing.T) {
			p := newPublisher()
			p.publish(fine)
			verified(t, newVerifier(t, p), signWith(t, 1, header("kid", "k1"), good()))
		})
	}
	t.Run("none with an id", func(t *testing.T) {
		p := newPublisher()
		p.publish(set(p.keys[0], "kid", nil))
		refused(t, newVerifier(t, p), sign(t, header(), good()), usertoken.KeysUnavailable)
	})
	t.Run("twice the same id", func(t *testing.T) {
		p := newPublisher()
		p.publish(p.keys[0], jwk("k0", second))
		v := newVerifier(t, p)
		verified(t, v, sign(t, header(), good()))
		refused(t, v, signWith(t, 1, header(), good()), usertoken.BadSignature)
	})
}

// Entra itself keeps no more than a hundred keys of an issuer.
func TestKeysAreBounded(t *testing.T) {
	p := newPublisher()
	keys := make([]map[string]any, 101)
	for i := range keys {
		keys[i] = jwk("other", &authorityKeys()[1].PublicKey)
	}
	keys[100] = p.keys[0]
	p.publish(keys...)
	refused(t, newVerifier(t, p), sign(t, header(), good()), usertoken.UnknownKey)
	p.publish(keys[1:]...)
	verified(t, newVerifier(t, p), sign(t, header(), good()))
}
