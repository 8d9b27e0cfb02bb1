package policy

import (
	"slices"
	"time"
)

// mayActFor is step 5: the user has been verified, is not blocked, and passes
// every rule of onBehalfOf. Audit mode forgives the rules, and never that it is
// not known who the user is or which groups the user is in.
func (a *Agent) mayActFor(d *Decision, r *Request, t *trace) bool {
	if !a.knowsUser(d, r, t) {
		return false
	}
	u := r.User
	reason, rule := a.failedBy(u, d.UserTenants)
	rule = a.rules.user + rule
	if reason != "" && reason != GroupsOverage && !t.refuse(d, stepUser, reason, rule, userHint(reason, rule)) {
		return false
	}
	if u.GroupsOverage && len(a.groups) > 0 {
		d.ResolveGroups = a.OnBehalfOf.GroupsFromGraph
		rule = a.rules.user + ".users.groups"
		return t.deny(d, stepUser, GroupsOverage, rule, userHint(GroupsOverage, a.rules.user))
	}
	if t != nil {
		who := "acts for user " + clip(u.ObjectID) + " of tenant " + clip(u.Tenant)
		if a.policy.Recording.HashedUsers {
			who = "acts for a user, who is not named: users are hashed"
		}
		t.pass(stepUser, a.rules.user, who)
	}
	return true
}

// mayInspect is step 5 of a request that wants no token: the user has been
// verified and is not blocked, and the token has the scopes that are demanded, if
// that matters. Whom the agent may act for is not asked: it does not act.
func (a *Agent) mayInspect(d *Decision, r *Request, t *trace) bool {
	if !a.knowsUser(d, r, t) {
		return false
	}
	d.Rule = a.rules.user
	rule := a.rules.user + ".scopes"
	if r.Scoped && !hasAll(r.User.Scopes, a.OnBehalfOf.RequiredScopes) && !t.refuse(d, stepUser, UserScopeMissing, rule, userHint(UserScopeMissing, rule)) {
		return false
	}
	if t != nil {
		t.pass(stepUser, a.rules.user, "the token is that of user "+clip(r.User.ObjectID)+" of tenant "+clip(r.User.Tenant))
	}
	return true
}

// knowsUser is the beginning of step 5: the user has been verified, is there
// still, and is not blocked.
func (a *Agent) knowsUser(d *Decision, r *Request, t *trace) bool {
	u := r.User
	d.UserTenants = a.choice(d.Identity).userTenants
	switch {
	case u == nil || u.Tenant == "" || u.ObjectID == "":
		return t.deny(d, stepUser, UserUnverified, a.rules.user, userHint(UserUnverified, ""))
	case u.expired(r.Now):
		return t.deny(d, stepUser, UserExpired, a.rules.user, userHint(UserExpired, ""))
	}
	if rule, blocked := a.policy.blockedUsers[UserID{u.Tenant, u.ObjectID}]; blocked {
		return t.deny(d, stepUser, UserBlocked, rule, userHint(UserBlocked, rule))
	}
	return true
}

func (u *User) expired(now time.Time) bool {
	return now.IsZero() || !now.Before(u.Expires)
}

// failedBy returns the first rule of onBehalfOf that the user does not pass,
// and its path below onBehalfOf.
func (a *Agent) failedBy(u *User, tenants []string) (Reason, string) {
	o := a.OnBehalfOf
	switch {
	case !slices.Contains(tenants, u.Tenant):
		return UserTenantNotAllowed, ".users.tenants"
	case len(o.Users.Objects) > 0 && !slices.ContainsFunc(o.Users.Objects, u.is):
		return UserNotListed, ".users.objects"
	case u.Guest && !o.Users.Guests:
		return UserIsGuest, ".users.guests"
	case len(o.Clients) > 0 && !slices.Contains(o.Clients, u.Client):
		return UserClientNotAllowed, ".clients"
	case !hasAll(u.Scopes, o.RequiredScopes):
		return UserScopeMissing, ".scopes"
	case len(a.groups) > 0 && u.GroupsOverage:
		return GroupsOverage, ".users.groups"
	case len(a.groups) > 0 && !a.knowsOneOf(u.Groups):
		return UserNotInGroup, ".users.groups"
	case len(o.Users.Roles) > 0 && !hasOne(u.Roles, o.Users.Roles):
		return UserRoleMissing, ".users.roles"
	case !hasAll(u.ACRS, o.ACRS):
		return UserACRSMissing, ".acrs"
	case len(o.AMR) > 0 && !hasOne(u.AMR, o.AMR):
		return UserAMRMissing, ".amr"
	}
	return "", ""
}

// is reports whether the user is the one of an id. Without a tenant in the id,
// the rule about tenants has seen to it.
func (u *User) is(id UserID) bool {
	return id.ObjectID == u.ObjectID && (id.Tenant == "" || id.Tenant == u.Tenant)
}

// knowsOneOf looks groups up: a user may be in thousands.
func (a *Agent) knowsOneOf(groups []string) bool {
	for _, group := range groups {
		if _, ok := a.groups[group]; ok {
			return true
		}
	}
	return false
}

func hasAll(has, wanted []string) bool {
	for _, word := range wanted {
		if !slices.Contains(has, word) {
			return false
		}
	}
	return true
}

func hasOne(has, wanted []string) bool {
	for _, word := range wanted {
		if slices.Contains(has, word) {
			return true
		}
	}
	return false
}
