package policy

import (
	"fmt"
	"slices"
	"strings"
)

// warnUnused finds what nothing refers to. what is the word of r.used.
func (r *reader) warnUnused(entries []entry, what, message string) {
	for _, e := range entries {
		if !r.used[what+" "+e.name] {
			r.warning(e.key, message, "remove it, or refer to it")
		}
	}
}

// warnBlueprints finds applications that are a blueprint elsewhere in the file:
// Entra refuses a blueprint every token for a resource (AADSTS82001).
func (r *reader) warnBlueprints(entries []entry, identities map[string]Identity) {
	blueprints := map[string]bool{}
	for _, identity := range identities {
		switch {
		case identity.Agent != nil:
			blueprints[identity.Agent.BlueprintID] = true
		case identity.AgentUser != nil:
			blueprints[identity.AgentUser.BlueprintID] = true
		}
	}
	for _, e := range entries {
		if application := identities[e.name].Application; application != nil && blueprints[application.ClientID] {
			r.warning(e.key, "the application is a blueprint, and Entra gives a blueprint no token for a resource (AADSTS82001)",
				"act as an agent identity of the blueprint: {agent: {blueprintID: ..., agentID: ..., source: ...}}")
		}
	}
}

// actor is an agent that acts as an identity, and where the file says so.
type actor struct {
	agent string
	line  int
}

// shares notes that the agent acts as an identity, and warns when another one
// does so too.
func (r *reader) shares(a *Agent, identity string, at place) {
	r.used["identity "+identity] = true
	first, ok := r.actors[identity]
	switch {
	case !ok:
		r.actors[identity] = actor{agent: a.Name, line: at.node.Line}
	case first.agent != a.Name:
		r.warning(at, fmt.Sprintf("agent %s acts as this identity too, see line %d: Entra cannot tell the two apart, and what it grants to one the other has",
			clip(first.agent), first.line), "give each agent an identity of its own")
	}
}

// broad are permissions of Microsoft Graph with which one can give oneself any
// other.
var broad = []string{
	"AppRoleAssignment.ReadWrite.All", "Application.ReadWrite.All", "Directory.AccessAsUser.All", "Directory.ReadWrite.All",
	"Group.ReadWrite.All", "RoleManagement.ReadWrite.All", "RoleManagement.ReadWrite.Directory", "User.ReadWrite.All",
}

// refusedToAgents are permissions of Microsoft Graph that agent identities
// cannot be given, see https://learn.microsoft.com/entra/agent-id.
var refusedToAgents = []string{
	"Application.ReadWrite.All", "Directory.AccessAsUser.All", "RoleManagement.ReadWrite.All", "User.ReadWrite.All",
}

// warnBroad finds scopes that amount to the whole directory.
func (r *reader) warnBroad(at place, scope string, cloud *Cloud) {
	if permission, ok := strings.CutPrefix(scope, cloud.graph()+"/"); ok && slices.Contains(broad, permission) {
		r.warning(at, permission+" is enough to take over the directory", "list the narrower permission that the agent needs")
	}
}

// warnRefused finds grants that Entra will refuse whatever the file says.
func (r *reader) warnRefused(a *Agent, fields map[string]place, p *Policy) {
	userless, agentic := len(a.Identities) > 0, false
	for _, name := range a.Identities {
		identity := p.Identities[name]
		userless = userless && identity.AgentUser == nil
		agentic = agentic || identity.Agent != nil || identity.AgentUser != nil
	}
	for _, scope := range a.Scopes {
		if userless && !strings.HasSuffix(scope, "/.default") {
			r.warning(fields["allow"], "without a user, Entra gives a token for all of a resource only: "+clip(scope)+" is refused (AADSTS1002012)",
				"list <resource>/.default, and narrow what the application is granted in Entra")
		}
	}
	for _, scope := range slices.Concat(a.Scopes, a.forUser.scopes) {
		permission, ok := strings.CutPrefix(scope, p.Cloud.graph()+"/")
		if ok && agentic && slices.Contains(refusedToAgents, permission) {
			r.warning(fields["identity"].or(fields["identities"]), "Entra gives "+permission+" to no agent identity", "list a narrower permission, or act as an application")
		}
	}
}
