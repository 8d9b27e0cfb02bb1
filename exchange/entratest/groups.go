package entratest

import "slices"

// directMemberships are the groups that a user is a direct member of, as the
// directory lists them.
func (t *tenant) directMemberships(userID string) []string {
	if u, ok := t.users[userID]; ok {
		return u.Groups
	}
	return nil
}

// memberships are the groups of a user, direct ones first, then those that
// these are members of.
func (t *tenant) memberships(userID string) []string {
	all := slices.Clone(t.directMemberships(userID))
	seen := map[string]bool{}
	for _, id := range all {
		seen[id] = true
	}
	for i := 0; i < len(all); i++ {
		g, ok := t.groups[all[i]]
		if !ok {
			continue
		}
		for _, parent := range g.MemberOf {
			if !seen[parent] { // groups may be members of each other
				seen[parent] = true
				all = append(all, parent)
			}
		}
	}
	return all
}
