package inject

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// maxUser is the largest uid that means somebody.
const maxUser = 1<<31 - 1

// checkPod refuses what would let any agent reach the broker's memory, or let
// others than the pod's containers be its agents.
func (in *injection) checkPod() {
	spec := &in.pod.Spec
	for _, shared := range []struct {
		field string
		on    bool
		why   string
	}{
		{"hostNetwork", spec.HostNetwork, "every process of the node could ask the broker"},
		{"hostPID", spec.HostPID, "agents could read the broker's memory"},
		{"shareProcessNamespace", spec.ShareProcessNamespace, "agents could read the broker's memory"},
	} {
		if shared.on {
			in.bad(fmt.Sprintf("spec.%s is true, and %s", shared.field, shared.why), "remove "+shared.field)
		}
	}
	if _, ok := in.pod.Metadata.Annotations[azureProxy]; ok {
		in.bad("annotation "+azureProxy+" adds a proxy that gives every container any token", "remove it: the broker answers in its place")
	}
	if slices.Contains([]string{spec.OS.Name, spec.NodeSelector["kubernetes.io/os"], spec.NodeSelector["beta.kubernetes.io/os"]}, "windows") {
		in.bad("the pod runs on Windows, where the broker has no image", "run it on Linux")
	}
	in.checkResources()
	for _, c := range spec.Containers {
		if c.Name == sidecarName {
			in.bad("a container has the broker's name, "+sidecarName, "give it another name")
		}
	}
	for i, c := range spec.InitContainers {
		if c.Name == sidecarName && in.pod.Metadata.Annotations[prefix+"injected"] == "" {
			in.bad(fmt.Sprintf("init container %d has the broker's name, %s", i, sidecarName), "remove it: the webhook adds the broker; or remove the label "+Label)
		}
	}
}

// checkResources says what the API server would say of a broker that has more
// than the pod allows all its containers: the pod's author has not written it.
func (in *injection) checkResources() {
	own, whole := in.resources(), in.pod.Spec.Resources
	for _, list := range []struct {
		name  string
		whole map[string]any
	}{{"requests", whole.Requests}, {"limits", whole.Limits}} {
		amounts, _ := own[list.name].(map[string]string)
		for _, name := range slices.Sorted(maps.Keys(amounts)) {
			bound, _ := list.whole[name].(string)
			if _, ok := quantity(bound); ok && !within(amounts[name], bound) {
				in.bad(fmt.Sprintf("spec.resources.%s.%s is %s for the whole pod, and the broker alone has %s", list.name, name, bound, amounts[name]),
					"raise it by that much, or annotate the pod with credfree.dev/"+name)
			}
		}
	}
}

// checkUsers makes sure that the kernel can tell the agents apart, from each
// other, from the pod's other containers and from the broker.
func (in *injection) checkUsers() {
	agents := map[int64]string{}
	for c := range in.containers {
		uid, known := in.user(c)
		switch {
		case known && uid == in.cfg.User:
			in.bad(fmt.Sprintf("container %s runs as uid %d, which is the broker's", c.Name, uid), runAs(c))
		case c.agent == "":
			if known && uid == 0 || c.SecurityContext.Privileged {
				in.warn("container %s runs as root or privileged: it could ask as any agent of the pod", c.Name)
			}
		case known && uid == 0:
			in.bad(fmt.Sprintf("agent container %s runs as root, who can become any other uid", c.Name), runAs(c))
		case in.wishes.keys:
		case !known:
			in.bad(fmt.Sprintf("agent container %s does not say its uid, by which the kernel tells agents apart", c.Name), runAs(c))
		case agents[uid] != "" && agents[uid] != c.agent:
			in.bad(fmt.Sprintf("agents %s and %s have one uid, %d: the kernel cannot tell them apart", agents[uid], c.agent, uid), runAs(c))
		default:
			agents[uid] = c.agent
		}
	}
	if in.wishes.keys {
		return
	}
	for c := range in.containers {
		if uid, known := in.user(c); c.agent == "" && known && agents[uid] != "" {
			in.bad(fmt.Sprintf("container %s has the uid of agent %s, %d, and would be taken for it", c.Name, agents[uid], uid),
				fmt.Sprintf("%s; or, if it is the same agent, annotate the pod with credfree.dev/agent.%s: %s", runAs(c), c.Name, agents[uid]))
		}
	}
}

// runAs is the line that is missing.
func runAs(c container) string {
	return fmt.Sprintf("add securityContext: {runAsUser: <a uid of its own>} to container %s, and that uid to the agent's callers in the policy", c.Name)
}

