package entratest

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// maxFederatedCredentials is Entra's limit per application.
const maxFederatedCredentials = 20

var (
	domainName     = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$`)
	credentialName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{2,119}$`)
)

// index finds tenants by lower-case GUID or domain.
type index map[string]*tenant

// tenant is a Tenant whose parts can be found. Keys are lower case; resources
// are also found by identifier URI without its trailing slash.
type tenant struct {
	Tenant
	apps      map[string]*client
	resources map[string]*Resource
	users     map[string]*User
	groups    map[string]*Group
	// agentUsers finds the one agent user of an agent identity.
	agentUsers map[string]*User
	policies   []policy
	// roles and delegated hold a client's grants by its client id, then by that
	// of the resource.
	roles     map[string]map[string][]string
	delegated map[string]map[string][]string
}

// problems collects everything wrong with a directory.
type problems []error

func (p *problems) addf(format string, args ...any) {
	*p = append(*p, fmt.Errorf(format, args...))
}

func indexDirectory(d Directory) (index, error) {
	var p problems
	all := index{}
	if len(d.Tenants) == 0 {
		p.addf("the directory has no tenant")
	}
	tenants := make([]*tenant, 0, len(d.Tenants))
	for _, t := range d.Tenants {
		it := indexTenant(t, &p)
		tenants = append(tenants, it)
		for _, name := range append([]string{it.ID}, it.Domains...) {
			if _, dup := all[name]; dup {
				p.addf("tenant %s: %q is used twice", it.ID, name)
			}
			all[name] = it
		}
	}
	// A blueprint may have principals in other tenants, so agents need them all.
	blueprints := collectBlueprints(tenants, &p)
	for _, t := range tenants {
		t.addAgents(blueprints, &p)
		t.addGrants(&p)
		t.addPolicies(&p)
	}
	return all, errors.Join(p...)
}

func indexTenant(src Tenant, p *problems) *tenant {
	t := &tenant{
		Tenant:    src,
		apps:      map[string]*client{},
		resources: map[string]*Resource{},
		users:     map[string]*User{},
		groups:    map[string]*Group{},
		roles:     map[string]map[string][]string{},
		delegated: map[string]map[string][]string{},

		agentUsers: map[string]*User{},
	}
	t.ID = canonicalGUID(src.ID)
	if t.ID == "" {
		p.addf("tenant %q: id is not a GUID", src.ID)
		t.ID = src.ID
	}
	t.Domains = nil
	for _, d := range src.Domains {
		d = strings.ToLower(d)
		if !domainName.MatchString(d) {
			p.addf("tenant %s: domain %q is not a DNS name", t.ID, d)
		}
		t.Domains = append(t.Domains, d)
	}
	for _, r := range src.Resources {
		t.addResource(r, p)
	}
	for _, a := range src.Applications {
		t.addApplication(a, p)
	}
	for _, g := range src.Groups {
		t.addGroup(g, p)
	}
	for _, u := range src.Users {
		t.addUser(u, p)
	}
	return t
}

// addGrants resolves permissions. They name resources, which may also be
// applications, and so are looked at last.
func (t *tenant) addGrants(p *problems) {
	for _, id := range slices.Sorted(maps.Keys(t.apps)) {
		c := t.apps[id]
		t.roles[id] = t.grants(id, c.AppRoles, func(r *Resource) []string { return r.AppRoles }, "appRoles", p)
		t.delegated[id] = t.grants(id, c.Delegated, func(r *Resource) []string { return r.DelegatedScopes }, "delegated", p)
		c.inheritable = map[string]bool{}
		for _, name := range c.InheritablePermissions {
			if r, ok := t.resource(name); ok {
				c.inheritable[r.ClientID] = true
			} else if !c.foreign { // other tenants need not have the resource
				p.addf("tenant %s: application %s: inheritablePermissions: there is no resource %q", t.ID, id, name)
			}
		}
	}
}

