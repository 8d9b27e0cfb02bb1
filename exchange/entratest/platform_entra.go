package entratest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// azureDevOpsID is the application in whose name Entra issues the tokens of
// service connections.
const azureDevOpsID = "499b84ac-1321-427f-aa17-267ca6975798"

// ManagedIdentity is an identity that a platform has assigned to a workload.
type ManagedIdentity struct {
	// ClientID and PrincipalID are GUIDs. Both are required. PrincipalID is the
	// oid and the sub of the identity's tokens, and so the subject of a
	// federated credential that trusts it.
	ClientID, PrincipalID string
	// ResourceID is the ARM id: /subscriptions/…/userAssignedIdentities/….
	ResourceID string
	// SystemAssigned makes it the one that is used when a request names none.
	SystemAssigned bool
}

// ManagedIdentityToken signs the token Entra issues to a managed identity for a
// resource: one of the directory's, or the token exchange. Tenant is a GUID or a
// domain; empty means the only tenant. Lifetime 0 is 24 hours; negative means
// that the token expired that long ago.
func (s *Server) ManagedIdentityToken(tenantName string, id ManagedIdentity, resource string, lifetime time.Duration) (string, error) {
	tn, err := s.namedTenant(tenantName)
	if err != nil {
		return "", fmt.Errorf("entratest: managed identity: %w", err)
	}
	client, principal := canonicalGUID(id.ClientID), canonicalGUID(id.PrincipalID)
	if client == "" || principal == "" {
		return "", errors.New("entratest: managed identity: ClientID and PrincipalID must be GUIDs")
	}
	r, ok := exchangeResource(tn, resource)
	if !ok {
		return "", fmt.Errorf("entratest: managed identity: %w", errNoResource)
	}
	if lifetime == 0 {
		lifetime = 24 * time.Hour
	}
	claims := s.claims(accessToken{
		tenant: tn, client: client, credential: credentialAssertion, resource: r, audience: resource,
		version: r.TokenVersion, principal: principal, span: s.span(lifetime),
	})
	if id.ResourceID != "" {
		claims["xms_mirid"] = id.ResourceID
	}
	return s.signWorkload(claims)
}

var errNoResource = errors.New("the tenant has no such resource")

// exchangeResource finds a resource. The token exchange exists in every tenant.
func exchangeResource(tn *tenant, name string) (*Resource, bool) {
	if r, ok := tn.resource(name); ok {
		return r, true
	}
	switch strings.ToLower(strings.TrimSuffix(name, "/")) {
	case strings.ToLower(TokenExchangeAudience), TokenExchangeResourceID:
		return &Resource{ClientID: TokenExchangeResourceID, Name: "token exchange", TokenVersion: 2}, true
	}
	return nil, false
}

// ServiceConnectionSubject is the subject of a new Azure DevOps service
// connection, which has Entra as issuer: GUIDs of the tenant, the organization
// and the connection.
func ServiceConnectionSubject(tenantID, organizationID, connectionID string) (string, error) {
	for _, id := range []string{tenantID, organizationID, connectionID} {
		if canonicalGUID(id) == "" {
			return "", fmt.Errorf("entratest: service connection: %q is not a GUID", id)
		}
	}
	return "/eid1/c/pub/t/" + encodedGUID(tenantID) + "/a/" + encodedGUID(azureDevOpsID) +
		"/sc/" + strings.ToLower(organizationID) + "/" + strings.ToLower(connectionID), nil
}

// encodedGUID writes a GUID as Entra does inside a subject: the bytes as .NET
// orders them, in base64url.
func encodedGUID(s string) string {
	id, err := uuid.Parse(s)
	if err != nil {
		return ""
	}
	b := []byte{id[3], id[2], id[1], id[0], id[5], id[4], id[7], id[6]}
	return base64.RawURLEncoding.EncodeToString(append(b, id[8:]...))
}

// ServiceConnectionToken signs the token Entra issues for a new Azure DevOps
// service connection, for ten minutes or the given lifetime.
func (s *Server) ServiceConnectionToken(tenantName, organizationID, connectionID string, lifetime time.Duration) (string, error) {
	tn, err := s.namedTenant(tenantName)
	if err != nil {
		return "", fmt.Errorf("entratest: service connection: %w", err)
	}
	subject, err := ServiceConnectionSubject(tn.ID, organizationID, connectionID)
	if err != nil {
		return "", err
	}
	if lifetime == 0 {
		lifetime = 10 * time.Minute
	}
	r, _ := exchangeResource(tn, TokenExchangeAudience)
	claims := s.claims(accessToken{
		tenant: tn, client: azureDevOpsID, credential: credentialAssertion, resource: r,
		version: 2, principal: derivedGUID(tn.ID, "service principal", azureDevOpsID), span: s.span(lifetime),
	})
	claims["sub"] = subject
	return s.signWorkload(claims)
}

func (s *Server) signWorkload(claims map[string]any) (string, error) {
	token, err := s.sign(claims)
	if err != nil {
		return "", fmt.Errorf("entratest: %w", err)
	}
	return token, nil
}
