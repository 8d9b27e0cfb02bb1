package clients

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	msalerrors "github.com/AzureAD/microsoft-authentication-library-for-go/apps/errors"

	"github.com/credfree/credfree/exchange/entratest"
)

// The tests of this file say nothing about the emulator. They are facts about
// MSAL for Go 1.10.1 that a program over it has to know; a test that fails after
// an upgrade says which of them is no longer true.

const (
	factTenant = entratest.DemoTenantID
	factClient = entratest.DemoClientID
	grantApp   = "client_credentials"
	grantOBO   = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	grantRT    = "refresh_token"
	graphAll   = "https://graph.microsoft.com/.default"
	userRead   = "https://graph.microsoft.com/User.Read"
	mailRead   = "https://graph.microsoft.com/Mail.Read"
)

// wire is the network of one fact: an emulator without sockets, and a record of
// what was sent.
type wire struct {
	authority string
	server    *entratest.Server
	issuer    *entratest.Issuer
	// answer may answer in place of the emulator.
	answer func(*http.Request) *http.Response

	mu   sync.Mutex // guards sent
	sent []sent
}

type sent struct {
	url  *url.URL
	form url.Values
}

func newWire(t *testing.T, authority string) *wire {
	t.Helper()
	const cluster = "https://oidc.cluster.test"
	issuer, err := entratest.NewIssuer(entratest.IssuerConfig{URL: cluster})
	if err != nil {
		t.Fatal(err)
	}
	server, err := entratest.New(entratest.Config{
		BaseURL: authority, Directory: entratest.DemoDirectory(cluster), HTTPClient: &http.Client{Transport: issuer.RoundTripper()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &wire{authority: authority, server: server, issuer: issuer}
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	s := sent{url: r.URL}
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		if s.form, err = url.ParseQuery(string(body)); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	w.sent = append(w.sent, s)
	w.mu.Unlock()
	if w.answer != nil {
		if resp := w.answer(r); resp != nil {
			return resp, nil
		}
	}
	return w.server.RoundTripper().RoundTrip(r)
}

// grants are the grant types of the token requests so far.
func (w *wire) grants() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var kinds []string
	for _, s := range w.sent {
		if s.form != nil {
			kinds = append(kinds, s.form.Get("grant_type"))
		}
	}
	return kinds
}

func (w *wire) expect(t *testing.T, what string, grants ...string) {
	t.Helper()
	if got := w.grants(); !slices.Equal(got, grants) {
		t.Errorf("%s: got requests %q, want %q", what, got, grants)
	}
}

func (w *wire) client(t *testing.T, discovery bool, opts ...confidential.Option) confidential.Client {
	t.Helper()
	return w.clientOf(t, factClient, w.workload(), discovery, opts...)
}

func (w *wire) workload() confidential.Credential {
	return confidential.NewCredFromAssertionCallback(func(context.Context, confidential.AssertionRequestOptions) (string, error) {
		return w.issuer.ServiceAccountToken(entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "demo"})
	})
}

func (w *wire) clientOf(t *testing.T, id string, cred confidential.Credential, discovery bool, opts ...confidential.Option) confidential.Client {
	t.Helper()
	opts = append([]confidential.Option{confidential.WithInstanceDiscovery(discovery), confidential.WithHTTPClient(&http.Client{Transport: w})}, opts...)
	c, err := confidential.New(w.authority+"/"+factTenant, id, cred, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *wire) user(t *testing.T) string {
	t.Helper()
	token, err := w.server.UserToken(entratest.UserTokenRequest{
		User: entratest.DemoUserID, Audience: factClient, Client: entratest.DemoFrontendClientID, Lifetime: 24 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func must(t *testing.T) func(confidential.AuthResult, error) confidential.AuthResult {
	return func(r confidential.AuthResult, err error) confidential.AuthResult {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func document(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body))}
}

const private = "https://login.entra.test"

// Up to 1.9.0 a user's token was renewed with client_credentials, and the
// user got the application's token.
func TestFactRenewalKeepsTheGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, private)
		c, user := w.client(t, false), w.user(t)
		w.server.SetBehavior(entratest.Behavior{Lifetime: 2 * time.Hour, RefreshIn: time.Hour})
		must(t)(c.AcquireTokenOnBehalfOf(t.Context(), user, []string{userRead}))
		must(t)(c.AcquireTokenByCredential(t.Context(), []string{graphAll}))
		time.Sleep(61 * time.Minute)
		must(t)(c.AcquireTokenOnBehalfOf(t.Context(), user, []string{userRead}))
		must(t)(c.AcquireTokenByCredential(t.Context(), []string{graphAll}))
		w.expect(t, "past refresh_in", grantOBO, grantApp, grantOBO, grantApp)
	})
}

