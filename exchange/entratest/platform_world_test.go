package entratest_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/credfree/credfree/exchange/entratest"
)

const (
	platformOrigin = "http://platform.test"
	platformSecret = "s3cr3t-of-the-platform"

	systemID      = "99999999-0000-4000-8000-000000000001"
	systemOID     = "99999999-0000-4000-8000-000000000002"
	assignedIDOne = "99999999-0000-4000-8000-000000000003"
	assignedOID   = "99999999-0000-4000-8000-000000000004"
	assignedARM   = "/subscriptions/5f0c/resourceGroups/agents/providers/Microsoft.ManagedIdentity/userAssignedIdentities/billing"
	connectionID  = "99999999-0000-4000-8000-000000000005"
	exchangeQuery = "resource=api%3A%2F%2FAzureADTokenExchange"
)

// platformCall is a request to a platform's endpoint.
type platformCall struct {
	method, path string
	header       map[string]string
	body         string
}

func (c platformCall) send(ctx context.Context, e *entratest.PlatformEndpoint) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, c.method, platformOrigin+c.path, strings.NewReader(c.body))
	if err != nil {
		return answer{}, err
	}
	for name, value := range c.header {
		req.Header.Set(name, value)
	}
	resp, err := e.RoundTripper(platformOrigin).RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.raw, err = io.ReadAll(resp.Body); err != nil {
		return answer{}, err
	}
	_ = json.Unmarshal(a.raw, &a.body) // some answers are XML or text
	return a, nil
}

// with changes one header; "" removes it.
func (c platformCall) with(name, value string) platformCall {
	c.header = maps.Clone(c.header)
	c.header[name] = value
	if value == "" {
		delete(c.header, name)
	}
	return c
}

// replaced changes the path and query.
func (c platformCall) replaced(old, new string) platformCall {
	c.path, c.body = strings.ReplaceAll(c.path, old, new), strings.ReplaceAll(c.body, old, new)
	return c
}

// aPlatform is an endpoint, a request that succeeds and where its token is.
type aPlatform struct {
	endpoint *entratest.PlatformEndpoint
	good     platformCall
	token    func(answer) string
}

// platforms are all endpoints there are, and a server that trusts them.
type platforms struct {
	*world
	all     map[string]aPlatform
	issuers map[entratest.Platform]*entratest.Issuer
	keyDir  string
}

func member(names ...string) func(answer) string {
	return func(a answer) string {
		var v any = a.body
		for _, name := range names {
			object, _ := v.(map[string]any)
			v = object[name]
		}
		s, _ := v.(string)
		return s
	}
}

func newPlatforms(t testing.TB) *platforms {
	t.Helper()
	p := &platforms{all: map[string]aPlatform{}, issuers: map[entratest.Platform]*entratest.Issuer{}, keyDir: t.TempDir()}
	var issuers []*entratest.Issuer
	for _, kind := range []entratest.Platform{"kubernetes", "github-actions", "azure-devops", "google-cloud", "vault", "aws"} {
		cfg := entratest.IssuerConfig{Platform: kind, Key: sharedKey()}
		p.issuers[kind] = newIssuer(t, cfg)
		issuers = append(issuers, p.issuers[kind])
	}
	entra := entratest.FederatedCredential{Issuer: baseURL + "/" + tenantID + "/v2.0", Subject: systemOID, Audience: entratest.TokenExchangeAudience}
	trust := []entratest.FederatedCredential{entra}
	for _, i := range issuers {
		subject, err := i.Subject(entratest.Workload{})
		if err != nil {
			t.Fatal(err)
		}
		trust = append(trust, entratest.FederatedCredential{Issuer: i.URL(), Subject: subject, Audience: entratest.TokenExchangeAudience})
	}
	p.world = federation(t, entratest.IssuersRoundTripper(issuers...), trust...)
	p.addIdentities(t)
	p.addWorkloads(t)
	return p
}

func (p *platforms) add(t testing.TB, name string, e *entratest.PlatformEndpoint, err error, good platformCall, token func(answer) string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	p.all[name] = aPlatform{endpoint: e, good: good, token: token}
}

