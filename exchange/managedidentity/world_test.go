package managedidentity_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/managedidentity"
)

const (
	authority = "https://login.entra.test"
	origin    = "http://platform.test"
	imdsHost  = "http://169.254.169.254"

	// identityHeader is what the platform gives its workloads. It must never be in
	// an error, nor anything else of a request or an answer.
	identityHeader = "hunter2-hunter2-hunter2"

	vault = "https://search.azure.com"

	systemClient, systemObject     = "99999999-0000-4000-8000-000000000001", "99999999-0000-4000-8000-000000000002"
	assignedClient, assignedObject = "99999999-0000-4000-8000-000000000003", "99999999-0000-4000-8000-000000000004"
	assignedResource               = "/subscriptions/5f0c/resourceGroups/agents/providers/Microsoft.ManagedIdentity/userAssignedIdentities/billing"
	strangerClient                 = "99999999-0000-4000-8000-000000000009"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// roundTrip is a transport made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// config is what all emulated platforms have in common: a system-assigned and a
// user-assigned identity.
func config(t testing.TB) entratest.ManagedIdentityConfig {
	t.Helper()
	issuer, err := entratest.NewIssuer(entratest.IssuerConfig{URL: "https://cluster.test"})
	if err != nil {
		t.Fatal(err)
	}
	server, err := entratest.New(entratest.Config{
		BaseURL: authority, Directory: entratest.DemoDirectory(issuer.URL()), HTTPClient: &http.Client{Transport: issuer.RoundTripper()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return entratest.ManagedIdentityConfig{
		Server: server, Tenant: entratest.DemoTenantID, Secret: identityHeader,
		Identities: []entratest.ManagedIdentity{
			{ClientID: assignedClient, PrincipalID: assignedObject, ResourceID: assignedResource},
			{ClientID: systemClient, PrincipalID: systemObject, SystemAssigned: true},
		},
	}
}

// platformOf makes an endpoint, and the environment that it gives its workloads.
func platformOf(t testing.TB, make func(entratest.ManagedIdentityConfig) (*entratest.PlatformEndpoint, error), cfg entratest.ManagedIdentityConfig, at string) *entratest.PlatformEndpoint {
	t.Helper()
	endpoint, err := make(cfg)
	if err != nil {
		t.Fatal(err)
	}
	environment(t, endpoint.Environment(at))
	return endpoint
}

// environment sets what MSAL reads, and nothing else of it: to it an empty variable
// is none.
func environment(t testing.TB, set map[string]string) {
	t.Helper()
	for _, name := range []string{"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT", "MSI_ENDPOINT", "MSI_SECRET", "DEFAULT_IDENTITY_CLIENT_ID"} {
		t.Setenv(name, set[name])
	}
}

func newClient(t testing.TB, transport http.RoundTripper) *managedidentity.Client {
	t.Helper()
	client, err := managedidentity.New(managedidentity.Config{Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// imds is a client of an emulated virtual machine.
func imds(t testing.TB) (*managedidentity.Client, *entratest.PlatformEndpoint) {
	t.Helper()
	endpoint := platformOf(t, entratest.NewIMDS, config(t), imdsHost)
	return newClient(t, endpoint.RoundTripper(imdsHost)), endpoint
}

// appService is a client of an emulated App Service.
func appService(t testing.TB) (*managedidentity.Client, *entratest.PlatformEndpoint) {
	t.Helper()
	endpoint := platformOf(t, entratest.NewAppService, config(t), origin)
	return newClient(t, endpoint.RoundTripper(origin)), endpoint
}

// objectOf reads whose token it is.
func objectOf(t testing.TB, token string) string {
	t.Helper()
	var claims struct {
		ObjectID string `json:"oid"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatal("the token is not a JWT")
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err := errors.Join(err, json.Unmarshal(data, &claims)); err != nil {
		t.Fatal(err)
	}
	return claims.ObjectID
}

// wantError checks an error's problem, that it says what happened and what to
// change, and that nothing secret is in it or in its causes.
func wantError(t testing.TB, err error, problem managedidentity.Problem, says string) managedidentity.Error {
	t.Helper()
	got, ok := errors.AsType[*managedidentity.Error](err)
	if !ok {
		t.Fatalf("got %v, want %s", err, problem)
	}
	if got.Problem != problem || got.Hint == "" || !strings.Contains(got.Message, says) {
		t.Errorf("got %s: %s (hint: %s), want %s with a hint, and %q in the message", got.Problem, got.Message, got.Hint, problem, says)
	}
	text := got.Message + "\n" + got.Hint
	for cause := got.Err; cause != nil; cause = errors.Unwrap(cause) {
		text += "\n" + cause.Error()
	}
	if strings.Contains(text, identityHeader) {
		t.Errorf("the error shows a secret: %s", text)
	}
	return *got
}
