package entratest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/exchange/entratest"
)

// TestPlatformTokensAreExchanged: what every platform hands out, Entra takes
// where a federated credential trusts it.
func TestPlatformTokensAreExchanged(t *testing.T) {
	p := newPlatforms(t)
	clients := map[string]int{"token request": 1, "github": 2, "azure devops": 3, "google": 4, "vault": 5, "aws": 6}
	for name, platform := range p.all {
		t.Run(name, func(t *testing.T) {
			a := p.call(t, name, platform.good)
			token := platform.token(a)
			if a.status/100 != 2 || token == "" {
				t.Fatalf("got status %d %s, want a token", a.status, a.raw)
			}
			if a := p.exchange(t, clients[name], token); a.status != http.StatusOK {
				t.Errorf("got status %d %s from Entra, want 200", a.status, a.raw)
			}
			all := platform.endpoint.Requests()
			got := all[len(all)-1]
			if got.Status != a.status || got.Error != "" || got.Method != platform.good.method || name != "vault" && got.Audience != entratest.TokenExchangeAudience {
				t.Errorf("got record %+v, want the request that was made", got)
			}
		})
	}
}

// platformRefusals change one thing about a request that succeeds.
var platformRefusals = []struct {
	name, what string
	change     func(platformCall) platformCall
	status     int
	code       string
}{
	{"imds", "no Metadata", header("Metadata", ""), 400, "bad_request_102"},
	{"imds", "Metadata false", header("Metadata", "false"), 400, "bad_request_102"},
	{"imds", "forwarded", header("X-Forwarded-For", "10.0.0.1"), 400, "invalid_request"},
	{"imds", "no api-version", path("api-version=2018-02-01", ""), 400, "InvalidApiVersion"},
	{"imds", "api-version too old", path("2018-02-01", "2017-01-01"), 400, "InvalidApiVersion"},
	{"imds", "api-version no date", path("2018-02-01", "latest"), 400, "InvalidApiVersion"},
	{"imds", "no resource", path(exchangeQuery, ""), 400, "invalid_request"},
	{"imds", "unknown resource", path("AzureADTokenExchange", "nobody"), 400, "invalid_resource"},
	{"imds", "unknown identity", path("?", "?client_id="+agentID+"&"), 400, "invalid_request"},
	{"imds", "client id as object id", path("?", "?object_id="+systemID+"&"), 400, "invalid_request"},
	{"imds", "two selectors", path("?", "?client_id="+systemID+"&object_id="+systemOID+"&"), 400, "invalid_request"},
	{"imds", "capability probe", path("oauth2/token", "getplatformmetadata"), 404, "not_found"},
	{"imds", "wrong case", path("/identity/", "/Identity/"), 404, "not_found"},
	{"imds", "POST", method("POST"), 405, "method_not_allowed"},
	{"imds", "malformed query", path("?", "?a=%zz&"), 400, "invalid_request"},
	{"app service", "no secret", header("X-Identity-Header", ""), 401, "SecretHeaderNotFound"},
	{"app service", "wrong secret", header("X-Identity-Header", platformSecret+"x"), 401, "unknown_source"},
	{"app service", "IMDS version", path("2019-08-01", "2018-02-01"), 400, "InvalidApiVersion"},
	{"app service", "unknown identity", path("?", "?mi_res_id=/subscriptions/none&"), 400, "invalid_request"},
	{"service fabric", "no secret", header("Secret", ""), 401, "SecretHeaderNotFound"},
	{"azure ml", "unknown identity", path("clientid=", "clientid="+agentID), 400, "invalid_request"},
	{"azure ml", "App Service version", path("2017-09-01", "2019-08-01"), 400, "InvalidApiVersion"},
	{"cloud shell", "GET", method("GET"), 405, "method_not_allowed"},
	{"cloud shell", "no Metadata", header("Metadata", ""), 400, "bad_request_102"},
	{"cloud shell", "resource in the URL", func(c platformCall) platformCall {
		c.path, c.body = c.path+"?"+exchangeQuery, ""
		return c
	}, 400, "invalid_request"},
	{"arc", "made-up key", header("Authorization", "Basic Zm9v"), 401, ""},
	{"arc", "empty key", header("Authorization", "Basic "), 401, ""},
	{"github", "no bearer", header("Authorization", ""), 401, "unauthorized"},
	{"github", "wrong bearer", header("Authorization", "bearer wrong"), 401, "unauthorized"},
	{"github", "secret as basic", header("Authorization", "Basic "+platformSecret), 401, "unauthorized"},
	{"github", "POST", method("POST"), 405, ""},
	{"azure devops", "no bearer", header("Authorization", ""), 401, "UnauthorizedRequestException"},
	{"azure devops", "GET", method("GET"), 405, ""},
	{"azure devops", "no api-version", path("api-version=7.1", ""), 400, "VssVersionNotSpecifiedException"},
	{"azure devops", "unknown connection", path(connectionID, agentID), 404, "ServiceEndpointNotFoundException"},
	{"google", "no flavour", header("Metadata-Flavor", ""), 403, "forbidden"},
	{"google", "forwarded", header("X-Forwarded-For", "10.0.0.1"), 403, "forbidden"},
	{"google", "no audience", path("audience=", "a="), 400, "invalid_request"},
	{"google", "unknown format", path("format=full", "format=jwt"), 400, "invalid_request"},
	{"google", "other account", path("/default/", "/other@demo-project.iam.gserviceaccount.com/"), 404, "not_found"},
	{"google", "access token", path("/identity", "/token"), 404, "not_found"},
	{"vault", "no token", header("X-Vault-Token", ""), 403, "permission denied"},
	{"vault", "unknown role", path("token/agents", "token/admin"), 400, "role not found"},
	{"vault", "PUT", method("PUT"), 405, "unsupported operation"},
	{"token request", "no bearer", header("Authorization", ""), 401, "Unauthorized"},
	{"token request", "unknown account", path("accounts/demo", "accounts/other"), 404, "NotFound"},
	{"token request", "too short", path("600", "599"), 422, "Invalid"},
	{"token request", "too long", path("600", "4294967297"), 422, "Invalid"},
	{"token request", "negative", path("600", "-1"), 422, "Invalid"},
	{"token request", "no JSON", path("{", ""), 400, "BadRequest"},
	{"token request", "other kind", path(`"TokenRequest"`, `"TokenReview"`), 400, "BadRequest"},
	{"token request", "GET", method("GET"), 405, "MethodNotAllowed"},
	{"aws", "unsigned", header("Authorization", ""), 403, "MissingAuthenticationToken"},
	{"aws", "bearer", header("Authorization", "Bearer x"), 403, "IncompleteSignature"},
	{"aws", "signed for another service", func(c platformCall) platformCall {
		return c.with("Authorization", strings.Replace(c.header["Authorization"], "/sts/", "/iam/", 1))
	}, 403, "IncompleteSignature"},
	{"aws", "host not signed", func(c platformCall) platformCall {
		return c.with("Authorization", strings.Replace(c.header["Authorization"], ";host;", ";", 1))
	}, 403, "IncompleteSignature"},
	{"aws", "no date", header("X-Amz-Date", ""), 403, "IncompleteSignature"},
	{"aws", "other action", path("GetWebIdentityToken", "GetCallerIdentity"), 400, "InvalidAction"},
	{"aws", "no audience", path("Audience.member.1", "Audience"), 400, "ValidationError"},
	{"aws", "no algorithm", path("SigningAlgorithm=RS256", ""), 400, "ValidationError"},
	{"aws", "too short", path("&Version", "&DurationSeconds=59&Version"), 400, "ValidationError"},
	{"aws", "too long", path("&Version", "&DurationSeconds=3601&Version"), 400, "ValidationError"},
	{"aws", "GET", method("GET"), 405, "MethodNotAllowed"},
}

