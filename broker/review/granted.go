package review

import (
	"errors"
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/credfree/credfree/broker/policy"
)

// grant is a right with where the policy grants it.
type grant struct {
	right
	text string // the scope as the file has it: written out, or a shorthand
	role string // role or API that brings the scope; "" for one that is listed
	api  string
	rule string // path below the agent, as in decisions: allow.scopes[0]
}

// file is what a policy file says about rights, as it is written. That it is
// valid has been seen to by policy.Parse.
type file struct {
	Agents map[string]struct {
		Allow      allow `yaml:"allow"`
		OnBehalfOf struct {
			Allow allow `yaml:"allow"`
		} `yaml:"onBehalfOf"`
	} `yaml:"agents"`
}

type allow struct {
	Scopes []string `yaml:"scopes"`
	Roles  []string `yaml:"roles"`
	APIs   []string `yaml:"apis"`
}

// granted is what the policy grants an agent.
type granted struct {
	list     []grant // in the order of the file, each once
	own      block
	forUsers block
}

// block is what one allow has beside its scopes.
type block struct {
	roles bool
	apis  []api
}

// api is one that an allow names, with the scopes that it brings.
type api struct {
	name   string
	scopes []string
}

// grants returns what each agent of the policy is granted.
func grants(p *policy.Policy, text []byte) (map[string]granted, error) {
	var f file
	if err := yaml.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("the policy cannot be read: %w", err)
	}
	all := make(map[string]granted, len(p.Agents))
	for name, agent := range p.Agents {
		written, g := f.Agents[name], granted{}
		var err1, err2 error
		g.list, g.own, err1 = written.Allow.grants(p, agent.Scopes, right{})
		if o := agent.OnBehalfOf; o != nil {
			var forUsers []grant
			forUsers, g.forUsers, err2 = written.OnBehalfOf.Allow.grants(p, o.Scopes, right{forUser: true})
			g.list = append(g.list, forUsers...)
		}
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("agent %s: %w", name, err)
		}
		all[name] = g
	}
	return all, nil
}

// grants pairs what is written with what it means. scopes begins with those
// that are listed, canonical and in order.
func (a *allow) grants(p *policy.Policy, scopes []string, of right) ([]grant, block, error) {
	if len(a.Scopes) > len(scopes) {
		return nil, block{}, fmt.Errorf("the file lists %d scopes, and the policy has %d", len(a.Scopes), len(scopes))
	}
	path := "allow."
	if of.forUser {
		path = "onBehalfOf.allow."
	}
	var list []grant
	seen := map[string]bool{}
	add := func(scope, kind string, i int, g grant) {
		if seen[scope] {
			return
		}
		seen[scope] = true
		g.right, g.rule = right{scope, of.forUser}, path+kind+"["+strconv.Itoa(i)+"]"
		list = append(list, g)
	}
	b := block{roles: len(a.Roles) > 0}
	for i, text := range a.Scopes {
		add(scopes[i], "scopes", i, grant{text: text})
	}
	for i, role := range a.Roles {
		for _, scope := range p.Roles[role] {
			add(scope, "roles", i, grant{text: scope, role: role})
		}
	}
	for i, name := range a.APIs {
		b.apis = append(b.apis, api{name, p.APIs[name].Scopes})
		for _, scope := range p.APIs[name].Scopes {
			add(scope, "apis", i, grant{text: scope, api: name})
		}
	}
	if len(list) != len(scopes) {
		return nil, block{}, fmt.Errorf("the file grants %d scopes, and the policy has %d", len(list), len(scopes))
	}
	return list, b, nil
}
