package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// rules are the paths that decisions about one agent name.
type rules struct{ agent, expires, identities, scopes string }

// grant is one line of an allow list, ready to be handed out.
type grant struct {
	rule     string // its path
	resource string
	scopes   []string // the scope alone
}

// agent reads one agent. Its callers go to claims, which sees all agents.
func (r *reader) agent(e entry, p *Policy, identities []string, claims *claims) *Agent {
	a := &Agent{Name: e.name, rules: rules{
		agent:      e.value.path,
		expires:    e.value.path + ".expires",
		identities: e.value.path + ".identity",
		scopes:     e.value.path + ".allow.scopes",
	}}
	fields, ok := r.fields(e.value, []string{"owner", "expires", "identity", "identities", "callers", "allow"}, nil)
	if !ok {
		return a
	}
	a.Owner = r.owner(fields["owner"])
	a.Expires = r.expires(fields["expires"])
	r.agentIdentities(a, e.key, fields, identities)
	for _, name := range a.Identities {
		if application := p.Identities[name].Application; application != nil {
			a.clientIDs = append(a.clientIDs, application.ClientID)
		}
	}
	for _, at := range r.items(fields["callers"]) {
		if caller, places, ok := r.caller(at); ok {
			a.Callers = append(a.Callers, caller)
			claims.add(a, caller, places)
		}
	}
	if fields["callers"].empty() {
		r.warning(e.key, "the agent can never be matched: it has no callers", "add callers: a socket, or tcp with uids or a keyFile")
	}
	r.allow(a, e.key, fields["allow"])
	return a
}

func unprintable(c rune) bool { return !unicode.IsPrint(c) }

func (r *reader) owner(at place) string {
	owner, ok := r.text(at)
	if ok && (len(owner) > 256 || strings.ContainsFunc(owner, unprintable)) {
		r.problem(at, "the owner is longer than 256 bytes or does not print", "write an e-mail address or the name of a team")
	}
	return owner
}

// expires returns the first instant after the day that the file names.
func (r *reader) expires(at place) time.Time {
	if !at.present() {
		return time.Time{}
	}
	// Not text: YAML reads a date without quotation marks as a time.
	if !r.plain(at, yaml.ScalarNode) || !r.literal(at) {
		return time.Time{}
	}
	day, err := time.Parse(time.DateOnly, at.node.Value)
	// The last day of the year 0 would end at the zero time, which is never.
	if err != nil || day.Year() < 2000 {
		r.problem(at, quote(at.node.Value)+" is not a date", "write the last day on which the agent works, in UTC, as YYYY-MM-DD")
		return time.Time{}
	}
	return day.AddDate(0, 0, 1)
}

// agentIdentities reads identity, the default, and identities, the choice.
func (r *reader) agentIdentities(a *Agent, at place, fields map[string]place, known []string) {
	one, many := fields["identity"], fields["identities"]
	if one.present() {
		a.Default, _ = r.reference(one, "identity", known)
	}
	for _, item := range r.items(many) {
		name, ok := r.reference(item, "identity", known)
		switch {
		case !ok:
		case slices.Contains(a.Identities, name):
			r.problem(item, quote(name)+" is listed twice", "remove one of the two")
		default:
			a.Identities = append(a.Identities, name)
		}
	}
	if many.present() {
		a.rules.identities = many.path
	}
	switch {
	case !one.present() && many.empty():
		r.problem(at, "the agent has no identity", "add identity: <one of the identities>")
	case many.empty():
		a.Identities = []string{a.Default}
	case !one.present() && len(a.Identities) == 1:
		a.Default = a.Identities[0]
	case a.Default != "" && len(a.Identities) > 0 && !slices.Contains(a.Identities, a.Default):
		r.problem(one, quote(a.Default)+" is not one of the agent's identities", fmt.Sprintf("add it to the list on line %d, or remove that list", many.node.Line))
	}
}

// allow reads the allow list: the scopes, letter for letter.
func (r *reader) allow(a *Agent, key, at place) {
	var list place
	if at.present() {
		fields, ok := r.fields(at, []string{"scopes"}, nil)
		if !ok {
			return
		}
		list = fields["scopes"]
	}
	if list.empty() {
		r.warning(key, "the agent may have no scope at all", "add allow: {scopes: [https://graph.microsoft.com/.default]}, with the resource that it needs")
	}
	a.grants = map[string]grant{}
	scopes, places := r.texts(list)
	for i, scope := range scopes {
		resource, defect := splitScope(scope)
		if defect != "" {
			r.problem(places[i], "the scope "+quote(scope)+" "+defect, scopeHint(scope))
			continue
		}
		if _, ok := a.grants[scope]; ok {
			r.problem(places[i], quote(scope)+" is listed twice", "remove one of the two")
			continue
		}
		a.Scopes = append(a.Scopes, scope)
		a.grants[scope] = grant{rule: places[i].path, resource: resource, scopes: []string{scope}}
	}
}
