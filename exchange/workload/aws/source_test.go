package aws_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/workload"
	"github.com/credfree/credfree/exchange/workload/aws"
)

// secretKey is half of the broker's AWS credentials. It must never be in an error.
const (
	accessKey    = "AKIAIOSFODNN7EXAMPLE"
	secretKey    = "hunter2-hunter2-hunter2"
	sessionToken = "session-" + secretKey
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// environment is that of a role's session in eu-west-1, whose STS is at address. No
// other credentials are to be found.
func environment(t *testing.T, address string) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_SESSION_TOKEN": sessionToken,
		"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL_STS": address, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": filepath.Join(t.TempDir(), "config"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(t.TempDir(), "credentials"),
		"AWS_DEFAULT_REGION": "", "AWS_PROFILE": "", "AWS_CA_BUNDLE": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "",
		"AWS_WEB_IDENTITY_TOKEN_FILE": "", "AWS_ROLE_ARN": "", "AWS_ENDPOINT_URL": "", "AWS_MAX_ATTEMPTS": "",
		// A proxy would see the signed request.
		"HTTP_PROXY": "http://proxy.invalid:1", "HTTPS_PROXY": "http://proxy.invalid:1", "NO_PROXY": "",
	} {
		t.Setenv(name, value)
	}
}

// regional is an emulated STS of an account, and the environment of a role.
func regional(t *testing.T) *entratest.PlatformEndpoint {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := entratest.NewIssuer(entratest.IssuerConfig{Platform: entratest.AWS, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := entratest.NewSTS(entratest.WorkloadConfig{Issuer: issuer})
	if err != nil {
		t.Fatal(err)
	}
	environment(t, listen(t, endpoint))
	return endpoint
}

func listen(t *testing.T, handler http.Handler) string {
	t.Helper()
	loopback, err := entratest.ListenLoopback("", handler)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := loopback.Close(); err != nil {
			t.Error(err)
		}
	})
	return loopback.URL
}

func wantError(t *testing.T, err error, problem workload.Problem, says string) {
	t.Helper()
	got, ok := errors.AsType[*workload.Error](err)
	if !ok {
		t.Fatalf("got %v, want %s", err, problem)
	}
	if got.Problem != problem || got.Hint == "" || !strings.Contains(got.Message+" "+got.Hint, says) {
		t.Errorf("got %s: %s (hint: %s), want %s and %q", got.Problem, got.Message, got.Hint, problem, says)
	}
	text := got.Message + got.Hint
	for cause := got.Err; cause != nil; cause = errors.Unwrap(cause) {
		text += cause.Error()
	}
	if strings.Contains(text, secretKey) || strings.Contains(text, accessKey) {
		t.Errorf("the error shows a credential: %s", text)
	}
}

var source = aws.Source{Audience: entratest.TokenExchangeAudience}

func TestTokenOfTheRole(t *testing.T) {
	endpoint := regional(t)
	for n := range 2 {
		a, err := source.Assertion(t.Context())
		if err != nil {
			t.Fatalf("got %v; STS was asked %+v", err, endpoint.Requests())
		}
		if err := a.Check(entratest.TokenExchangeAudience, time.Now()); err != nil {
			t.Errorf("got %v, want a token that Entra could accept", err)
		}
		if a.Subject != "arn:aws:iam::123456789012:role/PaymentsAgent" || a.Algorithm != "RS256" {
			t.Errorf("got a token of %q signed with %s, want the role's with RS256", a.Subject, a.Algorithm)
		}
		if left := time.Until(a.ExpiresAt); left > 5*time.Minute+time.Second || left < 4*time.Minute {
			t.Errorf("got a token for %s, want five minutes", left)
		}
		if got := len(endpoint.Requests()); got != n+1 {
			t.Errorf("got %d requests, want %d", got, n+1)
		}
	}
}

// The request is signed by a role's session for the region asked.
func TestRequestIsSignedForTheRegion(t *testing.T) {
	var authorization, session string
	environment(t, listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization, session = r.Header.Get("Authorization"), r.Header.Get("X-Amz-Security-Token")
		w.WriteHeader(http.StatusForbidden)
	})))
	for _, test := range []struct{ given, want string }{{"", "eu-west-1"}, {"us-gov-west-1", "us-gov-west-1"}} {
		_, err := aws.Source{Audience: entratest.TokenExchangeAudience, Region: test.given}.Assertion(t.Context())
		wantError(t, err, workload.Denied, "status 403")
		if !strings.Contains(authorization, "/"+test.want+"/sts/aws4_request") || session != sessionToken {
			t.Errorf("got %q, want a signature for %s with the session's token", authorization, test.want)
		}
	}
}

// EKS Pod Identity and ECS hand out credentials at an endpoint next door, which is
// asked without a proxy and with the token in a file.
func TestCredentialsOfAContainer(t *testing.T) {
	endpoint := regional(t)
	asked := 0
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.Header.Get("Authorization") != sessionToken {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{
			"AccessKeyId": accessKey, "SecretAccessKey": secretKey, "Token": sessionToken, "Expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		})
	})
	file := filepath.Join(t.TempDir(), "eks-pod-identity-token")
	if err := os.WriteFile(file, []byte(sessionToken), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", listen(t, handler)+"/v1/credentials")
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file)
	if _, err := source.Assertion(t.Context()); err != nil {
		t.Fatalf("got %v; STS was asked %+v", err, endpoint.Requests())
	}
	if asked != 1 {
		t.Errorf("got %d requests for credentials, want 1", asked)
	}
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", filepath.Join(t.TempDir(), "missing"))
	_, err := source.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "no AWS credentials")
}

