package entratest

// The identities of DemoDirectory. They are fixed so that documentation,
// examples and running emulators agree.
const (
	DemoTenantID         = "5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10"
	DemoDomain           = "demo.example"
	DemoClientID         = "a1d4c0de-0000-4000-8000-00000000a9e7"
	DemoFrontendClientID = "f407e4d0-0000-4000-8000-00000000f407"
	DemoUserID           = "0be5e000-0000-4000-8000-0000000005e4"
	DemoUserName         = "ada@demo.example"
	DemoSubject          = "system:serviceaccount:agents:demo"

	DemoBlueprintClientID = "b1e90000-0000-4000-8000-00000000b1e9"
	DemoAgentIdentityID   = "a9e41d00-0000-4000-8000-00000000a9e4"
	DemoAgentUserID       = "a9e45e40-0000-4000-8000-00000000a5e4"
	DemoAgentUserName     = "agent@demo.example"

	// DemoToolsURI is an API that is nobody's yet, for a server of one's own.
	DemoToolsURI      = "api://demo-tools"
	demoToolsClientID = "70015000-0000-4000-8000-000000007001"
)

// The audience federated credentials use in the public cloud, and the resource
// behind it.
const (
	TokenExchangeAudience   = "api://AzureADTokenExchange"
	TokenExchangeResourceID = "fb60f99c-7a34-4190-8149-302f77469936"
)

const graphURI = "https://graph.microsoft.com"

// DemoDirectory is a small, complete directory: one tenant with well-known
// Microsoft APIs and one of its own, one user, a front-end application, the application
// "demo-agent", and an agent identity with its blueprint and its agent user.
// The application and the blueprint trust the service account agents/demo of
// the cluster whose OIDC issuer is issuerURL.
func DemoDirectory(issuerURL string) Directory {
	trust := []FederatedCredential{{
		Name:     "demo-cluster",
		Issuer:   issuerURL,
		Subject:  DemoSubject,
		Audience: TokenExchangeAudience,
	}}
	return Directory{Tenants: []Tenant{{
		ID:      DemoTenantID,
		Domains: []string{DemoDomain},
		Resources: append(wellKnownResources(), Resource{
			ClientID:        demoToolsClientID,
			Name:            "demo-tools",
			IdentifierURIs:  []string{DemoToolsURI},
			TokenVersion:    2,
			DelegatedScopes: []string{"user_impersonation"},
		}),
		Applications: []Application{
			{
				ClientID:             DemoClientID,
				Name:                 "demo-agent",
				IdentifierURIs:       []string{"api://" + DemoClientID},
				FederatedCredentials: trust,
				AppRoles: map[string][]string{
					graphURI: {"User.Read.All"},
				},
				Delegated: map[string][]string{
					graphURI:                       {"User.Read", "Mail.Read"},
					"https://search.azure.com":     {"user_impersonation"},
					"https://management.azure.com": {"user_impersonation"},
				},
			},
			{ClientID: DemoFrontendClientID, Name: "demo-frontend"},
			{
				ClientID:               DemoBlueprintClientID,
				Name:                   "demo-blueprint",
				Blueprint:              true,
				IdentifierURIs:         []string{"api://" + DemoBlueprintClientID},
				FederatedCredentials:   trust,
				InheritablePermissions: []string{graphURI},
			},
		},
		BlueprintPrincipals: []BlueprintPrincipal{{
			Blueprint: DemoBlueprintClientID,
			Delegated: map[string][]string{graphURI: {"Mail.Read"}},
		}},
		AgentIdentities: []AgentIdentity{{
			ObjectID:  DemoAgentIdentityID,
			Name:      "demo-agent-identity",
			Blueprint: DemoBlueprintClientID,
			AppRoles:  map[string][]string{graphURI: {"User.Read.All"}},
			Delegated: map[string][]string{graphURI: {"User.Read"}},
		}},
		Users: []User{
			{
				ObjectID:          DemoUserID,
				UserPrincipalName: DemoUserName,
				DisplayName:       "Ada Demo",
			},
			{
				ObjectID:          DemoAgentUserID,
				UserPrincipalName: DemoAgentUserName,
				DisplayName:       "Agent Demo",
				AgentIdentity:     DemoAgentIdentityID,
			},
		},
	}}}
}

// wellKnownResources are first-party APIs with their real identifiers. Only
// Graph and ARM are known to take v1 tokens; the other versions are inferred.
func wellKnownResources() []Resource {
	return []Resource{
		{
			ClientID:         graphClientID,
			Name:             "Microsoft Graph",
			IdentifierURIs:   []string{graphURI},
			TokenVersion:     1,
			ContinuousAccess: true,
			DelegatedScopes: []string{
				"User.Read", "User.Read.All", "Mail.Read", "Mail.Send", "Files.Read", "Calendars.Read",
				"GroupMember.Read.All", "Group.Read.All", "Directory.Read.All", "User.ReadWrite.All", "Directory.AccessAsUser.All",
			},
			AppRoles: []string{
				"User.Read.All", "Mail.Read", "Mail.Send", "Group.Read.All", "Sites.Read.All",
				"GroupMember.Read.All", "Directory.Read.All", "User.ReadWrite.All", "Application.ReadWrite.All",
			},
		},
		{
			ClientID:        "797f4846-ba00-4fd7-ba43-dac1f8f63013",
			Name:            "Windows Azure Service Management API",
			IdentifierURIs:  []string{"https://management.azure.com", "https://management.core.windows.net"},
			TokenVersion:    1,
			DelegatedScopes: []string{"user_impersonation"},
		},
		{
			ClientID:        "cfa8b339-82a2-471a-a3c9-0fc0be7a4093",
			Name:            "Azure Key Vault",
			IdentifierURIs:  []string{"https://vault.azure.net"},
			TokenVersion:    1,
			DelegatedScopes: []string{"user_impersonation"},
		},
		{
			ClientID:        "880da380-985e-4198-81b9-e05b1cc53158",
			Name:            "Azure AI Search",
			IdentifierURIs:  []string{"https://search.azure.com"},
			TokenVersion:    1,
			DelegatedScopes: []string{"user_impersonation"},
		},
		{
			ClientID:        cognitiveServicesClientID,
			Name:            "Microsoft Cognitive Services",
			IdentifierURIs:  []string{"https://cognitiveservices.azure.com"},
			TokenVersion:    1,
			DelegatedScopes: []string{"user_impersonation"},
		},
		{
			ClientID:        foundryClientID,
			Name:            "Azure Machine Learning Services",
			IdentifierURIs:  []string{"https://ai.azure.com"},
			TokenVersion:    1,
			DelegatedScopes: []string{"user_impersonation"},
		},
		{
			ClientID:       TokenExchangeResourceID,
			Name:           "AAD Token Exchange Endpoint: Public",
			IdentifierURIs: []string{TokenExchangeAudience},
			TokenVersion:   2,
		},
	}
}
