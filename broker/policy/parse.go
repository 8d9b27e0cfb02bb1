package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Parse reads a policy file. name is the file's name: it stands in messages,
// and relative paths in the file are relative to its folder. The error is a
// Problems with everything that is wrong, the first 500 of it; only a file that is
// not YAML at all is not looked at any further.
func Parse(name string, data []byte) (*Policy, error) {
	return newReader(name, data).parse()
}

func newReader(name string, data []byte) *reader {
	return &reader{file: name, data: data, choices: map[string]choice{}, used: map[string]bool{}, actors: map[string]actor{}}
}

func (r *reader) parse() (*Policy, error) {
	var p *Policy
	if root, ok := r.document(); ok {
		p = r.policy(root)
	}
	if err := r.failure(); err != nil {
		return nil, err
	}
	sortProblems(r.warnings)
	p.Warnings, p.FromPod, p.ceiling = r.warnings, r.fromPod, r.options.Ceiling
	sum := sha256.Sum256(r.data)
	p.Revision = hex.EncodeToString(sum[:])[:12]
	return p, nil
}

var (
	// tenantsOfAll are names that Entra has for more than one tenant.
	tenantsOfAll = []string{"common", "consumers", "organizations"}
	tenantForm   = form{Type: "string", MinLength: 1, Not: &form{Enum: tenantsOfAll}}
)

var policyForm = fieldsOf(
	required("version", form{Const: 1}, "Version of the form of this file."),
	required("tenant", tenantForm, "Tenant of the identities: a GUID or a verified domain, or pod for what the pod's service account says."),
	optional("cloud", oneOf(cloudNames()...), "Entra cloud of the tenant; public when absent."),
	optional("authority", matching(originForm.String()), "Origin of the token endpoint; with cloud: custom only."),
	optional("caFile", anyText, "PEM file of the roots to trust instead of the system's; with cloud: custom only."),
	optional("audience", anyText, "Audience of workload tokens, where the cloud does not say."),
	optional("resources", resourcesForm, "What the shorthands of scopes stand for; with cloud: custom only."),
	optional("strict", trueFalse, "true: every agent needs an owner and an expiry, onBehalfOf needs clients, and no caller may be any process."),
	optional("mode", mode, "audit: what the rules deny is issued, and recorded; enforce when absent."),
	optional("audit", auditForm, "best-effort: tokens go out although no audit line can be written; required when absent."),
	optional("users", usersShownForm, "hashed: users are recorded as keyed hashes, nowhere as tenant and object id; plain when absent."),
	optional("usersKeyFile", anyText, "Key of the hashes of users; a relative path is relative to the policy file."),
	optional("sources", named(sourceForm), "Where workload tokens come from."),
	optional("identities", named(identityForm), "What the broker can be at Entra."),
	optional("roles", named(roleForm), "Named sets of scopes."),
	optional("apis", named(apiForm), "Named downstream APIs."),
	optional("blocked", blockedForm, "Agents and users that are denied at once, whatever else stands here."),
	optional("agents", named(agentForm), "Who may ask, and for what."),
)

// policy reads the file from top to bottom: first what is referred to, then
// what refers to it.
func (r *reader) policy(root *yaml.Node) *Policy {
	at := place{node: root}
	fields, ok := r.fields(at, &policyForm)
	if !ok {
		return nil
	}
	r.version(fields["version"])
	p := &Policy{Tenant: r.tenant(fields["tenant"]), Cloud: r.cloud(fields), Audit: r.mode(fields["mode"], false)}
	p.Strict, _ = r.boolean(fields["strict"])
	p.Recording = r.recording(fields)
	if at := fields["cloud"].or(at); r.found == 0 {
		r.warnCloud(&p.Cloud, at)
	}

	sources := r.named(fields["sources"])
	p.Sources = make(map[string]Source, len(sources))
	for _, e := range sources {
		p.Sources[e.name] = r.source(e.value)
	}
	identities := r.named(fields["identities"])
	p.Identities = make(map[string]Identity, len(identities))
	sourceNames := names(sources)
	for _, e := range identities {
		p.Identities[e.name] = r.identity(e, p.Tenant, sourceNames)
		r.used["source "+p.Identities[e.name].Source()] = true
	}
	r.warnBlueprints(identities, p.Identities)
	roles, apis := r.named(fields["roles"]), r.named(fields["apis"])
	p.Roles, p.APIs = r.readRoles(roles, &p.Cloud), r.readAPIs(apis, &p.Cloud)
	r.identities, r.roles, r.apis = names(identities), names(roles), names(apis)

	agents := r.named(fields["agents"])
	if len(agents) == 0 {
		r.warning(at, "there are no agents: every request is denied", "add an agent under agents")
	}
	p.Agents = make(map[string]*Agent, len(agents))
	claims := claims{reader: r}
	for _, e := range agents {
		p.Agents[e.name] = r.agent(e, p, &claims)
	}
	p.callers = claims.granted
	r.blocked(fields["blocked"], p, names(agents))

	r.warnUnused(sources, "source", "no identity uses this source")
	r.warnUnused(identities, "identity", "no agent uses this identity")
	r.warnUnused(roles, "role", "no agent has this role")
	r.warnUnused(apis, "api", "no agent may call this API")
	return p
}

// names returns the names of entries, sorted.
func names(entries []entry) []string {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.name
	}
	slices.Sort(names)
	return names
}

var nameForm = patternOf(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// named reads a mapping whose keys are names; an absent one is empty. An entry
// with a bad name stays, so that references to it are not reported as well.
func (r *reader) named(at place) []entry {
	if !at.present() {
		return nil
	}
	entries, _ := r.entries(at)
	for _, e := range entries {
		if !nameForm.MatchString(e.name) {
			r.problem(e.key, quote(e.name)+" is not a name", "use up to 63 of a-z, 0-9, dot, underscore and hyphen; begin with a letter or a digit")
		}
	}
	return entries
}

// reference reads the name of something that is defined elsewhere: one of
// known, which is sorted.
func (r *reader) reference(at place, what string, known []string) (string, bool) {
	name, ok := r.text(at)
	if _, found := slices.BinarySearch(known, name); ok && !found {
		r.problem(at, "there is no "+what+" "+quote(name), DidYouMean(name, known))
		return "", false
	}
	return name, ok
}

func (r *reader) version(at place) {
	if !at.present() {
		return
	}
	if n, ok := r.number(at, "1"); ok && n != 1 {
		r.problem(at, "this program reads version 1 of the file only", "write version: 1, or run the release that the file is for")
	}
}

// Entra names a tenant by a GUID or by a domain that the tenant has verified.
var domain = patternOf(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])$`)

func (r *reader) tenant(at place) string {
	if isFromPod(at) {
		return r.podValue(at, r.pod().TenantID, "the service account with azure.workload.identity/tenant-id", nil)
	}
	return r.tenantName(at)
}

func (r *reader) tenantName(at place) string {
	text, ok := r.text(at)
	if !ok {
		return ""
	}
	tenant := strings.ToLower(text)
	switch {
	case slices.Contains(tenantsOfAll, tenant):
		r.problem(at, tenant+" is no tenant", "write the GUID of the tenant that the identities live in: Entra issues tokens without a user for one tenant only")
	case len(tenant) > 253 || !printable(text) || !isGUID(tenant) && !domain.MatchString(tenant):
		r.problem(at, quote(text)+" is neither a GUID nor a domain", "copy the tenant ID from the overview page in the Entra admin center")
	}
	return tenant
}
