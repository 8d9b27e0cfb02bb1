package policy

import "slices"

// callers answers which agent a peer is. Its maps are disjoint by
// construction: every socket, every key file and every uid that is looked at
// without a key is claimed by one caller in the whole file, and a caller that
// says any is alone among those without a key.
type callers struct {
	sockets  map[string]match
	keyFiles map[string]match
	uids     map[uint32]match // TCP without a key
	anyone   match            // TCP without a key; no agent: no caller says any
}

// match is what a peer that shows some evidence may be.
type match struct {
	agent *Agent
	uids  []uint32 // of which the peer must have one; empty: not looked at
	rule  string   // path of the caller
}

// find returns the agent that the evidence belongs to, and the path of the
// caller that says so. Without an agent, the path is where the file speaks
// about such a peer.
//
// On a socket, a key is not looked at. On TCP, a key that is presented decides
// alone: a peer with the wrong key is not let in without one. OAuth libraries
// insist on sending some secret, so a key means nothing to a file that has none.
func (c *callers) find(p Peer) (agent *Agent, rule string) {
	const nowhere = "agents"
	var m match
	var ok bool
	switch {
	case p.Socket != "":
		m, ok = c.sockets[p.Socket]
	case p.KeyRefused && len(c.keyFiles) > 0:
		return nil, nowhere
	case p.KeyFile != "":
		m, ok = c.keyFiles[p.KeyFile]
	default:
		if p.Known {
			m, ok = c.uids[p.UID]
		}
		if !ok {
			m, ok = c.anyone, c.anyone.agent != nil
		}
	}
	if !ok {
		return nil, nowhere
	}
	if len(m.uids) > 0 && (!p.Known || !slices.Contains(m.uids, p.UID)) {
		return nil, m.rule
	}
	return m.agent, m.rule
}

// Agent returns whom the evidence belongs to, or nil. Whether the agent may
// have anything is for Decide to say.
func (p *Policy) Agent(peer Peer) *Agent {
	agent, _ := p.callers.find(peer)
	return agent
}
