package main

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/workload"
)

// Whatever is in a token, no language takes it for more than a string. What
// Terraform makes of its column was read from terraform console.
func TestDoctorQuotes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct{ hcl, bicep, shell string }{
		"":                              {`""`, `''`, `''`},
		"system:serviceaccount:a:b":     {`"system:serviceaccount:a:b"`, `'system:serviceaccount:a:b'`, `'system:serviceaccount:a:b'`},
		"repo:o%3Ax/r:ref:refs/heads/m": {`"repo:o%3Ax/r:ref:refs/heads/m"`, `'repo:o%3Ax/r:ref:refs/heads/m'`, `'repo:o%3Ax/r:ref:refs/heads/m'`},
		`a"b`:                           {`"a\"b"`, `'a"b'`, `'a"b'`},
		`a'b`:                           {`"a'b"`, `'a\'b'`, `'a'\''b'`},
		`'; rm -rf / #`:                 {`"'; rm -rf / #"`, `'\'; rm -rf / #'`, `''\''; rm -rf / #'`},
		`a\`:                            {`"a\\"`, `'a\\'`, `'a\'`},
		"${file(\"/etc/passwd\")}":      {`"\u0024{file(\"/etc/passwd\")}"`, `'\${file("/etc/passwd")}'`, `'${file("/etc/passwd")}'`},
		"$${a}":                         {`"$\u0024{a}"`, `'$\${a}'`, `'$${a}'`},
		`\${a}`:                         {`"\\\u0024{a}"`, `'\\\${a}'`, `'\${a}'`},
		"%{ if a }%%{":                  {`"\u0025{ if a }%\u0025{"`, `'%{ if a }%%{'`, `'%{ if a }%%{'`},
		"$(id)`id`!!$HOME":              {"\"$(id)`id`!!$HOME\"", "'$(id)`id`!!$HOME'", "'$(id)`id`!!$HOME'"},
		"a\nb\x1b[2J":                   {`"a\U0000000ab\U0000001b[2J"`, `'a\u{a}b\u{1b}[2J'`, ""},
		"ü\u202e😀":                      {`"\U000000fc\U0000202e\U0001f600"`, `'\u{fc}\u{202e}\u{1f600}'`, ""},
	} {
		if got := hclQuote(text); got != want.hcl {
			t.Errorf("%q for Terraform: got %s, want %s", text, got, want.hcl)
		}
		if got := bicepQuote(text); got != want.bicep {
			t.Errorf("%q for Bicep: got %s, want %s", text, got, want.bicep)
		}
		if got := shellQuote(text); want.shell != "" && got != want.shell {
			t.Errorf("%q for a shell: got %s, want %s", text, got, want.shell)
		}
		encoded := asciiJSON(text)
		var back string
		if err := json.Unmarshal([]byte(encoded), &back); err != nil || back != text || strings.ContainsFunc(encoded, unprintable) {
			t.Errorf("%q as JSON: got %s, which is %q (%v)", text, encoded, back, err)
		}
		// The shell itself has the last word.
		out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "printf %s "+shellQuote(encoded)).Output()
		if err != nil || string(out) != encoded {
			t.Errorf("%q: the shell made %q of %s (%v)", text, out, shellQuote(encoded), err)
		}
	}
}

func TestDoctorCredential(t *testing.T) {
	t.Parallel()
	const client = "a1d4c0de-0000-4000-8000-00000000a9e7"
	a := workload.Assertion{Issuer: "https://cluster.example/a/", Subject: "system:serviceaccount:agents:it's"}
	d := doctor{policy: &policy.Policy{Cloud: policy.Cloud{Audience: "api://AzureADTokenExchangeUSGov", Resources: map[string]string{"graph": "https://graph.microsoft.us"}}}}
	app := d.credential(membersOf("billing.eu", policy.Identity{Application: &policy.Application{ClientID: client}})[0], a)
	body := graphBody{Name: "credfree-billing-eu", Issuer: a.Issuer, Subject: a.Subject, Audiences: []string{"api://AzureADTokenExchangeUSGov"}}
	if diff := cmp.Diff(graphCreate{"POST", "https://graph.microsoft.us/v1.0/applications(appId='" + client + "')/federatedIdentityCredentials", body}, app.Graph); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(`az ad app federated-credential create --id a1d4c0de-0000-4000-8000-00000000a9e7 --parameters '{"name":"credfree-billing-eu","issuer":"https://cluster.example/a/","subject":"system:serviceaccount:agents:it'\''s","audiences":["api://AzureADTokenExchangeUSGov"]}'
# or, when the client id is that of a user-assigned managed identity:
az identity federated-credential create --identity-name '<identity>' --resource-group '<group>' --name 'credfree-billing-eu' --issuer 'https://cluster.example/a/' --subject 'system:serviceaccount:agents:it'\''s' --audiences 'api://AzureADTokenExchangeUSGov'
`, app.Az); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(`data "azuread_application" "credfree_billing_eu" {
  client_id = "a1d4c0de-0000-4000-8000-00000000a9e7"
}

resource "azuread_application_federated_identity_credential" "credfree_billing_eu" {
  application_id = "/applications/${data.azuread_application.credfree_billing_eu.object_id}"
  display_name   = "credfree-billing-eu"
  issuer         = "https://cluster.example/a/"
  subject        = "system:serviceaccount:agents:it's"
  audiences      = ["api://AzureADTokenExchangeUSGov"]
}
# When the client id is that of a user-assigned managed identity: azurerm_federated_identity_credential
# with the same issuer and subject, the audience as audience, and the identity's id as parent_id.
`, app.Terraform); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(`extension microsoftGraphV1

@description('uniqueName of the application with client id a1d4c0de-0000-4000-8000-00000000a9e7')
param uniqueName string

resource application 'Microsoft.Graph/applications@v1.0' existing = {
  uniqueName: uniqueName
}

resource credential 'Microsoft.Graph/applications/federatedIdentityCredentials@v1.0' = {
  name: '${application.uniqueName}/credfree-billing-eu'
  issuer: 'https://cluster.example/a/'
  subject: 'system:serviceaccount:agents:it\'s'
  audiences: [
    'api://AzureADTokenExchangeUSGov'
  ]
}
`, app.Bicep); diff != "" {
		t.Error(diff)
	}
}

