package policy

import (
	"fmt"
	"path"
	"strings"
)

// claims finds callers that the same peer could match. Two of them are a
// problem within one agent too: the wider one makes the narrower one a
// restriction that is not in force.
type claims struct {
	*reader
	granted callers

	owners   map[string]owner   // by what is claimed
	sockets  map[string][]owner // by base name without .sock
	any      *owner             // of any: true
	firstUID *owner             // any claim of a uid without a key
}

// owner is the agent that made a claim, and where.
type owner struct {
	agent  string
	line   int
	socket string
}

// add enters the claims of one caller, or reports those who came before it.
func (c *claims) add(a *Agent, caller Caller, places callerPlaces) {
	if c.owners == nil {
		c.owners, c.sockets = map[string]owner{}, map[string][]owner{}
		c.granted = callers{sockets: map[string]match{}, keyFiles: map[string]match{}, uids: map[uint32]match{}}
	}
	m := match{agent: a, uids: caller.UIDs, rule: places.caller.path}
	switch {
	case caller.Socket != "":
		c.addSocket(m, caller.Socket, places.socket)
	case caller.KeyFile != "":
		if c.take("key file "+caller.KeyFile, "key file "+quote(caller.KeyFile), m, places.keyFile) {
			c.granted.keyFiles[caller.KeyFile] = m
		}
	case caller.Any:
		c.addAny(m, places.any)
	default:
		c.addUIDs(m, places)
	}
}

// addSocket lets nobody else claim the same socket, not even with other uids:
// one socket has one owner on disk, and one agent. A bare name may turn out to
// be in the folder of an absolute path, or in that of the same name with .sock
// behind it, where each socket has a folder (serve --socket-folders).
func (c *claims) addSocket(m match, socket string, at place) {
	base := path.Base(socket)
	folder := strings.TrimSuffix(base, ".sock")
	for _, other := range c.sockets[folder] {
		bare, otherBare := socket == base, other.socket == path.Base(other.socket)
		if other.socket == socket || bare && otherBare || (bare || otherBare) && path.Base(other.socket) == base {
			c.conflict("socket "+quote(socket), m, at, other)
			return
		}
	}
	c.sockets[folder] = append(c.sockets[folder], owner{m.agent.Name, at.node.Line, socket})
	c.granted.sockets[socket] = m
}

func (c *claims) addUIDs(m match, places callerPlaces) {
	if c.any != nil {
		c.conflict("any local process", m, places.uidList, *c.any)
	}
	for i, uid := range m.uids {
		claim := fmt.Sprintf("tcp uid %d", uid)
		if c.take(claim, claim, m, places.uids[i]) {
			c.granted.uids[uid] = m
		}
	}
	if c.firstUID == nil {
		c.firstUID = &owner{agent: m.agent.Name, line: places.uidList.node.Line}
	}
}

func (c *claims) addAny(m match, at place) {
	for _, other := range []*owner{c.any, c.firstUID} {
		if other != nil {
			c.conflict("any local process", m, at, *other)
			return
		}
	}
	c.any = &owner{agent: m.agent.Name, line: at.node.Line}
	c.granted.anyone = m
}

// take enters a claim of the agent of m; what is the claim in a message.
func (c *claims) take(claim, what string, m match, at place) bool {
	if other, ok := c.owners[claim]; ok {
		c.conflict(what, m, at, other)
		return false
	}
	c.owners[claim] = owner{agent: m.agent.Name, line: at.node.Line}
	return true
}

func (c *claims) conflict(what string, m match, at place, other owner) {
	who, hint := "", "let one caller list all uids, or remove one of the two"
	if other.agent != m.agent.Name {
		who, hint = "by agent "+clip(other.agent)+" ", "give each agent a socket, a keyFile or uids of its own"
	}
	c.problem(at, fmt.Sprintf("%s is claimed by agent %s here and %son line %d: one peer could match both",
		what, clip(m.agent.Name), who, other.line), hint)
}
