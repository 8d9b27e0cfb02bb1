package entratest_test

import (
	"crypto/sha1" // What the platform's thumbprint is made with.
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/managedidentity"
)

// TestMSALManagedIdentity runs Microsoft's own library, unmodified, with the
// variables that PlatformEndpoint.Environment names. Every flavour asks for
// another resource, because the library's cache is the process's.
func TestMSALManagedIdentity(t *testing.T) {
	p := newPlatforms(t)
	tests := []struct {
		name, origin, resource string
		source                 managedidentity.Source
	}{
		{"app service", platformOrigin, "https://vault.azure.net", managedidentity.AppService},
		{"azure ml", platformOrigin, "https://search.azure.com", managedidentity.AzureML},
		{"cloud shell", platformOrigin, "https://management.azure.com", managedidentity.CloudShell},
		{"imds", "http://169.254.169.254", graph, managedidentity.DefaultToIMDS},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := p.all[tt.name].endpoint
			for name, value := range e.Environment(tt.origin) {
				t.Setenv(name, value)
			}
			client := &http.Client{Transport: e.RoundTripper(tt.origin)}
			acquire(t, client, tt.resource, tt.source)
			if got := len(e.Requests()); got != 1 {
				t.Errorf("got %d requests for two acquisitions, want 1 and a cache hit", got)
			}
			if tt.name != "app service" && tt.name != "imds" {
				return // no user-assigned identities
			}
			stranger, err := managedidentity.New(managedidentity.UserAssignedClientID(agentID), managedidentity.WithHTTPClient(client))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stranger.AcquireToken(t.Context(), tt.resource); err == nil {
				t.Error("got a token for an identity that is not assigned")
			}
		})
	}
}

// TestMSALServiceFabric needs TLS, because the library pins the certificate.
func TestMSALServiceFabric(t *testing.T) {
	p := newPlatforms(t)
	e := p.all["service fabric"].endpoint
	server := httptest.NewTLSServer(e)
	defer server.Close()
	thumbprint := sha1.Sum(server.Certificate().Raw) // As above.
	t.Setenv("IDENTITY_SERVER_THUMBPRINT", hex.EncodeToString(thumbprint[:]))
	for name, value := range e.Environment(server.URL) {
		t.Setenv(name, value)
	}
	acquire(t, server.Client(), "api://ledger", managedidentity.ServiceFabric)
}

// acquire gets a token twice and looks at it.
func acquire(t *testing.T, client *http.Client, resource string, source managedidentity.Source) {
	t.Helper()
	msal, err := managedidentity.New(managedidentity.SystemAssigned(), managedidentity.WithHTTPClient(client), managedidentity.WithRetryPolicyDisabled())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := managedidentity.GetSource(); err != nil || got != source {
		t.Errorf("got source %v, %v, want %v", got, err, source)
	}
	// Claims make the library pass over what an earlier run left in the cache of
	// the process; it does not send them.
	for _, options := range [][]managedidentity.AcquireTokenOption{{managedidentity.WithClaims("{}")}, nil} {
		result, err := msal.AcquireToken(t.Context(), resource, options...)
		if err != nil {
			t.Fatal(err)
		}
		if _, claims := peek(t, result.AccessToken); claims["oid"] != systemOID || claims["idtyp"] != "app" {
			t.Errorf("got claims %v, want those of the identity", claims)
		}
	}
}
