package policy

import (
	"slices"
	"strings"
	"time"
)

// OnBehalfOf is what an agent may do on behalf of users, and of which ones. A
// user has to pass all of it: a list that is empty asks for nothing, except
// that Users.Tenants is then the tenant of the identity.
type OnBehalfOf struct {
	Scopes []string // canonical, each once: those of its scopes, then of its roles, then of its apis
	APIs   []string // names of the APIs that may be called for a user
	Users  Users
	// Clients are the client ids of the apps whose user tokens are accepted:
	// azp or appid. Empty accepts those of any app.
	Clients        []string
	RequiredScopes []string // the user's token has all of these in scp
	ACRS           []string // ... and all of these authentication contexts
	// AMR are methods of authentication of which the user's sign-in used at
	// least one: several of them are ways to the same assurance, and a token
	// names no level.
	AMR             []string
	GroupsFromGraph bool          // ask Microsoft Graph when a token does not list the user's groups
	LongRunning     time.Duration // how long after the user's token was presented the agent may go on; 0: not at all
}

// Users says which users an agent may act for. GUIDs are in lower case.
type Users struct {
	Tenants []string // empty: the tenant of the identity
	Objects []UserID // the user is one of these
	Groups  []string // the user is in at least one of these
	Roles   []string // the user has at least one of these app roles
	Guests  bool     // guests of the tenant too
}

// UserID is what a user is known by: names and addresses change hands.
type UserID struct {
	Tenant   string // lower-case GUID; "" in Users.Objects: the tenant that all users have to be of
	ObjectID string // lower-case GUID
}

// A session that lives shorter than a token has no use. One that outlives a
// working day acts for somebody who is not there: longer work is for an
// identity of the agent's own.
const (
	minLongRunning = 15 * time.Minute
	maxLongRunning = 24 * time.Hour
)

