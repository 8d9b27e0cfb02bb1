package policy

// Granted is one scope that an agent may have.
type Granted struct {
	Scope      string
	OnBehalfOf bool
	Rule       string // path, in the policy file, of the line that grants it
}

// MayHave reports whether the agent is granted a scope, by whichever name of its
// resource.
func (a *Agent) MayHave(scope string, onBehalfOf bool) bool {
	allow := &a.forItself
	if onBehalfOf {
		allow = &a.forUser
	}
	_, ok := allow.grants[scope]
	return ok
}

// Granted returns all that the agent may have, in the order of the file: first
// for itself, then on behalf of users.
func (a *Agent) Granted() []Granted {
	var all []Granted
	for _, scope := range a.Scopes {
		all = append(all, Granted{Scope: scope, Rule: a.forItself.grants[scope].rule})
	}
	for _, scope := range a.forUser.scopes {
		all = append(all, Granted{Scope: scope, OnBehalfOf: true, Rule: a.forUser.grants[scope].rule})
	}
	return all
}