func TestPlatformsRefuse(t *testing.T) {
	p := newPlatforms(t)
	covered := map[string]bool{}
	for _, tt := range platformRefusals {
		covered[tt.name] = true
		t.Run(tt.name+" "+tt.what, func(t *testing.T) {
			platform := p.all[tt.name]
			a := p.call(t, tt.name, tt.change(platform.good))
			if got := lastError(platform.endpoint); a.status != tt.status || got != tt.code {
				t.Errorf("got status %d, error %q, want %d %q: %s", a.status, got, tt.status, tt.code, a.raw)
			}
			if strings.Contains(string(a.raw), "eyJ") {
				t.Errorf("got a token in a refusal: %s", a.raw)
			}
		})
	}
	for name := range p.all {
		if !covered[name] {
			t.Errorf("%s: got no refusals, want some", name)
		}
	}
}

func header(name, value string) func(platformCall) platformCall {
	return func(c platformCall) platformCall {
		for have := range c.header {
			if strings.EqualFold(have, name) {
				return c.with(have, value)
			}
		}
		return c.with(name, value)
	}
}

func path(old, new string) func(platformCall) platformCall {
	return func(c platformCall) platformCall { return c.replaced(old, new) }
}

func method(name string) func(platformCall) platformCall {
	return func(c platformCall) platformCall {
		c.method = name
		return c
	}
}

