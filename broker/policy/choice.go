package policy

import "strings"

// choice is one identity that an agent may act as.
type choice struct {
	name      string
	members   []string // of a fleet, in lower case; nil for an identity that is one thing only
	rule      string   // path of the members
	clientIDs []string // that tokens are issued to
	// forUsers: Entra lets it act on behalf of users. userTenants are theirs.
	forUsers    bool
	userTenants []string
}

// mayActAs is step 3: the identity is one of the agent's, and so is the member
// of a fleet; for a user, it can act for users. What is not listed is never
// replaced by what is.
func (a *Agent) mayActAs(d *Decision, r *Request, t *trace) bool {
	name, member, named := strings.Cut(r.Identity, "/")
	if r.Identity == "" {
		if name = a.Default; name == "" {
			return t.deny(d, stepIdentity, IdentityMissing, a.rules.identities, noIdentityHint(a))
		}
	}
	c := a.choice(name)
	switch {
	case c == nil:
		return t.deny(d, stepIdentity, IdentityNotAllowed, a.rules.identities, identityHint(a, name))
	case named:
		if member = c.member(member); member == "" {
			return t.deny(d, stepIdentity, IdentityNotAllowed, c.rule, memberHint(c))
		}
	case len(c.members) > 1:
		return t.deny(d, stepIdentity, IdentityMissing, c.rule, noMemberHint(c))
	case len(c.members) == 1:
		member = c.members[0]
	}
	if (d.OnBehalfOf || r.Inspect) && !c.forUsers {
		return t.deny(d, stepIdentity, IdentityNotForUsers, "identities."+c.name, identityForUsersHint(a))
	}
	d.Identity, d.Member = c.name, member
	if t != nil {
		t.pass(stepIdentity, a.rules.identities, describeIdentity(d))
	}
	return true
}

// choice returns the identity of that name, or nil.
func (a *Agent) choice(name string) *choice {
	for i := range a.choices {
		if a.choices[i].name == name {
			return &a.choices[i]
		}
	}
	return nil
}

// member returns the listed member that is meant, or "". Entra compares ids and
// user names without regard to case, and so do the libraries that send them.
func (c *choice) member(asked string) string {
	for _, listed := range c.members {
		if equalLower(asked, listed) {
			return listed
		}
	}
	return ""
}

// equalLower reports whether s is lower but for the case of its ASCII letters.
func equalLower(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