// A renewal that fails is tried again by every call, and every call waits for it.
func TestFactFailedRenewalHasNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, private)
		c := w.client(t, false)
		w.server.SetBehavior(entratest.Behavior{Lifetime: 2 * time.Hour, RefreshIn: time.Hour})
		first := must(t)(c.AcquireTokenByCredential(t.Context(), []string{graphAll}))
		time.Sleep(61 * time.Minute)
		w.server.SetBehavior(entratest.Behavior{Status: http.StatusServiceUnavailable, RetryAfter: "60", Delay: 3 * time.Second})
		start := time.Now()
		for range 3 {
			if got := must(t)(c.AcquireTokenByCredential(t.Context(), []string{graphAll})); got.AccessToken != first.AccessToken {
				t.Error("got another token")
			}
		}
		if took := time.Since(start); took != 9*time.Second {
			t.Errorf("three calls took %v, want 9s", took)
		}
		w.expect(t, "three calls", grantApp, grantApp, grantApp, grantApp)
	})
}

// No scope is a subset of every scope.
func TestFactNoScopeMatchesAnyToken(t *testing.T) {
	w := newWire(t, private)
	c, user := w.client(t, false), w.user(t)
	app := must(t)(c.AcquireTokenByCredential(t.Context(), []string{graphAll}))
	if got := must(t)(c.AcquireTokenByCredential(t.Context(), nil)); got.AccessToken != app.AccessToken {
		t.Error("app-only: got another token")
	}
	obo := must(t)(c.AcquireTokenOnBehalfOf(t.Context(), user, []string{userRead}))
	if got := must(t)(c.AcquireTokenOnBehalfOf(t.Context(), user, nil)); got.AccessToken != obo.AccessToken {
		t.Error("on behalf of: got another token")
	}
	w.expect(t, "without scopes", grantApp, grantOBO)
}

func TestFactNarrowRequestGetsTheBroadToken(t *testing.T) {
	w := newWire(t, private)
	c, user := w.client(t, false), w.user(t)
	broad := must(t)(c.AcquireTokenOnBehalfOf(t.Context(), user, []string{userRead, mailRead}))
	if got := must(t)(c.AcquireTokenOnBehalfOf(t.Context(), user, []string{userRead})); got.AccessToken != broad.AccessToken {
		t.Error("got another token")
	}
}

// Two scopes in one string are two scopes on the wire, and then MSAL misses
// the one it asked for.
func TestFactScopeWithASpace(t *testing.T) {
	w := newWire(t, private)
	_, err := w.client(t, false).AcquireTokenOnBehalfOf(t.Context(), w.user(t), []string{userRead + " " + mailRead})
	if err == nil || !strings.Contains(err.Error(), "declined scopes") {
		t.Errorf("got error %v, want declined scopes", err)
	}
	if got := w.server.Requests(); got[len(got)-1].Status != http.StatusOK {
		t.Errorf("got status %d, want a token that MSAL threw away", got[len(got)-1].Status)
	}
}

