package usertoken_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/credfree/credfree/exchange/usertoken"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	authority = "https://login.entra.test"

	tenant      = "11111111-1111-4111-8111-11111111aaaa"
	otherTenant = "22222222-2222-4222-8222-22222222bbbb"
	apiV2       = "aaaaaaaa-0000-4000-8000-00000000000a"
	apiV1       = "aaaaaaaa-0000-4000-8000-00000000000b"
	frontend    = "aaaaaaaa-0000-4000-8000-00000000000f"
	userID      = "cccccccc-0000-4000-8000-00000000000c"
)

// ours is what every test expects unless it says otherwise.
var ours = usertoken.Expectation{Tenants: []string{tenant}, Audiences: []string{apiV2, apiV1, "https://ledger.example"}}

// authorityKeys are two keys: making one takes longer than most tests.
var authorityKeys = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var keys [2]*rsa.PrivateKey
	for i := range keys {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[i] = key
	}
	return keys
})

// publisher stands for an authority whose keys the test holds, so that it can sign what
// Entra would not.
type publisher struct {
	answer func(*http.Request) (*http.Response, error) // in place of documents, unless it returns neither

	mu       sync.Mutex // guards the rest
	keys     []map[string]any
	requests []string // paths
}

func newPublisher() *publisher {
	return &publisher{keys: []map[string]any{jwk("k0", &authorityKeys()[0].PublicKey)}}
}

func jwk(id string, key *rsa.PublicKey) map[string]any {
	return map[string]any{"kty": "RSA", "use": "sig", "kid": id, "n": encode(key.N.Bytes()), "e": encode(big.NewInt(int64(key.E)).Bytes())}
}

func (p *publisher) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	p.requests = append(p.requests, r.URL.Path)
	keys := p.keys
	p.mu.Unlock()
	if p.answer != nil {
		if resp, err := p.answer(r); resp != nil || err != nil {
			return resp, err
		}
	}
	id, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch base := authority + "/" + id; rest {
	case "v2.0/.well-known/openid-configuration":
		return document(r, 200, map[string]any{"issuer": base + "/v2.0", "jwks_uri": base + "/discovery/v2.0/keys"})
	case "discovery/v2.0/keys":
		return document(r, 200, map[string]any{"keys": keys})
	}
	return document(r, 404, map[string]any{})
}

func document(r *http.Request, status int, doc any) (*http.Response, error) {
	body, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	return respond(r, status, string(body)), nil
}

func respond(r *http.Request, status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}
}

func (p *publisher) publish(keys ...map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
}

// fetches counts the fetches of metadata, and so of keys.
func (p *publisher) fetches() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, path := range p.requests {
		if strings.HasSuffix(path, "openid-configuration") {
			n++
		}
	}
	return n
}

func newVerifier(t testing.TB, transport http.RoundTripper) *usertoken.Verifier {
	t.Helper()
	v, err := usertoken.New(usertoken.Config{Authority: authority, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// set is a header or claims with some members changed; nil removes one.
func set(members map[string]any, changes ...any) map[string]any {
	members = maps.Clone(members)
	for i := 0; i+1 < len(changes); i += 2 {
		name := changes[i].(string)
		if members[name] = changes[i+1]; changes[i+1] == nil {
			delete(members, name)
		}
	}
	return members
}

// header and good make a token that is taken.
func header(changes ...any) map[string]any {
	return set(map[string]any{"alg": "RS256", "kid": "k0", "typ": "JWT"}, changes...)
}

func good(changes ...any) map[string]any {
	return set(map[string]any{
		"iss": authority + "/" + tenant + "/v2.0", "tid": tenant, "aud": apiV2, "ver": "2.0", "exp": time.Now().Add(time.Hour).Unix(),
		"nbf": time.Now().Unix(), "iat": time.Now().Unix(), "oid": userID, "sub": "pairwise", "azp": frontend, "scp": "access_as_user",
	}, changes...)
}

// sign makes a token with the key k0. A header or payload that is a string is taken as
// it is.
func sign(t testing.TB, header, payload any) string { return signWith(t, 0, header, payload) }

func signWith(t testing.TB, key int, header, payload any) string {
	t.Helper()
	text := func(v any) string {
		if s, ok := v.(string); ok {
			return s
		}
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	signed := encode([]byte(text(header))) + "." + encode([]byte(text(payload)))
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, authorityKeys()[key], crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + encode(signature)
}

func encode(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// asRefusal returns err, which is a refusal for this problem and tells what to do, or
// fails the test.
func asRefusal(t *testing.T, err error, want usertoken.Problem) *usertoken.Error {
	t.Helper()
	e, ok := errors.AsType[*usertoken.Error](err)
	if !ok {
		t.Fatalf("got error %v, want %s", err, want)
	}
	if e.Problem != want {
		t.Fatalf("got %s (%v), want %s", e.Problem, err, want)
	}
	if e.Message == "" || e.Hint == "" {
		t.Errorf("got message %q and hint %q, want both", e.Message, e.Hint)
	}
	if got := e.Temporary(); got != (want == usertoken.KeysUnavailable) {
		t.Errorf("Temporary of %s = %v", want, got)
	}
	return e
}

func verified(t *testing.T, v *usertoken.Verifier, raw string) usertoken.User {
	t.Helper()
	user, err := v.Verify(t.Context(), raw, ours)
	if err != nil {
		t.Fatalf("Verify = %v, want the user", err)
	}
	return user
}

// refusal is why a token is refused: for this problem, or the test fails.
func refusal(t *testing.T, v *usertoken.Verifier, raw string, want usertoken.Problem) *usertoken.Error {
	t.Helper()
	user, err := v.Verify(t.Context(), raw, ours)
	if user.ObjectID != "" || user.Tenant != "" {
		t.Errorf("got user %+v with an error", user)
	}
	return asRefusal(t, err, want)
}

func refused(t *testing.T, v *usertoken.Verifier, raw string, want usertoken.Problem) {
	t.Helper()
	_ = refusal(t, v, raw, want)
}

func wantProblem(t *testing.T, err error, want usertoken.Problem) {
	t.Helper()
	_ = asRefusal(t, err, want)
}
