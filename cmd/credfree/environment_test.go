package main

import (
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/exchange/entratest"
)

// theirs are the variables of a deployment of Microsoft's own sidecar.
var theirs = map[string]string{
	"AzureAd__Instance": "https://login.microsoftonline.com/", "AzureAd__TenantId": entratest.DemoTenantID, "AzureAd__ClientId": entratest.DemoBlueprintClientID,
	"AzureAd__ClientCredentials__0__SourceType":                  "SignedAssertionFilePath",
	"AzureAd__ClientCredentials__0__SignedAssertionFileDiskPath": "/var/run/token",
	"DownstreamApis__Graph__BaseUrl":                             "https://graph.microsoft.com/v1.0/", "DownstreamApis__Graph__Scopes__0": "User.Read",
	"DownstreamApis__Graph__Scopes__1": "offline_access", "DownstreamApis__Graph__HttpMethod": "Post", "DownstreamApis__Graph__RelativePath": "me",
	"DownstreamApis__Graph__ExtraHeaderParameters__consistencylevel": "eventual", "DownstreamApis__Graph__ExtraQueryParameters__$top": "1",
	"DownstreamApis__default__Scopes": "https://graph.microsoft.com/.default", "DownstreamApis__default__RequestAppToken": "True",
	"DownstreamApis__agenticblueprint__Scopes__0":     "api://AzureADTokenExchange/.default",
	"Sidecar__AllowOverrides__GetAuthorizationHeader": "false", "CREDFREE_ALLOWED_UIDS": "10001,10002",
}

// with are their variables, some with another value; "" takes one away.
func with(pairs ...string) []string {
	all := map[string]string{}
	maps.Copy(all, theirs)
	for i := 0; i+1 < len(pairs); i += 2 {
		all[pairs[i]] = pairs[i+1]
	}
	var environment []string
	for name, value := range all {
		environment = append(environment, name+"="+value)
	}
	return environment
}

// The policy that their variables make, as it is printed.
func TestPolicyFromSidecarEnvironment(t *testing.T) {
	agent := entratest.DemoAgentIdentityID
	found, err := readEnvironment(with("CREDFREE_AGENT_IDENTITIES", strings.ToUpper(agent), "CREDFREE_AGENT_USERS", agent+"/"+entratest.DemoAgentUserID+", "+agent+"/Agent@Demo.example",
		"azuread__scopes", "access_as_user other", "CREDFREE_ALLOWED_SCOPES", "https://vault.azure.net/.default", "CREDFREE_ALLOWED_CLIENTS", entratest.DemoFrontendClientID,
		"CREDFREE_OWNER", "team@contoso.com", "CREDFREE_EXPIRES", "2030-01-01"))
	check(t, err)
	const want = `version: 1
tenant: 5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10
cloud: public
sources:
    credential:
        file:
            path: /var/run/token
identities:
    agents:
        agent:
            agentIDs:
                - a9e41d00-0000-4000-8000-00000000a9e4
            blueprintID: b1e90000-0000-4000-8000-00000000b1e9
            source: credential
    application:
        application:
            clientID: b1e90000-0000-4000-8000-00000000b1e9
            source: credential
    userids-of-a9e41d00-0000-4000-8000-00000000a9e4:
        agentUser:
            agentID: a9e41d00-0000-4000-8000-00000000a9e4
            blueprintID: b1e90000-0000-4000-8000-00000000b1e9
            source: credential
            userIDs:
                - USER
    usernames-of-a9e41d00-0000-4000-8000-00000000a9e4:
        agentUser:
            agentID: a9e41d00-0000-4000-8000-00000000a9e4
            blueprintID: b1e90000-0000-4000-8000-00000000b1e9
            source: credential
            usernames:
                - agent@demo.example
apis:
    default:
        baseURL: https://default.base-url-is-not-set.invalid
        scopes:
            - https://graph.microsoft.com/.default
    graph:
        baseURL: https://graph.microsoft.com/v1.0
        scopes:
            - graph/User.Read
agents:
    agent:
        owner: team@contoso.com
        expires: "2030-01-01"
        identity: application
        identities:
            - agents
            - application
            - userids-of-a9e41d00-0000-4000-8000-00000000a9e4
            - usernames-of-a9e41d00-0000-4000-8000-00000000a9e4
        callers:
            - tcp:
                uids:
                    - 10001
                    - 10002
        allow:
            apis:
                - graph
                - default
            scopes:
                - https://vault.azure.net/.default
        onBehalfOf:
            allow:
                apis:
                    - graph
            clients:
                - f407e4d0-0000-4000-8000-00000000f407
            scopes:
                - access_as_user
                - other
            users:
                guests: false
`
	if diff := cmp.Diff(strings.Replace(want, "USER", entratest.DemoAgentUserID, 1), string(found.text)); diff != "" {
		t.Errorf("policy (-want +got):\n%s", diff)
	}
	options := localapi.SidecarOptions{
		Closed: map[string]bool{"GetAuthorizationHeader": true, "GetAuthorizationHeaderUnauthenticated": true, "CallDownstreamApi": false, "CallDownstreamApiUnauthenticated": true},
		Names:  map[string]string{"Graph": "graph", "default": "default"},
		Calls: map[string]localapi.SidecarCall{
			"graph":   {Method: "POST", Path: "me", Header: http.Header{"Consistencylevel": {"eventual"}}, Query: map[string]string{"$top": "1"}},
			"default": {RequestAppToken: true, Header: http.Header{}, Query: map[string]string{}},
		},
	}
	if diff := cmp.Diff(options, found.sidecar); diff != "" || !found.authSidecar || found.listen != "" {
		t.Errorf("got listen %q, open %v, options (-want +got):\n%s", found.listen, found.authSidecar, diff)
	}
	if len(found.notes) != 1 || !strings.Contains(found.notes[0], "agenticblueprint") {
		t.Errorf("got notes %q, want one about the blueprint", found.notes)
	}
}