// TestPlatformsAreHostile: the behavior is the same for all of them.
func TestPlatformsAreHostile(t *testing.T) {
	p := newPlatforms(t)
	for name, platform := range p.all {
		t.Run(name, func(t *testing.T) {
			e := platform.endpoint
			for _, status := range []int{404, 410, 429, 500} {
				e.SetBehavior(entratest.PlatformBehavior{Status: status, RetryAfter: "7"})
				if a := p.call(t, name, platform.good); a.status != status || a.header.Get("Retry-After") != "7" || len(a.raw) != 0 {
					t.Errorf("got status %d, Retry-After %q, want %d and 7", a.status, a.header.Get("Retry-After"), status)
				}
			}
			e.SetBehavior(entratest.PlatformBehavior{Body: `{"message":"starting"}`})
			if a := p.call(t, name, platform.good); a.status != http.StatusOK || a.text("message") != "starting" || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
				t.Errorf("got status %d %s, want 200 and the body", a.status, a.raw)
			}
			e.SetBehavior(entratest.PlatformBehavior{Body: "<html>", Truncate: true})
			if a := p.call(t, name, platform.good); string(a.raw) != "<ht" || a.header.Get("Content-Length") != "3" {
				t.Errorf("got %q, want half of it", a.raw)
			}
			e.SetBehavior(entratest.PlatformBehavior{})
			if a := p.call(t, name, platform.good); platform.token(a) == "" {
				t.Errorf("got %s, want a token again", a.raw)
			}
		})
	}
}

func TestPlatformsDelayAndHang(t *testing.T) {
	p := newPlatforms(t)
	github := p.all["github"]
	synctest.Test(t, func(t *testing.T) {
		github.endpoint.SetBehavior(entratest.PlatformBehavior{Delay: time.Minute})
		start := time.Now()
		if a, err := github.good.send(t.Context(), github.endpoint); err != nil || github.token(a) == "" || time.Since(start) != time.Minute {
			t.Errorf("got %s, %v after %v, want a token after a minute", a.raw, err, time.Since(start))
		}
		for _, b := range []entratest.PlatformBehavior{{Delay: time.Hour}, {Hang: true}} {
			github.endpoint.SetBehavior(b)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := github.good.send(ctx, github.endpoint); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%+v: got %v, want the client's deadline", b, err)
			}
			cancel()
		}
	})
}

// What hangs for a client ends with it, also when the request has a body: net/http
// notices that the client is gone only once that was read.
func TestPlatformsHangOverTheNetwork(t *testing.T) {
	endpoint := newPlatforms(t).all["aws"].endpoint
	for _, b := range []entratest.PlatformBehavior{{Delay: time.Hour}, {Hang: true}} {
		endpoint.SetBehavior(b)
		ended := make(chan struct{})
		served, err := entratest.ListenLoopback("", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(ended)
			endpoint.ServeHTTP(w, r)
		}))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, served.URL, strings.NewReader("Action=GetWebIdentityToken"))
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req); err == nil {
			resp.Body.Close()
			t.Errorf("%+v: got status %d, want no answer", b, resp.StatusCode)
		}
		cancel()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Errorf("%+v: the request goes on without its client", b)
		}
		if err := served.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestPlatformRecordsHoldNoSecret sends tokens and the endpoint's secret in
