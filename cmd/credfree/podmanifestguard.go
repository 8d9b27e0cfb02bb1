package main

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// manifestGuard judges one pod's manifest. broker is its broker's container.
type manifestGuard struct {
	pod    podManifest
	broker *container
	steps  []step
}

// guardManifest says what in a pod's manifest would let an agent past the
// broker, each with the line of YAML that mends it. name is that of the broker's
// container; "" stands for the one that is told by what it runs.
func guardManifest(pod podManifest, name string) []step {
	g := &manifestGuard{pod: pod}
	if g.broker = findBroker(&pod.spec, name); g.broker == nil {
		if pod.labelled && name == "" {
			return []step{failed("broker", "no container of the pod runs the broker yet: the webhook adds it to the pod that is made of this",
				"judge that one: kubectl get pod NAME -o yaml | credfree doctor --pod -; if this is it, it was made while the webhook was away")}
		}
		return []step{failed("broker", "no container of the pod runs the broker", "name it with --container NAME, or have it injected: labels: {credfree.dev/inject: \"true\"}")}
	}
	g.namespaces()
	for _, agent := range g.agents() {
		g.token(agent)
		g.user(agent)
		g.sockets(agent)
		g.environment(agent)
		g.powers(agent)
	}
	g.hardening()
	if len(g.steps) == 0 {
		return []step{passed("manifest", fmt.Sprintf("container %s is the broker; nothing lets the %d others past it", g.broker.Name, len(g.agents())))}
	}
	return g.steps
}

// findBroker finds the broker by the name of its container, or by what it runs.
func findBroker(spec *podSpec, name string) *container {
	all := append(pointers(spec.InitContainers), pointers(spec.Containers)...)
	for _, c := range all {
		if name != "" && c.Name == name {
			return c
		}
	}
	for _, c := range all {
		words := slices.Concat(c.Command, c.Args)
		if name == "" && (c.Name == "credfree" || slices.Contains(words, "serve") && strings.Contains(c.Image+" "+strings.Join(c.Command, " "), "credfree")) {
			return c
		}
	}
	return nil
}

func pointers(containers []container) []*container {
	all := make([]*container, len(containers))
	for i := range containers {
		all[i] = &containers[i]
	}
	return all
}

// agents are all other containers: each could be made to ask for tokens. One
// that runs this program to check the policy is no agent.
func (g *manifestGuard) agents() []*container {
	spec := &g.pod.spec
	all := slices.Concat(pointers(spec.InitContainers), pointers(spec.Containers), pointers(spec.EphemeralContainers))
	return slices.DeleteFunc(all, func(c *container) bool {
		return c == g.broker || c.Image == g.broker.Image && slices.Contains(slices.Concat(c.Command, c.Args), "check")
	})
}

// violation is a step that failed; fix is one line of YAML, and where it goes.
func (g *manifestGuard) violation(name, detail string, c *container, fix string) {
	g.steps = append(g.steps, failed(name, detail, g.where(c)+fix))
}

func (g *manifestGuard) doubt(name, detail string, c *container, fix string) {
	g.steps = append(g.steps, doubted(name, detail, g.where(c)+fix))
}

// where names the place of a container, or of the spec for nil.
func (g *manifestGuard) where(c *container) string {
	if c == nil {
		return fmt.Sprintf("in spec (line %d): ", g.pod.at.Line)
	}
	return fmt.Sprintf("in %s, %s (line %d): ", c.path, c.Name, c.line)
}

func (g *manifestGuard) namespaces() {
	spec := &g.pod.spec
	if spec.ShareProcessNamespace {
		g.violation("processes", "the containers share one process namespace: agents see the broker's files below /proc", nil, "shareProcessNamespace: false")
	}
	if spec.HostPID {
		g.violation("processes", "the pod sees the processes of the whole node", nil, "hostPID: false")
	}
	if spec.HostIPC {
		g.doubt("processes", "the pod shares the node's memory segments", nil, "hostIPC: false")
	}
	if spec.HostNetwork {
		g.violation("network", "the pod shares the node's network: loopback is the node's, and so is its metadata endpoint", nil, "hostNetwork: false")
	}
}

// audiencePrefix is what the audiences for Entra have in common, in all clouds.
const audiencePrefix = "api://azureadtokenexchange"