func (t *tenant) addResource(r Resource, p *problems) {
	id := canonicalGUID(r.ClientID)
	if id == "" {
		p.addf("tenant %s: resource %q: clientID is not a GUID", t.ID, r.ClientID)
		return
	}
	r.ClientID = id
	switch r.TokenVersion {
	case 0:
		r.TokenVersion = 2
	case 1, 2:
	default:
		p.addf("tenant %s: resource %s: tokenVersion %d is neither 1 nor 2", t.ID, id, r.TokenVersion)
	}
	t.nameResource(&r, r.IdentifierURIs, p)
}

// nameResource files r under its client id and its identifier URIs.
func (t *tenant) nameResource(r *Resource, uris []string, p *problems) {
	names := []string{r.ClientID}
	for _, uri := range uris {
		if u, err := url.Parse(uri); err != nil || u.Scheme == "" || u.Host == "" {
			p.addf("tenant %s: resource %s: identifier URI %q is not an absolute URI", t.ID, r.ClientID, uri)
			continue
		}
		names = append(names, resourceKey(uri))
	}
	for _, name := range names {
		if other, dup := t.resources[name]; dup && other != r {
			p.addf("tenant %s: %q names two resources", t.ID, name)
			continue
		}
		t.resources[name] = r
	}
}

func (t *tenant) addApplication(a Application, p *problems) {
	id := canonicalGUID(a.ClientID)
	if id == "" {
		p.addf("tenant %s: application %q: clientID is not a GUID", t.ID, a.ClientID)
		return
	}
	a.ClientID = id
	if a.ObjectID == "" {
		a.ObjectID = derivedGUID(t.ID, "service principal", id)
	} else if oid := canonicalGUID(a.ObjectID); oid != "" {
		a.ObjectID = oid
	} else {
		p.addf("tenant %s: application %s: objectID %q is not a GUID", t.ID, id, a.ObjectID)
	}
	if _, dup := t.apps[id]; dup {
		p.addf("tenant %s: application %s is there twice", t.ID, id)
	}
	checkFederatedCredentials(t.ID, a, p)
	c := &client{Application: a, certificates: parseCertificates(t.ID, a, p)}
	checkClientSecrets(t.ID, a, p)
	if a.Blueprint {
		c.kind = blueprintClient
		checkBlueprint(t.ID, a, p)
	} else if len(a.InheritablePermissions) > 0 {
		p.addf("tenant %s: application %s: only a blueprint has inheritablePermissions", t.ID, id)
	}
	t.apps[id] = c

	r, ok := t.resources[id]
	if !ok {
		r = &Resource{ClientID: id, Name: a.Name, TokenVersion: 2}
	}
	t.nameResource(r, a.IdentifierURIs, p)
}

func checkFederatedCredentials(tenantID string, a Application, p *problems) {
	at := fmt.Sprintf("tenant %s: application %s", tenantID, a.ClientID)
	if n := len(a.FederatedCredentials); n > maxFederatedCredentials {
		p.addf("%s: %d federated credentials, the maximum is %d", at, n, maxFederatedCredentials)
	}
	type pair struct{ issuer, subject string }
	seen := map[pair]bool{} // flexible credentials have no subject and are not compared
	for i, c := range a.FederatedCredentials {
		at := fmt.Sprintf("%s: federated credential %d", at, i+1)
		if c.Name != "" && !credentialName.MatchString(c.Name) {
			p.addf("%s: name %q is not 3 to 120 letters, digits, hyphens and underscores", at, c.Name)
		}
		if u, err := url.Parse(c.Issuer); err != nil || u.Scheme != "https" || u.Host == "" {
			p.addf("%s: issuer %q is not an https URL", at, c.Issuer)
		}
		values := []struct{ name, value string }{{"issuer", c.Issuer}, {"audience", c.Audience}}
		if c.ClaimsMatchingExpression == nil {
			values = append(values, struct{ name, value string }{"subject", c.Subject})
		} else if err := checkFlexible(c); err != nil {
			p.addf("%s: %w", at, err)
		}
		for _, f := range values {
			if f.value == "" || len(f.value) > 600 || strings.TrimSpace(f.value) != f.value {
				p.addf("%s: %s must be 1 to 600 characters without white space around it, got %q", at, f.name, f.value)
			}
		}
		if c.ClaimsMatchingExpression == nil && seen[pair{c.Issuer, c.Subject}] {
			p.addf("%s: issuer %q and subject %q are there twice", at, c.Issuer, c.Subject)
		}
		seen[pair{c.Issuer, c.Subject}] = true
	}
}

