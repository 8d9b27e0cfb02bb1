package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf16"

	"github.com/credfree/credfree/exchange/workload"
)

const credentialPage = "https://learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust"

// federatedCredential is what Entra has to know to accept a workload token, and
// how to tell it. Its JSON is part of the contract with scripts.
type federatedCredential struct {
	Application string      `json:"application"` // client id of the application or blueprint that has to trust the token
	Blueprint   bool        `json:"blueprint"`
	Name        string      `json:"name"`
	Issuer      string      `json:"issuer"`
	Subject     string      `json:"subject"`
	Audiences   []string    `json:"audiences"`
	Az          string      `json:"az"`        // for a POSIX shell
	Terraform   string      `json:"terraform"` // of the provider azuread
	Bicep       string      `json:"bicep"`     // of the extension microsoftGraphV1
	Graph       graphCreate `json:"graph"`
	Page        string      `json:"documentation"`

	resource string // of Microsoft Graph
	tenant   string
}

// graphCreate is the request to Microsoft Graph that makes the credential:
// https://learn.microsoft.com/graph/api/application-post-federatedidentitycredentials.
type graphCreate struct {
	Method string    `json:"method"`
	URL    string    `json:"url"`
	Body   graphBody `json:"body"`
}

type graphBody struct {
	Name      string   `json:"name"`
	Issuer    string   `json:"issuer"`
	Subject   string   `json:"subject"`
	Audiences []string `json:"audiences"`
}

// credential is the federated identity credential for the workload token of a
// member.
func (d *doctor) credential(m fleetMember, a workload.Assertion) *federatedCredential {
	c := &federatedCredential{
		Name: credentialName(m.identity), Issuer: a.Issuer, Subject: a.Subject, Audiences: []string{d.policy.Cloud.Audience},
		Page: credentialPage, tenant: m.Tenant, resource: d.policy.Cloud.Resources["graph"],
	}
	if c.resource == "" {
		c.resource = "https://<Microsoft Graph of " + d.policy.Cloud.Name + ">"
	}
	switch {
	case m.Application != nil:
		c.Application = m.Application.ClientID
	case m.Agent != nil:
		c.Application, c.Blueprint = m.Agent.BlueprintID, true
	case m.AgentUser != nil:
		c.Application, c.Blueprint = m.AgentUser.BlueprintID, true
	}
	c.Graph = c.graph()
	c.Az, c.Terraform, c.Bicep = c.az(), c.terraform(), c.bicep()
	return c
}

var notInName = regexp.MustCompile(`[^A-Za-z0-9_-]`)

// credentialName is one that Entra takes: 3 to 120 of these characters.
func credentialName(identity string) string {
	return "credfree-" + notInName.ReplaceAllString(identity, "-")
}

// graph is the request to Microsoft Graph. Blueprints are addressed as what
// they are.
func (c *federatedCredential) graph() graphCreate {
	kind := ""
	if c.Blueprint {
		kind = "/microsoft.graph.agentIdentityBlueprint"
	}
	return graphCreate{
		Method: "POST", URL: c.resource + "/v1.0/applications(appId='" + c.Application + "')" + kind + "/federatedIdentityCredentials",
		Body: graphBody{Name: c.Name, Issuer: c.Issuer, Subject: c.Subject, Audiences: c.Audiences},
	}
}

// az is the command of the Azure CLI.
func (c *federatedCredential) az() string {
	body := shellQuote(asciiJSON(c.Graph.Body))
	if c.Blueprint {
		return "az rest --method POST --url " + shellQuote(c.Graph.URL) + " --headers 'Content-Type=application/json' --body " + body + "\n"
	}
	command := "az ad app federated-credential create --id " + c.Application + " --parameters " + body + "\n"
	if strings.ContainsFunc(c.Issuer+c.Subject, unprintable) {
		return command // the other has no JSON to write such characters in
	}
	return command + "# or, when the client id is that of a user-assigned managed identity:\n" +
		"az identity federated-credential create --identity-name '<identity>' --resource-group '<group>' --name " + shellQuote(c.Name) +
		" --issuer " + shellQuote(c.Issuer) + " --subject " + shellQuote(c.Subject) + " --audiences " + shellQuote(c.Audiences[0]) + "\n"
}

