package policy

import (
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Cloud is the Entra cloud that the tenant lives in.
type Cloud struct {
	Name      string // public, usgov, usgov-dod, china, bleu, delos, govsg or custom
	Authority string // origin of the token endpoint, e.g. https://login.microsoftonline.com
	CAFile    string // PEM file of the roots to trust instead of the system's; "" for the system's
	Audience  string // what Entra expects as audience of a workload token
	// Resources are the shorthands of the file, e.g. graph, with the resource
	// that each stands for in this cloud. The map is shared and must not be
	// modified.
	Resources map[string]string
}

const customCloud = "custom"

// clouds are the Entra clouds whose authority is known. The audiences are
// those of federated credentials, see
// https://learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust.
// Those of the newer sovereign clouds are not published: the file gives them.
var clouds = []Cloud{
	{"public", "https://login.microsoftonline.com", "", "api://AzureADTokenExchange", resourcesOf(inPublic)},
	{"usgov", "https://login.microsoftonline.us", "", "api://AzureADTokenExchangeUSGov", resourcesOf(inUSGov)},
	{"usgov-dod", "https://login.microsoftonline.us", "", "api://AzureADTokenExchangeUSGov", resourcesOf(inUSGov, "graph", "https://dod-graph.microsoft.us")},
	{"china", "https://login.partner.microsoftonline.cn", "", "api://AzureADTokenExchangeChina", resourcesOf(inChina)},
	{"bleu", "https://login.sovcloud-identity.fr", "", "", resourcesOf(nowhere)},
	{"delos", "https://login.sovcloud-identity.de", "", "", resourcesOf(nowhere)},
	{"govsg", "https://login.sovcloud-identity.sg", "", "", resourcesOf(nowhere)},
}

func cloudNames() []string {
	names := []string{customCloud}
	for _, cloud := range clouds {
		names = append(names, cloud.Name)
	}
	slices.Sort(names)
	return names
}

// cloud reads the five fields that say where Entra is. Tokens and assertions
// go there, so a known cloud's authority cannot be changed.
func (r *reader) cloud(fields map[string]place) Cloud {
	name := clouds[0].Name
	if at := fields["cloud"]; at.present() {
		var ok bool
		if name, ok = r.reference(at, "cloud", cloudNames()); !ok {
			return Cloud{Resources: clouds[0].Resources}
		}
	}
	if name == customCloud {
		return r.customCloud(fields)
	}
	cloud := clouds[slices.IndexFunc(clouds, func(c Cloud) bool { return c.Name == name })]
	own := []string{"authority", "caFile", "resources"}
	if cloud.Audience != "" {
		own = append(own, "audience")
	} else {
		cloud.Audience = r.audience(fields["audience"], cloud.Audience)
		if !fields["audience"].present() {
			r.problem(fields["cloud"], "the cloud "+name+" needs an audience: that of its federated credentials is not published", "add audience: <the audience of the federated credential>")
		}
	}
	for _, field := range own {
		if at := fields[field]; at.present() {
			r.problem(at, field+" goes with cloud: custom only", "remove it, or write cloud: custom")
		}
	}
	return cloud
}

func (r *reader) customCloud(fields map[string]place) Cloud {
	cloud := Cloud{Name: customCloud, Audience: clouds[0].Audience, Resources: clouds[0].Resources}
	if at := fields["authority"]; at.present() {
		cloud.Authority = r.origin(at)
	} else {
		r.problem(fields["cloud"], "cloud: custom needs an authority", "add authority: https://<host>[:<port>]")
	}
	if at := fields["caFile"]; at.present() {
		cloud.CAFile, _ = r.filePath(at)
	}
	cloud.Audience = r.audience(fields["audience"], cloud.Audience)
	if at := fields["resources"]; at.present() {
		cloud.Resources = r.resources(at)
	}
	return cloud
}

// audience reads the audience of workload tokens, or returns the usual one.
func (r *reader) audience(at place, usual string) string {
	audience, ok := r.text(at)
	if !ok {
		return usual
	}
	// An audience is a resource: it must be canonical like one.
	if _, defect := splitScope(audience + "/.default"); defect != "" {
		r.problem(at, "the audience "+defect, "write "+clouds[0].Audience+", or what the federated credential says")
	}
	return audience
}

// resources reads what the shorthands stand for in a cloud of one's own.
func (r *reader) resources(at place) map[string]string {
	resources := resourcesOf(inPublic)
	fields, _ := r.fields(at, &resourcesForm)
	for _, name := range shorthands() {
		if resource, ok := r.text(fields[name]); ok {
			if _, defect := splitScope(resource + "/.default"); defect != "" {
				r.problem(fields[name], quote(resource)+" is not a canonical resource: as a scope it "+defect, "write https://<host>, api://<name> or a lower-case GUID, without a final slash")
			}
			resources[name] = resource
		}
	}
	return resources
}

var resourcesForm = func() form {
	var fields []field
	for _, row := range resourceRows {
		fields = append(fields, optional(row.name, anyText, "Resource that "+row.name+" stands for; "+row.public+" when absent."))
	}
	return fieldsOf(fields...)
}()

var originForm = regexp.MustCompile(`^https://(?:[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?$`)

func (r *reader) origin(at place) string {
	origin, ok := r.text(at)
	if !ok {
		return ""
	}
	match := originForm.FindStringSubmatch(origin)
	port := 0
	if match != nil && match[2] != "" {
		port, _ = strconv.Atoi(match[2]) // digits by the expression
	}
	if match == nil || port > 65535 {
		r.problem(at, quote(origin)+" is not an https origin", "write https://<host>[:<port>] in lower case, without user, path, query or final slash")
	}
	return origin
}

// filePath reads the path of a file and joins a relative one to the folder of
// the policy file. The result is clean: two spellings of one path are equal.
func (r *reader) filePath(at place) (string, bool) {
	path, ok := r.text(at)
	if !ok {
		return "", false
	}
	if strings.ContainsFunc(path, unprintable) {
		r.problem(at, "the path has characters that do not print", "write the path without them")
		return "", false
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(r.file), path)
	}
	return filepath.Clean(path), true
}
