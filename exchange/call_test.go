package exchange

import (
	"net/http"
	"strings"
	"testing"
)

// A call lets one request out, to one place, with one grant: whatever a later
// version of the protocol library may try.
func TestCallLetsOneRequestOut(t *testing.T) {
	const tokenURL = "https://login.entra.test/t.example/oauth2/v2.0/token"
	for name, test := range map[string]struct{ method, url, body string }{
		"another grant":  {http.MethodPost, tokenURL, "grant_type=refresh_token"},
		"two grants":     {http.MethodPost, tokenURL, "grant_type=client_credentials&grant_type=refresh_token"},
		"no grant":       {http.MethodPost, tokenURL, ""},
		"another host":   {http.MethodPost, strings.Replace(tokenURL, "login", "evil", 1), "grant_type=client_credentials"},
		"another tenant": {http.MethodPost, strings.Replace(tokenURL, "t.example", "u.example", 1), "grant_type=client_credentials"},
		"with a query":   {http.MethodPost, tokenURL + "?x=y", "grant_type=client_credentials"},
		"another method": {http.MethodPut, tokenURL, "grant_type=client_credentials"},
		"discovery":      {http.MethodGet, "https://login.microsoftonline.com/common/discovery/instance", ""},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := New(Config{Authority: "https://login.entra.test", Audience: "a", Transport: unreachableTransport{t}})
			if err != nil {
				t.Fatal(err)
			}
			c := newCall(t.Context(), client, &ask{tenant: "t.example", grant: grantClientCredentials})
			req, err := http.NewRequestWithContext(t.Context(), test.method, test.url, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			if resp, err := c.Do(req); err == nil {
				_ = resp.Body.Close()
				t.Error("it was sent")
			}
		})
	}
}

// unreachableTransport fails the test that reaches it.
type unreachableTransport struct{ t *testing.T }

func (u unreachableTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	u.t.Errorf("%s %s left", req.Method, req.URL)
	return nil, http.ErrServerClosed
}
