package entratest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/credfree/credfree/exchange/entratest"
)

// A Host that starts again from a state is trusted and found by the clients of
// the one before.
func TestHostStartsAgainFromState(t *testing.T) {
	first, err := entratest.Listen(entratest.HostConfig{})
	if err != nil {
		t.Fatal(err)
	}
	client, url, issuer := first.Client(), first.URL, first.IssuerURL
	state, err := first.State()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := entratest.Listen(entratest.HostConfig{State: state})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := second.Close(); err != nil {
			t.Error(err)
		}
	}()
	if second.URL != url || second.IssuerURL != issuer {
		t.Errorf("got %s and %s, want %s and %s", second.URL, second.IssuerURL, url, issuer)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/"+entratest.DemoTenantID+"/v2.0/.well-known/openid-configuration", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("got %d, %v", resp.StatusCode, err)
	}
}

func TestBrokenStateIsRefused(t *testing.T) {
	for name, state := range map[string]string{"empty": "", "garbage": "x", "half": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		host, err := entratest.Listen(entratest.HostConfig{State: []byte(state)})
		if err == nil {
			t.Errorf("%s: it was accepted", name)
			if err := host.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if !strings.Contains(err.Error(), "state") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
