package localapi

import (
	"strings"

	"github.com/credfree/credfree/broker/policy"
)

// What a selector names an identity by.
const (
	byName       = "identity" // ours, as on every door
	byClientID   = "client_id"
	byObjectID   = "object_id"
	byResourceID = "mi_res_id"
)

// selectors are the parameters that clients of managed identities select an
// identity with; clientid is of the legacy version, and msi-res-id of a probe.
var selectors = []struct{ parameter, by string }{
	{byName, byName},
	{byClientID, byClientID}, {"clientid", byClientID},
	{byObjectID, byObjectID}, {"principal_id", byObjectID},
	{byResourceID, byResourceID}, {"msi_res_id", byResourceID}, {"msi-res-id", byResourceID},
}

// selected reads which identity is asked for, as broker.Request.Identity wants
// it. It is "" when none is selected: that is the agent's default.
//
// The identity is looked for in the whole policy, because who asks is not known
// yet; that it is one of the agent's is for the broker to say. Of several with
// the same id, an application or an agent goes before the user account of an
// agent, and then the first by name: whoever means another says identity=<name>.
// What is in no identity becomes the name of none, to be denied and recorded.
func selected(f form, p *policy.Policy) (identity string, problem *badRequest) {
	by, value := "", ""
	for _, s := range selectors {
		switch found := f.get(s.parameter); {
		case found == "":
		case by != "":
			return "", bad("several parameters select an identity", "send one of "+byClientID+", "+byObjectID+" and "+byResourceID)
		default:
			by, value = s.by, found
		}
	}
	if by == "" || by == byName {
		return value, nil
	}
	var best match
	bestName := ""
	for name, identity := range p.Identities {
		m := find(identity, by, value)
		if m.rank > best.rank || m.rank == best.rank && m.rank > 0 && name < bestName {
			best, bestName = m, name
		}
	}
	switch {
	case best.rank == 0:
		return by + "=" + value, nil // no name has an equals sign
	case best.member == "":
		return bestName, nil
	}
	return bestName + "/" + best.member, nil
}

// match says how an identity answers to a selector. The zero match does not.
type match struct {
	rank   int    // the highest is meant
	member string // of a fleet
}

// find compares without regard to case, as Entra and Azure do.
func find(identity policy.Identity, by, value string) match {
	is := func(id string) bool { return id != "" && strings.EqualFold(id, value) }
	switch {
	case identity.Application != nil:
		if by == byClientID && is(identity.Application.ClientID) {
			return match{rank: 2}
		}
	case identity.Agent != nil:
		for _, id := range identity.Agent.AgentIDs {
			// The client id of an agent identity is its object id.
			if by != byResourceID && is(id) {
				return match{rank: 2, member: id}
			}
		}
	case identity.AgentUser != nil:
		if by == byClientID && is(identity.AgentUser.AgentID) {
			return match{rank: 1}
		}
		for _, user := range identity.AgentUser.Users {
			if by == byObjectID && is(user.ObjectID) {
				return match{rank: 2, member: user.ObjectID}
			}
		}
	case identity.ManagedIdentity != nil:
		m := identity.ManagedIdentity
		if by == byClientID && is(m.ClientID) || by == byObjectID && is(m.ObjectID) || by == byResourceID && is(m.ResourceID) {
			return match{rank: 2}
		}
	}
	return match{}
}
