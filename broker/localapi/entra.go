package localapi

import (
	"strings"

	"github.com/credfree/credfree/broker/policy"
)

// Code that was written for Entra's own token endpoint works with another host:
// https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow.
// The client_assertion that it sends to prove who it is proves nothing here, and
// is not looked at: the agent is known from its connection or by its key. Its
// client_id selects among the agent's own identities, and no other.

// entraTenant is the tenant in the path of Entra's token endpoint,
// /{tenant}/oauth2/v2.0/token, or "" at any other path.
func entraTenant(path string) string {
	tenant, ok := strings.CutSuffix(path, "/oauth2/v2.0/token")
	if !ok || len(tenant) < 2 || strings.LastIndexByte(tenant, '/') != 0 {
		return ""
	}
	return tenant[1:]
}

// isTenantOf reports whether tenant is that of an identity, by its name in the
// policy. Which identity it is when none is named depends on the agent, who is
// not known yet: then it has to be the tenant of all.
func isTenantOf(p *policy.Policy, identity, tenant string) bool {
	name, _, _ := strings.Cut(identity, "/")
	for other, identity := range p.Identities {
		if (name == "" || name == other) && !strings.EqualFold(identity.Tenant, tenant) {
			return false
		}
	}
	return true
}

// onlyIdentity is the identity, as broker.Request.Identity wants it, that has
// the client id which a client presents, if it is the only one: otherwise it is
// "", the agent's default. That the agent may call itself so is for the broker
// to say.
func onlyIdentity(p *policy.Policy, clientID string) string {
	const length = len("00000000-0000-0000-0000-000000000000")
	if len(clientID) != length {
		return ""
	}
	only, found := "", 0
	for name, identity := range p.Identities {
		m := find(identity, byClientID, clientID)
		if m.rank == 0 {
			continue
		}
		found++
		if only = name; m.member != "" {
			only += "/" + m.member
		}
	}
	if found != 1 {
		return ""
	}
	return only
}
