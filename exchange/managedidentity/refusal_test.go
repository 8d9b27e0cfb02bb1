package managedidentity_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/managedidentity"
)

// What the emulated platforms say of their own accord.
func TestRefusals(t *testing.T) {
	client, endpoint := imds(t)
	_, err := client.Token(t.Context(), managedidentity.ID{ClientID: strangerClient}, vault)
	if got := wantError(t, err, managedidentity.NoIdentity, "does not have this identity"); got.Status != http.StatusBadRequest {
		t.Errorf("got status %d, want 400", got.Status)
	}
	_, err = client.Token(t.Context(), managedidentity.ID{}, "api://nobody")
	wantError(t, err, managedidentity.Refused, "no such resource")
	if got := len(endpoint.Requests()); got != 2 {
		t.Errorf("got %d requests, want each refusal asked for once", got)
	}

	cfg := config(t)
	cfg.Identities = append(cfg.Identities[:1:1], entratest.ManagedIdentity{ClientID: strangerClient, PrincipalID: systemObject})
	endpoint = platformOf(t, entratest.NewIMDS, cfg, imdsHost)
	_, err = newClient(t, endpoint.RoundTripper(imdsHost)).Token(t.Context(), managedidentity.ID{}, vault)
	if got := wantError(t, err, managedidentity.Refused, "none was named"); !strings.Contains(got.Hint, "client id") {
		t.Errorf("got the hint %q, want the client id in it", got.Hint)
	}

	client, _ = appService(t)
	t.Setenv("IDENTITY_HEADER", "another-"+identityHeader)
	_, err = client.Token(t.Context(), managedidentity.ID{}, vault)
	if got := wantError(t, err, managedidentity.Refused, "401"); !strings.Contains(got.Hint, "IDENTITY_HEADER") {
		t.Errorf("got the hint %q, want the variable in it", got.Hint)
	}
}

// Each status, from each kind of endpoint, once: whoever asks decides whether to ask
// again. Bodies are searched for words and never shown.
func TestStatuses(t *testing.T) {
	const secretly = `{"error":"` + identityHeader + `","error_description":"` + identityHeader + `"}`
	for name, test := range map[string]struct {
		behavior        entratest.PlatformBehavior
		imds, appServic managedidentity.Problem
		retryAfter      time.Duration
	}{
		"400":                {entratest.PlatformBehavior{Status: 400, Body: secretly}, managedidentity.Refused, managedidentity.Refused, 0},
		"401":                {entratest.PlatformBehavior{Status: 401, Body: secretly}, managedidentity.Refused, managedidentity.Refused, 0},
		"403":                {entratest.PlatformBehavior{Status: 403, Body: identityHeader}, managedidentity.Refused, managedidentity.Refused, 0},
		"404":                {entratest.PlatformBehavior{Status: 404, Body: secretly}, managedidentity.Unavailable, managedidentity.Refused, 0},
		"408":                {entratest.PlatformBehavior{Status: 408}, managedidentity.Unavailable, managedidentity.Unavailable, 0},
		"410":                {entratest.PlatformBehavior{Status: 410}, managedidentity.Unavailable, managedidentity.Refused, 0},
		"429":                {entratest.PlatformBehavior{Status: 429, RetryAfter: "7"}, managedidentity.Throttled, managedidentity.Throttled, 7 * time.Second},
		"429 with nonsense":  {entratest.PlatformBehavior{Status: 429, RetryAfter: identityHeader}, managedidentity.Throttled, managedidentity.Throttled, 0},
		"429 for ever":       {entratest.PlatformBehavior{Status: 429, RetryAfter: "9999999"}, managedidentity.Throttled, managedidentity.Throttled, time.Hour},
		"500":                {entratest.PlatformBehavior{Status: 500, Body: secretly}, managedidentity.Unavailable, managedidentity.Unavailable, 0},
		"503 later":          {entratest.PlatformBehavior{Status: 503, RetryAfter: "3"}, managedidentity.Unavailable, managedidentity.Unavailable, 3 * time.Second},
		"500 of no identity": {entratest.PlatformBehavior{Status: 500, Body: "Identity not found"}, managedidentity.Unavailable, managedidentity.Unavailable, 0},
		"302":                {entratest.PlatformBehavior{Status: 302, Body: identityHeader}, managedidentity.Malformed, managedidentity.Malformed, 0},
		"204":                {entratest.PlatformBehavior{Status: 204}, managedidentity.Refused, managedidentity.Refused, 0},
		"App Service's":      {entratest.PlatformBehavior{Status: 400, Body: `{"statusCode":400,"message":"No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."}`}, managedidentity.NoIdentity, managedidentity.NoIdentity, 0},
		"Service Fabric's":   {entratest.PlatformBehavior{Status: 404, Body: `{"error":{"code":"ManagedIdentityNotFound"}}`}, managedidentity.NoIdentity, managedidentity.NoIdentity, 0},
		"Docker's":           {entratest.PlatformBehavior{Status: 403, Body: "connecting to 169.254.169.254:80: dial tcp: A socket operation was attempted to an unreachable network."}, managedidentity.NoEndpoint, managedidentity.NoEndpoint, 0},
		"too much":           {entratest.PlatformBehavior{Body: `{"access_token":"a.b.c","expires_in":3600}` + strings.Repeat(" ", 1<<20)}, managedidentity.Malformed, managedidentity.Malformed, 0},
		"a page":             {entratest.PlatformBehavior{Body: "<html>" + identityHeader}, managedidentity.Malformed, managedidentity.Malformed, 0},
		"an error with 200":  {entratest.PlatformBehavior{Body: secretly}, managedidentity.Malformed, managedidentity.Malformed, 0},
		"half an answer":     {entratest.PlatformBehavior{Truncate: true}, managedidentity.Malformed, managedidentity.Malformed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for want, start := range map[*managedidentity.Problem]func(testing.TB) (*managedidentity.Client, *entratest.PlatformEndpoint){&test.imds: imds, &test.appServic: appService} {
				client, endpoint := start(t)
				endpoint.SetBehavior(test.behavior)
				_, err := client.Token(t.Context(), managedidentity.ID{}, vault)
				got := wantError(t, err, *want, "")
				if got.RetryAfter != test.retryAfter || got.Status != test.behavior.Status {
					t.Errorf("got status %d and %s to wait, want %d and %s", got.Status, got.RetryAfter, test.behavior.Status, test.retryAfter)
				}
				if asked := len(endpoint.Requests()); asked != 1 {
					t.Errorf("got %d requests, want 1", asked)
				}
			}
		})
	}
}

