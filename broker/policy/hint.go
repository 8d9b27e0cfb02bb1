package policy

import (
	"fmt"
	"strings"
)

// Hints say what to change and where. They are built for denials only. Of the
// caller's own words they hold scopes that look like one, in quotes and cut:
// what else a confused agent sends may be a key that ended up in the wrong
// parameter, and a hint ends up in logs.

func nobodyHint(p Peer, rule string) string {
	switch {
	case rule != "agents" && p.Known:
		return fmt.Sprintf("the peer runs as uid %d, which %s does not list", p.UID, rule)
	case rule != "agents":
		return "the kernel does not vouch for the peer's uid, and " + rule + " lists uids: connect to the agent's unix socket on the same machine"
	case p.Socket != "":
		return "no agent has a caller with the socket " + quote(p.Socket) + ": add one under agents.<name>.callers"
	case p.KeyRefused:
		return "the key that was presented is in no keyFile of the policy: present what is in the agent's own file, or no key"
	case p.KeyFile != "":
		return "no agent has a caller with the keyFile " + quote(p.KeyFile) + ": add one under agents.<name>.callers"
	case p.Known:
		return fmt.Sprintf("no agent has a tcp caller for uid %d without a key: add {tcp: {uids: [%d]}} under agents.<name>.callers, or use the agent's socket or key", p.UID, p.UID)
	}
	return "the kernel does not vouch for the peer's uid: connect to the agent's unix socket, or present the agent's key"
}

func mismatchHint(a *Agent) string {
	return "the request gives another name than that of the peer, which is agent " + a.Name +
		": send that name, the client id of one of its identities, or no name"
}

func expiredHint(a *Agent) string {
	return "the last day was " + lastDay(a) + " (UTC): change " + a.rules.expires + " if the agent is still wanted"
}

func identityHint(a *Agent, identity string) string {
	return "add the identity that was asked for to agents." + a.Name + ".identities, or name another; " + DidYouMean(identity, a.Identities)
}

func noIdentityHint(a *Agent) string {
	return "name one identity in the request, or set agents." + a.Name + ".identity; " + DidYouMean("", a.Identities)
}

func memberHint(c *choice) string {
	if len(c.members) == 0 {
		return "the identity " + c.name + " is no fleet: name it alone, without a slash"
	}
	return "the member that was asked for is not listed in " + c.rule + ": add it there, or name a listed one, e.g. " + c.name + "/" + clip(c.members[0])
}

func noMemberHint(c *choice) string {
	return "the identity " + c.name + " is a fleet: name one of its members as identity=" + c.name + "/<id>, e.g. " + c.name + "/" + clip(c.members[0])
}

func identityForUsersHint(a *Agent) string {
	able := ""
	for i := range a.choices {
		if a.choices[i].forUsers && able == "" {
			able = ", e.g. " + a.choices[i].name
		}
	}
	return "Entra lets managed identities and the user accounts of agents act for no user: name an application or an agent identity" + able
}

func blockedHint(a *Agent) string {
	return "remove " + a.rules.blocked + " if the agent may work again"
}

func limitHint(rule string) string {
	return "ask less often and reuse the token until it expires, or raise " + rule
}

func notForUsersHint(a *Agent) string {
	return "add " + a.rules.user + " with what the agent may do on behalf of which users"
}

func rawTokenHint(a *Agent) string {
	if len(a.APIs) == 0 {
		return "call the API through the broker, for which the policy has to list it in " + a.rules.agent + ".allow.apis"
	}
	return "call the API through the broker, e.g. " + a.APIs[0] + " at /call/" + a.APIs[0] + "/<path>"
}

const reservedHint = "ask for the resource that the token is for: tokens for the token exchange stand in for a workload token, and the broker keeps them"

func noScopeHint(a *allowance) string {
	if len(a.scopes) == 0 {
		return "send a scope, and list it in " + a.list + ", which is empty"
	}
	return "send a scope of " + a.rule + ", e.g. " + clip(a.scopes[0])
}

func malformedHint(scope, defect string, cloud *Cloud) string {
	if full, ok := cloud.expand(scope); ok {
		return "shorthands are for the policy file only: write " + quote(full)
	}
	if !looksLikeScope(scope) {
		return "the scope " + defect + ": " + scopeHint("", cloud)
	}
	return "the scope " + quote(scope) + " " + defect + ": " + scopeHint(scope, cloud)
}

// looksLikeScope tells a scope that was written wrongly from a secret that was
// sent in its place: the beginning of a resource, or the dotted words of a
// permission such as User.Read.
func looksLikeScope(s string) bool {
	resource, _, _ := strings.Cut(s, "/")
	if strings.Contains(s, "://") || isGUID(strings.ToLower(resource)) || isOIDC(s) {
		return true
	}
	letters := strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.")
	return len(s) <= 64 && letters == "" && strings.Contains(s, ".")
}

// scopeHint says how to write a scope that is not canonical.
func scopeHint(scope string, cloud *Cloud) string {
	if isOIDC(scope) {
		return "remove it: it asks for the sign-in of a user, and an application token has none; the scope of an API reads like https://graph.microsoft.com/.default"
	}
	if guess := canonicalScope(scope, cloud); guess != "" {
		return "write " + guess
	}
	return "write <resource>/<name>, e.g. https://graph.microsoft.com/.default"
}

func mixedHint(first, other string) string {
	return "the scopes belong to " + quote(first) + " and to " + quote(other) + ": a token is for one resource, ask for one at a time"
}

func notAllowedHint(a *allowance, scope string) string {
	scope = Listed(scope)
	resource, _ := splitScope(scope)
	hint := "add " + quote(scope) + " to " + a.list + " if the agent may have it"
	if near := nearScope(a, scope, resource); near != "" {
		hint += "; the policy lists " + near + "; scopes are compared exactly"
	}
	return hint
}

// nearScope returns the scope of the list that was probably meant: one that
// differs in case or in one short place, else one of the same resource.
func nearScope(a *allowance, scope, resource string) string {
	sameResource := ""
	for _, listed := range a.scopes {
		if strings.EqualFold(listed, scope) || differOnce(listed, scope) {
			return listed
		}
		if sameResource == "" && a.grants[listed].resource == resource {
			sameResource = listed
		}
	}
	return sameResource
}

// differOnce reports whether a and b are equal but for one place of at most
// three bytes. It takes linear time: a denied caller chooses one of the two.
func differOnce(a, b string) bool {
	shorter := min(len(a), len(b))
	prefix := 0
	for prefix < shorter && a[prefix] == b[prefix] {
		prefix++
	}
	suffix := 0
	for suffix < shorter-prefix && a[len(a)-1-suffix] == b[len(b)-1-suffix] {
		suffix++
	}
	return max(len(a), len(b))-prefix-suffix <= 3
}