func (t *tenant) addUser(u User, p *problems) {
	oid := canonicalGUID(u.ObjectID)
	if oid == "" {
		p.addf("tenant %s: user %q: objectID is not a GUID", t.ID, u.ObjectID)
		return
	}
	u.ObjectID = oid
	u.Groups = canonicalGUIDs(u.Groups)
	if !strings.Contains(u.UserPrincipalName, "@") {
		p.addf("tenant %s: user %s: userPrincipalName %q has no @", t.ID, oid, u.UserPrincipalName)
	}
	for _, name := range []string{oid, strings.ToLower(u.UserPrincipalName)} {
		if _, dup := t.users[name]; dup {
			p.addf("tenant %s: user %q is there twice", t.ID, name)
		}
		t.users[name] = &u
	}
}

func (t *tenant) addGroup(g Group, p *problems) {
	id := canonicalGUID(g.ObjectID)
	if id == "" {
		p.addf("tenant %s: group %q: objectID is not a GUID", t.ID, g.ObjectID)
		return
	}
	g.ObjectID = id
	g.MemberOf = canonicalGUIDs(g.MemberOf)
	if _, dup := t.groups[id]; dup {
		p.addf("tenant %s: group %s is there twice", t.ID, id)
	}
	t.groups[id] = &g
}

// grants resolves a client's permissions and refuses those that the resource
// does not define.
func (t *tenant) grants(clientID string, byName map[string][]string, defined func(*Resource) []string, field string, p *problems) map[string][]string {
	granted := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		values := byName[name]
		r, ok := t.resource(name)
		if !ok {
			p.addf("tenant %s: application %s: %s: there is no resource %q", t.ID, clientID, field, name)
			continue
		}
		for _, v := range values {
			if !slices.Contains(defined(r), v) {
				p.addf("tenant %s: application %s: %s: resource %q does not define %q", t.ID, clientID, field, name, v)
			}
		}
		granted[r.ClientID] = append(granted[r.ClientID], values...)
	}
	return granted
}

func (t *tenant) resource(name string) (*Resource, bool) {
	r, ok := t.resources[resourceKey(name)]
	return r, ok
}

func (t *tenant) user(name string) (*User, bool) {
	u, ok := t.users[strings.ToLower(name)]
	return u, ok
}

func resourceKey(name string) string {
	return strings.TrimSuffix(strings.ToLower(name), "/")
}

// canonicalGUID returns the lower-case form of a GUID written with hyphens and
// nothing around it, or "".
func canonicalGUID(s string) string {
	id, err := uuid.Parse(s)
	if err != nil || len(s) != len(id.String()) {
		return ""
	}
	return id.String()
}

// canonicalGUIDs is canonicalGUID for each of ids, and leaves what is no GUID.
func canonicalGUIDs(ids []string) []string {
	all := slices.Clone(ids)
	for i, id := range all {
		if canonical := canonicalGUID(id); canonical != "" {
			all[i] = canonical
		}
	}
	return all
}

// derivedGUID is a GUID that depends on its parts only, so that object ids stay
// the same from one run to the next.
func derivedGUID(parts ...string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(strings.Join(parts, "\x00"))).String()
}
