package entratest_test

import (
	"encoding/base64"
	"encoding/xml"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/exchange/entratest"
)

// TestIdentityAnswerShapes pins which members each platform sends and whether
// they are strings: clients in several languages insist on one or the other.
func TestIdentityAnswerShapes(t *testing.T) {
	p := newPlatforms(t)
	imds := []string{"access_token", "client_id", "expires_in", "expires_on", "ext_expires_in", "not_before", "resource", "token_type"}
	tests := map[string]struct {
		members   []string
		expiresOn func(any) (time.Time, error)
	}{
		"imds":           {imds, epochText},
		"arc":            {slices.DeleteFunc(slices.Clone(imds), func(s string) bool { return s == "client_id" }), epochText},
		"app service":    {[]string{"access_token", "client_id", "expires_on", "resource", "token_type"}, epochText},
		"service fabric": {[]string{"access_token", "expires_on", "resource", "token_type"}, epochNumber},
		"cloud shell":    {[]string{"access_token", "expires_in", "expires_on", "not_before", "refresh_token", "resource", "scope", "token_type"}, epochText},
		"azure ml":       {[]string{"access_token", "expires_on", "resource", "token_type"}, epochText},
		"legacy dates":   {[]string{"access_token", "expires_on", "resource", "token_type"}, dateText},
	}
	legacy, err := entratest.NewAzureML(entratest.ManagedIdentityConfig{
		Server: p.server, Tenant: tenantID, Secret: platformSecret, LegacyDates: true,
		Identities: []entratest.ManagedIdentity{{ClientID: systemID, PrincipalID: systemOID}},
	})
	p.add(t, "legacy dates", legacy, err, p.all["azure ml"].good, p.all["azure ml"].token)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := p.call(t, name, p.all[name].good)
			if diff := cmp.Diff(tt.members, slices.Sorted(maps.Keys(a.body))); diff != "" {
				t.Errorf("members (-want +got):\n%s", diff)
			}
			_, claims := peek(t, a.text("access_token"))
			until, err := tt.expiresOn(a.body["expires_on"])
			if exp, _ := claims["exp"].(float64); err != nil || until.Unix()-int64(exp) > 1 || until.Unix()-int64(exp) < -1 {
				t.Errorf("got expires_on %v, %v, want the token's %v", a.body["expires_on"], err, claims["exp"])
			}
			if a.text("resource") != entratest.TokenExchangeAudience || a.text("token_type") != "Bearer" {
				t.Errorf("got resource %q of type %q, want an echo and Bearer", a.text("resource"), a.text("token_type"))
			}
			if in, has := a.body["expires_in"]; has && in != "86400" {
				t.Errorf("got expires_in %v, want 24 hours in a string", in)
			}
		})
	}
}

func epochText(v any) (time.Time, error) {
	s, _ := v.(string)
	n, err := strconv.ParseInt(s, 10, 64)
	return time.Unix(n, 0), err
}

func epochNumber(v any) (time.Time, error) {
	n, _ := v.(float64)
	return time.Unix(int64(n), 0), nil
}

func dateText(v any) (time.Time, error) {
	s, _ := v.(string)
	return time.Parse("01/02/2006 15:04:05 -07:00", s)
}