func TestFactOIDCScopesAreAlwaysAdded(t *testing.T) {
	w := newWire(t, private)
	must(t)(w.client(t, false).AcquireTokenByCredential(t.Context(), []string{graphAll}))
	if got, want := w.sent[len(w.sent)-1].form.Get("scope"), graphAll+" openid offline_access profile"; got != want {
		t.Errorf("got scope %q, want %q", got, want)
	}
}

// Callers that miss the cache together all go to the network.
func TestFactNoSharedRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, private)
		c := w.client(t, false)
		w.server.SetBehavior(entratest.Behavior{Delay: time.Second})
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { _, _ = c.AcquireTokenByCredential(t.Context(), []string{graphAll}) })
		}
		all.Wait()
		if got := len(w.grants()); got != 20 {
			t.Errorf("got %d token requests, want 20", got)
		}
	})
}

// The search for the endpoints is shared, and dies with the caller who began it.
func TestFactWaitersShareTheLeadersContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, private)
		c := w.client(t, false)
		w.answer = func(r *http.Request) *http.Response {
			<-r.Context().Done()
			return document(http.StatusServiceUnavailable, "")
		}
		leader, leave := context.WithCancel(t.Context())
		results := make(chan error, 2)
		go func() {
			_, err := c.AcquireTokenByCredential(leader, []string{graphAll})
			results <- err
		}()
		synctest.Wait()
		go func() {
			_, err := c.AcquireTokenByCredential(t.Context(), []string{graphAll})
			results <- err
		}()
		synctest.Wait()
		leave()
		synctest.Wait()
		if len(results) != 2 || len(w.sent) != 1 {
			t.Errorf("got %d answers after %d requests, want the waiter to fail with its leader", len(results), len(w.sent))
		}
	})
}

func TestFactNoRetries(t *testing.T) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable} {
		w := newWire(t, private)
		c := w.client(t, false)
		w.server.SetBehavior(entratest.Behavior{Status: status, RetryAfter: "60"})
		for range 2 {
			if _, err := c.AcquireTokenByCredential(t.Context(), []string{graphAll}); err == nil {
				t.Fatal("got a token")
			}
		}
		w.expect(t, http.StatusText(status), grantApp, grantApp)
	}
}

// A client that follows redirects posts the client assertion wherever it is sent.
func TestFactRedirectsAreFollowed(t *testing.T) {
	w := newWire(t, private)
	c := w.client(t, false)
	w.server.SetBehavior(entratest.Behavior{Redirect: "https://elsewhere.test/token"})
	if _, err := c.AcquireTokenByCredential(t.Context(), []string{graphAll}); err == nil {
		t.Fatal("got a token")
	}
	if last := w.sent[len(w.sent)-1]; last.url.Host != "elsewhere.test" || last.form.Get("client_assertion") == "" {
		t.Errorf("got last request to %s, want the assertion at elsewhere.test", last.url.Host)
	}
}

// An application's token of less than five minutes is not kept, a user's is an error.
func TestFactShortTokens(t *testing.T) {
	w := newWire(t, private)
	c, user := w.client(t, false), w.user(t)
	w.server.SetBehavior(entratest.Behavior{Lifetime: 4 * time.Minute})
	for range 2 {
		must(t)(c.AcquireTokenByCredential(t.Context(), []string{graphAll}))
	}
	w.expect(t, "app-only", grantApp, grantApp)
	if _, err := c.AcquireTokenOnBehalfOf(t.Context(), user, []string{userRead}); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got error %v, want the fresh token called expired", err)
	}
}

// A refresh token is redeemed before the user's own assertion is presented.
func TestFactRefreshTokensComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, private)
		c, user := w.client(t, false), w.user(t)
		must(t)(c.AcquireTokenOnBehalfOf(t.Context(), user, []string{userRead}))
		must(t)(c.AcquireTokenOnBehalfOf(t.Context(), user, []string{"https://search.azure.com/user_impersonation"}))
		time.Sleep(25 * time.Hour) // longer than any token, and than the assertion
		_, _ = c.AcquireTokenOnBehalfOf(t.Context(), user, []string{userRead})
		got := slices.DeleteFunc(w.grants(), func(g string) bool { return g == grantOBO })
		if !slices.Equal(got, []string{grantRT, grantRT}) {
			t.Errorf("got requests %q, want a refresh token redeemed for another API and for an expired assertion", w.grants())
		}
	})
}

