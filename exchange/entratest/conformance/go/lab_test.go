// Package clients runs Microsoft's Go libraries against the emulator.
package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/entratest/conformance/world"
)

// lab is the emulator all tests of the package share, over real sockets.
var lab *world.World

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if lab, err = world.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = lab.Close() }()
	return m.Run()
}

// workloadToken is a client assertion the application is trusted with.
func workloadToken(context.Context) (string, error) { return lab.MintWorkloadToken() }

func userToken(t *testing.T) string {
	t.Helper()
	token, err := lab.MintUserToken(lab.Client)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func verified(t *testing.T, token string, r world.Resource) map[string]any {
	t.Helper()
	return verifiedFor(t, token, r, lab.Client)
}

// verifiedFor checks a token of a client the way the API does, with go-oidc,
// and returns its claims.
func verifiedFor(t *testing.T, token string, r world.Resource, client string) map[string]any {
	t.Helper()
	ctx := oidc.ClientContext(t.Context(), lab.HTTP())
	keys := oidc.NewRemoteKeySet(ctx, r.Keys)
	checked, err := oidc.NewVerifier(r.Issuer, keys, &oidc.Config{ClientID: r.Audience}).Verify(ctx, token)
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := checked.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if claims[r.ClientClaim] != client {
		t.Errorf("got %s %v, want %s", r.ClientClaim, claims[r.ClientClaim], client)
	}
	return claims
}

func checkApp(t *testing.T, token string, r world.Resource) {
	t.Helper()
	claims := verified(t, token, r)
	if roles, _ := claims["roles"].([]any); !slices.Equal(roles, []any{r.Role}) || claims["idtyp"] != "app" || claims["scp"] != nil {
		t.Errorf("got roles %v, idtyp %v, scp %v, want an app-only token with %s", claims["roles"], claims["idtyp"], claims["scp"], r.Role)
	}
}

func checkUser(t *testing.T, token string, r world.Resource) {
	t.Helper()
	claims := verified(t, token, r)
	if scope := r.Scope[len(r.Default)-len(".default"):]; claims["scp"] != scope || claims["oid"] != lab.User || claims["idtyp"] != "user" {
		t.Errorf("got scp %v, oid %v, idtyp %v, want %s, %s, user", claims["scp"], claims["oid"], claims["idtyp"], scope, lab.User)
	}
}

// requests runs f and returns how many token requests it made.
func requests(f func()) int {
	before := lab.Server().TokenRequests()
	f()
	return lab.Server().TokenRequests() - before
}

// eachRow runs try for every row of the table, in the mood the row asks for,
// and compares the answer that try extracted from the client's error.
func eachRow(t *testing.T, try func(t *testing.T, r world.Row) *http.Response) {
	rows, err := lab.Rows()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) < 20 {
		t.Fatalf("got %d rows, want 20 and more", len(rows))
	}
	for _, r := range rows {
		t.Run(r.Name, func(t *testing.T) {
			lab.Server().SetBehavior(r.Behavior)
			defer lab.Server().SetBehavior(entratest.Behavior{})
			checkAnswer(t, try(t, r), r)
		})
	}
}

func checkAnswer(t *testing.T, resp *http.Response, r world.Row) {
	t.Helper()
	var body struct {
		Error    string
		Suberror string
		Claims   string
		Codes    []int  `json:"error_codes"`
		Trace    string `json:"trace_id"`
	}
	err := json.NewDecoder(resp.Body).Decode(&body)
	if resp.StatusCode != r.Status || resp.Header.Get("Retry-After") != r.RetryAfter {
		t.Errorf("got status %d, Retry-After %q, want %d, %q", resp.StatusCode, resp.Header.Get("Retry-After"), r.Status, r.RetryAfter)
	}
	if r.Error == "" {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if body.Error != r.Error || !slices.Equal(body.Codes, []int{r.Code}) || body.Suberror != r.Suberror {
		t.Errorf("got %s %v %q, want %s [%d] %q", body.Error, body.Codes, body.Suberror, r.Error, r.Code, r.Suberror)
	}
	if json.Valid([]byte(body.Claims)) != r.Claims {
		t.Errorf("got claims %q, want some: %t", body.Claims, r.Claims)
	}
	if body.Trace == "" || body.Trace != resp.Header.Get("X-Ms-Request-Id") {
		t.Errorf("got trace id %q and x-ms-request-id %q, want the same", body.Trace, resp.Header.Get("X-Ms-Request-Id"))
	}
}

// checkExpiry compares what a client says about a token with what the token says.
func checkExpiry(t *testing.T, token string, r world.Resource, told time.Time) {
	t.Helper()
	exp, _ := verified(t, token, r)["exp"].(float64)
	if d := time.Unix(int64(exp), 0).Sub(told).Abs(); d > 5*time.Second {
		t.Errorf("client and token differ by %v about the expiry", d)
	}
}

// TestDiscovery is go-oidc's idea of a provider, and what it says about the
// tokens of the tenant.
func TestDiscovery(t *testing.T) {
	ctx := oidc.ClientContext(t.Context(), lab.HTTP())
	provider, err := oidc.NewProvider(ctx, lab.Ledger.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := provider.Endpoint().TokenURL, lab.Authority+"/"+lab.Tenant+"/oauth2/v2.0/token"; got != want {
		t.Errorf("got token endpoint %s, want %s", got, want)
	}
	token, err := lab.MintUserToken(lab.Client)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.Verifier(&oidc.Config{ClientID: lab.Client}).Verify(ctx, token); err != nil {
		t.Error(err)
	}
	if _, err := provider.Verifier(&oidc.Config{ClientID: lab.Frontend}).Verify(ctx, token); err == nil {
		t.Error("got a token accepted by an API it is not for")
	}
}