// user is the uid that a container runs as, if the pod says so.
func (in *injection) user(c container) (uid int64, known bool) {
	for _, s := range []security{c.SecurityContext, in.pod.Spec.SecurityContext} {
		if s.RunAsUser != nil {
			return *s.RunAsUser, true
		}
	}
	return 0, false
}

// powers let a process become another user, or read the memory or files of one.
var powers = []string{"ALL", "SETUID", "SETGID", "SETFCAP", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "DAC_OVERRIDE", "DAC_READ_SEARCH", "CHOWN", "FOWNER", "BPF", "PERFMON", "NET_ADMIN", "NET_RAW"}

// secrets are variables with which Azure's SDKs never ask the broker, and which
// no credential-free agent has.
var secrets = []string{"AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_PASSWORD"}

// nodeFolders hold other pods' tokens and sockets, this one's included.
var nodeFolders = []string{"/var/lib/kubelet", "/var/lib/containerd", "/var/run", "/run", "/proc", "/sys", "/dev"}

// checkAgent refuses what would let this agent be another one, or the broker.
func (in *injection) checkAgent(c container) {
	s := c.SecurityContext
	if s.Privileged || s.WindowsOptions.HostProcess {
		in.bad(fmt.Sprintf("agent container %s is privileged, and could read the workload token from the node", c.Name), "remove privileged: true")
	}
	if s.AllowPrivilegeEscalation != nil && *s.AllowPrivilegeEscalation {
		in.bad(fmt.Sprintf("agent container %s may gain privileges, and become any uid", c.Name), "write allowPrivilegeEscalation: false, or remove it")
	}
	for _, capability := range s.Capabilities.Add {
		if name := strings.TrimPrefix(strings.ToUpper(capability), "CAP_"); slices.Contains(powers, name) {
			in.bad(fmt.Sprintf("agent container %s adds the capability %s, with which it could become another agent", c.Name, name), "remove it from capabilities.add")
		}
	}
	for _, v := range c.Env {
		if slices.Contains(secrets, v.Name) {
			in.bad(fmt.Sprintf("agent container %s has %s, a credential of its own that Azure's SDKs prefer", c.Name, v.Name), "remove it: the broker answers in its place")
		}
	}
	for _, source := range c.EnvFrom {
		if source.SecretRef.Name != "" {
			in.warn("container %s takes variables from secret %s; if %s is among them, its SDK will not ask the broker", c.Name, source.SecretRef.Name, strings.Join(secrets, " or "))
		}
	}
}

// checkMounts keeps the broker's volumes the broker's, and agents away from
// every copy of its workload token.
func (in *injection) checkMounts(c container) {
	volumes := map[string]volume{}
	for _, v := range in.pod.Spec.Volumes {
		volumes[v.Name] = v
	}
	allowed := slices.Collect(maps.Keys(in.agentMounts(c)))
	for _, m := range c.VolumeMounts {
		v := volumes[m.Name]
		if strings.HasPrefix(m.Name, volumePrefix) && !slices.Contains(allowed, m.Name) {
			in.bad(fmt.Sprintf("container %s mounts %s, which is the broker's", c.Name, m.Name), "remove the mount; names that begin with "+volumePrefix+" are taken")
		}
		if c.agent == "" {
			continue
		}
		if !azureVolume(m) && slices.ContainsFunc(v.tokenAudiences(), in.workloadAudience) {
			in.bad(fmt.Sprintf("agent container %s mounts a workload token (volume %s)", c.Name, m.Name), "remove the mount: the broker alone has the token")
		}
		if v.HostPath != nil && ofNode(v.HostPath.Path) {
			in.bad(fmt.Sprintf("agent container %s mounts %s of the node (volume %s), where the workload token can be reached", c.Name, v.HostPath.Path, m.Name), "remove the mount, or mount a folder below it that holds data alone")
		}
	}
}

// workloadAudience says whether Entra takes tokens for this audience.
func (in *injection) workloadAudience(audience string) bool {
	return strings.HasPrefix(audience, defaultAudience) || audience == in.audience() || audience == bindingAudience
}

// ofNode says whether a folder of the node is, holds or is in one of nodeFolders.
func ofNode(folder string) bool {
	folder = path.Clean("/" + folder)
	return slices.ContainsFunc(nodeFolders, func(own string) bool {
		return folder == "/" || folder == own || strings.HasPrefix(folder, own+"/") || strings.HasPrefix(own, folder+"/")
	})
}