// With claims the access token in the cache is passed over, the refresh token is not.
func TestFactClaimsPassOverTheCache(t *testing.T) {
	w := newWire(t, private)
	c, user := w.client(t, false), w.user(t)
	claims := confidential.WithClaims(`{"access_token":{"nbf":{"essential":true}}}`)
	must(t)(c.AcquireTokenByCredential(t.Context(), []string{graphAll}))
	must(t)(c.AcquireTokenByCredential(t.Context(), []string{graphAll}, claims))
	w.expect(t, "app-only", grantApp, grantApp)
	must(t)(c.AcquireTokenOnBehalfOf(t.Context(), user, []string{userRead}))
	must(t)(c.AcquireTokenOnBehalfOf(t.Context(), user, []string{userRead}, claims))
	if got := w.grants(); got[3] != grantRT {
		t.Errorf("got requests %q, want the refresh token redeemed with the claims", got)
	}
}

// There is no way to forget what was acquired on behalf of a user.
func TestFactRemoveAccountKeepsUserTokens(t *testing.T) {
	w := newWire(t, private)
	c, user := w.client(t, false), w.user(t)
	first := must(t)(c.AcquireTokenOnBehalfOf(t.Context(), user, []string{userRead}))
	if err := c.RemoveAccount(t.Context(), first.Account); err != nil {
		t.Fatal(err)
	}
	if got := must(t)(c.AcquireTokenOnBehalfOf(t.Context(), user, []string{userRead})); got.AccessToken != first.AccessToken {
		t.Error("got another token")
	}
}

// The id token is filed under the user, not under the assertion: a second
// sign-in of the user takes it away from the first.
func TestFactSecondSignInTakesTheAccount(t *testing.T) {
	w := newWire(t, private)
	c := w.client(t, false)
	one, two := w.user(t), w.user(t)
	for _, user := range []string{one, two} {
		if r := must(t)(c.AcquireTokenOnBehalfOf(t.Context(), user, []string{userRead})); r.Account.IsZero() {
			t.Error("got no account with a fresh token")
		}
	}
	if r := must(t)(c.AcquireTokenOnBehalfOf(t.Context(), one, []string{userRead})); !r.Account.IsZero() {
		t.Errorf("got account %q from the cache, want none", r.Account.HomeAccountID)
	}
}

// memory is the smallest cache there can be.
type memory struct{ data []byte }

func (m *memory) Replace(_ context.Context, c cache.Unmarshaler, _ cache.ReplaceHints) error {
	if m.data == nil {
		return nil
	}
	return c.Unmarshal(m.data)
}

func (m *memory) Export(_ context.Context, c cache.Marshaler, _ cache.ExportHints) (err error) {
	m.data, err = c.Marshal()
	return err
}

// WithCache and on-behalf-of do not go together: what is exported is the cache
// of the applications, and the users' cannot read it.
func TestFactWithCacheBreaksOnBehalfOf(t *testing.T) {
	w := newWire(t, private)
	c, user := w.client(t, false, confidential.WithCache(&memory{})), w.user(t)
	must(t)(c.AcquireTokenByCredential(t.Context(), []string{graphAll}))
	if _, err := c.AcquireTokenOnBehalfOf(t.Context(), user, []string{userRead}); err == nil {
		t.Error("got a token, want an error")
	}
}