func TestIdentitySelection(t *testing.T) {
	p := newPlatforms(t)
	tests := []struct{ name, selector, want string }{
		{"imds", "client_id=" + strings.ToUpper(assignedIDOne), assignedOID},
		{"imds", "object_id=" + assignedOID, assignedOID},
		{"imds", "msi_res_id=" + strings.ToLower(assignedARM), assignedOID},
		{"imds", "msi-res-id=" + assignedARM, assignedOID},
		{"imds", "unknown=" + agentID, systemOID},
		{"app service", "principal_id=" + assignedOID, assignedOID},
		{"app service", "mi_res_id=" + assignedARM, assignedOID},
		{"app service", "msi_res_id=" + assignedARM, assignedOID},
		{"service fabric", "principalId=" + assignedOID, assignedOID},
		{"service fabric", "client_id=" + assignedIDOne, systemOID}, // not a parameter there
		{"cloud shell", "client_id=" + assignedIDOne, systemOID},
	}
	for _, tt := range tests {
		c := p.all[tt.name].good.replaced(exchangeQuery, tt.selector+"&"+exchangeQuery)
		a := p.call(t, tt.name, c)
		if a.status != http.StatusOK {
			t.Errorf("%s %s: got %d %s, want 200", tt.name, tt.selector, a.status, a.raw)
			continue
		}
		if _, claims := peek(t, a.text("access_token")); claims["sub"] != tt.want || claims["oid"] != tt.want {
			t.Errorf("%s %s: got sub %v, oid %v, want %s", tt.name, tt.selector, claims["sub"], claims["oid"], tt.want)
		}
	}
	// Clients write the path in their own ways.
	for _, path := range []string{"//metadata/identity/oauth2/token", "/Metadata/identity/oauth2/token/", "/metadata/identity/oauth2/token/"} {
		c := p.all["imds"].good.replaced("/metadata/identity/oauth2/token", path)
		if a := p.call(t, "imds", c); a.status != http.StatusOK {
			t.Errorf("%s: got status %d, want 200", path, a.status)
		}
	}
	// Two user-assigned identities and no selector: nobody may guess.
	e, err := entratest.NewIMDS(entratest.ManagedIdentityConfig{Server: p.server, Tenant: tenantID, Identities: []entratest.ManagedIdentity{
		{ClientID: assignedIDOne, PrincipalID: assignedOID}, {ClientID: systemID, PrincipalID: systemOID},
	}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := p.all["imds"].good.send(t.Context(), e)
	if err != nil || a.status != http.StatusBadRequest || !strings.HasPrefix(a.text("error_description"), "Multiple user assigned identities exist") {
		t.Errorf("got %d %s, %v, want 400 that asks for a selector", a.status, a.raw, err)
	}
}

func TestManagedIdentityTokens(t *testing.T) {
	p := newPlatforms(t)
	id := entratest.ManagedIdentity{ClientID: assignedIDOne, PrincipalID: assignedOID, ResourceID: assignedARM}
	token, err := p.server.ManagedIdentityToken(tenantID, id, entratest.TokenExchangeAudience, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, claims := p.decode(t, token, 2)
	for name, want := range map[string]any{
		"iss": baseURL + "/" + tenantID + "/v2.0", "sub": assignedOID, "oid": assignedOID, "azp": assignedIDOne, "azpacr": "2",
		"aud": entratest.TokenExchangeResourceID, "ver": "2.0", "idtyp": "app", "xms_mirid": assignedARM, "scp": nil,
	} {
		if claims[name] != want {
			t.Errorf("%s: got %v, want %v", name, claims[name], want)
		}
	}
	// The version of the token is the resource's choice.
	if token, err = p.server.ManagedIdentityToken(tenantID, id, graph, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, claims = peek(t, token); claims["ver"] != "1.0" || claims["appid"] != assignedIDOne || claims["aud"] != graph {
		t.Errorf("got %v, want a v1 token for Graph", claims)
	}
	for _, bad := range []entratest.ManagedIdentity{{}, {ClientID: assignedIDOne}, {ClientID: "x", PrincipalID: assignedOID}} {
		if token, err := p.server.ManagedIdentityToken(tenantID, bad, graph, 0); err == nil || token != "" {
			t.Errorf("%+v: got no error, want one", bad)
		}
		if _, err := entratest.NewIMDS(entratest.ManagedIdentityConfig{Server: p.server, Tenant: tenantID, Identities: []entratest.ManagedIdentity{bad}}); err == nil {
			t.Errorf("%+v: got an endpoint, want an error", bad)
		}
	}
}

// TestServiceConnections: new ones have Entra as issuer and a subject in which
// GUIDs are written as .NET orders their bytes.
func TestServiceConnections(t *testing.T) {
	const organization = "2b1f7c64-90ab-4d1c-8a55-6d1f3f0f4f1e"
	subject, err := entratest.ServiceConnectionSubject("00112233-4455-6677-8899-aabbccddeeff", organization, connectionID)
	if err != nil {
		t.Fatal(err)
	}
	tenant := base64.RawURLEncoding.EncodeToString([]byte{0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff})
	// The application is Azure DevOps, 499b84ac-1321-427f-aa17-267ca6975798.
	if want := "/eid1/c/pub/t/" + tenant + "/a/rISbSSETf0KqFyZ8ppdXmA/sc/" + organization + "/" + connectionID; subject != want {
		t.Errorf("got %s, want %s", subject, want)
	}
	if subject, err = entratest.ServiceConnectionSubject(tenantID, organization, connectionID); err != nil {
		t.Fatal(err)
	}
	w := federation(t, http.DefaultTransport, entratest.FederatedCredential{
		Issuer: baseURL + "/" + tenantID + "/v2.0", Subject: subject, Audience: entratest.TokenExchangeAudience,
	})
	token, err := w.server.ServiceConnectionToken(tenantID, organization, connectionID, 0)
	if err != nil {
		t.Fatal(err)
	}
	if a := w.exchange(t, 0, token); a.status != http.StatusOK {
		t.Errorf("got %d %s, want 200", a.status, a.raw)
	}
	if token, err = w.server.ServiceConnectionToken(tenantID, organization, agentID, 0); err != nil {
		t.Fatal(err)
	}
	if a := w.exchange(t, 0, token); a.status == http.StatusOK {
		t.Error("got a token for another connection")
	}
	for _, ids := range [][3]string{{"", organization, connectionID}, {tenantID, "contoso", connectionID}, {tenantID, organization, "x"}} {
		if subject, err := entratest.ServiceConnectionSubject(ids[0], ids[1], ids[2]); err == nil {
			t.Errorf("got %s, want an error for %v", subject, ids)
		}
	}
}

func TestGitHubDefaultAudience(t *testing.T) {
	p := newPlatforms(t)
	a := p.call(t, "github", p.all["github"].good.replaced("audience=", "a="))
	if _, claims := peek(t, a.text("value")); claims["aud"] != "https://github.com/contoso" {
		t.Errorf("got aud %v, want the owner's URL when none is asked for", claims["aud"])
	}
	env := p.all["github"].endpoint.Environment("http://127.0.0.1:1/")
	if url := env["ACTIONS_ID_TOKEN_REQUEST_URL"]; !strings.HasPrefix(url, "http://127.0.0.1:1/idtoken/") || !strings.Contains(url, "?") {
		t.Errorf("got %s, want a URL that has a query already", url)
	}
}

func TestAzureDevOpsPipelineToken(t *testing.T) {
	p := newPlatforms(t)
	good := p.all["azure devops"].good
	a := p.call(t, "azure devops", good.replaced("serviceConnectionId="+connectionID, ""))
	if _, claims := peek(t, a.text("oidcToken")); claims["sub"] != "p://contoso/payments/deploy" {
		t.Errorf("got sub %v, want the pipeline's", claims["sub"])
	}
	e, err := entratest.NewAzureDevOps(entratest.WorkloadConfig{Issuer: p.issuers["azure-devops"], Secret: platformSecret, Entra: newSingleTenant(t)})
	if err != nil {
		t.Fatal(err)
	}
	if a, err = good.send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if _, claims := peek(t, a.text("oidcToken")); !strings.HasPrefix(claims["sub"].(string), "/eid1/c/pub/t/") || claims["iss"] != baseURL+"/"+entratest.DemoTenantID+"/v2.0" {
		t.Errorf("got %v from %v, want a subject of Entra's", claims["sub"], claims["iss"])
	}
}

func newSingleTenant(t testing.TB) *entratest.Server {
	t.Helper()
	server, err := entratest.New(entratest.Config{BaseURL: baseURL, Directory: entratest.DemoDirectory(issuerURL)})
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func TestGoogleFormats(t *testing.T) {
	p := newPlatforms(t)
	google := p.all["google"]
	for format, full := range map[string]bool{"format=full": true, "format=standard": false, "": false} {
		a := p.call(t, "google", google.good.replaced("format=full", format))
		_, claims := peek(t, string(a.raw))
		if _, has := claims["google"]; has != full || a.header.Get("Metadata-Flavor") != "Google" {
			t.Errorf("%q: got google claim %v, flavour %q, want %v and Google", format, has, a.header.Get("Metadata-Flavor"), full)
		}
	}
}

func TestTokenRequestAnswers(t *testing.T) {
	p := newPlatforms(t)
	request := p.all["token request"]
	a := p.call(t, "token request", request.good)
	_, claims := peek(t, request.token(a))
	exp, _ := claims["exp"].(float64)
	until, err := time.Parse(time.RFC3339, member("status", "expirationTimestamp")(a))
	if a.status != http.StatusCreated || err != nil || until.Unix()-int64(exp) > 1 || exp-claims["iat"].(float64) != 600 {
		t.Errorf("got %d %s for a token until %v, want 201 and ten minutes", a.status, a.raw, exp)
	}
	c := request.good
	c.body = `{"spec":{"audiences":["a","b"],"boundObjectRef":{"kind":"Pod","name":"demo-0"}}}`
	_, claims = peek(t, request.token(p.call(t, "token request", c)))
	bound, _ := claims["kubernetes.io"].(map[string]any)
	pod, _ := bound["pod"].(map[string]any)
	if diff := cmp.Diff([]any{"a", "b"}, claims["aud"]); diff != "" || pod["name"] != "demo-0" || bound["node"] != nil {
		t.Errorf("got %v, want both audiences and the pod", claims)
	}
	c.body = `{"spec":{}}`
	_, claims = peek(t, request.token(p.call(t, "token request", c)))
	if diff := cmp.Diff([]any{p.issuers["kubernetes"].URL()}, claims["aud"]); diff != "" {
		t.Errorf("aud without audiences (-want +got):\n%s", diff)
	}
	if exp, iat := claims["exp"].(float64), claims["iat"].(float64); exp-iat != 3600 {
		t.Errorf("got a token for %v s, want an hour", exp-iat)
	}
}

func TestVaultAudienceIsTheRoles(t *testing.T) {
	p := newPlatforms(t)
	a := p.call(t, "vault", p.all["vault"].good.replaced("agents", "agents?audience=elsewhere"))
	if _, claims := peek(t, p.all["vault"].token(a)); claims["aud"] != entratest.TokenExchangeAudience {
		t.Errorf("got aud %v, want the role's", claims["aud"])
	}
}

func TestWebIdentityTokens(t *testing.T) {
	p := newPlatforms(t)
	c := p.all["aws"].good
	c.body += "&Audience.member.2=second&DurationSeconds=60&Tags.member.1.Key=job&Tags.member.1.Value=42"
	a := p.call(t, "aws", c.replaced("RS256", "ES384"))
	var doc struct {
		XMLName    xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetWebIdentityTokenResponse"`
		Expiration string   `xml:"GetWebIdentityTokenResult>Expiration"`
		RequestID  string   `xml:"ResponseMetadata>RequestId"`
	}
	if err := xml.Unmarshal(a.raw, &doc); err != nil || doc.RequestID == "" {
		t.Fatalf("got %s, %v, want a response with a request id", a.raw, err)
	}
	header, claims := peek(t, stsToken(a))
	until, err := time.Parse(time.RFC3339, doc.Expiration)
	if exp, _ := claims["exp"].(float64); err != nil || header.Algorithm != "ES384" || exp-claims["iat"].(float64) != 60 || until.Unix()-int64(exp) > 1 {
		t.Errorf("got %s until %s, want ES384 and a minute", header.Algorithm, doc.Expiration)
	}
	if diff := cmp.Diff([]any{entratest.TokenExchangeAudience, "second"}, claims["aud"]); diff != "" {
		t.Errorf("aud (-want +got):\n%s", diff)
	}
	namespace, _ := claims["https://sts.amazonaws.com/"].(map[string]any)
	if diff := cmp.Diff(map[string]any{"job": "42"}, namespace["request_tags"]); diff != "" || namespace["aws_account"] != "123456789012" {
		t.Errorf("got %v, want the tags beside the account", namespace)
	}
	refused := p.call(t, "aws", c.with("Authorization", ""))
	if !strings.Contains(string(refused.raw), "<Code>MissingAuthenticationToken</Code>") || refused.header.Get("Content-Type") != "text/xml" {
		t.Errorf("got %s, want an XML error", refused.raw)
	}
}

func TestWorkloadEndpointsRefuseMistakes(t *testing.T) {
	p := newPlatforms(t)
	github := entratest.WorkloadConfig{Issuer: p.issuers["github-actions"]}
	tests := map[string]func() (*entratest.PlatformEndpoint, error){
		"platform is github-actions, not aws": func() (*entratest.PlatformEndpoint, error) { return entratest.NewSTS(github) },
		"Issuer is required": func() (*entratest.PlatformEndpoint, error) {
			return entratest.NewGitHubActions(entratest.WorkloadConfig{})
		},
		"no parameter": func() (*entratest.PlatformEndpoint, error) {
			return entratest.NewGitHubActions(entratest.WorkloadConfig{Issuer: github.Issuer, Workload: entratest.Workload{Parameters: map[string]string{"x": "y"}}})
		},
		"Vault needs Roles": func() (*entratest.PlatformEndpoint, error) {
			return entratest.NewVault(entratest.WorkloadConfig{Issuer: p.issuers["vault"]})
		},
		"Arc needs a KeyDir": func() (*entratest.PlatformEndpoint, error) {
			return entratest.NewArc(entratest.ManagedIdentityConfig{Server: p.server, Tenant: tenantID})
		},
		"several tenants": func() (*entratest.PlatformEndpoint, error) {
			return entratest.NewIMDS(entratest.ManagedIdentityConfig{Server: p.server})
		},
	}
	for want, make := range tests {
		if e, err := make(); err == nil || e != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	e, err := entratest.NewGitHubActions(github)
	if err != nil || len(e.Secret()) < 20 {
		t.Errorf("got secret %q, %v, want a random one", e.Secret(), err)
	}
}
