package recent

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// AgentUse is what one agent has done since the start.
type AgentUse struct {
	Name      string     `json:"agent"`
	Allowed   int64      `json:"allowed"`   // tokens handed out
	Inspected int64      `json:"inspected"` // told what a token says
	Denied    int64      `json:"denied"`
	Failed    int64      `json:"failed"`
	Last      time.Time  `json:"last"` // request, whatever its answer
	Rights    []RightUse `json:"rights"`
}

// RightUse is how often an agent got a scope.
type RightUse struct {
	Scope      string    `json:"scope"`
	OnBehalfOf bool      `json:"on_behalf_of,omitempty"`
	Count      int64     `json:"count"`
	Last       time.Time `json:"last"`
}

type agentUse struct {
	AgentUse
	rights map[right]*RightUse
}

type right struct {
	scope   string
	forUser bool
}

// use counts what an agent of the policy did. A caller that is nobody is not
// counted, so nobody but the policy can make this grow.
func (m *Memory) use(k *kind, at time.Time) {
	if k.of.Agent == "" {
		return
	}
	if k.agent == nil {
		k.agent = m.agentOf(k.of.Agent)
	}
	a := k.agent
	if a == nil {
		m.uncount++
		return
	}
	a.Last = at
	switch {
	case k.of.Decision == Deny:
		a.Denied++
		return
	case k.of.Decision == Fail:
		a.Failed++
		return
	case k.of.Inspected():
		a.Inspected++
		return
	}
	a.Allowed++
	if k.rights == nil {
		k.rights = m.rightsOf(a, &k.of)
	}
	for _, r := range k.rights {
		if r == nil {
			m.uncount++
			continue
		}
		r.Count++
		r.Last = at
	}
}

// agentOf returns nil when there is no room for one more.
func (m *Memory) agentOf(name string) *agentUse {
	a := m.agents[name]
	if a == nil && len(m.agents) < maxAgents {
		a = &agentUse{AgentUse: AgentUse{Name: name}, rights: map[right]*RightUse{}}
		m.agents[name] = a
	}
	return a
}

// rightsOf returns those of the scopes of i, nil for those without room.
func (m *Memory) rightsOf(a *agentUse, i *Issuance) []*RightUse {
	list := make([]*RightUse, len(i.Scopes))
	for n, scope := range i.Scopes {
		r := a.rights[right{scope, i.OnBehalfOf}]
		if r == nil && m.rights < maxRights {
			m.rights++
			r = &RightUse{Scope: scope, OnBehalfOf: i.OnBehalfOf}
			a.rights[right{scope, i.OnBehalfOf}] = r
		}
		list[n] = r
	}
	return list
}

// Uses returns what each agent has done since the start, and how many uses
// there was no room to count.
func (m *Memory) Uses() (agents map[string]AgentUse, uncounted int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	agents = make(map[string]AgentUse, len(m.agents))
	for name, a := range m.agents {
		use := a.AgentUse
		for _, r := range slices.SortedFunc(maps.Values(a.rights), func(a, b *RightUse) int { return cmp.Compare(a.Scope, b.Scope) }) {
			use.Rights = append(use.Rights, *r)
		}
		agents[name] = use
	}
	return agents, m.uncount
}
