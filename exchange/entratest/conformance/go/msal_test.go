package clients

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"testing"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	msalerrors "github.com/AzureAD/microsoft-authentication-library-for-go/apps/errors"

	"github.com/credfree/credfree/exchange/entratest/conformance/world"
)

// assertion always answers with the same client assertion.
func assertion(token string) confidential.Credential {
	return confidential.NewCredFromAssertionCallback(func(context.Context, confidential.AssertionRequestOptions) (string, error) {
		return token, nil
	})
}

func freshAssertion() confidential.Credential {
	return confidential.NewCredFromAssertionCallback(func(ctx context.Context, _ confidential.AssertionRequestOptions) (string, error) {
		return workloadToken(ctx)
	})
}

func newMSAL(t *testing.T, tenant, client string, cred confidential.Credential, opts ...confidential.Option) confidential.Client {
	t.Helper()
	opts = append([]confidential.Option{confidential.WithInstanceDiscovery(false), confidential.WithHTTPClient(lab.HTTP())}, opts...)
	c, err := confidential.New(lab.Authority+"/"+tenant, client, cred, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMSALAppToken(t *testing.T) {
	secret, err := confidential.NewCredFromSecret(lab.Secret)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(lab.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	certs, key, err := confidential.CertFromPEM(pem, "")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := confidential.NewCredFromCert(certs, key)
	if err != nil {
		t.Fatal(err)
	}
	creds := map[string]confidential.Credential{"assertion": freshAssertion(), "secret": secret, "certificate": cert}
	for name, cred := range creds {
		t.Run(name, func(t *testing.T) {
			c := newMSAL(t, lab.Tenant, lab.Client, cred)
			for _, r := range []world.Resource{lab.Graph, lab.Ledger} {
				appTokenTwice(t, c, r)
			}
		})
	}
}

// appTokenTwice gets the second token from the cache.
func appTokenTwice(t *testing.T, c confidential.Client, r world.Resource) {
	t.Helper()
	n := requests(func() {
		for i := range 2 {
			result, err := c.AcquireTokenByCredential(t.Context(), []string{r.Default})
			if err != nil {
				t.Fatal(err)
			}
			if cached := result.Metadata.TokenSource == confidential.TokenSourceCache; cached != (i == 1) {
				t.Errorf("acquisition %d: got cached %t", i+1, cached)
			}
			checkApp(t, result.AccessToken, r)
			checkExpiry(t, result.AccessToken, r, result.ExpiresOn)
		}
	})
	if n != 1 {
		t.Errorf("got %d token requests for two acquisitions, want 1", n)
	}
}

func TestMSALOnBehalfOf(t *testing.T) {
	c := newMSAL(t, lab.Tenant, lab.Client, freshAssertion())
	for _, r := range []world.Resource{lab.Graph, lab.Ledger} {
		// A token of its own: for the same one MSAL would first redeem the
		// refresh token of the other API.
		user := userToken(t)
		n := requests(func() {
			for range 2 {
				result, err := c.AcquireTokenOnBehalfOf(t.Context(), user, []string{r.Scope})
				if err != nil {
					t.Fatal(err)
				}
				checkUser(t, result.AccessToken, r)
				if result.Account.HomeAccountID != lab.User+"."+lab.Tenant || result.Account.PreferredUsername != lab.UserName {
					t.Errorf("got account %q %q, want the user's", result.Account.HomeAccountID, result.Account.PreferredUsername)
				}
			}
		})
		if n != 1 {
			t.Errorf("got %d token requests for two acquisitions, want 1", n)
		}
	}
}

// TestMSALRefreshToken relies on MSAL redeeming the refresh token for an API
// that the same user token was not yet presented for.
func TestMSALRefreshToken(t *testing.T) {
	c, user := newMSAL(t, lab.Tenant, lab.Client, freshAssertion()), userToken(t)
	n := len(lab.Server().Requests())
	for _, r := range []world.Resource{lab.Graph, lab.Ledger} {
		result, err := c.AcquireTokenOnBehalfOf(t.Context(), user, []string{r.Scope})
		if err != nil {
			t.Fatal(err)
		}
		checkUser(t, result.AccessToken, r)
	}
	var grants []string
	for _, r := range lab.Server().Requests()[n:] {
		if r.Grant != "" {
			grants = append(grants, r.Grant)
		}
	}
	if want := []string{grantOBO, grantRT}; !slices.Equal(grants, want) {
		t.Errorf("got requests %q, want %q", grants, want)
	}
}

func TestMSALRefusals(t *testing.T) {
	eachRow(t, func(t *testing.T, r world.Row) *http.Response {
		cred, err := assertion(r.Assertion), error(nil)
		if r.Secret != "" {
			if cred, err = confidential.NewCredFromSecret(r.Secret); err != nil {
				t.Fatal(err)
			}
		}
		c := newMSAL(t, r.Tenant, r.Client, cred)
		if r.Flow == "obo" {
			_, err = c.AcquireTokenOnBehalfOf(t.Context(), r.UserAssertion, r.Scopes)
		} else {
			_, err = c.AcquireTokenByCredential(t.Context(), r.Scopes)
		}
		var call msalerrors.CallErr
		if !errors.As(err, &call) {
			t.Fatalf("got error %v, want a CallErr", err)
		}
		return call.Resp
	})
}