func TestProblemsThatPass(t *testing.T) {
	for problem, want := range map[managedidentity.Problem]bool{
		managedidentity.NoEndpoint: false, managedidentity.NoIdentity: false, managedidentity.Throttled: true, managedidentity.Unavailable: true,
		managedidentity.Timeout: true, managedidentity.Refused: false, managedidentity.Malformed: false, managedidentity.Unsupported: false,
	} {
		if got := problem.Temporary(); got != want {
			t.Errorf("%s: got temporary %t, want %t", problem, got, want)
		}
	}
}

func TestEndpointThatHangs(t *testing.T) {
	for name, start := range map[string]func(testing.TB) (*managedidentity.Client, *entratest.PlatformEndpoint){"imds": imds, "app service": appService} {
		t.Run(name, func(t *testing.T) {
			client, endpoint := start(t)
			endpoint.SetBehavior(entratest.PlatformBehavior{Hang: true})
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				_, err := client.Token(t.Context(), managedidentity.ID{}, vault)
				wantError(t, err, managedidentity.Timeout, "did not answer within 10s")
				if took := time.Since(began); took != 10*time.Second {
					t.Errorf("took %s, want 10s", took)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err = client.Token(ctx, managedidentity.ID{}, vault)
				wantError(t, err, managedidentity.Timeout, "given up")
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want the context's error among its causes", err)
				}
			})
		})
	}
	client, endpoint := imds(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := client.Token(gone, managedidentity.ID{}, vault)
	wantError(t, err, managedidentity.Timeout, "given up")
	if got := len(endpoint.Requests()); got != 0 {
		t.Errorf("got %d requests for nobody, want none", got)
	}
}

// dialing is a transport for which the network is as dial says.
func dialing(dial func(ctx context.Context) error) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: dial(ctx)}
	}}
}

// On a machine that is not Azure's, packets to the metadata address vanish, or the
// kernel says that there is no way.
func TestNoEndpoint(t *testing.T) {
	environment(t, nil)
	client := newClient(t, dialing(func(context.Context) error { return syscall.EHOSTUNREACH }))
	_, err := client.Token(t.Context(), managedidentity.ID{}, vault)
	wantError(t, err, managedidentity.NoEndpoint, "no managed identity endpoint")

	vanish := newClient(t, dialing(func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}))
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := vanish.Token(t.Context(), managedidentity.ID{}, vault)
		wantError(t, err, managedidentity.NoEndpoint, "no managed identity endpoint")
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("took %s, want 2s", took)
		}
	})

	// Where the environment names an endpoint, there should be one.
	environment(t, map[string]string{"IDENTITY_ENDPOINT": "http://127.0.0.1:1/msi/token", "IDENTITY_HEADER": identityHeader})
	_, err = client.Token(t.Context(), managedidentity.ID{}, vault)
	if got := wantError(t, err, managedidentity.Unavailable, "cannot be reached"); !strings.Contains(got.Hint, "IDENTITY_ENDPOINT") {
		t.Errorf("got the hint %q, want the variable in it", got.Hint)
	}
}

// An answer that breaks off, or is none: of the network's own words nothing that
// quotes the answer or the URL.
func TestBrokenAnswers(t *testing.T) {
	environment(t, map[string]string{"IDENTITY_ENDPOINT": origin + "/" + identityHeader, "IDENTITY_HEADER": identityHeader})
	for name, transport := range map[string]roundTrip{
		"no HTTP": func(*http.Request) (*http.Response, error) {
			return nil, errors.New(`net/http: malformed HTTP response "` + identityHeader + `"`)
		},
		"breaks off": func(r *http.Request) (*http.Response, error) {
			body := io.MultiReader(strings.NewReader(`{"access_token":"`), failing{errors.New(identityHeader)})
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(body), Request: r}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newClient(t, transport).Token(t.Context(), managedidentity.ID{}, vault)
			wantError(t, err, managedidentity.Unavailable, "whole HTTP answer")
		})
	}
}

// An answer without end is not waited for.
func TestEndlessAnswer(t *testing.T) {
	environment(t, nil)
	body := &endless{}
	client := newClient(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(body), Request: r}, nil
	}))
	_, err := client.Token(t.Context(), managedidentity.ID{}, vault)
	wantError(t, err, managedidentity.Malformed, "more than any token answer")
	if body.read > 1<<20+1 {
		t.Errorf("got %d bytes read, want a mebibyte and one", body.read)
	}
}

// endless is a body of spaces.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	if e.read > 8<<20 {
		return 0, io.EOF // a test that fails should end, too
	}
	for i := range p {
		p[i] = ' '
	}
	e.read += len(p)
	return len(p), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