// What has no effect is said, and client capabilities are every identity's.
func TestIdleSettings(t *testing.T) {
	found, err := readEnvironment(with("AzureAd__TokenValidationParameters__ValidateAudience", "false", "AzureAd__ClientCapabilities__0", "cp1", "DownstreamApis__Graph__Oops", "1",
		"Sidecar__PopValidation__ValidateTs", "true", "Sidecar__AllowOutboundRedirects", "true", "DownstreamApis__agenticblueprint__Scopes__0", ""))
	check(t, err)
	want := []string{"Sidecar__AllowOutboundRedirects", "AzureAd__TokenValidationParameters__ValidateAudience", "DownstreamApis__Graph__Oops", "Sidecar__PopValidation__ValidateTs"}
	var got []string
	for _, note := range found.notes {
		name, _, _ := strings.Cut(note, " has no effect")
		got = append(got, name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	if got := found.policy.Identities["application"].Capabilities; len(got) != 1 || got[0] != "cp1" {
		t.Errorf("got capabilities %q", got)
	}
}

// What is refused, with the variable that is to blame, and never with its value.
func TestEnvironmentsThatMakeNoPolicy(t *testing.T) {
	const secret = "s3cret-value-that-nobody-may-see"
	for name, test := range map[string]struct {
		pairs []string
		want  string
	}{
		"nobody may ask":       {with("CREDFREE_ALLOWED_UIDS", ""), "CREDFREE_ALLOWED_UIDS does not say who may ask"},
		"names may ask":        {with("CREDFREE_ALLOWED_UIDS", "root"), "CREDFREE_ALLOWED_UIDS is no list of user ids"},
		"client secret":        {with("AzureAd__ClientCredentials__0__SourceType", "ClientSecret", "AzureAd__ClientCredentials__0__ClientSecret", secret), "AzureAd__ClientCredentials__0__ClientSecret is a secret"},
		"old client secret":    {with("AzureAd__ClientSecret", secret), "AzureAd__ClientSecret is a secret"},
		"certificate":          {with("AzureAd__ClientCredentials__0__SourceType", "Base64Encoded", "AzureAd__ClientCredentials__0__Base64EncodedValue", secret), "Base64EncodedValue is a secret"},
		"certificate file":     {with("AzureAd__ClientCredentials__0__SourceType", "Path", "AzureAd__ClientCredentials__0__CertificateDiskPath", "/x.pfx"), "CertificateDiskPath is a secret"},
		"key vault":            {with("AzureAd__ClientCredentials__0__SourceType", "KeyVault", "AzureAd__ClientCredentials__0__KeyVaultUrl", "https://x"), "KeyVaultUrl is a secret"},
		"decryption":           {with("AzureAd__TokenDecryptionCredentials__0__SourceType", "Path"), "AzureAd__TokenDecryptionCredentials__0__SourceType is a secret"},
		"second, a secret":     {with("AzureAd__ClientCredentials__1__ClientSecret", secret), "more than one credential"},
		"unknown credential":   {with("AzureAd__ClientCredentials__0__SourceType", "AutoDecryptKeys"), "AzureAd__ClientCredentials__0__SourceType is none"},
		"no workload token":    {with("AzureAd__ClientCredentials__0__SignedAssertionFileDiskPath", ""), "there is no workload token"},
		"machine's own":        {with("AzureAd__ClientCredentials__0__SourceType", "SignedAssertionFromManagedIdentity"), "ManagedIdentityClientId is missing"},
		"no tenant":            {with("AzureAd__TenantId", ""), "AzureAd__TenantId is missing"},
		"any tenant":           {with("AzureAd__TenantId", "common"), "AzureAd__TenantId is no GUID"},
		"no client":            {with("AzureAd__ClientId", ""), "AzureAd__ClientId is missing"},
		"no https":             {with("AzureAd__Instance", "http://login.example"), "AzureAd__Instance is no origin"},
		"no scopes":            {with("DownstreamApis__x__BaseUrl", "https://x.example"), "DownstreamApis__x__Scopes is missing"},
		"one name twice":       {with("DownstreamApis__graph__Scopes", "a"), "differ in the case"},
		"reserved header":      {with("DownstreamApis__default__ExtraHeaderParameters__Cookie", secret), "ExtraHeaderParameters__Cookie is reserved"},
		"another tenant":       {with("DownstreamApis__default__AcquireTokenOptions__Tenant", "x"), "AcquireTokenOptions__Tenant is not taken"},
		"another scheme":       {with("DownstreamApis__default__ProtocolScheme", "MTLS"), "ProtocolScheme is not Bearer"},
		"neither true":         {with("DownstreamApis__default__RequestAppToken", "maybe"), "RequestAppToken is neither"},
		"neither false":        {with("Sidecar__AllowOverrides__CallDownstreamApi", "maybe"), "Sidecar__AllowOverrides__CallDownstreamApi is neither"},
		"audience":             {with("AzureAd__Audience", "api://"+entratest.DemoClientID), "AzureAd__Audience is another application"},
		"user without agent":   {with("CREDFREE_AGENT_USERS", "agent@demo.example"), "CREDFREE_AGENT_USERS has an entry"},
		"all addresses by TLS": {with("ASPNETCORE_URLS", "https://+:5001"), "ASPNETCORE_URLS is not http"},
		"others' address":      {with("ASPNETCORE_URLS", "http://10.0.0.1:5000"), "ASPNETCORE_URLS names an address that others can reach"},
		"bad URL":              {with("DownstreamApis__Graph__BaseUrl", "http://graph.example/"), "apis.graph.baseURL"},
		"agent is no GUID":     {with("CREDFREE_AGENT_IDENTITIES", "x"), "identities.agents.agent.agentIDs"},
		"nothing at all":       {[]string{"HOME=/"}, "flag --config is missing"},
		"half a webhook":       {[]string{"CREDFREE_ALLOWED_SCOPES=graph", "CREDFREE_ALLOWED_UIDS=1", "AZURE_TENANT_ID=" + entratest.DemoTenantID}, "AZURE_CLIENT_ID is missing"},
	} {
		_, err := readEnvironment(test.pairs)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
			continue
		}
		var printed strings.Builder
		if code := report(&printed, err); code == exitOK || !strings.Contains(printed.String(), "hint: ") || strings.Contains(printed.String(), secret) {
			t.Errorf("%s: got exit code %d and\n%s", name, code, printed.String())
		}
	}
}

func TestListenAddressFromEnvironment(t *testing.T) {
	for _, test := range []struct{ name, value, want string }{
		{"ASPNETCORE_URLS", "http://+:5000", "127.0.0.1:5000"}, {"ASPNETCORE_URLS", "http://*:5000/", "127.0.0.1:5000"}, {"ASPNETCORE_URLS", "http://0.0.0.0:5000;http://[::]:5000", "127.0.0.1:5000"},
		{"ASPNETCORE_URLS", "http://localhost:5178", "127.0.0.1:5178"}, {"ASPNETCORE_URLS", "http://[::1]:1", "[::1]:1"}, {"ASPNETCORE_URLS", "http://127.0.0.2:1", "127.0.0.2:1"},
		{"ASPNETCORE_URLS", "http://localhost", "127.0.0.1:80"}, {"ASPNETCORE_HTTP_PORTS", "8080", "127.0.0.1:8080"}, {"aspnetcore_http_ports", "8081;8082", "127.0.0.1:8081"}, {"NONE", "", ""},
	} {
		found, err := readEnvironment(with(test.name, test.value))
		check(t, err)
		if found.listen != test.want {
			t.Errorf("%s=%s: got %q, want %q", test.name, test.value, found.listen, test.want)
		}
	}
}

func TestCloudsFromEnvironment(t *testing.T) {
	for instance, want := range map[string]string{
		"": "public ", "https://login.microsoftonline.com": "public ", "https://login.microsoftonline.us/": "usgov ", "https://login.partner.microsoftonline.cn/": "china ", "https://Login.Example:8443/": "custom https://login.example:8443",
	} {
		for _, pairs := range [][]string{with("AzureAd__Instance", instance),
			{"AZURE_AUTHORITY_HOST=" + instance, "AZURE_TENANT_ID=" + entratest.DemoTenantID, "AZURE_CLIENT_ID=" + entratest.DemoClientID, "AZURE_FEDERATED_TOKEN_FILE=/t", "CREDFREE_ALLOWED_SCOPES=graph", "CREDFREE_ALLOWED_UIDS=1"}} {
			found, err := readEnvironment(pairs)
			check(t, err)
			authority := ""
			if found.policy.Cloud.Name == "custom" {
				authority = found.policy.Cloud.Authority
			}
			if got := found.policy.Cloud.Name + " " + authority; got != want {
				t.Errorf("%s: got %q, want %q", instance, got, want)
			}
		}
	}
	found, err := readEnvironment(with("AzureAd__Authority", "https://login.microsoftonline.us/"+entratest.DemoTenantID+"/v2.0", "AzureAd__TenantId", "", "AzureAd__Instance", ""))
	check(t, err)
	if found.policy.Cloud.Name != "usgov" || found.policy.Tenant != entratest.DemoTenantID {
		t.Errorf("got %s in %s", found.policy.Tenant, found.policy.Cloud.Name)
	}
}

// A managed identity as the credential.
func TestManagedIdentityFromEnvironment(t *testing.T) {
	found, err := readEnvironment(with("AzureAd__ClientCredentials__0__SourceType", "SignedAssertionFromManagedIdentity", "AzureAd__ClientCredentials__0__ManagedIdentityClientId", entratest.DemoClientID))
	check(t, err)
	if source := found.policy.Sources["credential"].ManagedIdentity; source == nil || source.ClientID != entratest.DemoClientID {
		t.Errorf("got %+v", found.policy.Sources)
	}
}

// from runs the broker that an environment makes, beside the emulator.
func from(t *testing.T, pairs func(lab *lab, dir string) []string) *running {
	return startConfigured(t, func(lab *lab, dir string) serviceConfig {
		found, err := readEnvironment(append(pairs(lab, dir), "CREDFREE_ALLOWED_UIDS="+strconv.Itoa(os.Getuid()), "CREDFREE_CA_FILE="+filepath.Join(dir, "ca.pem")))
		check(t, err)
		return serviceConfig{policy: found.policy, authSidecar: found.authSidecar, sidecar: found.sidecar}
	})
}

// What their variables make answers their clients, against the emulator.
func TestServingFromSidecarEnvironment(t *testing.T) {
	r := from(t, func(lab *lab, dir string) []string {
		return []string{"AzureAd__Instance=" + lab.host.URL + "/", "AzureAd__TenantId=" + entratest.DemoTenantID, "AzureAd__ClientId=" + entratest.DemoBlueprintClientID,
			"AzureAd__ClientCredentials__0__SourceType=SignedAssertionFilePath", "AZURE_FEDERATED_TOKEN_FILE=" + filepath.Join(dir, "workload-token"),
			"DownstreamApis__Me__BaseUrl=" + lab.host.APIURL + "/v1.0/", "DownstreamApis__Me__RelativePath=me", "DownstreamApis__Me__Scopes__0=User.Read",
			"DownstreamApis__Tools__BaseUrl=" + lab.host.APIURL, "DownstreamApis__Tools__RelativePath=echo/x", "DownstreamApis__Tools__HttpMethod=Put",
			"DownstreamApis__Tools__Scopes__0=https://graph.microsoft.com/.default", "DownstreamApis__Tools__RequestAppToken=true",
			"Sidecar__AllowOverrides__GetAuthorizationHeaderUnauthenticated=true", "CREDFREE_AGENT_IDENTITIES=" + entratest.DemoAgentIdentityID, "CREDFREE_AGENT_USERS=" + entratest.DemoAgentIdentityID + "/" + entratest.DemoAgentUserID}
	})
	text, err := os.ReadFile(filepath.Join(r.lab.dir, "agent-user-token"))
	check(t, err)
	user, base := "Bearer "+string(text), "http://"+r.agentsAddr()
	agent := "AgentIdentity=" + entratest.DemoAgentIdentityID
	for name, test := range map[string]struct {
		method, path string
		headers      []string
		status       int
		want         string
	}{
		"validate":            {"GET", "/Validate", []string{"Authorization", user}, 200, entratest.DemoUserID},
		"header of a user":    {"GET", "/AuthorizationHeader/Me?" + agent, []string{"Authorization", user}, 200, "Bearer ey"},
		"header of the agent": {"GET", "/AuthorizationHeaderUnauthenticated/Tools?" + agent, nil, 200, "Bearer ey"},
		"header of its user":  {"GET", "/AuthorizationHeaderUnauthenticated/Me?" + agent + "&AgentUserId=" + entratest.DemoAgentUserID, nil, 200, "Bearer ey"},
		"call for a user":     {"POST", "/DownstreamApi/Me?" + agent, []string{"Authorization", user}, 200, entratest.DemoUserName},
		"call by the agent":   {"POST", "/DownstreamApi/Tools?" + agent, []string{"Authorization", user}, 200, `\"method\":\"PUT\"`},
		"closed route":        {"POST", "/DownstreamApiUnauthenticated/Tools?" + agent, nil, 403, "Sidecar__AllowOverrides__CallDownstreamApiUnauthenticated"},
		"blueprint itself":    {"GET", "/AuthorizationHeaderUnauthenticated/Tools", nil, 401, "AADSTS82001"},
		"other scope":         {"GET", "/AuthorizationHeaderUnauthenticated/Tools?" + agent + "&optionsOverride.Scopes=" + url.QueryEscape("https://vault.azure.net/.default"), nil, 403, "scope_not_allowed"},
		"other API":           {"GET", "/AuthorizationHeaderUnauthenticated/agenticblueprint?" + agent, nil, 400, "api_unknown"},
	} {
		headers := append([]string{}, test.headers...)
		if test.method == http.MethodPost {
			headers = append(headers, "Content-Type", "application/json")
		}
		if status, body := do(t, test.method, base+test.path, "", headers...); status != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s: got %d %s, want %d and %q", name, status, body, test.status, test.want)
		}
	}
}

