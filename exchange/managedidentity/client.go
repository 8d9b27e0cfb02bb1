package managedidentity

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	msal "github.com/AzureAD/microsoft-authentication-library-for-go/apps/managedidentity"

	"github.com/credfree/credfree/exchange/secret"
)

const (
	// requestLimit bounds one request, from the dial to the last byte.
	requestLimit = 10 * time.Second
	// dialLimit is short because the endpoints are on this machine or its host:
	// where there is none, packets to it often vanish without an answer.
	dialLimit = 2 * time.Second

	maxHeaderBytes = 64 << 10
)

// ID says which identity is meant, by at most one of its names. The zero ID is the
// system-assigned identity, or the only one there is.
type ID struct {
	ClientID   string // GUID of the application
	ObjectID   string // GUID of the service principal
	ResourceID string // /subscriptions/…/userAssignedIdentities/…
}

// msal is the name that MSAL takes. ok is false when there are several.
func (id ID) msal() (name msal.ID, ok bool) {
	switch id {
	case ID{}:
		return msal.SystemAssigned(), true
	case ID{ClientID: id.ClientID}:
		return msal.UserAssignedClientID(id.ClientID), true
	case ID{ObjectID: id.ObjectID}:
		return msal.UserAssignedObjectID(id.ObjectID), true
	case ID{ResourceID: id.ResourceID}:
		return msal.UserAssignedResourceID(id.ResourceID), true
	}
	return nil, false
}

// Config configures a Client.
type Config struct {
	// Transport sends the requests. Required. Of an *http.Transport a copy is used,
	// which has no proxy, keeps no connection open and gives up a dial after two
	// seconds. Any other must not use a proxy either; for Service Fabric, where MSAL
	// pins the certificate, an http.Transport stands in for it.
	Transport http.RoundTripper
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Client asks for tokens. It remembers nothing but how long an endpoint asked it to
// wait, and is safe for concurrent use.
type Client struct {
	cfg      Config
	pinnable *http.Transport // for MSAL to pin a certificate with

	mu    sync.Mutex // guards waits
	waits map[ID]wait
}

// wait is what an endpoint said that asked to wait.
type wait struct {
	until time.Time
	why   Error
}

// waiting is the answer for an identity that the endpoint asked to wait with, or nil.
func (c *Client) waiting(id ID) *Error {
	now := c.cfg.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	told, ok := c.waits[id]
	if !ok || !now.Before(told.until) {
		return nil
	}
	why := told.why
	why.RetryAfter = told.until.Sub(now)
	return &why
}

// heed remembers how long to wait, and forgets what is over: the others are few.
func (c *Client) heed(id ID, failure *Error) {
	if failure == nil || failure.Problem != Throttled || failure.RetryAfter == 0 {
		return
	}
	now := c.cfg.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.waits, func(_ ID, told wait) bool { return !now.Before(told.until) })
	c.waits[id] = wait{now.Add(failure.RetryAfter), *failure}
}

// New makes a Client.
func New(cfg Config) (*Client, error) {
	if cfg.Transport == nil {
		return nil, errors.New("managedidentity: Config.Transport is required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Client{cfg: cfg, waits: map[ID]wait{}}
	if given, ok := cfg.Transport.(*http.Transport); ok {
		c.pinnable = direct(given)
		c.cfg.Transport = c.pinnable
	} else {
		c.pinnable = direct(&http.Transport{TLSHandshakeTimeout: requestLimit})
	}
	return c, nil
}

// direct copies a transport into one for endpoints next door.
func direct(given *http.Transport) *http.Transport {
	t := given.Clone()
	t.Proxy, t.DisableKeepAlives, t.MaxResponseHeaderBytes = nil, true, maxHeaderBytes
	dial := t.DialContext
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialLimit)
		defer cancel()
		return dial(ctx, network, address)
	}
	return t
}

// Token is an access token of a managed identity. Its text is a secret.Text: no
// printer and no encoder shows it.
type Token struct {
	secret.Text
	Lifetime  time.Duration // from the moment the request was made; always positive
	RefreshIn time.Duration // when to ask for the next one; 0 when nothing suggests it
	Source    string        // imds, app_service, arc, service_fabric, azure_ml or cloud_shell
}

// Token asks for a token of an identity for a resource, such as
// https://vault.azure.net; a scope's /.default is no part of it. It takes at most
// ten seconds for each request, of which Azure Arc needs two, and makes none for an
// identity while the endpoint wants it to wait. Errors are of type *Error.
func (c *Client) Token(ctx context.Context, id ID, resource string) (Token, error) {
	got, failure := c.ask(ctx, id, resource)
	if failure != nil {
		return Token{}, failure
	}
	return Token{Text: secret.New(got.token), Lifetime: got.lifetime, RefreshIn: got.refreshIn, Source: got.source}, nil
}

// ask makes one call through a fresh MSAL client.
func (c *Client) ask(ctx context.Context, id ID, resource string) (*answer, *Error) {
	if err := ctx.Err(); err != nil {
		return nil, givenUp(err)
	}
	name, ok := id.msal()
	if !ok {
		return nil, &Error{Problem: Unsupported, Message: "a managed identity is named in more than one way", Hint: "give the client id, the object id or the resource id, and not two of them"}
	}
	if resource == "" || strings.ContainsFunc(resource, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, &Error{Problem: Malformed, Message: "the resource that the token is for is empty or has characters that no resource has", Hint: "name it like https://vault.azure.net"}
	}
	if failure := c.waiting(id); failure != nil {
		return nil, failure
	}
	source, err := msal.GetSource()
	if err != nil {
		return nil, &Error{Problem: Malformed, Message: "the environment does not say which managed identity endpoint there is", Hint: "check IDENTITY_ENDPOINT and MSI_ENDPOINT, or unset them"}
	}
	call := &call{client: c, platform: platforms[source], transport: c.cfg.Transport}
	client, err := msal.New(name, msal.WithHTTPClient(call), msal.WithRetryPolicyDisabled())
	if err != nil {
		return nil, call.unusable(id)
	}
	// Claims make MSAL pass over its cache, where others may have left something.
	// They are not sent.
	_, err = client.AcquireToken(ctx, resource, msal.WithClaims("{}"))
	got, failure := call.outcome(ctx, err)
	c.heed(id, failure)
	return got, failure
}
