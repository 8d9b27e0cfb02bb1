package policy

import "fmt"

// allowance is one allow of the file, flattened: what an agent may have for
// itself, or on behalf of a user. The zero allowance has nothing.
type allowance struct {
	scopes []string // canonical, each once: those of its scopes, then of its roles, then of its apis
	apis   []string // names
	// apiRules has the path of the line that lists each of apis.
	apiRules map[string]string
	grants   map[string]grant // by scope
	rule     string           // path of the allow
	list     string           // path of its scopes
	cloud    *Cloud
}

// grant is one scope of an allowance, ready to be handed out.
type grant struct {
	rule     string // path of the line that granted it: a scope, or the name of a role or an api
	list     string // path of the list that the line is in
	resource string
	scopes   []string // the scope alone
	alias    bool     // the line names the resource otherwise
}

var allowForm = fieldsOf(
	optional("scopes", list(scopeText), "Scopes, written out or as a shorthand: graph is Microsoft Graph's .default, graph/User.Read a named scope."),
	optional("roles", list(reference), "Roles whose scopes are granted."),
	optional("apis", list(reference), "APIs that the agent may call; their scopes are granted too."),
)

// allow reads one allow. at may be absent; path is where it would stand.
func (r *reader) allow(at place, path string, p *Policy) allowance {
	a := allowance{grants: map[string]grant{}, apiRules: map[string]string{}, rule: path, list: path + ".scopes", cloud: &p.Cloud}
	if !at.present() {
		return a
	}
	fields, ok := r.fields(at, &allowForm)
	if !ok {
		return a
	}
	scopes, places := r.scopes(fields["scopes"], &p.Cloud)
	for i, scope := range scopes {
		r.grant(&a, scope, places[i], a.list)
	}
	for _, role := range r.references(fields["roles"], "role", r.roles) {
		for _, scope := range p.Roles[role.name] {
			r.grant(&a, scope, role.value, path+".roles")
		}
	}
	for _, api := range r.references(fields["apis"], "api", r.apis) {
		a.apis, a.apiRules[api.name] = append(a.apis, api.name), api.value.path
		for _, scope := range p.APIs[api.name].Scopes {
			r.grant(&a, scope, api.value, path+".apis")
		}
	}
	return a
}

// maxGrants bounds what roles can multiply: a file of 1 MiB has room for
// thousands of agents and for a role of thousands of scopes.
const maxGrants = 100_000

// grant grants a scope by the line at. Who is granted it twice has it from the
// first line.
func (r *reader) grant(a *allowance, scope string, at place, list string) {
	if g, ok := a.grants[scope]; ok && !g.alias || r.grants > maxGrants {
		return
	}
	if r.grants++; r.grants > maxGrants {
		r.problem(at, fmt.Sprintf("the file grants more than %d scopes, those of roles counted for each agent", maxGrants), "split the policy among several brokers")
		return
	}
	resource, _ := splitScope(scope)
	r.warnScope(scope, resource, a.rule, at)
	a.scopes = append(a.scopes, scope)
	g := grant{rule: at.path, list: list, resource: resource, scopes: []string{scope}}
	a.grants[scope] = g
	if alias := aliasOf(resource); alias != "" {
		other := alias + scope[len(resource):]
		if _, listed := a.grants[other]; !listed {
			g.resource, g.scopes, g.alias = alias, []string{other}, true
			a.grants[other] = g
		}
	}
}

// ruleOf is the path that all of scopes have in common: a line, a list, or the
// whole allow.
func (a *allowance) ruleOf(scopes []string) string {
	first := a.grants[scopes[0]]
	rule := first.rule
	for _, scope := range scopes[1:] {
		switch g := a.grants[scope]; {
		case g.list != first.list:
			return a.rule
		case g.rule != first.rule:
			rule = first.list
		}
	}
	return rule
}

// scopes reads a list of scopes, each of them once. Those that are not
// canonical, or that nobody may have, are problems.
func (r *reader) scopes(at place, cloud *Cloud) (scopes []string, places []place) {
	texts, items := r.texts(at)
	once := once[string]{}
	for i, text := range texts {
		scope := cloud.writtenOut(text)
		resource, defect := splitScope(scope)
		switch {
		case defect != "":
			r.badScope(items[i], text, defect, cloud)
		case cloud.reserves(resource):
			r.problem(items[i], "the scope "+quote(scope)+" is for the token exchange itself: its token could stand in for a workload token",
				"remove it: the broker asks for such tokens by itself and never hands them out")
		case once.again(scope):
			r.problem(items[i], quote(text)+" is listed twice", "remove one of the two")
		default:
			scopes, places = append(scopes, scope), append(places, items[i])
			r.warnBroad(items[i], scope, cloud)
		}
	}
	return scopes, places
}

// badScope reports a scope that is not canonical.
func (r *reader) badScope(at place, text, defect string, cloud *Cloud) {
	message, hint := cloud.scopeProblem(text, defect)
	r.problem(at, message, hint)
}

// references reads a list of names of what is defined elsewhere, each once.
func (r *reader) references(at place, what string, known []string) []entry {
	var found []entry
	once := once[string]{}
	for _, item := range r.items(at) {
		name, ok := r.reference(item, what, known)
		switch {
		case !ok:
		case once.again(name):
			r.problem(item, quote(name)+" is listed twice", "remove one of the two")
		default:
			r.used[what+" "+name] = true
			found = append(found, entry{name: name, value: item})
		}
	}
	return found
}
