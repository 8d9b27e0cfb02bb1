package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/credfree/credfree/broker/policy"
)

// part is the agent that a command plays.
type part struct {
	agent    *policy.Agent
	keyFile  string // of the caller that the command stands for; "" when the agent is known by its uid
	clientID string // of the identity to select; "" when none has to be
}

// castAs finds the agent that a command of user uid can be, by the policy's own
// callers: by the uid of its connections or, failing that, by a key file, whose
// key the broker then puts in the place of the command's. Without a name it is
// the agent that the uid alone makes of it.
func castAs(p *policy.Policy, name, identity string, uid uint32) (part, error) {
	self := policy.Peer{UID: uid, Known: true}
	own := p.Agent(self)
	if name == "" {
		if own == nil {
			return part{}, fail(exitError, fmt.Errorf("no agent of the policy is uid %d", uid), "name one with --agent: "+agentNames(p)+"; or "+tcpHint("<name>", uid))
		}
		name = own.Name
	}
	agent := p.Agents[name]
	if agent == nil {
		return part{}, fail(exitError, fmt.Errorf("the policy has no agent %q", name), "name one with --agent: "+agentNames(p))
	}
	played := part{agent: agent}
	if own != agent {
		for _, caller := range agent.Callers {
			self.KeyFile = caller.KeyFile
			if caller.KeyFile != "" && p.Agent(self) == agent {
				played.keyFile = caller.KeyFile
			}
		}
		if played.keyFile == "" {
			return part{}, fail(exitError, fmt.Errorf("a command of uid %d cannot be agent %s: the agent has no tcp caller for it", uid, name), tcpHint(name, uid))
		}
	}
	var err error
	played.clientID, err = selectable(p, agent, identity)
	return played, err
}

func agentNames(p *policy.Policy) string {
	return strings.Join(slices.Sorted(maps.Keys(p.Agents)), ", ")
}

func tcpHint(name string, uid uint32) string {
	return fmt.Sprintf("add {tcp: {uids: [%d]}} or {tcp: {keyFile: FILE}} under agents.%s.callers", uid, name)
}

// selectable returns the client id by which clients of managed identities
// select an identity. The default needs none to be selected.
func selectable(p *policy.Policy, agent *policy.Agent, name string) (string, error) {
	wanted := name
	if wanted == "" {
		wanted = agent.Default
	} else if !slices.Contains(agent.Identities, wanted) {
		return "", fail(exitError, fmt.Errorf("agent %s has no identity %q", agent.Name, name), "name one with --identity: "+strings.Join(agent.Identities, ", "))
	}
	identity, id := p.Identities[wanted], ""
	switch {
	case identity.Application != nil:
		id = identity.Application.ClientID
	case identity.Agent != nil && len(identity.Agent.AgentIDs) == 1:
		id = identity.Agent.AgentIDs[0]
	case identity.ManagedIdentity != nil:
		id = identity.ManagedIdentity.ClientID
	}
	if id == "" && wanted != agent.Default {
		return "", fail(exitError, errors.New("AZURE_CLIENT_ID cannot select identity "+wanted+", which has no client id of its own"),
			"make it agents."+agent.Name+".identity, or let the command name it: identity="+wanted)
	}
	return id, nil
}