// Up to 1.9.0 tokens of different attributes were mistaken for each other.
func TestFactAttributesAreKeptApart(t *testing.T) {
	w := newWire(t, private)
	c := w.client(t, false)
	for _, option := range []confidential.AcquireByCredentialOption{
		confidential.WithAttribute("one"), confidential.WithAttribute("two"), confidential.WithAttribute("one"),
	} {
		must(t)(c.AcquireTokenByCredential(t.Context(), []string{graphAll}, option))
	}
	w.expect(t, "two attributes", grantApp, grantApp)
}

// Up to 1.9.0 the second call went ahead with the issuer the first had refused.
func TestFactForeignIssuerStaysRefused(t *testing.T) {
	w := newWire(t, private)
	c := w.client(t, false)
	w.answer = func(r *http.Request) *http.Response {
		if !strings.HasSuffix(r.URL.Path, "/openid-configuration") {
			return nil
		}
		return document(http.StatusOK, `{"issuer":"https://evil.test/","authorization_endpoint":"https://evil.test/a","token_endpoint":"`+private+`/`+factTenant+`/oauth2/v2.0/token"}`)
	}
	for range 2 {
		if _, err := c.AcquireTokenByCredential(t.Context(), []string{graphAll}); err == nil || !strings.Contains(err.Error(), "issuer") {
			t.Errorf("got error %v, want one about the issuer", err)
		}
	}
	w.expect(t, "foreign issuer")
}

// An agent user's token is only found by AcquireTokenSilent, which renews it
// with the refresh token. Up to 1.9.0 it came back as the agent's own.
func TestFactAgentUsersAreSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, private)
		w.server.SetBehavior(entratest.Behavior{Lifetime: 2 * time.Hour, RefreshIn: time.Hour})
		exchange := []string{entratest.TokenExchangeAudience + "/.default"}
		blueprint := w.clientOf(t, entratest.DemoBlueprintClientID, w.workload(), false)
		agent := w.clientOf(t, entratest.DemoAgentIdentityID, confidential.NewCredFromAssertionCallback(
			func(ctx context.Context, _ confidential.AssertionRequestOptions) (string, error) {
				r, err := blueprint.AcquireTokenByCredential(ctx, exchange, confidential.WithFMIPath(entratest.DemoAgentIdentityID))
				return r.AccessToken, err
			}), false)
		own := must(t)(agent.AcquireTokenByCredential(t.Context(), exchange))
		var user confidential.AuthResult
		for range 2 {
			user = must(t)(agent.AcquireTokenByUserFederatedIdentityCredential(t.Context(), []string{userRead}, own.AccessToken,
				confidential.WithUserObjectID(entratest.DemoAgentUserID)))
		}
		must(t)(agent.AcquireTokenSilent(t.Context(), []string{userRead}, confidential.WithSilentAccount(user.Account)))
		w.expect(t, "agent user", grantApp, grantApp, "user_fic", "user_fic")
		time.Sleep(61 * time.Minute)
		must(t)(agent.AcquireTokenSilent(t.Context(), []string{userRead}, confidential.WithSilentAccount(user.Account)))
		if got := w.grants(); got[len(got)-1] != grantRT {
			t.Errorf("past refresh_in: got requests %q, want the last to be %s", got, grantRT)
		}
	})
}

// An answer that does not parse is in the text of the error, token and all.
func TestFactUnreadableAnswersAreInTheError(t *testing.T) {
	w := newWire(t, private)
	c := w.client(t, false)
	w.answer = func(r *http.Request) *http.Response {
		if r.Method != http.MethodPost {
			return nil
		}
		return document(http.StatusOK, `{"access_token":"TOP-SECRET","token_type":"Bearer"}`) // no expires_in
	}
	_, err := c.AcquireTokenByCredential(t.Context(), []string{graphAll})
	if err == nil || !strings.Contains(err.Error(), "TOP-SECRET") {
		t.Errorf("got error %v, want the token in it", err)
	}
}