// terraform is a resource of the provider azuread.
func (c *federatedCredential) terraform() string {
	label := strings.ReplaceAll(c.Name, "-", "_")
	note := "# When the client id is that of a user-assigned managed identity: azurerm_federated_identity_credential\n" +
		"# with the same issuer and subject, the audience as audience, and the identity's id as parent_id.\n"
	if c.Blueprint {
		note = "# Where the provider does not find the blueprint among the applications, use Microsoft Graph.\n"
	}
	return fmt.Sprintf(`data "azuread_application" %[1]s {
  client_id = %[2]s
}

resource "azuread_application_federated_identity_credential" %[1]s {
  application_id = "/applications/${data.azuread_application.%[3]s.object_id}"
  display_name   = %[4]s
  issuer         = %[5]s
  subject        = %[6]s
  audiences      = [%[7]s]
}
`, hclQuote(label), hclQuote(c.Application), label, hclQuote(c.Name), hclQuote(c.Issuer), hclQuote(c.Subject), hclQuote(c.Audiences[0])) + note
}

// bicep is a resource of the extension for Microsoft Graph, which knows
// applications by their uniqueName alone.
func (c *federatedCredential) bicep() string {
	return fmt.Sprintf(`extension microsoftGraphV1

@description('uniqueName of the application with client id %s')
param uniqueName string

resource application 'Microsoft.Graph/applications@v1.0' existing = {
  uniqueName: uniqueName
}

resource credential 'Microsoft.Graph/applications/federatedIdentityCredentials@v1.0' = {
  name: '${application.uniqueName}/%s'
  issuer: %s
  subject: %s
  audiences: [
    %s
  ]
}
`, c.Application, c.Name, bicepQuote(c.Issuer), bicepQuote(c.Subject), bicepQuote(c.Audiences[0]))
}

// asciiJSON is compact JSON without any character that a terminal or an editor
// could show as something else.
func asciiJSON(v any) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err) // strings and lists of them always encode
	}
	var ascii strings.Builder
	for _, r := range strings.TrimSuffix(b.String(), "\n") {
		switch {
		case r >= 0x10000:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&ascii, `\u%04x\u%04x`, high, low)
		case r > '~':
			fmt.Fprintf(&ascii, `\u%04x`, r)
		default:
			ascii.WriteRune(r)
		}
	}
	return ascii.String()
}

// shellQuote writes printable text as one word of a POSIX shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// hclQuote writes a string of Terraform's language, where ${ and %{ begin
// templates.
func hclQuote(s string) string {
	text := escape(s, map[rune]string{'"': `\"`, '\\': `\\`}, func(r rune) string { return fmt.Sprintf(`\U%08x`, r) })
	return `"` + strings.NewReplacer("${", `\u0024{`, "%{", `\u0025{`).Replace(text) + `"`
}

// bicepQuote writes a string of Bicep's language, where ${ begins an expression.
func bicepQuote(s string) string {
	text := escape(s, map[rune]string{'\'': `\'`, '\\': `\\`}, func(r rune) string { return fmt.Sprintf(`\u{%x}`, r) })
	return "'" + strings.ReplaceAll(text, "${", `\${`) + "'"
}

// escape replaces the characters that special has, and those that do not print.
func escape(s string, special map[rune]string, other func(rune) string) string {
	var b strings.Builder
	for _, r := range s {
		switch text, ok := special[r]; {
		case ok:
			b.WriteString(text)
		case unprintable(r):
			b.WriteString(other(r))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return r < ' ' || r > '~' }