func TestNothingIsAsked(t *testing.T) {
	endpoint := regional(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := source.Assertion(gone)
	wantError(t, err, workload.Unavailable, "given up")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error among its causes", err)
	}
	_, err = aws.Source{}.Assertion(t.Context())
	wantError(t, err, workload.Malformed, "audience")
	_, err = aws.Source{Audience: "a", Region: "eu-west-1.evil.test/"}.Assertion(t.Context())
	wantError(t, err, workload.Malformed, "region")
	t.Setenv("AWS_REGION", "")
	_, err = source.Assertion(t.Context())
	wantError(t, err, workload.Malformed, "AWS_REGION")
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("AWS_PROFILE", "missing")
	_, err = source.Assertion(t.Context())
	wantError(t, err, workload.Malformed, "AWS_PROFILE")
	t.Setenv("AWS_PROFILE", "")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	_, err = source.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "no AWS credentials")
	if got := endpoint.Requests(); len(got) != 0 {
		t.Errorf("got %+v, want no request", got)
	}
}

// AWS's refusals, by their codes; what it writes beside them is not shown.
func TestRefusals(t *testing.T) {
	endpoint := regional(t)
	for code, want := range map[string]struct {
		problem workload.Problem
		says    string
	}{
		"OutboundWebIdentityFederationDisabledException": {workload.Denied, "enable-outbound-web-identity-federation"},
		"OutboundWebIdentityFederationDisabled":          {workload.Denied, "switched off"},
		"AccessDenied":                                   {workload.Denied, "sts:GetWebIdentityToken"},
		"ExpiredToken":                                   {workload.Unavailable, "does not accept the broker's credentials"},
		"SignatureDoesNotMatch":                          {workload.Unavailable, "clock"},
		"SessionDurationEscalationException":             {workload.Unavailable, "end before the token"},
		"RegionDisabledException":                        {workload.Malformed, "not activated"},
		"InvalidAction":                                  {workload.Malformed, "global endpoint"},
		"NobodyKnows":                                    {workload.Denied, "status 403"},
	} {
		endpoint.SetBehavior(entratest.PlatformBehavior{Status: http.StatusForbidden, Body: `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>` +
			code + `</Code><Message>` + secretKey + `</Message></Error><RequestId>1</RequestId></ErrorResponse>`})
		_, err := source.Assertion(t.Context())
		t.Run(code, func(t *testing.T) { wantError(t, err, want.problem, want.says) })
	}
	if got, want := workload.Denied.Temporary(), false; got != want {
		t.Errorf("got temporary %t for what somebody has to allow, want %t", got, want)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	endpoint := regional(t)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	for name, test := range map[string]struct {
		behavior entratest.PlatformBehavior
		problem  workload.Problem
		says     string
	}{
		"a page":        {entratest.PlatformBehavior{Body: "<html>" + secretKey}, workload.Malformed, ""},
		"another token": {entratest.PlatformBehavior{Body: "<GetWebIdentityTokenResponse><GetWebIdentityTokenResult><WebIdentityToken>" + secretKey + "</WebIdentityToken></GetWebIdentityTokenResult></GetWebIdentityTokenResponse>"}, workload.Malformed, "signed JWT"},
		"no token":      {entratest.PlatformBehavior{Body: "<GetWebIdentityTokenResponse><GetWebIdentityTokenResult></GetWebIdentityTokenResult></GetWebIdentityTokenResponse>"}, workload.Malformed, "empty"},
		"half":          {entratest.PlatformBehavior{Truncate: true}, workload.Malformed, "cannot be read"},
		"an outage":     {entratest.PlatformBehavior{Status: http.StatusServiceUnavailable, Body: secretKey}, workload.Unavailable, "status 503"},
		"throttling":    {entratest.PlatformBehavior{Status: http.StatusBadRequest, Body: "<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>"}, workload.Unavailable, "throttling"},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint.SetBehavior(test.behavior)
			_, err := source.Assertion(t.Context())
			wantError(t, err, test.problem, test.says)
		})
	}
}

// An answer is read up to a mebibyte, within which there must be a token.
func TestAnswerThatIsTooLong(t *testing.T) {
	environment(t, listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "<GetWebIdentityTokenResponse><GetWebIdentityTokenResult><WebIdentityToken>"+strings.Repeat(secretKey, 100_000)+
			"</WebIdentityToken></GetWebIdentityTokenResult></GetWebIdentityTokenResponse>")
	})))
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	_, err := source.Assertion(t.Context())
	wantError(t, err, workload.Malformed, "cannot be read")
}

// The SDK repeats what may pass, within the caller's time.
func TestTheCallersTimeCounts(t *testing.T) {
	endpoint := regional(t)
	for name, behavior := range map[string]entratest.PlatformBehavior{"an outage": {Status: http.StatusInternalServerError}, "silence": {Hang: true}} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_MAX_ATTEMPTS", "1000")
			endpoint.SetBehavior(behavior)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			began := time.Now()
			_, err := source.Assertion(ctx)
			wantError(t, err, workload.Unavailable, "given up")
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %s, want about 200ms", took)
			}
		})
	}
}

// A signed request goes to one place.
func TestRedirectsAreNotFollowed(t *testing.T) {
	stranger := listen(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	status := 0
	environment(t, listen(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", stranger)
		w.WriteHeader(status)
	})))
	for _, status = range []int{http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect} {
		_, err := source.Assertion(t.Context())
		wantError(t, err, workload.Malformed, "redirects are not followed")
	}
}

func TestNobodyThere(t *testing.T) {
	loopback, err := entratest.ListenLoopback("", http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	if err := loopback.Close(); err != nil {
		t.Fatal(err)
	}
	environment(t, loopback.URL)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	_, err = source.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "cannot be reached")
}
