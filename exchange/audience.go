package exchange

import (
	"slices"
	"strings"
)

// resourceOf is what stands before the name of a scope.
func resourceOf(scope string) string {
	return scope[:max(0, strings.LastIndexByte(scope, '/'))]
}

// exchangeResources are the client ids of the resources behind the audiences of
// federated identity credentials.
var exchangeResources = []string{
	"fb60f99c-7a34-4190-8149-302f77469936", // api://AzureADTokenExchange
	"a9dd8a2a-df54-4ae0-84f9-38c8d57e5265", // api://AzureFMITokenExchange
}

// reserved reports whether a resource is the token exchange itself, of any
// cloud: a token for it could stand in for a workload token.
func reserved(resource string) bool {
	resource = strings.ToLower(strings.TrimRight(resource, "/"))
	return slices.Contains(exchangeResources, strings.TrimPrefix(resource, "api://")) ||
		strings.HasPrefix(resource, "api://azureadtokenexchange") || strings.HasPrefix(resource, "api://azurefmitokenexchange")
}

// audienceFits compares the audience of a token with the resource it was asked
// for. A v1 token repeats the resource, a v2 token has the resource's client id,
// which a name does not tell:
// https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
func audienceFits(audience, resource string) bool {
	audience, resource = strings.TrimRight(audience, "/"), strings.TrimRight(resource, "/")
	if audience == "" {
		return false
	}
	named := strings.TrimPrefix(resource, "api://")
	return strings.EqualFold(audience, resource) || strings.EqualFold(audience, named) ||
		guid.MatchString(audience) && !guid.MatchString(named)
}