// every place that is recorded.
func TestPlatformRecordsHoldNoSecret(t *testing.T) {
	p := newPlatforms(t)
	for name, platform := range p.all {
		good := p.call(t, name, platform.good)
		token := platform.token(good)
		for _, secret := range []string{token, platformSecret} {
			for _, old := range []string{"AzureADTokenExchange", "agents", "default", "?", "/identity"} {
				c := platform.good.replaced(old, old+secret)
				if _, err := c.with("Client-Request-Id", secret).send(t.Context(), platform.endpoint); err != nil {
					t.Fatal(err)
				}
			}
			for _, selector := range []string{"client_id", "clientid", "principalId", "serviceConnectionId"} {
				c := platform.good.replaced("?", "?"+selector+"="+secret+"&")
				if _, err := c.send(t.Context(), platform.endpoint); err != nil {
					t.Fatal(err)
				}
			}
		}
		text := fmt.Sprintf("%+v", platform.endpoint.Requests())
		if strings.Contains(text, "eyJ") || strings.Contains(text, platformSecret) {
			t.Errorf("%s: got a secret in the records", name)
		}
		if !strings.Contains(text, "[redacted]") {
			t.Errorf("%s: got no redacted value, want some: the test sends none", name)
		}
	}
}

func TestArcKeyFiles(t *testing.T) {
	p := newPlatforms(t)
	arc := p.all["arc"]
	first, err := arc.good.send(t.Context(), arc.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	path, ok := strings.CutPrefix(first.header.Get("Www-Authenticate"), "Basic realm=")
	if first.status != http.StatusUnauthorized || !ok || !strings.HasPrefix(path, p.keyDir) || !strings.HasSuffix(path, ".key") {
		t.Fatalf("got status %d, challenge %q, want 401 and a .key file in %s", first.status, path, p.keyDir)
	}
	key, err := os.ReadFile(path)
	if err != nil || len(key) > 4096 {
		t.Fatalf("got a key of %d bytes, %v, want at most 4096", len(key), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v, want 0600", info.Mode(), err)
	}
	answered := arc.good.with("Authorization", "Basic "+string(key)).replaced("?", "?client_id="+assignedIDOne+"&")
	a := p.call(t, "arc", answered)
	if a.text("client_id") != assignedIDOne || a.text("object_id") != assignedOID || a.text("msi_res_id") != assignedARM {
		t.Errorf("got %v, want an echo of the identity", a.body)
	}
	if again := p.call(t, "arc", answered); again.status != http.StatusUnauthorized {
		t.Errorf("got status %d, want 401 for a key that was used", again.status)
	}
	for range 50 {
		if _, err := arc.good.send(t.Context(), arc.endpoint); err != nil {
			t.Fatal(err)
		}
	}
	if files, err := os.ReadDir(p.keyDir); err != nil || len(files) > 16 {
		t.Errorf("got %d key files, %v, want at most 16", len(files), err)
	}
}

// TestPlatformOnLoopback serves one over a socket, as the platforms are.
func TestPlatformOnLoopback(t *testing.T) {
	p := newPlatforms(t)
	host, err := entratest.ListenLoopback("", p.all["app service"].endpoint)
	if err != nil {
		t.Fatal(err)
	}
	env := p.all["app service"].endpoint.Environment(host.URL)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, env["IDENTITY_ENDPOINT"]+"/?api-version=2019-08-01&"+exchangeQuery, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-IDENTITY-HEADER", env["IDENTITY_HEADER"])
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("got %s %s, %v, want 200", resp.Status, body, err)
	}
	if err := host.Close(); err != nil {
		t.Error(err)
	}
	if resp, err := client.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Error("got an answer after Close")
	}
	if _, err := entratest.ListenLoopback("0.0.0.0:0", http.NotFoundHandler()); err == nil {
		t.Error("got no error for an address that is not loopback")
	}
}
