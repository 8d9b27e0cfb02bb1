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
)

// The audience federated credentials use in the public cloud, and the resource
// behind it.
const (
	TokenExchangeAudience   = "api://AzureADTokenExchange"
	TokenExchangeResourceID = "fb60f99c-7a34-4190-8149-302f77469936"
)

const graphURI = "https://graph.microsoft.com"

// DemoDirectory is a small, complete directory: one tenant with well-known
// Microsoft APIs, one user, a front-end application and the application
// "demo-agent", which trusts the service account agents/demo of the cluster
// whose OIDC issuer is issuerURL.
func DemoDirectory(issuerURL string) Directory {
	return Directory{Tenants: []Tenant{{
		ID:        DemoTenantID,
		Domains:   []string{DemoDomain},
		Resources: wellKnownResources(),
		Applications: []Application{
			{
				ClientID:       DemoClientID,
				Name:           "demo-agent",
				IdentifierURIs: []string{"api://" + DemoClientID},
				FederatedCredentials: []FederatedCredential{{
					Name:     "demo-cluster",
					Issuer:   issuerURL,
					Subject:  DemoSubject,
					Audience: TokenExchangeAudience,
				}},
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
		},
		Users: []User{{
			ObjectID:          DemoUserID,
			UserPrincipalName: DemoUserName,
			DisplayName:       "Ada Demo",
		}},
	}}}
}

// wellKnownResources are first-party APIs with their real identifiers. Only
// Graph and ARM are known to take v1 tokens; the other versions are inferred.
func wellKnownResources() []Resource {
	return []Resource{
		{
			ClientID:        "00000003-0000-0000-c000-000000000000",
			Name:            "Microsoft Graph",
			IdentifierURIs:  []string{graphURI},
			TokenVersion:    1,
			DelegatedScopes: []string{"User.Read", "User.Read.All", "Mail.Read", "Mail.Send", "Files.Read", "Calendars.Read"},
			AppRoles:        []string{"User.Read.All", "Mail.Read", "Mail.Send", "Group.Read.All", "Sites.Read.All"},
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
			ClientID:        "7d312290-28c8-473c-a0ed-8e53749b6d6d",
			Name:            "Microsoft Cognitive Services",
			IdentifierURIs:  []string{"https://cognitiveservices.azure.com"},
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
