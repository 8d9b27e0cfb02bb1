package aws

import (
	"net/http"
	"testing"
)

// No other test here has a request that asks for the environment's proxy, which
// net/http reads once.
func TestCredentialsComeWithoutAProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://proxy.test:3128")
	t.Setenv("HTTPS_PROXY", "http://proxy.test:3128")
	t.Setenv("NO_PROXY", "")
	transport := httpClient().GetTransport()
	for address, want := range map[string]string{
		"http://169.254.169.254/latest/api/token": "",
		"http://169.254.170.23/v1/credentials":    "",
		"http://[fd00:ec2::23]/v1/credentials":    "",
		"http://127.0.0.1:51679/v1/credentials":   "",
		"https://sts.eu-west-1.amazonaws.com/":    "proxy.test:3128",
		"https://vpce-1.sts.vpce.test/":           "proxy.test:3128",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if u, err := transport.Proxy(req); err != nil {
			t.Errorf("%s: %v", address, err)
		} else if u != nil {
			got = u.Host
		}
		if got != want {
			t.Errorf("%s: got the proxy %q, want %q", address, got, want)
		}
	}
}
