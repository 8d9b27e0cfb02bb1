package inject

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/credfree/credfree/broker/client"
)

// Where an agent finds its broker.
const (
	agentFolder = "/run/credfree"
	noKey       = "none" // the kernel says who asks; some clients need a header all the same
)

// leadsAway are variables that Azure's SDKs look at before the endpoint of
// managed identities, or that make them take it for one of another kind. They
// are unset and never blank: some SDKs ask only whether a variable is there.
var leadsAway = []string{
	"MSI_ENDPOINT", "MSI_SECRET", "DEFAULT_IDENTITY_CLIENT_ID", "IMDS_ENDPOINT", "IDENTITY_SERVER_THUMBPRINT",
	"MSAL_MANAGED_IDENTITY_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST", "CREDFREE_KEY_FILE",
}

// patchAgent gives an agent its way to the broker, and takes away what leads
// past it.
func (in *injection) patchAgent(c container) {
	have, _ := in.edit.at(c.path("env")...).([]any)
	if env := in.agentEnv(c, have); !covers(have, env) {
		in.edit.set(env, c.path("env")...)
	}
	in.patchMounts(c)
	if c.SecurityContext.AllowPrivilegeEscalation == nil { // else it is false
		in.edit.set(false, c.path("securityContext", "allowPrivilegeEscalation")...)
	}
}

// variables are what an agent's environment has to say, in order.
func (in *injection) variables(agent string) []any {
	url := client.DefaultURL
	header, sidecar := plain("IDENTITY_HEADER", noKey), plain("SIDECAR_URL", url)
	if in.wishes.keys {
		header = object{"name": "IDENTITY_HEADER", "valueFrom": object{"fieldRef": object{"fieldPath": keyField(agent)}}}
		sidecar = plain("SIDECAR_URL", url+"/$(IDENTITY_HEADER)") // its clients have no header for a key
	}
	variables := []any{plain("IDENTITY_ENDPOINT", url+client.ManagedIdentityPath), header, plain("CREDFREE_URL", url)}
	if in.wishes.sockets {
		variables = append(variables, plain("CREDFREE_SOCKET", agentFolder+"/"+socketFolder+"/"+agent+".sock"))
	}
	return append(variables, sidecar)
}

func plain(name, value string) object { return object{"name": name, "value": value} }

// keyField is where the pod's annotation with an agent's key is.
func keyField(agent string) string { return "metadata.annotations['" + prefix + "key." + agent + "']" }

// agentEnv is have, changed; what is right already stands where it stood.
func (in *injection) agentEnv(c container, have []any) []any {
	env := []any{}
	missing, placed := map[string]any{}, map[string]bool{}
	var order []string
	for _, variable := range in.variables(c.agent) {
		name, _ := variable.(object)["name"].(string)
		missing[name], order = generic(variable), append(order, name)
	}
	azure := hasVariable(have, "AZURE_FEDERATED_TOKEN_FILE")
	for _, item := range have {
		entry, _ := item.(object)
		name, _ := entry["name"].(string)
		value, _ := entry["value"].(string)
		want, ours := missing[name]
		switch {
		case ours:
			if !covers(entry, want) {
				in.warn("container %s: %s was replaced, it leads to the broker now", c.Name, name)
				entry, _ = want.(object)
			}
			env = append(env, entry)
			placed[name] = true
			delete(missing, name)
		case placed[name]: // said twice, and the last one would win
		case slices.Contains(leadsAway, name) || name == "CREDFREE_SOCKET":
			in.warn("container %s: %s was removed, it leads past the broker", c.Name, name)
		case azure && slices.Contains(azureVariables, name):
			in.move(c, entry)
		case name == "AZURE_AUTHORITY_HOST" && strings.HasPrefix(strings.ToLower(value), "http:"):
			in.warn("container %s: %s was removed, SDKs refuse one that is not https", c.Name, name)
		case isNoProxy(name):
			env = append(env, directly(entry)...)
		default:
			env = append(env, item)
		}
	}
	for _, name := range order {
		if variable, ok := missing[name]; ok {
			env = append(env, variable)
		}
	}
	if !hasVariable(have, "AZURE_TOKEN_CREDENTIALS") {
		// Later credentials of a chain would be tried after a refusal. Older SDKs
		// do not know the name of a single one.
		env = append(env, plain("AZURE_TOKEN_CREDENTIALS", "prod"))
	}
	return append(env, noProxy(c, have)...)
}