// tokenVolumes are the volumes with a token that Entra takes.
func (g *manifestGuard) tokenVolumes() map[string]bool {
	found := map[string]bool{}
	for _, v := range g.pod.spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			// Any other audience is somebody else's, unless the broker mounts it: then it
			// is what the broker proves itself by.
			if token := source.ServiceAccountToken; token != nil && (strings.HasPrefix(strings.ToLower(token.Audience), audiencePrefix) ||
				g.broker.mounts(v.Name) != nil && !strings.HasPrefix(v.Name, "kube-api-access-")) {
				found[v.Name] = true
			}
		}
	}
	return found
}

func (c *container) mounts(volume string) *volumeMount {
	for i := range c.VolumeMounts {
		if c.VolumeMounts[i].Name == volume {
			return &c.VolumeMounts[i]
		}
	}
	return nil
}

// nodeFolders are those of a node from which tokens of every pod can be read.
var nodeFolders = []string{"/var/lib/kubelet", "/proc", "/run/containerd", "/var/run", "/etc/kubernetes"}

func (g *manifestGuard) token(agent *container) {
	tokens := g.tokenVolumes()
	for _, mount := range agent.VolumeMounts {
		switch {
		case tokens[mount.Name]:
			g.violation("workload token", fmt.Sprintf("container %s mounts the token that only the broker may have, at %s", agent.Name, mount.MountPath), agent,
				fmt.Sprintf("remove volumeMounts: [{name: %s}]", mount.Name))
		case strings.HasPrefix(mount.Name, "kube-api-access-"):
			g.doubt("workload token", fmt.Sprintf("container %s has a token for the API server, which may be allowed to ask for others", agent.Name), nil, "automountServiceAccountToken: false")
		}
		for _, v := range g.pod.spec.Volumes {
			if v.Name == mount.Name && v.HostPath != nil && slices.ContainsFunc(nodeFolders, func(folder string) bool {
				at := path.Clean(v.HostPath.Path)
				return at == "/" || at == folder || strings.HasPrefix(folder, at+"/") || strings.HasPrefix(at, folder+"/")
			}) {
				g.violation("workload token", fmt.Sprintf("container %s mounts %s of the node, below which are the tokens of all its pods", agent.Name, v.HostPath.Path), agent,
					fmt.Sprintf("remove volumeMounts: [{name: %s}]", mount.Name))
			}
		}
	}
}

// userOf returns the user that a container runs as; nil: its image's.
func (g *manifestGuard) userOf(c *container) *int64 {
	if c.SecurityContext.RunAsUser != nil {
		return c.SecurityContext.RunAsUser
	}
	return g.pod.spec.SecurityContext.RunAsUser
}

func (g *manifestGuard) user(agent *container) {
	const fix = "securityContext: {runAsUser: 10001} # each agent its own, as the policy's uids say"
	own, theirs := g.userOf(g.broker), g.userOf(agent)
	switch {
	case own == nil || theirs == nil:
		at := agent
		if own == nil {
			at = g.broker
		}
		g.doubt("users", fmt.Sprintf("the manifest does not say whether container %s runs as another user than the broker", agent.Name), at, strings.ReplaceAll(fix, "10001", map[bool]string{true: "65532", false: "10001"}[own == nil]))
	case *own == *theirs:
		g.violation("users", fmt.Sprintf("container %s runs as the broker's user, %d", agent.Name, *own), agent, fix)
	case *theirs == 0:
		g.doubt("users", fmt.Sprintf("container %s runs as root", agent.Name), agent, fix)
	}
}

// sockets finds folders that the broker writes to and an agent can write to as
// well: it could put a socket of its own in the place of another agent's.
func (g *manifestGuard) sockets(agent *container) {
	for _, mount := range agent.VolumeMounts {
		if of := g.broker.mounts(mount.Name); of != nil && !of.ReadOnly && !mount.ReadOnly {
			g.violation("sockets", fmt.Sprintf("container %s can replace the sockets in %s", agent.Name, mount.MountPath), agent,
				fmt.Sprintf("volumeMounts: [{name: %s, mountPath: %s, readOnly: true}]", mount.Name, mount.MountPath))
		}
	}
}

