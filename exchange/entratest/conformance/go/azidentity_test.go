package clients

import (
	"context"
	"errors"
	"net/http"
	"os"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/credfree/credfree/exchange/entratest/conformance/world"
)

func azureOptions() azcore.ClientOptions {
	return azcore.ClientOptions{
		Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: lab.Authority},
		Transport: lab.HTTP(),
		Retry:     policy.RetryOptions{MaxRetries: -1},
	}
}

func TestAzureAppToken(t *testing.T) {
	creds := map[string]func() (azcore.TokenCredential, error){
		"assertion": func() (azcore.TokenCredential, error) {
			return azidentity.NewClientAssertionCredential(lab.Tenant, lab.Client, workloadToken, &azidentity.ClientAssertionCredentialOptions{
				ClientOptions: azureOptions(), DisableInstanceDiscovery: true,
			})
		},
		"workload identity": func() (azcore.TokenCredential, error) {
			return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
				ClientOptions: azureOptions(), DisableInstanceDiscovery: true,
				TenantID: lab.Tenant, ClientID: lab.Client, TokenFilePath: lab.WorkloadToken,
			})
		},
		"secret": func() (azcore.TokenCredential, error) {
			return azidentity.NewClientSecretCredential(lab.Tenant, lab.Client, lab.Secret, &azidentity.ClientSecretCredentialOptions{
				ClientOptions: azureOptions(), DisableInstanceDiscovery: true,
			})
		},
		"certificate":                func() (azcore.TokenCredential, error) { return certificateCredential(false) },
		"certificate with its chain": func() (azcore.TokenCredential, error) { return certificateCredential(true) },
	}
	for name, create := range creds {
		t.Run(name, func(t *testing.T) {
			cred, err := create()
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range []world.Resource{lab.Graph, lab.Ledger} {
				checkTwice(t, cred, r, r.Default, checkApp)
			}
		})
	}
}

func certificateCredential(chain bool) (azcore.TokenCredential, error) {
	pem, err := os.ReadFile(lab.Certificate)
	if err != nil {
		return nil, err
	}
	certs, key, err := azidentity.ParseCertificates(pem, nil)
	if err != nil {
		return nil, err
	}
	return azidentity.NewClientCertificateCredential(lab.Tenant, lab.Client, certs, key, &azidentity.ClientCertificateCredentialOptions{
		ClientOptions: azureOptions(), DisableInstanceDiscovery: true, SendCertificateChain: chain,
	})
}

func TestAzureOnBehalfOf(t *testing.T) {
	for _, r := range []world.Resource{lab.Graph, lab.Ledger} {
		cred, err := azidentity.NewOnBehalfOfCredentialWithClientAssertions(lab.Tenant, lab.Client, userToken(t), workloadToken, &azidentity.OnBehalfOfCredentialOptions{
			ClientOptions: azureOptions(), DisableInstanceDiscovery: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		checkTwice(t, cred, r, r.Scope, checkUser)
	}
}

// checkTwice asks twice: the second token comes from the credential's cache.
func checkTwice(t *testing.T, cred azcore.TokenCredential, r world.Resource, scope string, check func(*testing.T, string, world.Resource)) {
	t.Helper()
	n := requests(func() {
		for range 2 {
			token, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}})
			if err != nil {
				t.Fatal(err)
			}
			check(t, token.Token, r)
			checkExpiry(t, token.Token, r, token.ExpiresOn)
		}
	})
	if n != 1 {
		t.Errorf("got %d token requests for two acquisitions, want 1", n)
	}
}

func TestAzureRefusals(t *testing.T) {
	eachRow(t, func(t *testing.T, r world.Row) *http.Response {
		var cred azcore.TokenCredential
		var err error
		given := func(context.Context) (string, error) { return r.Assertion, nil }
		switch {
		case r.Secret != "":
			cred, err = azidentity.NewClientSecretCredential(r.Tenant, r.Client, r.Secret, &azidentity.ClientSecretCredentialOptions{
				ClientOptions: azureOptions(), DisableInstanceDiscovery: true,
			})
		case r.Flow == "obo":
			cred, err = azidentity.NewOnBehalfOfCredentialWithClientAssertions(r.Tenant, r.Client, r.UserAssertion, given, &azidentity.OnBehalfOfCredentialOptions{
				ClientOptions: azureOptions(), DisableInstanceDiscovery: true,
			})
		default:
			cred, err = azidentity.NewClientAssertionCredential(r.Tenant, r.Client, given, &azidentity.ClientAssertionCredentialOptions{
				ClientOptions: azureOptions(), DisableInstanceDiscovery: true,
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: r.Scopes})
		var failed *azidentity.AuthenticationFailedError
		if !errors.As(err, &failed) || failed.RawResponse == nil {
			t.Fatalf("got error %v, want an AuthenticationFailedError with its response", err)
		}
		return failed.RawResponse
	})
}
