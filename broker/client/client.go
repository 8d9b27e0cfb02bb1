// Package client asks a broker for tokens, from Go.
//
// It owns the wire types of the OAuth door, which the broker itself uses, and
// depends on the standard library alone. It holds no token: the broker caches,
// so asking again is cheap.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// DefaultURL is where a broker listens unless told otherwise.
const DefaultURL = "http://127.0.0.1:7400"

// TokenPath is the token endpoint of the OAuth door.
const TokenPath = "/oauth2/token"

// ManagedIdentityPath is where a broker answers like App Service. An agent whose
// IDENTITY_ENDPOINT is a broker's URL with this path needs no code of its own.
const ManagedIdentityPath = "/msi/token"

// IssuanceHeader is on every answer of a broker.
const IssuanceHeader = "Credfree-Issuance-Id"

// maxAnswerBytes bounds what is read of an answer.
const maxAnswerBytes = 4 << 20

// patience is how long an answer may take. A broker gives up on Entra after half
// of it, and on the connection when it is over.
const patience = time.Minute

// Config says where the broker is. The zero value is the default broker over
// TCP, which identifies the caller by its uid.
type Config struct {
	// URL of the broker; "" means DefaultURL. Only its path matters when
	// Socket is set.
	URL string
	// Socket is the agent's own unix socket; "" means TCP.
	Socket string
	// KeyFile holds the agent's key, for agents that are told apart by a key;
	// "" means none. It is read at each request.
	KeyFile string
}

// Client asks one broker. It is safe for concurrent use.
type Client struct {
	cfg  Config
	http *http.Client
}

// New returns a client, or an error when the URL is not one of plain http.
func New(cfg Config) (*Client, error) {
	if cfg.URL == "" {
		cfg.URL = DefaultURL
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("broker URL %q is not one like %s", cfg.URL, DefaultURL)
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{
		// A proxy from the environment must never see a token.
		Proxy:           nil,
		DialContext:     dialer.DialContext,
		IdleConnTimeout: time.Minute,
	}
	if cfg.Socket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", cfg.Socket)
		}
	}
	return &Client{cfg: cfg, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// TokenRequest is what to ask for.
type TokenRequest struct {
	Scope    string // one or more scopes of one resource, separated by spaces; required
	Agent    string // the agent's own name, compared with what the broker knows; "" skips it
	Identity string // identity to act as; "" for the agent's default
	Claims   string // claims challenge to satisfy, a JSON object; "" for none
	// UserToken is the access token of the user to act for, issued for the
	// identity; "" asks for a token of the agent itself. It is a secret in the
	// open: do not log the request.
	UserToken string
}

// Token is an access token. Its text is in the open: hand it on, do not log it.
type Token struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"` // seconds
	Scope       string `json:"scope,omitempty"`
	IssuanceID  string `json:"-"`
}

// Error is the broker's refusal (RFC 6749 §5.2 with members of our own).
type Error struct {
	Code          string `json:"error"`
	Description   string `json:"error_description,omitempty"`
	Hint          string `json:"hint,omitempty"`
	Reason        string `json:"reason,omitempty"`     // from a closed set, as in metrics and audit lines
	RefusedBy     string `json:"refused_by,omitempty"` // policy, broker or entra
	Rule          string `json:"rule,omitempty"`       // path in the policy of the rule that decided
	Claims        string `json:"claims,omitempty"`
	Suberror      string `json:"suberror,omitempty"`
	Codes         []int  `json:"error_codes,omitempty"`
	CorrelationID string `json:"correlation_id,omitempty"`
	IssuanceID    string `json:"issuance_id,omitempty"`
	Status        int    `json:"-"`

	RetryAfter time.Duration `json:"-"` // how long the broker asks to wait; 0 when it does not
}

// Who refused.
const (
	ByPolicy = "policy"
	ByBroker = "broker"
	ByEntra  = "entra"
)

func (e *Error) Error() string {
	if e.Description == "" {
		return e.Code
	}
	return e.Code + ": " + e.Description
}

// UnreachableError says that no broker answered.
type UnreachableError struct {
	Where string
	Err   error
}

func (e *UnreachableError) Error() string {
	return "no broker answers at " + e.Where + ": " + e.Err.Error()
}

// Unwrap returns the network's error.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Token asks for an access token of the agent itself or, with a UserToken, to
// act for that user (RFC 8693). The error is an *Error when the broker refused,
// an *UnreachableError when none answered, within a minute at most, and neither when
// ctx was canceled.
func (c *Client) Token(ctx context.Context, req TokenRequest) (Token, error) {
	ctx, stop := context.WithTimeoutCause(ctx, patience, fmt.Errorf("nothing came for %s: something else listens there, or it hangs", patience))
	defer stop()
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {req.Scope}}
	if req.UserToken != "" {
		form.Set("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
		form.Set("subject_token", req.UserToken)
		form.Set("subject_token_type", "urn:ietf:params:oauth:token-type:access_token")
	}
	for name, value := range map[string]string{"client_id": req.Agent, "identity": req.Identity, "claims": req.Claims} {
		if value != "" {
			form.Set(name, value)
		}
	}
	httpReq, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(c.cfg.URL, "/")+TokenPath, strings.NewReader(form.Encode()))
	if err != nil {
		return Token{}, err
	}
	httpReq.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.cfg.KeyFile != "" {
		text, err := os.ReadFile(c.cfg.KeyFile)
		key := strings.TrimSpace(string(text))
		if err == nil && key == "" { // the caller would be whoever has its uid
			err = &os.PathError{Op: "read", Path: c.cfg.KeyFile, Err: errors.New("it is empty")}
		}
		if err != nil {
			return Token{}, fmt.Errorf("reading the agent's key: %w", err)
		}
		if strings.ContainsFunc(key, unicode.IsControl) { // net/http would not send it, as if nobody answered
			return Token{}, fmt.Errorf("reading the agent's key: %s holds more than one line", c.cfg.KeyFile)
		}
		httpReq.Header.Set("Authorization", "Bearer "+key)
	}
	return c.send(httpReq)
}

func (c *Client) send(req *http.Request) (token Token, err error) {
	resp, err := c.http.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return Token{}, c.unanswered(req.Context(), err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return Token{}, c.unanswered(req.Context(), err)
	}
	mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return Token{}, &UnreachableError{Where: c.where(), Err: fmt.Errorf("status %d is not a broker's answer: something else listens there", resp.StatusCode)}
	}
	if resp.StatusCode != http.StatusOK {
		refusal := &Error{Status: resp.StatusCode}
		if json.Unmarshal(body, refusal) != nil || refusal.Code == "" {
			return Token{}, &UnreachableError{Where: c.where(), Err: fmt.Errorf("status %d is not a broker's answer: something else listens there", resp.StatusCode)}
		}
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
			refusal.RetryAfter = time.Duration(seconds) * time.Second
		}
		return Token{}, refusal
	}
	if json.Unmarshal(body, &token) != nil || token.AccessToken == "" {
		return Token{}, errors.New("the broker's answer holds no token")
	}
	token.IssuanceID = resp.Header.Get(IssuanceHeader)
	return token, nil
}

// unanswered is the error when no answer came: who gave up asking says nothing of
// the broker.
func (c *Client) unanswered(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("asking the broker at %s: %w", c.where(), context.Canceled)
	}
	return &UnreachableError{Where: c.where(), Err: err}
}

func (c *Client) where() string {
	if c.cfg.Socket != "" {
		return c.cfg.Socket
	}
	return c.cfg.URL
}