func (p *platforms) addIdentities(t testing.TB) {
	t.Helper()
	cfg := entratest.ManagedIdentityConfig{
		Server: p.server, Tenant: tenantID, Secret: platformSecret, KeyDir: p.keyDir,
		Identities: []entratest.ManagedIdentity{
			{ClientID: assignedIDOne, PrincipalID: assignedOID, ResourceID: assignedARM},
			{ClientID: systemID, PrincipalID: systemOID, SystemAssigned: true},
		},
	}
	const imds, msi = "/metadata/identity/oauth2/token?" + exchangeQuery, "/msi/token?" + exchangeQuery
	token := member("access_token")
	e, err := entratest.NewIMDS(cfg)
	p.add(t, "imds", e, err, platformCall{"GET", imds + "&api-version=2018-02-01", map[string]string{"Metadata": "true"}, ""}, token)
	e, err = entratest.NewAppService(cfg)
	p.add(t, "app service", e, err, platformCall{"GET", msi + "&api-version=2019-08-01", map[string]string{"X-IDENTITY-HEADER": platformSecret}, ""}, token)
	e, err = entratest.NewServiceFabric(cfg)
	p.add(t, "service fabric", e, err, platformCall{"GET", imds + "&api-version=2019-07-01-preview", map[string]string{"Secret": platformSecret}, ""}, token)
	e, err = entratest.NewAzureML(cfg)
	p.add(t, "azure ml", e, err, platformCall{"GET", msi + "&api-version=2017-09-01&clientid=", map[string]string{"Secret": platformSecret}, ""}, token)
	e, err = entratest.NewCloudShell(cfg)
	p.add(t, "cloud shell", e, err, platformCall{"POST", "/oauth2/token", map[string]string{"Metadata": "true"}, exchangeQuery}, token)
	e, err = entratest.NewArc(cfg)
	p.add(t, "arc", e, err, platformCall{"GET", imds + "&api-version=2020-06-01", map[string]string{"Metadata": "true"}, ""}, token)
}

func (p *platforms) addWorkloads(t testing.TB) {
	t.Helper()
	cfg := func(kind entratest.Platform) entratest.WorkloadConfig {
		return entratest.WorkloadConfig{
			Issuer: p.issuers[kind], Secret: platformSecret, Roles: map[string]string{"agents": entratest.TokenExchangeAudience},
		}
	}
	bearer := map[string]string{"Authorization": "bearer " + platformSecret}
	const audience = "audience=api%3A%2F%2FAzureADTokenExchange"

	e, err := entratest.NewGitHubActions(cfg("github-actions"))
	p.add(t, "github", e, err, platformCall{"GET", "/idtoken/1?api-version=2.0&" + audience, bearer, ""}, member("value"))
	devops := cfg("azure-devops")
	devops.Names = []string{connectionID}
	e, err = entratest.NewAzureDevOps(devops)
	p.add(t, "azure devops", e, err, platformCall{"POST", "/contoso/p/oidctoken?api-version=7.1&serviceConnectionId=" + connectionID, bearer, ""}, member("oidcToken"))
	e, err = entratest.NewGoogleMetadata(cfg("google-cloud"))
	p.add(t, "google", e, err, platformCall{"GET", "/computeMetadata/v1/instance/service-accounts/default/identity?format=full&" + audience, map[string]string{"Metadata-Flavor": "Google"}, ""},
		func(a answer) string { return string(a.raw) })
	e, err = entratest.NewVault(cfg("vault"))
	p.add(t, "vault", e, err, platformCall{"GET", "/v1/identity/oidc/token/agents", map[string]string{"X-Vault-Token": platformSecret}, ""}, member("data", "token"))
	cluster := cfg("kubernetes")
	cluster.Names = []string{"agents/demo"}
	e, err = entratest.NewTokenRequest(cluster)
	p.add(t, "token request", e, err, platformCall{"POST", "/api/v1/namespaces/agents/serviceaccounts/demo/token", bearer,
		`{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","spec":{"audiences":["api://AzureADTokenExchange"],"expirationSeconds":600}}`}, member("status", "token"))
	e, err = entratest.NewSTS(cfg("aws"))
	p.add(t, "aws", e, err, platformCall{"POST", "/", map[string]string{
		"Authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261121/eu-west-1/sts/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=" + strings.Repeat("0a", 32),
		"X-Amz-Date":    "20261121T000000Z",
	}, "Action=GetWebIdentityToken&Version=2011-06-15&SigningAlgorithm=RS256&Audience.member.1=api%3A%2F%2FAzureADTokenExchange"}, stsToken)
}

func stsToken(a answer) string {
	var doc struct {
		Token string `xml:"GetWebIdentityTokenResult>WebIdentityToken"`
	}
	if xml.Unmarshal(a.raw, &doc) != nil {
		return ""
	}
	return doc.Token
}

// call sends a request, and answers the challenge of Arc.
func (p *platforms) call(t testing.TB, name string, c platformCall) answer {
	t.Helper()
	a, err := c.send(t.Context(), p.all[name].endpoint)
	if err != nil {
		t.Fatal(err)
	}
	path, challenged := strings.CutPrefix(a.header.Get("Www-Authenticate"), "Basic realm=")
	if name != "arc" || !challenged || c.header["Authorization"] != "" {
		return a
	}
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p.call(t, name, c.with("Authorization", "Basic "+string(key)))
}

// lastError is the error code of the newest record.
func lastError(e *entratest.PlatformEndpoint) string {
	all := e.Requests()
	if len(all) == 0 {
		return "no request"
	}
	return all[len(all)-1].Error
}