func hasVariable(env []any, name string) bool {
	return slices.ContainsFunc(env, func(item any) bool {
		entry, _ := item.(object)
		return entry["name"] == name
	})
}

// Some SDKs send even requests to loopback to a proxy, with their key.
const loopback = "127.0.0.1,localhost"

func isNoProxy(name string) bool { return name == "NO_PROXY" || name == "no_proxy" }

// directly extends a variable that says what is reached without a proxy.
func directly(entry object) []any {
	name, _ := entry["name"].(string)
	value, literal := entry["value"].(string)
	switch {
	case !literal && entry["valueFrom"] != nil: // from elsewhere: kept under another name, and quoted
		kept := maps.Clone(entry)
		kept["name"] = "CREDFREE_KEPT_" + name
		return []any{kept, plain(name, fmt.Sprintf("$(CREDFREE_KEPT_%s),%s", name, loopback))}
	case strings.TrimSpace(value) == "":
		return []any{plain(name, loopback)}
	case strings.TrimSpace(value) == "*", strings.Contains(","+value+",", ","+loopback+","), value == "$(NO_PROXY)", value == "$(no_proxy)":
		return []any{entry}
	}
	extended := maps.Clone(entry)
	extended["value"] = value + "," + loopback
	return []any{extended}
}

// noProxy adds the spellings that are missing: each hides the other, so both
// say the same.
func noProxy(c container, have []any) []any {
	var added []any
	for _, pair := range [][2]string{{"NO_PROXY", "no_proxy"}, {"no_proxy", "NO_PROXY"}} {
		name, other := pair[0], pair[1]
		switch {
		case hasVariable(have, name):
		case hasVariable(have, other):
			added = append(added, plain(name, "$("+other+")"))
		case len(c.EnvFrom) > 0: // one from there is hidden, and quoted; a name that is not set stays as it stands, and is no host's
			added = append(added, plain(name, "$("+name+"),"+loopback))
		default:
			added = append(added, plain(name, loopback))
		}
	}
	return added
}

// agentMounts are the volumes of ours that an agent may see, by name.
func (in *injection) agentMounts(c container) map[string]object {
	if !in.wishes.sockets || c.agent == "" {
		return nil
	}
	// Read-only: connecting to a socket needs no more, and replacing it does.
	name := agentVolume(c.agent)
	return map[string]object{name: {"name": name, "mountPath": agentFolder, "readOnly": true}}
}

// hidesSocket says whether a mount covers the agent's folder or something in
// it. One above does not: container runtimes mount the outer folders first.
func hidesSocket(at string) bool {
	at = path.Clean("/" + at)
	if strings.HasPrefix(at, "/var/run/") { // a link to /run in most images
		at = strings.TrimPrefix(at, "/var")
	}
	return at == agentFolder || strings.HasPrefix(at, agentFolder+"/")
}

// patchMounts mounts the agent's socket, and takes away what is the broker's.
func (in *injection) patchMounts(c container) {
	have, _ := in.edit.at(c.path("volumeMounts")...).([]any)
	missing := in.agentMounts(c)
	mounts := []any{}
	for _, item := range have {
		entry, _ := item.(object)
		name, _ := entry["name"].(string)
		at, _ := entry["mountPath"].(string)
		want, ours := missing[name]
		switch {
		case azureVolume(mount{Name: name, MountPath: at}):
			in.moveMount(entry)
		case ours && covers(entry, generic(want)):
			mounts = append(mounts, entry)
			delete(missing, name)
		case ours:
		case in.wishes.sockets && hidesSocket(at):
			in.bad(fmt.Sprintf("agent container %s mounts another volume at %s, and its socket is in %s", c.Name, at, agentFolder), "mount it elsewhere, or annotate the pod with credfree.dev/sockets: \"false\"")
		default:
			mounts = append(mounts, item)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		mounts = append(mounts, missing[name])
	}
	if wanted := generic(mounts); !covers(have, wanted) && (len(mounts) > 0 || len(have) > 0) {
		in.edit.set(mounts, c.path("volumeMounts")...)
	}
}
