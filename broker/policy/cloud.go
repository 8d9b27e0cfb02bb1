package policy

import (
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const customCloud = "custom"

// clouds are the Entra clouds whose authority is known. The audiences are
// those of federated credentials, see
// https://learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust.
var clouds = []Cloud{
	{Name: "public", Authority: "https://login.microsoftonline.com", Audience: "api://AzureADTokenExchange"},
	{Name: "usgov", Authority: "https://login.microsoftonline.us", Audience: "api://AzureADTokenExchangeUSGov"},
	{Name: "china", Authority: "https://login.partner.microsoftonline.cn", Audience: "api://AzureADTokenExchangeChina"},
}

// cloud reads the four fields that say where Entra is. Tokens and assertions
// go there, so a known cloud's authority cannot be changed.
func (r *reader) cloud(fields map[string]place) Cloud {
	name := clouds[0].Name
	if at := fields["cloud"]; at.present() {
		known := []string{customCloud}
		for _, cloud := range clouds {
			known = append(known, cloud.Name)
		}
		slices.Sort(known)
		var ok bool
		if name, ok = r.reference(at, "cloud", known); !ok {
			return Cloud{}
		}
	}
	if name == customCloud {
		return r.customCloud(fields)
	}
	for _, field := range []string{"authority", "caFile", "audience"} {
		if at := fields[field]; at.present() {
			r.problem(at, field+" goes with cloud: custom only", "remove it, or write cloud: custom")
		}
	}
	for _, cloud := range clouds {
		if cloud.Name == name {
			return cloud
		}
	}
	return Cloud{}
}

func (r *reader) customCloud(fields map[string]place) Cloud {
	cloud := Cloud{Name: customCloud, Audience: clouds[0].Audience}
	if at := fields["authority"]; at.present() {
		cloud.Authority = r.origin(at)
	} else {
		r.problem(fields["cloud"], "cloud: custom needs an authority", "add authority: https://<host>[:<port>]")
	}
	if at := fields["caFile"]; at.present() {
		cloud.CAFile, _ = r.filePath(at)
	}
	if audience, ok := r.text(fields["audience"]); ok {
		// An audience is a resource: it must be canonical like one.
		if _, defect := splitScope(audience + "/.default"); defect != "" {
			r.problem(fields["audience"], "the audience "+defect, "write "+clouds[0].Audience+", or what the federated credential says")
		}
		cloud.Audience = audience
	}
	return cloud
}

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
