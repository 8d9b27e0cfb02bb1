package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Parse reads a policy file. name is the file's name: it stands in messages,
// and relative paths in the file are relative to its folder. The error is a
// Problems with everything that is wrong; only a file that is not YAML at all
// is not looked at any further.
func Parse(name string, data []byte) (*Policy, error) {
	r := &reader{file: name, data: data}
	var p *Policy
	if root, ok := r.document(); ok {
		p = r.policy(root)
	}
	if len(r.problems) > 0 {
		sortProblems(r.problems)
		return nil, r.problems
	}
	sortProblems(r.warnings)
	p.Warnings = r.warnings
	sum := sha256.Sum256(data)
	p.Revision = hex.EncodeToString(sum[:])[:12]
	return p, nil
}

// policy reads the file from top to bottom: first what is referred to, then
// what refers to it.
func (r *reader) policy(root *yaml.Node) *Policy {
	at := place{node: root}
	fields, ok := r.fields(at,
		[]string{"version", "tenant", "cloud", "authority", "caFile", "audience", "sources", "identities", "agents"},
		[]string{"version", "tenant"})
	if !ok {
		return nil
	}
	r.version(fields["version"])
	p := &Policy{Tenant: r.tenant(fields["tenant"]), Cloud: r.cloud(fields)}

	sources := r.named(fields["sources"])
	p.Sources = make(map[string]Source, len(sources))
	for _, e := range sources {
		p.Sources[e.name] = r.source(e.value)
	}

	identities := r.named(fields["identities"])
	p.Identities = make(map[string]Identity, len(identities))
	used, sourceNames := map[string]bool{}, names(sources)
	for _, e := range identities {
		identity := r.identity(e.value, sourceNames)
		p.Identities[e.name] = identity
		if identity.Application != nil {
			used[identity.Application.Source] = true
		}
	}
	r.warnUnused(sources, used, "no identity uses this source")

	agents := r.named(fields["agents"])
	if len(agents) == 0 {
		r.warning(at, "there are no agents: every request is denied", "add an agent under agents")
	}
	p.Agents = make(map[string]*Agent, len(agents))
	used = map[string]bool{}
	claims, identityNames := claims{reader: r}, names(identities)
	for _, e := range agents {
		agent := r.agent(e, p, identityNames, &claims)
		p.Agents[e.name] = agent
		for _, identity := range agent.Identities {
			used[identity] = true
		}
	}
	r.warnUnused(identities, used, "no agent uses this identity")
	p.callers = claims.granted
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

func (r *reader) warnUnused(entries []entry, used map[string]bool, message string) {
	for _, e := range entries {
		if !used[e.name] {
			r.warning(e.key, message, "remove it, or refer to it")
		}
	}
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

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
		r.problem(at, "there is no "+what+" "+quote(name), didYouMean(name, known))
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
var domain = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])$`)

func (r *reader) tenant(at place) string {
	text, ok := r.text(at)
	if !ok {
		return ""
	}
	tenant := strings.ToLower(text)
	switch {
	case tenant == "common" || tenant == "organizations" || tenant == "consumers":
		r.problem(at, tenant+" is no tenant", "write the GUID of the tenant that the identities live in: Entra issues tokens without a user for one tenant only")
	case len(tenant) > 253 || !isGUID(tenant) && !domain.MatchString(tenant):
		r.problem(at, quote(text)+" is neither a GUID nor a domain", "copy the tenant ID from the overview page in the Entra admin center")
	}
	return tenant
}
