package entratest

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// Directory is everything the emulated Entra ID knows. A Server keeps the
// Directory it was made with: do not change it afterwards.
type Directory struct {
	Tenants []Tenant `yaml:"tenants"`
}

// Tenant is one directory instance. Nothing is shared between tenants.
type Tenant struct {
	// ID is the tenant's GUID. Required.
	ID string `yaml:"id"`
	// Domains are verified DNS names that may stand for ID in a request.
	Domains []string `yaml:"domains,omitempty"`
	// Applications can ask for tokens.
	Applications []Application `yaml:"applications,omitempty"`
	// Resources are the APIs for which tokens can be asked.
	Resources []Resource `yaml:"resources,omitempty"`
	// Users can be named in UserToken and in the grants for users.
	Users []User `yaml:"users,omitempty"`
	// Groups describe the groups that users are in. A group that is not here
	// has no name and is in no other group.
	Groups []Group `yaml:"groups,omitempty"`
	// BlueprintPrincipals are the agent identity blueprints that may be used in
	// the tenant.
	BlueprintPrincipals []BlueprintPrincipal `yaml:"blueprintPrincipals,omitempty"`
	// AgentIdentities are the agents of the tenant.
	AgentIdentities []AgentIdentity `yaml:"agentIdentities,omitempty"`
	// ConditionalAccess lists the policies that are switched on.
	ConditionalAccess []ConditionalAccessPolicy `yaml:"conditionalAccess,omitempty"`
}

// Application is an app registration together with its service principal.
type Application struct {
	// ClientID is the application's GUID. Required.
	ClientID string `yaml:"clientID"`
	// ObjectID is the GUID of the service principal: oid and sub of app-only
	// tokens. Empty: derived from the tenant and the client id.
	ObjectID string `yaml:"objectID,omitempty"`
	// Name appears in error texts.
	Name string `yaml:"name,omitempty"`
	// Disabled refuses every request of the application with 7000112.
	Disabled bool `yaml:"disabled,omitempty"`
	// Public refuses every credential that the application presents (700025): it
	// is a public client, and nothing here is for those.
	Public bool `yaml:"public,omitempty"`
	// FederatedCredentials are the workloads that may act as the application.
	// At most 20, as in Entra.
	FederatedCredentials []FederatedCredential `yaml:"federatedCredentials,omitempty"`
	// ClientSecrets and Certificates are the credentials that federated ones
	// replace, for testing clients that still have them.
	ClientSecrets []ClientSecret `yaml:"clientSecrets,omitempty"`
	Certificates  []Certificate  `yaml:"certificates,omitempty"`
	// AppRoles lists the granted application permissions by resource (an
	// identifier URI or a client id of the same tenant).
	AppRoles map[string][]string `yaml:"appRoles,omitempty"`
	// Delegated lists the delegated permissions by resource for which an
	// administrator consented on behalf of every user of the tenant.
	Delegated map[string][]string `yaml:"delegated,omitempty"`
	// IdentifierURIs name the application as a resource, in addition to its
	// client id. A Resource with the same ClientID says what it offers; without
	// one it offers no permissions and gets v2 tokens.
	IdentifierURIs []string `yaml:"identifierURIs,omitempty"`
	// Blueprint makes the application an agent identity blueprint: it has
	// credentials but no permissions, and gets tokens only to act as one of its
	// agents. It can be used in the tenants that have a BlueprintPrincipal for it.
	Blueprint bool `yaml:"blueprint,omitempty"`
	// MultiTenant allows a blueprint principals in other tenants.
	MultiTenant bool `yaml:"multiTenant,omitempty"`
	// InheritablePermissions names the resources whose delegated permissions,
	// when granted to the blueprint's principal, all its agents have too.
	InheritablePermissions []string `yaml:"inheritablePermissions,omitempty"`
}

// Resource is an API for which the server issues access tokens.
type Resource struct {
	// ClientID is the resource's GUID: the audience of its v2 tokens. Required.
	ClientID string `yaml:"clientID"`
	Name     string `yaml:"name,omitempty"`
	// IdentifierURIs may stand for ClientID in a scope. A trailing slash does
	// not matter for finding the resource, but v1 tokens repeat it in aud.
	IdentifierURIs []string `yaml:"identifierURIs,omitempty"`
	// TokenVersion is the format of the resource's access tokens, 1 or 2, no
	// matter which endpoint was called. 0 means 2.
	TokenVersion int `yaml:"tokenVersion,omitempty"`
	// DelegatedScopes and AppRoles are the permissions the resource defines.
	DelegatedScopes []string `yaml:"delegatedScopes,omitempty"`
	AppRoles        []string `yaml:"appRoles,omitempty"`
	// Disabled refuses every token for the resource with 50001.
	Disabled bool `yaml:"disabled,omitempty"`
	// AssignmentRequired refuses app-only tokens to applications without any
	// role (501051), and users' tokens to users who are not Assigned (50105).
	// Without it such applications get a token without roles.
	AssignmentRequired bool `yaml:"assignmentRequired,omitempty"`
	// Assigned lists users (object id or user principal name) and groups (object
	// id). A user is assigned as a direct member of a group, not through another
	// group, as in Entra.
	Assigned []string `yaml:"assigned,omitempty"`
	// ContinuousAccess says that the resource evaluates access continuously:
	// clients with the capability cp1 get long-lived tokens for it.
	ContinuousAccess bool `yaml:"continuousAccess,omitempty"`
}

// User is a person of the tenant, or a guest in it.
type User struct {
	// ObjectID is the user's GUID. Required.
	ObjectID string `yaml:"objectID"`
	// UserPrincipalName must be unique in the tenant. Required.
	UserPrincipalName string `yaml:"userPrincipalName"`
	DisplayName       string `yaml:"displayName,omitempty"`
	// Guest marks a user of another organisation: acct is 1 in the tokens.
	Guest bool `yaml:"guest,omitempty"`
	// Groups are the object ids of the groups of which the user is a direct
	// member. The groups claim also has those that they are members of. Beyond
	// 200 it is replaced by a reference to Microsoft Graph, as Entra does.
	Groups []string `yaml:"groups,omitempty"`
	// Disabled refuses every grant for the user (50057).
	Disabled bool `yaml:"disabled,omitempty"`
	// AgentIdentity makes the user an agent user, which only this agent identity
	// can act as. It has no password and cannot sign in.
	AgentIdentity string `yaml:"agentIdentity,omitempty"`
}

// Group is a security group of the tenant.
type Group struct {
	// ObjectID is the group's GUID. Required.
	ObjectID    string `yaml:"objectID"`
	DisplayName string `yaml:"displayName,omitempty"`
	// MemberOf are object ids of the groups that this one is a direct member of.
	MemberOf []string `yaml:"memberOf,omitempty"`
}

// ParseDirectory reads a Directory from one YAML document. Unknown fields and
// a second document are errors, as is everything that New would refuse. All
// problems are joined.
func ParseDirectory(data []byte) (Directory, error) {
	var d Directory
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&d); err != nil {
		if errors.Is(err, io.EOF) {
			return Directory{}, errors.New("parse directory: the document is empty")
		}
		return Directory{}, fmt.Errorf("parse directory: %w", err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return Directory{}, errors.New("parse directory: only one YAML document is allowed")
	}
	if _, err := indexDirectory(d); err != nil {
		return Directory{}, err
	}
	return d, nil
}