var (
	contextForm = patternOf(`^c[1-9][0-9]?$`)
	methodForm  = patternOf(`^[a-z0-9_]{1,32}$`)
	claimForm   = patternOf(`^[!-~]{1,128}$`)
	userIDForm  = matching(`^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}/)?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

	usersForm = fieldsOf(
		optional("tenants", some(guid), "Tenants whose users are accepted; that of the identity when absent."),
		optional("objects", some(userIDForm), "Users, as <tenant id>/<object id>, or as <object id> alone where there is one tenant."),
		optional("groups", some(guid), "Object IDs of groups; the user is in at least one."),
		optional("roles", some(matching(claimForm.String())), "Values of app roles; the user has at least one."),
		optional("guests", trueFalse, "Whether guests of the tenant are accepted; false when absent."),
	)
	longRunningForm = fieldsOf(required("maxAge", matching(durationForm.String()), "How long the agent may go on after the user's token was presented: 15m to 24h."))
	onBehalfOfForm  = fieldsOf(
		optional("allow", allowForm, "What the agent may have on behalf of a user."),
		optional("users", usersForm, "Users that the agent may act for; members of the identity's tenant when absent."),
		optional("clients", some(guid), "Client IDs of the apps whose user tokens are accepted; any app when absent, which is warned about."),
		optional("scopes", some(matching(claimForm.String())), "Delegated scopes (scp) that the user's token has to have, all of them."),
		optional("acrs", some(matching(contextForm.String())), "Authentication contexts that the user's sign-in has to have met, all of them."),
		optional("amr", some(matching(methodForm.String())), "Authentication methods of which the user's sign-in has to have used at least one."),
		optional("groupsFromGraph", trueFalse, "Whether to ask Microsoft Graph when a token does not list the user's groups; else such users are denied."),
		optional("longRunning", longRunningForm, "Lets the agent go on after the user's token has expired."),
	)
)

// onBehalfOf reads what an agent may do for users. at is present.
func (r *reader) onBehalfOf(a *Agent, at place, p *Policy) {
	fields, ok := r.fields(at, &onBehalfOfForm)
	if !ok {
		return
	}
	o := &OnBehalfOf{}
	a.OnBehalfOf, a.rules.user = o, at.path
	a.forUser = r.allow(fields["allow"], at.path+".allow", p)
	o.Scopes, o.APIs = a.forUser.scopes, a.forUser.apis
	if len(o.Scopes) == 0 {
		r.warning(at, "the agent may have no scope on behalf of a user", "add allow: {scopes: [...]}, or remove onBehalfOf")
	}
	if users := fields["users"]; users.present() {
		r.users(o, users)
	}
	r.userTenants(a, at, p)
	o.Clients = r.guids(r.members(fields["clients"]), clientIDHint)
	switch {
	case len(o.Clients) > 0 || fields["clients"].present():
	case p.Strict:
		r.problem(at, "strict: user tokens of any app are accepted", "add clients: [<client id of the app that signs users in>]")
	default:
		r.warning(at, "user tokens of any app are accepted", "add clients: [<client id of the app that signs users in>]")
	}
	o.RequiredScopes = r.words(fields["scopes"], claimForm, "the name of a delegated scope")
	o.ACRS = r.words(fields["acrs"], contextForm, "an authentication context, c1 to c99")
	o.AMR = r.words(fields["amr"], methodForm, "an authentication method such as mfa or fido")
	o.GroupsFromGraph, _ = r.boolean(fields["groupsFromGraph"])
	if o.GroupsFromGraph && len(o.Users.Groups) == 0 {
		r.warning(fields["groupsFromGraph"], "no rule asks for groups", "remove it, or add users: {groups: [...]}")
	}
	a.groups = make(map[string]struct{}, len(o.Users.Groups))
	for _, group := range o.Users.Groups {
		a.groups[group] = struct{}{}
	}
	if at := fields["longRunning"]; at.present() {
		o.LongRunning = r.duration(r.only(at, &longRunningForm), minLongRunning, maxLongRunning, "15m to 24h")
		r.warning(at, "the agent may go on for users who are no longer there", "remove it, unless the agent's work outlasts the user's token")
	}
}

// users reads which users an agent may act for.
func (r *reader) users(o *OnBehalfOf, at place) {
	fields, ok := r.fields(at, &usersForm)
	if !ok {
		return
	}
	o.Users.Tenants = r.guids(r.members(fields["tenants"]), "copy the tenant ID from the overview page in the Entra admin center: a token names its tenant by it")
	once := once[UserID]{}
	for _, item := range r.members(fields["objects"]) {
		id, ok := r.userID(item)
		switch {
		case !ok:
		case id.Tenant == "" && len(o.Users.Tenants) > 1:
			r.problem(item, "it is not said which of the tenants the user is of", "write <tenant id>/<object id>")
		case id.Tenant != "" && len(o.Users.Tenants) > 0 && !slices.Contains(o.Users.Tenants, id.Tenant):
			r.problem(item, "the user's tenant is not one of tenants", "add it there, or remove the user")
		case once.again(id):
			r.problem(item, "the user is listed twice", "remove one of the two")
		default:
			o.Users.Objects = append(o.Users.Objects, id)
		}
	}
	o.Users.Groups = r.guids(r.members(fields["groups"]), "copy the object ID from the group's page in the Entra admin center")
	o.Users.Roles = r.words(fields["roles"], claimForm, "the value of an app role")
	o.Users.Guests, _ = r.boolean(fields["guests"])
}

// userID reads <tenant>/<object>, or <object> alone.
func (r *reader) userID(at place) (UserID, bool) {
	text, ok := r.text(at)
	if !ok {
		return UserID{}, false
	}
	tenant, object, both := strings.Cut(strings.ToLower(text), "/")
	if !both {
		tenant, object = "", tenant
	}
	if !isGUID(object) || both && !isGUID(tenant) {
		r.problem(at, quote(text)+" is not the id of a user", "write <tenant id>/<object id>, both GUIDs, from the user's page in the Entra admin center")
		return UserID{}, false
	}
	return UserID{Tenant: tenant, ObjectID: object}, true
}

// userTenants settles, for each identity that can act for users, whose users:
// Entra exchanges no token of another tenant than the identity's.
func (r *reader) userTenants(a *Agent, at place, p *Policy) {
	able, reachable := 0, 0
	for i := range a.choices {
		c := &a.choices[i]
		own, listed := p.Identities[c.name].Tenant, a.OnBehalfOf.Users.Tenants
		switch {
		case !c.forUsers:
			continue
		case own == "": // the pod's to say, or reported already
			reachable++
		case !isGUID(own) && len(listed) == 0:
			r.problem(at, "the tenant of identity "+clip(c.name)+" is a domain, and user tokens name their tenant by its GUID", "add users: {tenants: [<tenant id>]}")
			reachable++
		case !isGUID(own):
			c.userTenants = listed
		case len(listed) == 0 || slices.Contains(listed, own):
			c.userTenants = []string{own}
		}
		able++
		reachable += len(c.userTenants)
	}
	switch {
	case len(a.choices) == 0: // reported already
	case able == 0:
		r.problem(at, "none of the agent's identities can act for users", "give it an application or an agent identity, or remove onBehalfOf")
	case reachable == 0:
		r.problem(at, "users.tenants lists no tenant of the agent's identities", "list the tenant that the identity lives in: Entra refuses users of others")
	}
}