// What the webhook of Azure Workload Identity sets, and the scopes, are enough.
func TestServingFromWorkloadEnvironment(t *testing.T) {
	r := from(t, func(lab *lab, dir string) []string {
		return []string{"AZURE_AUTHORITY_HOST=" + lab.host.URL + "/", "AZURE_TENANT_ID=" + entratest.DemoTenantID, "AZURE_CLIENT_ID=" + entratest.DemoClientID,
			"AZURE_FEDERATED_TOKEN_FILE=" + filepath.Join(dir, "workload-token"), "CREDFREE_ALLOWED_SCOPES=" + graphScope}
	})
	ask := func(scope string) (int, string) {
		form := url.Values{"grant_type": {"client_credentials"}, "scope": {scope}}
		return do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", form.Encode())
	}
	status, body := ask(graphScope)
	if status != 200 || !strings.Contains(body, `"access_token":"ey`) {
		t.Errorf("got %d %s", status, body)
	}
	if status, body := ask("https://vault.azure.net/.default"); status != 400 || !strings.Contains(body, "scope_not_allowed") {
		t.Errorf("got %d %s", status, body)
	}
	if status, _ := do(t, http.MethodGet, "http://"+r.agentsAddr()+"/AuthorizationHeaderUnauthenticated/x", ""); status != 404 {
		t.Errorf("the door of Microsoft's sidecar is open: got %d", status)
	}
}