// The request in a CallErr still has its body, with the client assertion.
func TestFactErrorsCarryTheRequest(t *testing.T) {
	w := newWire(t, private)
	w.server.SetBehavior(entratest.Behavior{Code: 53003})
	_, err := w.client(t, false).AcquireTokenByCredential(t.Context(), []string{graphAll})
	var call msalerrors.CallErr
	if !errors.As(err, &call) || call.Req.GetBody == nil {
		t.Fatalf("got error %v, want a CallErr with a body", err)
	}
	body, err := call.Req.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(body); err != nil || !strings.Contains(string(text), "client_assertion=eyJ") {
		t.Errorf("got body without assertion (%v)", err)
	}
}

// On a host of Microsoft's, discovery works and is asked for.
func TestFactDiscoveryOnKnownHost(t *testing.T) {
	w := newWire(t, "https://login.microsoftonline.com")
	c := w.client(t, true)
	for range 2 {
		must(t)(c.AcquireTokenByCredential(t.Context(), []string{graphAll}))
	}
	w.expect(t, "known host", grantApp)
	if got := w.sent[0].url.Path; got != "/common/discovery/instance" {
		t.Errorf("got first request %s, want instance discovery", got)
	}
}

// On any other host, nothing is found in the cache again unless discovery is
// off or Microsoft knows the host.
func TestFactDiscoveryDefeatsTheCacheOnPrivateHosts(t *testing.T) {
	w := newWire(t, private)
	c := w.client(t, true)
	w.answer = func(r *http.Request) *http.Response {
		if r.URL.Path != "/common/discovery/instance" {
			return nil
		}
		if r.URL.Host != "login.microsoftonline.com" {
			t.Errorf("got discovery at %s, want login.microsoftonline.com", r.URL.Host)
		}
		return document(http.StatusOK, `{"tenant_discovery_endpoint":"`+private+`/`+factTenant+`/v2.0/.well-known/openid-configuration","metadata":[]}`)
	}
	for range 2 {
		must(t)(c.AcquireTokenByCredential(t.Context(), []string{graphAll}))
	}
	w.expect(t, "private host", grantApp, grantApp)
}

// An environment variable sends all tokens to a regional host, users' included.
func TestFactRegionFromTheEnvironment(t *testing.T) {
	t.Setenv("MSAL_FORCE_REGION", "westus2")
	for _, c := range []struct {
		opts []confidential.Option
		host string
	}{
		{nil, "westus2.login.microsoft.com"},
		{[]confidential.Option{confidential.WithAzureRegion("DisableMsalForceRegion")}, "login.microsoftonline.com"},
	} {
		w := newWire(t, "https://login.microsoftonline.com")
		w.answer = func(r *http.Request) *http.Response {
			if strings.HasPrefix(r.URL.Host, "westus2.") && strings.HasSuffix(r.URL.Path, "/openid-configuration") {
				return document(http.StatusOK, `{"issuer":"https://login.microsoftonline.com/`+factTenant+`/v2.0","authorization_endpoint":"https://westus2.login.microsoft.com/a","token_endpoint":"https://westus2.login.microsoft.com/`+factTenant+`/oauth2/v2.0/token"}`)
			}
			return nil
		}
		_, _ = w.client(t, true, c.opts...).AcquireTokenOnBehalfOf(t.Context(), w.user(t), []string{userRead})
		if last := w.sent[len(w.sent)-1]; last.url.Host != c.host {
			t.Errorf("got last request to %s, want %s", last.url.Host, c.host)
		}
	}
}

// A tenant is part of a path, and MSAL does not look at it.
func TestFactTenantsAreNotChecked(t *testing.T) {
	w := newWire(t, private)
	_, err := w.client(t, false).AcquireTokenByCredential(t.Context(), []string{graphAll}, confidential.WithTenantID("a/b?c=d"))
	if err == nil {
		t.Fatal("got a token")
	}
	if len(w.sent) == 0 || !strings.HasPrefix(w.sent[0].url.Path, "/a/b?c=d/") {
		t.Errorf("got error %v after %d requests, want one for /a/b?c=d/", err, len(w.sent))
	}
}