// ahead are the variables by which client libraries find something else than
// the broker, or a credential of their own.
var ahead = []string{
	"AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_USERNAME", "AZURE_PASSWORD",
	"AZURE_POD_IDENTITY_AUTHORITY_HOST", "AZURE_KUBERNETES_TOKEN_PROXY", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT",
}

func (g *manifestGuard) environment(agent *container) {
	proxied, direct := "", false
	for _, v := range agent.Env {
		switch {
		case slices.Contains(ahead, v.Name):
			g.violation("environment", fmt.Sprintf("container %s has %s, which client libraries take before the broker", agent.Name, v.Name), agent, fmt.Sprintf("remove env: [{name: %s}]", v.Name))
		case strings.EqualFold(v.Name, "HTTP_PROXY") && v.Value != "":
			proxied = v.Name
		case strings.EqualFold(v.Name, "NO_PROXY") && (strings.Contains(v.Value, "127.0.0.1") || v.Value == "*"):
			direct = true
		}
	}
	if proxied != "" && !direct {
		g.violation("environment", fmt.Sprintf("container %s has %s: libraries send their requests for the broker, with the agent's key, to the proxy", agent.Name, proxied), agent,
			"env: [{name: NO_PROXY, value: \"127.0.0.1,localhost\"}, {name: no_proxy, value: \"127.0.0.1,localhost\"}]")
	}
}

// dangerous are the capabilities with which a container could get at others.
var dangerous = []string{"ALL", "SYS_PTRACE", "SYS_ADMIN", "SYS_MODULE", "DAC_READ_SEARCH", "NET_ADMIN", "NET_RAW", "BPF", "PERFMON"}

func (g *manifestGuard) powers(agent *container) {
	if agent.SecurityContext.Privileged {
		g.violation("privileges", fmt.Sprintf("container %s is privileged: nothing keeps it from the broker", agent.Name), agent, "securityContext: {privileged: false}")
	}
	for _, capability := range agent.SecurityContext.Capabilities.Add {
		if slices.Contains(dangerous, strings.TrimPrefix(strings.ToUpper(capability), "CAP_")) {
			g.violation("privileges", fmt.Sprintf("container %s has the capability %s, by which it could get past the broker", agent.Name, capability), agent,
				"securityContext: {capabilities: {drop: [ALL]}}")
		}
	}
}

// hardening is about the broker's own container: what an intruder could make
// of it.
func (g *manifestGuard) hardening() {
	c, pod := g.broker.SecurityContext, g.pod.spec.SecurityContext
	lacks := func(missing bool, detail, fix string) {
		if missing {
			g.doubt("broker", detail, g.broker, "securityContext: {"+fix+"}")
		}
	}
	user := g.userOf(g.broker)
	if c.Privileged || user != nil && *user == 0 {
		g.violation("broker", "the broker is privileged or root, and needs to be neither", g.broker, "securityContext: {privileged: false, runAsNonRoot: true, runAsUser: 65532}")
	}
	nonRoot := c.RunAsNonRoot
	if nonRoot == nil {
		nonRoot = pod.RunAsNonRoot
	}
	profile := c.SeccompProfile
	if profile == nil {
		profile = pod.SeccompProfile
	}
	lacks(nonRoot == nil || !*nonRoot, "the broker may run as root", "runAsNonRoot: true")
	lacks(!c.ReadOnlyRootFilesystem, "the broker's file system is writable", "readOnlyRootFilesystem: true")
	lacks(c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation, "the broker could gain privileges by running a file", "allowPrivilegeEscalation: false")
	lacks(!slices.Contains(c.Capabilities.Drop, "ALL"), "the broker keeps capabilities, and needs none", "capabilities: {drop: [ALL]}")
	lacks(profile == nil || profile.Type == "Unconfined", "the broker's system calls are not filtered", "seccompProfile: {type: RuntimeDefault}")
	switch {
	case !strings.HasPrefix(g.broker.path, "containers") && g.broker.RestartPolicy != "Always":
		g.violation("broker", "the broker is an init container that never ends: the pod does not get past it", g.broker, "restartPolicy: Always")
	case strings.HasPrefix(g.broker.path, "containers"):
		g.doubt("broker", "the broker is no native sidecar: agents may start before it, and a Job does not end while it runs", g.broker, "move it to initContainers, with restartPolicy: Always")
	}
}