// A blueprint is addressed as one, whichever of its agents needs it.
func TestDoctorCredentialOfBlueprint(t *testing.T) {
	t.Parallel()
	d := doctor{policy: &policy.Policy{Cloud: policy.Cloud{Audience: "api://AzureADTokenExchange", Resources: map[string]string{"graph": "https://graph.microsoft.com"}}}}
	for _, identity := range []policy.Identity{
		{Agent: &policy.AgentIdentity{BlueprintID: "b1e9", AgentIDs: []string{"a9e4"}}},
		{AgentUser: &policy.AgentUser{BlueprintID: "b1e9", AgentID: "a9e4", Users: []policy.AgentUserName{{Username: "u@x"}}}},
	} {
		c := d.credential(membersOf("x", identity)[0], workload.Assertion{Issuer: "https://i.example", Subject: "s"})
		const url = "https://graph.microsoft.com/v1.0/applications(appId='b1e9')/microsoft.graph.agentIdentityBlueprint/federatedIdentityCredentials"
		if c.Application != "b1e9" || !c.Blueprint || c.Graph.URL != url || !strings.HasPrefix(c.Az, "az rest --method POST --url "+shellQuote(url)) || strings.Contains(c.Az, "az identity") {
			t.Errorf("got %+v, want one of the blueprint", c)
		}
	}
}

// The command for managed identities has no JSON to escape odd characters in.
func TestDoctorCredentialOfOddSubject(t *testing.T) {
	t.Parallel()
	d := doctor{policy: &policy.Policy{Cloud: policy.Cloud{Audience: "api://AzureADTokenExchange"}}}
	c := d.credential(membersOf("x", policy.Identity{Application: &policy.Application{ClientID: "c"}})[0], workload.Assertion{Issuer: "https://i.example", Subject: "a\x1b[2J"})
	if strings.Contains(c.Az, "az identity") || !strings.Contains(c.Az, `"subject":"a\u001b[2J"`) {
		t.Errorf("got %s, want the one command with JSON", c.Az)
	}
	var text strings.Builder
	c.writeText(&text)
	if strings.ContainsRune(text.String(), '\x1b') {
		t.Errorf("an escape character is printed: %q", text.String())
	}
}

// Where it is not known which Microsoft Graph is the cloud's, that of another cloud is
// not named in its place.
func TestDoctorKnowsNoGraph(t *testing.T) {
	t.Parallel()
	p, err := policy.Parse("policy.yaml", []byte(`version: 1
tenant: 5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10
cloud: bleu
audience: api://TokenExchange
sources: {pod: {file: {path: /t}}}
identities: {one: {agent: {blueprintID: a1d4c0de-0000-4000-8000-00000000a9e7, agentID: b1d4c0de-0000-4000-8000-00000000a9e7, source: pod}}}
`))
	check(t, err)
	d := doctor{policy: p}
	got := d.credential(membersOf("one", p.Identities["one"])[0], workload.Assertion{Issuer: "https://i", Subject: "s"})
	if strings.Contains(got.Graph.URL+got.Az, "graph.microsoft.com") || !strings.HasPrefix(got.Graph.URL, "https://<Microsoft Graph of bleu>/v1.0/applications(") {
		t.Errorf("got %s and %s", got.Graph.URL, got.Az)
	}
}
