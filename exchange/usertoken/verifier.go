package usertoken

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/credfree/credfree/exchange/secret"
)

// Config is what New needs.
type Config struct {
	// Authority is the https origin of the token service as it stands in the issuers of
	// v2 tokens, such as https://login.microsoftonline.com. Required; in lower case, no
	// path, no query.
	Authority string
	// V1Issuer is the https origin in the issuers of v1 tokens, which is not the
	// authority. Empty means https://sts.windows.net, and for the authority of the cloud
	// in China https://sts.chinacloudapi.cn.
	V1Issuer string
	// Transport carries the requests for metadata and keys. It is called directly, so
	// redirects are never followed. Required.
	Transport http.RoundTripper
	// Tracer makes the spans user.keys, one per fetch of a tenant's keys. Nil makes none.
	Tracer trace.Tracer
	// Now is the clock that expiry and the age of keys are measured with. Nil means
	// time.Now.
	Now func() time.Time
}

// Verifier verifies the tokens of one authority. It is safe for concurrent use. Of a
// token that comes again it remembers what it says and that its signature was good,
// by a hash of it, and never the token.
type Verifier struct {
	cfg Config

	mu      sync.Mutex // guards the rest; not held while fetching or verifying
	tenants *simplelru.LRU[string, *keySet]
	known   *simplelru.LRU[digest, *known]
	// knownBytes is the weight of all that is known.
	knownBytes int
	running    map[*flight]struct{}
	closed     bool
	fetches    Fetches
	idle       sync.WaitGroup // of the running flights
}

// New returns a Verifier or all problems of cfg, joined. It asks nobody anything yet.
func New(cfg Config) (*Verifier, error) {
	var problems []error
	if !isOrigin(cfg.Authority) {
		problems = append(problems, fmt.Errorf("authority %q is not an https origin like https://login.microsoftonline.com", cfg.Authority))
	}
	if cfg.V1Issuer == "" {
		cfg.V1Issuer = v1Issuer(cfg.Authority)
	}
	if !isOrigin(cfg.V1Issuer) {
		problems = append(problems, fmt.Errorf("the issuer of v1 tokens %q is not an https origin like https://sts.windows.net", cfg.V1Issuer))
	}
	if cfg.Transport == nil {
		problems = append(problems, errors.New("the transport is missing"))
	}
	if cfg.Tracer == nil {
		cfg.Tracer = noop.NewTracerProvider().Tracer("")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	v := &Verifier{cfg: cfg, running: map[*flight]struct{}{}}
	var err error
	if v.tenants, err = simplelru.NewLRU[string, *keySet](maxTenants, nil); err != nil {
		problems = append(problems, err)
	}
	v.known, err = simplelru.NewLRU[digest, *known](maxKnown, func(_ digest, k *known) { v.knownBytes -= k.bytes })
	if err != nil {
		problems = append(problems, err)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return v, nil
}

// Close ends the fetches that are under way and waits for them. Verify fails afterwards,
// with KeysUnavailable for what needs a key.
func (v *Verifier) Close() {
	v.mu.Lock()
	v.closed = true
	for f := range v.running {
		f.cancel()
	}
	v.mu.Unlock()
	v.idle.Wait()
}

// Verify returns the user whose token raw is, if it is an access token that Entra issued
// to a user for one of the audiences and tenants of want, and valid now. Errors are of
// type *Error; when ctx ends first, of KeysUnavailable with the context's error as cause.
func (v *Verifier) Verify(ctx context.Context, raw string, want Expectation) (User, error) {
	k, failure := v.verify(ctx, raw, want)
	if failure != nil {
		return User{}, failure
	}
	return k.user, nil
}

// VerifyClaims is Verify for whoever wants to know all that the token says. payload
// is a JSON object, as Entra has signed it, in which no name comes twice at the top.
// It has names and addresses of the user, so it is for the holder of the token alone.
func (v *Verifier) VerifyClaims(ctx context.Context, raw string, want Expectation) (user User, payload secret.Text, err error) {
	k, failure := v.verify(ctx, raw, want)
	if failure != nil {
		return User{}, secret.Text{}, failure
	}
	_, rest, _ := strings.Cut(raw, ".")
	part, _, _ := strings.Cut(rest, ".")
	data, _ := decodePart(part) // parse has read it
	return k.user, secret.New(string(data)), nil
}

// verify reads a token and verifies its signature once, as long as its tenant's keys
// are what they were, and checks all else each time.
func (v *Verifier) verify(ctx context.Context, raw string, want Expectation) (*known, *Error) {
	of := digest(sha256.Sum256([]byte(raw)))
	k := v.recall(of)
	var t token
	var failure *Error
	if k == nil {
		// 1. Is it a token, signed in the only way that is taken?
		if t, failure = parse(raw); failure != nil {
			return nil, failure
		}
		k = &known{keyID: t.keyID, claims: t.claims}
	}
	// 2. Is it for us? Nothing of it is proven yet.
	if failure := v.checkAddress(&k.claims, want); failure != nil {
		return nil, failure
	}
	// 3. Did its tenant sign it?
	key, failure := v.key(ctx, strings.ToLower(k.claims.TenantID), k.keyID, want.Cause)
	if failure != nil {
		return nil, failure
	}
	fresh := k.key != key
	if fresh {
		if t.signature == nil { // the keys were fetched again since
			if t, failure = parse(raw); failure != nil {
				return nil, failure
			}
		}
		if failure := t.checkSignature(key); failure != nil {
			return nil, failure
		}
	}
	// 4. Is it valid now?
	if failure := k.claims.checkTimes(v.cfg.Now()); failure != nil {
		return nil, failure
	}
	// 5. Did a user delegate something with it?
	if failure := k.claims.checkKind(); failure != nil {
		return nil, failure
	}
	if fresh {
		k = &known{keyID: k.keyID, claims: k.claims, key: key, user: v.user(&k.claims)} // 6. Who is it?
		k.user.Digest = of
		v.remember(of, len(raw), k)
	}
	return k, nil
}

// checkSignature verifies the text as it came. A general JOSE library would encode the
// payload anew, or not at all where the header has b64: here what is signed is what
// was read.
func (t *token) checkSignature(key *rsa.PublicKey) *Error {
	digest := sha256.Sum256([]byte(t.signed))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], t.signature); err != nil {
		return &Error{Problem: BadSignature, Message: "the user token's signature is not one of tenant " + t.claims.TenantID,
			Hint: "the token was changed on its way or made by somebody else; pass it on exactly as it was issued"}
	}
	return nil
}

// issuer is what stands in the tokens of a tenant: version 1.0 or 2.0.
func (v *Verifier) issuer(tenant, version string) string {
	if version == version1 {
		return v.cfg.V1Issuer + "/" + tenant + "/"
	}
	return v.cfg.Authority + "/" + tenant + "/v2.0"
}

func v1Issuer(authority string) string {
	switch authority {
	case "https://login.partner.microsoftonline.cn", "https://login.chinacloudapi.cn":
		return "https://sts.chinacloudapi.cn"
	}
	return "https://sts.windows.net"
}

func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && s == "https://"+strings.ToLower(u.Host)
}
