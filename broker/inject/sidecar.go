package inject

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strconv"
)

const (
	// sidecarName is the broker's container.
	sidecarName = "credfree"
	program     = "/credfree"

	volumePrefix = "credfree-"
	tokenVolume  = volumePrefix + "token"
	policyVolume = volumePrefix + "policy"
	runVolume    = volumePrefix + "run"
	keyVolume    = volumePrefix + "keys"
	roofVolume   = volumePrefix + "ceiling"

	tokenFolder  = "/var/run/secrets/azure/tokens"
	tokenFile    = "azure-identity-token"
	policyFolder = "/etc/credfree"
	policyFile   = "credfree.yaml"
	roofFolder   = "/etc/credfree-ceiling"
	roofFile     = "ceiling.yaml"
	brokerFolder = "/run/credfree/agents" // of all sockets
	keyFolder    = "/run/credfree/keys"
	socketFolder = "socket" // made by the broker, in the volume of each agent
)

// ownVariables are set for each pod.
var ownVariables = []string{
	"CREDFREE_CONFIG", "CREDFREE_CEILING", "CREDFREE_SOCKET_DIR", "CREDFREE_SOCKET_FOLDERS", "CREDFREE_AUTH_SIDECAR",
	"CREDFREE_POD_CLIENT_ID", "CREDFREE_POD_TENANT_ID", "CREDFREE_POD_AGENT_ID",
	"K8S_NAMESPACE_NAME", "K8S_POD_NAME", "K8S_POD_UID", "K8S_NODE_NAME",
}

func agentVolume(agent string) string { return volumePrefix + "agent-" + agent }

func (in *injection) audience() string { return cmp.Or(in.wishes.audience, in.cfg.Audience) }

// expiration is the pod's, or what the pod says to azure-workload-identity, or
// the default.
func (in *injection) expiration() int64 {
	azure, err := strconv.ParseInt(in.pod.Metadata.Annotations[azurePrefix+"service-account-token-expiration"], 10, 64)
	if err != nil || azure < minExpiration || azure > maxExpiration {
		azure = 0
	}
	return cmp.Or(in.wishes.expiration, azure, in.cfg.TokenExpirationSeconds)
}

// volumes are the broker's, and what it shares with each agent alone.
func (in *injection) volumes() []object {
	memory := func(name string) object {
		return object{"name": name, "emptyDir": object{"medium": "Memory", "sizeLimit": "1Mi"}}
	}
	volumes := []object{
		{"name": tokenVolume, "projected": object{"defaultMode": 0o444, "sources": []any{object{"serviceAccountToken": object{
			"audience": in.audience(), "expirationSeconds": in.expiration(), "path": tokenFile}}}}},
		{"name": policyVolume, "configMap": object{"name": in.wishes.policy, "defaultMode": 0o444}},
		memory(runVolume),
	}
	if in.cfg.Ceiling != "" {
		volumes = append(volumes, object{"name": roofVolume, "configMap": object{"name": in.cfg.Ceiling, "defaultMode": 0o444}})
	}
	if in.wishes.sockets {
		for _, agent := range in.agents() {
			volumes = append(volumes, memory(agentVolume(agent)))
		}
	}
	if in.wishes.keys {
		var items []any
		for _, agent := range in.agents() {
			items = append(items, object{"path": agent, "fieldRef": object{"fieldPath": keyField(agent)}})
		}
		volumes = append(volumes, object{"name": keyVolume, "downwardAPI": object{"defaultMode": 0o440, "items": items}})
	}
	return volumes
}

func (in *injection) patchVolumes() {
	for _, want := range in.volumes() {
		have, _ := in.edit.at("spec", "volumes").([]any)
		i := slices.IndexFunc(have, func(item any) bool { v, _ := item.(object); return v["name"] == want["name"] })
		if i < 0 {
			in.edit.insert(want, len(have), "spec", "volumes")
		} else if !covers(have[i], generic(want)) {
			in.edit.set(want, "spec", "volumes", strconv.Itoa(i))
		}
	}
}

