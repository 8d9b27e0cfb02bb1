package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Ceiling is what its owner, of a cluster say, lets the policies under it grant
// at most: see [Options]. A ceiling can only narrow: what either of the two does
// not grant is denied. It comes from ParseCeiling and must not be modified. The
// zero Ceiling lets nothing through.
type Ceiling struct {
	Revision string // first 12 hexadecimal digits of the SHA-256 of the file

	valid       bool // it was read: else it lets nothing through
	clouds      []string
	authorities []string // of the cloud custom
	tenants     []string
	clientIDs   []string
	apiHosts    []string
	allow       *atMost // nil: any scope
	forUser     *atMost // of requests for users; nil: as allow
	users       ceilingUsers
	owner       bool // every agent needs one
	expires     bool // every agent needs an expiry
	audit       bool // mode: audit has its effect
	keepTokens  bool // no token leaves the broker
	limits      Limits
	agents      []string // that are blocked; each with its rule by its place in the list
	blocked     map[UserID]string
}

// ceilingUsers are the users that agents may act for at most.
type ceilingUsers struct {
	tenants, clients []string // empty: any
	noGuests         bool
	longRunning      time.Duration // at most; 0: as the policy says
}

// atMost is a set of scopes: those listed, and all of the resources listed, each
// by its aliases too.
type atMost struct{ scopes, resources map[string]struct{} }

func (a *atMost) has(scope, resource string) bool {
	_, listed := a.scopes[scope]
	_, whole := a.resources[resource]
	if named, ok := aliases[resource]; ok && !listed && !whole {
		return a.has(named+scope[len(resource):], named)
	}
	return listed || whole
}

var (
	atMostForm = fieldsOf(
		optional("scopes", list(scopeText), "Scopes, written out or as a shorthand."),
		optional("resources", list(anyText), "Resources, all of whose scopes may be granted, written out or as a shorthand."),
	)
	hostForm    = patternOf(`^([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?$`)
	ceilingForm = fieldsOf(
		required("version", form{Const: 1}, "Version of the form of this file."),
		optional("clouds", some(oneOf(cloudNames()...)), "Clouds whose Entra may be asked; any when absent."),
		optional("authorities", some(matching(originForm.String())), "Origins of token endpoints, for the cloud custom; needed where clouds lists it."),
		optional("tenants", some(tenantForm), "Tenants that identities may be of, as policies write them; any when absent."),
		optional("clientIDs", some(guid), "Client IDs that tokens may be issued to: of applications, agent identities and managed identities; any when absent."),
		optional("apiHosts", some(matching(hostForm.String())), "Hosts, with their ports where they are not https's, that the broker may call with a token; any when absent."),
		optional("allow", atMostForm, "Scopes that may be granted, to agents for themselves and for users; any when absent."),
		optional("onBehalfOf", fieldsOf(
			optional("allow", atMostForm, "Scopes that may be granted on behalf of users, instead of those of allow; {} is none."),
			optional("users", fieldsOf(
				optional("tenants", some(guid), "Tenants whose users may be acted for; any when absent."),
				optional("guests", trueFalse, "false: no guest may be acted for, whatever a policy says."),
			), "Users that may be acted for."),
			optional("clients", some(guid), "Client IDs of the apps whose user tokens may be accepted; any when absent."),
			optional("longRunning", fieldsOf(required("maxAge", matching(durationForm.String()), "How long an agent may go on at most: 15m to 24h.")), "Bounds how long agents go on for users."),
		), "What agents may do at most on behalf of users."),
		optional("require", fieldsOf(
			optional("owner", trueFalse, "true: an agent without an owner gets nothing."),
			optional("expires", trueFalse, "true: an agent without an expiry gets nothing, and none outlives its own."),
		), "What every agent has to have."),
		optional("rawToken", trueFalse, "false: no token leaves the broker; needs apiHosts."),
		optional("audit", trueFalse, "true: mode: audit has its effect; else policies are enforced whatever they say."),
		optional("limits", limitsForm, "Requests a minute that any one agent may make at most."),
		optional("blocked", fieldsOf(
			optional("agents", list(reference), "Names of agents that get nothing."),
			optional("users", list(userIDForm), "Users that nobody may act for, as <tenant id>/<object id>."),
		), "Agents and users that are denied at once."),
	)
)

