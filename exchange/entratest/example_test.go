package entratest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/credfree/credfree/exchange/entratest"
)

// A service that authenticates to Entra with its Kubernetes service account is
// tested against a directory that trusts that account, and then against an
// Entra that is having a bad day. Nothing listens on a port.
func Example() {
	const authority, cluster = "https://login.test", "https://oidc.cluster.test"

	issuer, err := entratest.NewIssuer(entratest.IssuerConfig{URL: cluster})
	if err != nil {
		fmt.Println(err)
		return
	}
	entra, err := entratest.New(entratest.Config{
		BaseURL:    authority,
		Directory:  entratest.DemoDirectory(cluster),
		HTTPClient: &http.Client{Transport: issuer.RoundTripper()},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	// Give this client to the service under test in place of its own.
	client := &http.Client{Transport: entra.RoundTripper()}

	ask := func(serviceAccount string) {
		assertion, err := issuer.ServiceAccountToken(entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: serviceAccount})
		if err != nil {
			fmt.Println(err)
			return
		}
		resp, err := client.PostForm(authority+"/"+entratest.DemoTenantID+"/oauth2/v2.0/token", url.Values{
			"grant_type":            {"client_credentials"},
			"client_id":             {entratest.DemoClientID},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
			"client_assertion":      {assertion},
			"scope":                 {"https://graph.microsoft.com/.default"},
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		defer resp.Body.Close()
		var body struct {
			TokenType string `json:"token_type"`
			Error     string `json:"error"`
			Codes     []int  `json:"error_codes"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
			fmt.Println(resp.StatusCode, "not JSON")
			return
		}
		fmt.Println(resp.StatusCode, body.TokenType, body.Error, body.Codes)
	}

	ask("demo")
	ask("Demo")
	entra.SetBehavior(entratest.Behavior{Status: 503, Body: "<html>", RetryAfter: "30"})
	ask("demo")
	fmt.Println(entra.TokenRequests(), "requests")

	// Output:
	// 200 Bearer  []
	// 401  invalid_client [7002138]
	// 503 not JSON
	// 3 requests
}

// Programs in other languages reach the emulator over TLS: they need the
// authority, the CA to trust, and a workload token.
func ExampleListen() {
	host, err := entratest.Listen(entratest.HostConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = host.Close() }()
	resp, err := host.Client().Get(host.URL + "/" + entratest.DemoDomain + "/v2.0/.well-known/openid-configuration")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	var metadata struct{ Issuer string }
	if err := json.NewDecoder(resp.Body).Decode(&metadata); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(resp.StatusCode, metadata.Issuer == host.URL+"/"+entratest.DemoTenantID+"/v2.0")
	// Output: 200 true
}