// brokerMounts are the broker's. The policy is mounted as a folder: kubelet
// replaces a folder's files at once, and a single file never.
func (in *injection) brokerMounts() []any {
	mounts := []any{
		object{"name": tokenVolume, "mountPath": tokenFolder, "readOnly": true},
		object{"name": policyVolume, "mountPath": policyFolder, "readOnly": true},
		object{"name": runVolume, "mountPath": brokerFolder},
	}
	if in.cfg.Ceiling != "" {
		mounts = append(mounts, object{"name": roofVolume, "mountPath": roofFolder, "readOnly": true})
	}
	if in.wishes.sockets {
		for _, agent := range in.agents() {
			mounts = append(mounts, object{"name": agentVolume(agent), "mountPath": brokerFolder + "/" + agent})
		}
	}
	if in.wishes.keys {
		mounts = append(mounts, object{"name": keyVolume, "mountPath": keyFolder, "readOnly": true})
	}
	return append(mounts, in.mounts...)
}

// brokerEnv is the broker's environment.
func (in *injection) brokerEnv() []any {
	field := func(name, path string) any {
		return object{"name": name, "valueFrom": object{"fieldRef": object{"fieldPath": path}}}
	}
	env := []any{
		plain("CREDFREE_CONFIG", policyFolder+"/"+policyFile),
		plain("CREDFREE_SOCKET_DIR", brokerFolder),
		plain("CREDFREE_SOCKET_FOLDERS", "true"),
	}
	if in.cfg.Ceiling != "" {
		env = append(env, plain("CREDFREE_CEILING", roofFolder+"/"+roofFile))
	}
	if in.wishes.sidecar {
		env = append(env, plain("CREDFREE_AUTH_SIDECAR", "true"))
	}
	for _, identity := range []struct{ name, value, azure string }{
		{"CREDFREE_POD_CLIENT_ID", in.wishes.clientID, "AZURE_CLIENT_ID"},
		{"CREDFREE_POD_TENANT_ID", in.wishes.tenantID, "AZURE_TENANT_ID"},
		{"CREDFREE_POD_AGENT_ID", in.wishes.agentID, ""},
	} {
		if identity.value != "" {
			env = append(env, plain(identity.name, identity.value))
		} else if moved := in.azureVariable(identity.azure); moved != nil {
			moved["name"] = identity.name
			env = append(env, moved)
		}
	}
	env = append(env,
		field("K8S_NAMESPACE_NAME", "metadata.namespace"), field("K8S_POD_NAME", "metadata.name"),
		field("K8S_POD_UID", "metadata.uid"), field("K8S_NODE_NAME", "spec.nodeName"))
	attributes := "k8s.namespace.name=$(K8S_NAMESPACE_NAME),k8s.pod.name=$(K8S_POD_NAME),k8s.pod.uid=$(K8S_POD_UID),k8s.node.name=$(K8S_NODE_NAME)"
	if more := in.cfg.Env[resourceAttributes]; more != "" {
		attributes += "," + more
	}
	env = append(env, plain(resourceAttributes, attributes))
	for _, name := range slices.Sorted(maps.Keys(in.cfg.Env)) {
		if name != resourceAttributes {
			env = append(env, plain(name, in.cfg.Env[name]))
		}
	}
	return append(env, in.moved...)
}

const resourceAttributes = "OTEL_RESOURCE_ATTRIBUTES"

// azureVariable finds what azure-workload-identity has set, on an agent or, in
// a call before this one or after, on the broker itself.
func (in *injection) azureVariable(name string) object {
	env := in.moved
	if i := in.sidecarIndex(); i >= 0 {
		set, _ := in.edit.at("spec", "initContainers", strconv.Itoa(i), "env").([]any)
		env = slices.Concat(env, set)
	}
	for _, item := range env {
		if entry, _ := item.(object); name != "" && entry["name"] == name {
			return maps.Clone(entry)
		}
	}
	return nil
}