// ParseCeiling reads a ceiling. The error is a Problems with everything that is
// wrong. An empty list is one of the problems, except in allow, where it is as
// in a policy: nothing.
func ParseCeiling(name string, data []byte) (*Ceiling, error) {
	r := newReader(name, data)
	c := &Ceiling{blocked: map[UserID]string{}}
	if root, ok := r.document(); ok {
		if fields, ok := r.fields(place{node: root}, &ceilingForm); ok {
			r.ceiling(c, fields)
		}
	}
	if err := r.failure(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	c.Revision, c.valid = hex.EncodeToString(sum[:])[:12], true
	return c, nil
}

func (r *reader) ceiling(c *Ceiling, fields map[string]place) {
	r.version(fields["version"])
	clouds := []Cloud{clouds[0]}
	if at := fields["clouds"]; at.present() {
		c.clouds, clouds = r.ceilingClouds(at)
	}
	for _, item := range r.members(fields["authorities"]) {
		c.authorities = append(c.authorities, r.origin(item))
	}
	if slices.Contains(c.clouds, customCloud) && len(c.authorities) == 0 {
		r.problem(fields["clouds"], "the cloud custom is any server at all without authorities", "add authorities: [https://<host>[:<port>]]")
	}
	for _, item := range r.members(fields["tenants"]) {
		c.tenants = append(c.tenants, r.tenantName(item)) // a pod names none here
	}
	c.clientIDs = r.guids(r.members(fields["clientIDs"]), clientIDHint)
	for _, host := range r.words(fields["apiHosts"], hostForm, "a host, with its port where it is not 443") {
		c.apiHosts = append(c.apiHosts, strings.TrimSuffix(host, ":443")) // as in apiHost
	}
	c.allow = r.atMost(fields["allow"], clouds)
	c.forUser = c.allow
	if at := fields["onBehalfOf"]; at.present() {
		r.ceilingForUsers(c, at, clouds)
	}
	if at := fields["require"]; at.present() {
		required, _ := r.fields(at, ceilingForm.Properties["require"])
		c.owner, _ = r.boolean(required["owner"])
		c.expires, _ = r.boolean(required["expires"])
	}
	if at := fields["rawToken"]; at.present() {
		out, ok := r.boolean(at)
		c.keepTokens = ok && !out
		if c.keepTokens && !fields["apiHosts"].present() {
			r.problem(at, "a token that does not leave the broker for an agent can still leave it for any host that a policy calls an API", "add apiHosts: [graph.microsoft.com]")
		}
	}
	c.audit, _ = r.boolean(fields["audit"])
	c.limits = r.limits(fields["limits"])
	if at := fields["blocked"]; at.present() {
		r.ceilingBlocked(c, at)
	}
}

// ceilingClouds also returns what shorthands stand for in each of the clouds: a
// policy must not be able to say what the ceiling means by them.
func (r *reader) ceilingClouds(at place) (names []string, known []Cloud) {
	for _, item := range r.members(at) {
		name, ok := r.reference(item, "cloud", cloudNames())
		if !ok {
			continue
		}
		names = append(names, name)
		i := slices.IndexFunc(clouds, func(c Cloud) bool { return c.Name == name })
		known = append(known, clouds[max(i, 0)]) // the custom one is like the public one
	}
	return names, known
}

// atMost reads a set of scopes; nil when it is absent.
func (r *reader) atMost(at place, clouds []Cloud) *atMost {
	if !at.present() {
		return nil
	}
	set := &atMost{scopes: map[string]struct{}{}, resources: map[string]struct{}{}}
	fields, _ := r.fields(at, &atMostForm)
	texts, places := r.texts(fields["scopes"])
	for i, text := range texts {
		found := false
		for n := range clouds {
			if scope, ok := clouds[n].expand(text); ok {
				set.scopes[scope], found = struct{}{}, true
			}
		}
		if found {
			continue
		}
		scope := oneSlash(text)
		if _, defect := splitScope(scope); defect != "" {
			r.badScope(places[i], text, defect, &clouds[0])
		}
		set.scopes[scope] = struct{}{}
	}
	texts, places = r.texts(fields["resources"])
	for i, text := range texts {
		found := false
		for _, cloud := range clouds {
			if resource, ok := cloud.Resources[text]; ok {
				set.resources[resource], found = struct{}{}, true
			}
		}
		if resource, defect := splitScope(text + "/.default"); !found && (defect != "" || resource != text) {
			r.problem(places[i], quote(text)+" is not a resource", "write https://<host>, api://<name>, a lower-case GUID or a shorthand, without a final slash")
		}
		set.resources[text] = struct{}{}
	}
	return set
}

func (r *reader) ceilingForUsers(c *Ceiling, at place, clouds []Cloud) {
	form := ceilingForm.Properties["onBehalfOf"]
	fields, _ := r.fields(at, form)
	if at := fields["allow"]; at.present() {
		c.forUser = r.atMost(at, clouds)
	}
	if at := fields["users"]; at.present() {
		users, _ := r.fields(at, form.Properties["users"])
		c.users.tenants = r.guids(r.members(users["tenants"]), "copy the tenant ID from the overview page in the Entra admin center")
		if at := users["guests"]; at.present() {
			guests, ok := r.boolean(at)
			c.users.noGuests = ok && !guests
		}
	}
	c.users.clients = r.guids(r.members(fields["clients"]), clientIDHint)
	if at := fields["longRunning"]; at.present() {
		c.users.longRunning = r.duration(r.only(at, form.Properties["longRunning"]), minLongRunning, maxLongRunning, "15m to 24h")
	}
}

func (r *reader) ceilingBlocked(c *Ceiling, at place) {
	fields, _ := r.fields(at, ceilingForm.Properties["blocked"])
	for _, item := range r.items(fields["agents"]) {
		if name, ok := r.text(item); ok {
			if !nameForm.MatchString(name) {
				r.problem(item, quote(name)+" is not the name of an agent", "write it as the policies do")
			}
			c.agents = append(c.agents, name)
		}
	}
	for _, item := range r.items(fields["users"]) {
		switch id, ok := r.userID(item); {
		case !ok:
		case id.Tenant == "":
			r.problem(item, "it is not said which tenant the user is of", "write <tenant id>/<object id>")
		default:
			c.blocked[id] = item.path
		}
	}
}

// apiHost is what apiHosts lists of an API's base URL.
func apiHost(baseURL string) string {
	u, err := url.Parse(baseURL)
	if err != nil { // Parse has accepted it
		return ""
	}
	return strings.TrimSuffix(u.Host, ":443")
}
