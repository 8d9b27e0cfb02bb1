package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/policy"
)

// lead is what leads a command to its broker.
type lead struct {
	url      string   // of the broker
	key      string   // of the command
	keyFile  string   // that holds the key, for credfree itself
	clientID string   // of the identity to select; "" selects none
	tokens   []string // variables that hold workload tokens, which are the broker's alone
}

// leadsAway are the variables that Azure's SDKs look at before the endpoint of
// managed identities, or that make them take it for one of another kind. They
// are unset and never blank: some SDKs ask only whether a variable is there.
var leadsAway = []string{
	"AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_USERNAME", "AZURE_PASSWORD",
	"AZURE_FEDERATED_TOKEN_FILE", "AZURE_POD_IDENTITY_AUTHORITY_HOST", "AZURE_KUBERNETES_TOKEN_PROXY",
	"MSI_ENDPOINT", "MSI_SECRET", "DEFAULT_IDENTITY_CLIENT_ID", "IMDS_ENDPOINT", "IDENTITY_SERVER_THUMBPRINT", "MSAL_MANAGED_IDENTITY_ENDPOINT",
	"CREDFREE_SOCKET",
}

// proxies are the variables that lead through a proxy.
var proxies = []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"}

// commandEnvironment is what a command inherits, changed so that Azure's SDKs,
// clients of Entra's auth sidecar and credfree itself find the broker.
func commandEnvironment(inherited []string, to lead) []string {
	before := map[string]string{}
	for _, entry := range inherited {
		name, value, _ := strings.Cut(entry, "=")
		before[name] = value
	}
	set := map[string]string{
		"IDENTITY_ENDPOINT": to.url + client.ManagedIdentityPath,
		"IDENTITY_HEADER":   to.key,
		// Later credentials of a chain would try what is left of a developer's.
		// Older SDKs do not know the name of a single one.
		"AZURE_TOKEN_CREDENTIALS": "prod",
		"SIDECAR_URL":             to.url + "/" + to.key, // its clients have no header for a key
		"CREDFREE_URL":            to.url,
		"CREDFREE_KEY_FILE":       to.keyFile,
	}
	if to.clientID != "" {
		set["AZURE_CLIENT_ID"] = to.clientID
	}
	// Some SDKs send even requests to loopback to a proxy, with their key. Each
	// spelling hides the other, so both say all.
	set["NO_PROXY"] = directly(before, "NO_PROXY", "no_proxy")
	set["no_proxy"] = directly(before, "no_proxy", "NO_PROXY")
	unset := slices.Concat(leadsAway, to.tokens)
	if set["NO_PROXY"] == "*" || set["no_proxy"] == "*" {
		// Some SDKs take it for a host's name, and other clients know it alone:
		// what it says is said to all where no proxy is named.
		unset = append(unset, proxies...)
	}

	environment := slices.DeleteFunc(slices.Clone(inherited), func(entry string) bool {
		name, value, _ := strings.Cut(entry, "=")
		// Several SDKs refuse to start with an authority that is not https.
		return set[name] != "" || slices.Contains(unset, name) || name == "AZURE_AUTHORITY_HOST" && strings.HasPrefix(strings.ToLower(value), "http:")
	})
	for _, name := range slices.Sorted(maps.Keys(set)) {
		environment = append(environment, name+"="+set[name])
	}
	return environment
}

// tokenVariables are the variables that hold a workload token by a source of the
// policy.
func tokenVariables(p *policy.Policy) []string {
	var names []string
	for _, source := range p.Sources {
		switch {
		case source.Env != nil:
			names = append(names, source.Env.Name)
		case source.GitLab != nil:
			names = append(names, source.GitLab.Name)
		case source.CircleCI != nil:
			names = append(names, "CIRCLE_OIDC_TOKEN")
		case source.Terraform != nil:
			names = append(names, strings.TrimSuffix("TFC_WORKLOAD_IDENTITY_TOKEN_"+source.Terraform.Tag, "_"))
		}
	}
	return names
}

// directly adds loopback to what is reached without a proxy, unless all is.
func directly(environment map[string]string, name, otherwise string) string {
	const loopback = "127.0.0.1,localhost"
	value, ok := environment[name]
	if !ok {
		value = environment[otherwise]
	}
	switch all := strings.TrimSpace(value); all {
	case "":
		return loopback
	case "*":
		return all
	}
	return value + "," + loopback
}