// resources are the configured ones, with what the pod asks for.
func (in *injection) resources() object {
	requests, limits := maps.Clone(in.cfg.Resources.Requests), maps.Clone(in.cfg.Resources.Limits)
	set := func(list *map[string]string, name, value string) {
		if value != "" {
			if *list == nil {
				*list = map[string]string{}
			}
			(*list)[name] = value
		}
	}
	set(&requests, "cpu", in.wishes.cpu)
	if limit, ok := limits["cpu"]; ok && !within(requests["cpu"], limit) {
		limits["cpu"] = requests["cpu"]
	}
	set(&requests, "memory", in.wishes.memory)
	set(&limits, "memory", in.wishes.memory)
	resources := object{}
	for name, list := range map[string]map[string]string{"requests": requests, "limits": limits} {
		if len(list) > 0 {
			resources[name] = list
		}
	}
	return resources
}

// sidecar is the broker's container, but for lists that others add to.
func (in *injection) sidecar() object {
	probe := func(period, failures int, arguments ...any) object {
		return object{"exec": object{"command": append([]any{program, "healthcheck"}, arguments...)},
			"periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": failures}
	}
	c := object{
		"name":  sidecarName,
		"image": in.cfg.Image,
		// A native sidecar: it starts before the containers that follow, and ends
		// after them.
		"restartPolicy":            "Always",
		"command":                  []any{program},
		"args":                     []any{"serve"},
		"resources":                in.resources(),
		"startupProbe":             probe(1, 120),
		"readinessProbe":           probe(15, 2),
		"livenessProbe":            probe(30, 3, "--live"),
		"terminationMessagePolicy": "FallbackToLogsOnError",
		"securityContext": object{
			"runAsUser": in.cfg.User, "runAsGroup": in.cfg.User, "runAsNonRoot": true, "privileged": false, "allowPrivilegeEscalation": false,
			"readOnlyRootFilesystem": true, "capabilities": object{"drop": []any{"ALL"}}, "seccompProfile": object{"type": "RuntimeDefault"},
		},
	}
	if in.cfg.ImagePullPolicy != "" {
		c["imagePullPolicy"] = in.cfg.ImagePullPolicy
	}
	return c
}

func (in *injection) sidecarIndex() int {
	list, _ := in.edit.at("spec", "initContainers").([]any)
	return slices.IndexFunc(list, func(item any) bool { c, _ := item.(object); return c["name"] == sidecarName })
}

// patchSidecar puts the broker before the first agent. One that is there keeps
// what others have added to it.
func (in *injection) patchSidecar() {
	want, env, mounts := in.sidecar(), in.brokerEnv(), in.brokerMounts()
	i := in.sidecarIndex()
	if i < 0 {
		want["env"], want["volumeMounts"] = env, mounts
		in.edit.insert(want, 0, "spec", "initContainers")
		return
	}
	if slices.ContainsFunc(in.pod.Spec.InitContainers[:min(i, len(in.pod.Spec.InitContainers))], func(c container) bool { return c.agent != "" }) {
		there := in.edit.at("spec", "initContainers", strconv.Itoa(i))
		in.edit.remove("spec", "initContainers", strconv.Itoa(i))
		in.edit.insert(there, 0, "spec", "initContainers")
		i = 0
	}
	at := []string{"spec", "initContainers", strconv.Itoa(i)}
	for _, field := range slices.Sorted(maps.Keys(want)) {
		if path := append(slices.Clone(at), field); !covers(in.edit.at(path...), generic(want[field])) {
			in.edit.set(want[field], path...)
		}
	}
	in.mergeList(append(slices.Clone(at), "env"), "name", env)
	in.mergeList(append(slices.Clone(at), "volumeMounts"), "mountPath", mounts)
}

// mergeList puts entries into a list in which key tells them apart, and leaves
// the others.
func (in *injection) mergeList(path []string, key string, wanted []any) {
	have, _ := in.edit.at(path...).([]any)
	merged := slices.Clone(have)
	for _, item := range wanted {
		want, _ := generic(item).(object)
		i := slices.IndexFunc(merged, func(item any) bool { entry, _ := item.(object); return entry[key] == want[key] })
		if i < 0 {
			merged = append(merged, want)
		} else if !covers(merged[i], want) {
			merged[i] = want
		}
	}
	if !reflect.DeepEqual(have, merged) {
		in.edit.set(merged, path...)
	}
}
