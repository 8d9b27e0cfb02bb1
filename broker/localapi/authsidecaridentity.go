package localapi

import (
	"regexp"
	"strings"

	"github.com/credfree/credfree/broker/policy"
)

// The clients of the auth sidecar name identities by their ids at Entra. They
// are looked for in the whole policy, as selected does, and of several with the
// same id the first by name is meant. What is in no identity becomes the name of
// none, to be denied and recorded: it has an equals sign, and no name has one.

// agentNamed is the identity of an agent.
func agentNamed(p *policy.Policy, id string) string {
	return firstIdentity(p, agentIdentity+"="+id, func(identity policy.Identity) (member string, ok bool) {
		if identity.Agent == nil {
			return "", false
		}
		return listed(identity.Members(), id)
	})
}

// agentUserNamed is the identity of an agent's user account, by its name or its
// object id.
func agentUserNamed(p *policy.Policy, agent, user string) string {
	return firstIdentity(p, agentIdentity+"="+agent, func(identity policy.Identity) (member string, ok bool) {
		if identity.AgentUser == nil || !strings.EqualFold(identity.AgentUser.AgentID, agent) {
			return "", false
		}
		return listed(identity.Members(), user)
	})
}

// machineNamed is a managed identity; clientID is not empty, as that of the
// system-assigned one is.
func machineNamed(p *policy.Policy, clientID string) string {
	return firstIdentity(p, byClientID+"="+clientID, func(identity policy.Identity) (member string, ok bool) {
		return "", identity.ManagedIdentity != nil && strings.EqualFold(identity.ManagedIdentity.ClientID, clientID)
	})
}

func firstIdentity(p *policy.Policy, none string, is func(policy.Identity) (member string, ok bool)) string {
	best, bestMember := "", ""
	for name, identity := range p.Identities {
		if member, ok := is(identity); ok && (best == "" || name < best) {
			best, bestMember = name, member
		}
	}
	switch {
	case best == "":
		return none
	case bestMember == "":
		return best
	}
	return best + "/" + bestMember
}

func listed(members []string, asked string) (string, bool) {
	for _, member := range members {
		if strings.EqualFold(member, asked) {
			return member, true
		}
	}
	return "", false
}

var guidForm = regexp.MustCompile(`^([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})$`)

// normalGUID returns a GUID in lower case with hyphens, or "" for what is none,
// or is the empty one. Clients write braces and parentheses around it, and leave
// the hyphens out.
func normalGUID(text string) string {
	text = strings.ToLower(strings.TrimSpace(text))
	if n := len(text); n > 2 && (text[0] == '{' && text[n-1] == '}' || text[0] == '(' && text[n-1] == ')') {
		text = text[1 : n-1]
	}
	parts := guidForm.FindStringSubmatch(text)
	if parts == nil || strings.Trim(text, "0-") == "" {
		return ""
	}
	return strings.Join(parts[1:], "-")
}
