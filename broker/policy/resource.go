package policy

import (
	"maps"
	"slices"
	"strings"
)

// resourceRow is one shorthand: what it stands for in each cloud, "" where that
// is not well known.
type resourceRow struct{ name, public, usgov, china string }

// resourceRows are the shorthands. The identifiers are the audiences that the
// Azure SDKs ask for; a storage account has the same one in every cloud.
var resourceRows = []resourceRow{
	{"ai-search", "https://search.azure.com", "https://search.azure.us", "https://search.azure.cn"},
	{"arm", "https://management.azure.com", "https://management.usgovcloudapi.net", "https://management.chinacloudapi.cn"},
	{"azure-ml", "https://ml.azure.com", "https://ml.azure.us", "https://ml.azure.cn"},
	{"azure-openai", "https://cognitiveservices.azure.com", "https://cognitiveservices.azure.us", "https://cognitiveservices.azure.cn"},
	{"cosmos", "https://cosmos.azure.com", "https://cosmos.azure.us", "https://cosmos.azure.cn"},
	{"devops", "499b84ac-1321-427f-aa17-267ca6975798", "", ""},
	{"eventhubs", "https://eventhubs.azure.net", "", ""},
	{"foundry", "https://ai.azure.com", "", ""},
	{"graph", "https://graph.microsoft.com", "https://graph.microsoft.us", "https://microsoftgraph.chinacloudapi.cn"},
	{"keyvault", "https://vault.azure.net", "https://vault.usgovcloudapi.net", "https://vault.azure.cn"},
	{"log-analytics", "https://api.loganalytics.io", "https://api.loganalytics.us", "https://api.loganalytics.azure.cn"},
	{"monitor", "https://monitor.azure.com", "https://monitor.azure.us", "https://monitor.azure.cn"},
	{"servicebus", "https://servicebus.azure.net", "", ""},
	{"sql", "https://database.windows.net", "https://database.usgovcloudapi.net", "https://database.chinacloudapi.cn"},
	{"storage", "https://storage.azure.com", "https://storage.azure.com", "https://storage.azure.com"},
}

// aliases are other identifiers of resources: Entra knows both as one API. az
// asks for Azure Resource Manager by these, whatever a policy calls it.
var aliases = map[string]string{
	"https://management.core.windows.net":       "https://management.azure.com",
	"https://management.core.usgovcloudapi.net": "https://management.usgovcloudapi.net",
	"https://management.core.chinacloudapi.cn":  "https://management.chinacloudapi.cn",
}

// Listed returns the scope whose grant grants a scope that names its resource by
// an alias. Any other scope is its own.
func Listed(scope string) string {
	cut := max(0, strings.LastIndexByte(scope, '/'))
	if resource, ok := aliases[scope[:cut]]; ok {
		return resource + scope[cut:]
	}
	return scope
}

// aliasOf returns the alias of a resource, or "".
func aliasOf(resource string) string {
	for alias, named := range aliases {
		if named == resource {
			return alias
		}
	}
	return ""
}

// resourcesOf makes the map of one column; pairs of a name and a resource
// replace what the column says.
func resourcesOf(column func(resourceRow) string, pairs ...string) map[string]string {
	resources := make(map[string]string, len(resourceRows))
	for _, row := range resourceRows {
		if resource := column(row); resource != "" {
			resources[row.name] = resource
		}
	}
	for i := 0; i < len(pairs); i += 2 {
		resources[pairs[i]] = pairs[i+1]
	}
	return resources
}

func inPublic(row resourceRow) string { return row.public }
func inUSGov(row resourceRow) string  { return row.usgov }
func inChina(row resourceRow) string  { return row.china }
func nowhere(resourceRow) string      { return "" }

// shorthands returns the names of all rows, sorted.
func shorthands() []string {
	names := make([]string, len(resourceRows))
	for i, row := range resourceRows {
		names[i] = row.name
	}
	return names
}

// graph is Microsoft Graph in the cloud, or in the public one where it is not
// known. It is for hints and warnings only.
func (c *Cloud) graph() string {
	if resource, ok := c.Resources["graph"]; ok {
		return resource
	}
	return clouds[0].Resources["graph"]
}

// expand returns the scope that a shorthand of the file stands for: the name of
// a resource alone is its .default, and <name>/<scope> a named scope. ok is
// false for anything else.
func (c *Cloud) expand(text string) (scope string, ok bool) {
	name, permission, named := strings.Cut(text, "/")
	resource, ok := c.Resources[name]
	switch {
	case !ok || named && (permission == "" || strings.Contains(permission, "/")):
		return "", false
	case !named:
		permission = ".default"
	}
	return resource + "/" + permission, true
}

// Scope reads a scope as the policy file has it, written out or as a shorthand of
// the cloud, and returns it written out. For anything else it returns a problem
// without a place: what is wrong, and what to write.
func (c *Cloud) Scope(text string) (string, *Problem) {
	scope := c.writtenOut(text)
	if _, defect := splitScope(scope); defect != "" {
		message, hint := c.scopeProblem(text, defect)
		return "", &Problem{Message: message, Hint: hint}
	}
	return scope, nil
}

func (c *Cloud) writtenOut(text string) string {
	if scope, ok := c.expand(text); ok {
		return scope
	}
	return oneSlash(text)
}

// scopeProblem says what is wrong with a scope that is not canonical, and what to
// write. A word that could be a shorthand is told from a scope of Microsoft Graph
// without its resource.
func (c *Cloud) scopeProblem(text, defect string) (message, hint string) {
	name, _, _ := strings.Cut(text, "/")
	known := slices.Sorted(maps.Keys(c.Resources))
	switch {
	case c.Resources[name] != "":
		return quote(text) + " is no scope of " + name, "write " + name + " for all that is granted, or " + name + "/<scope>"
	case slices.Contains(shorthands(), name):
		return "it is not known what " + name + " stands for in the cloud " + c.Name, "write the whole scope: https://<host>/.default"
	case !isOIDC(text) && (nearest(name, known) != "" || wordForm.MatchString(name)):
		return "the scope " + quote(text) + " " + defect, DidYouMean(name, known)
	}
	return "the scope " + quote(text) + " " + defect, scopeHint(text, c)
}

// wordForm is what a shorthand looks like, and no permission of Microsoft Graph.
var wordForm = patternOf(`^[a-z0-9-]+$`)

// The resources whose tokens stand in for a workload token: what Entra gives a
// blueprint for its agents, and a managed identity for an application. See
// https://learn.microsoft.com/entra/workload-id/workload-identity-federation.
const (
	tokenExchangeID  = "fb60f99c-7a34-4190-8149-302f77469936"
	tokenExchangeURI = "api://AzureADTokenExchange" // of each cloud: begins with it
	fmiExchangeID    = "a9dd8a2a-df54-4ae0-84f9-38c8d57e5265"
	fmiExchangeURI   = "api://AzureFMITokenExchange"
)

// reserves reports whether resource is the token exchange itself. A token for
// it could be exchanged for any right of an identity, so it never leaves the
// broker. In doubt about case and what follows, it is.
func (c *Cloud) reserves(resource string) bool {
	id := resource
	if hasPrefixFold(id, "api://") {
		id = id[len("api://"):]
	}
	return strings.EqualFold(id, tokenExchangeID) || strings.EqualFold(id, fmiExchangeID) ||
		hasPrefixFold(resource, tokenExchangeURI) || hasPrefixFold(resource, fmiExchangeURI) ||
		c.Audience != "" && hasPrefixFold(resource, c.Audience) && (len(resource) == len(c.Audience) || resource[len(c.Audience)] == '/')
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
