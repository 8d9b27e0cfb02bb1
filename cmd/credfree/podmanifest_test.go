package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// tightPod is a pod in which nothing lets an agent past the broker. Each
// fixture is this one with a line changed.
const tightPod = `apiVersion: v1
kind: Pod
metadata: {name: tight}
spec:
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  initContainers:
    - name: credfree-check
      image: credfree:1
      args: [check, --config, /etc/credfree/credfree.yaml]
      volumeMounts: [{name: policy, mountPath: /etc/credfree}]
    - name: credfree
      image: credfree:1
      args: [serve, --config, /etc/credfree/credfree.yaml]
      restartPolicy: Always
      securityContext: {runAsUser: 65532, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
      volumeMounts:
        - {name: token, mountPath: /var/run/secrets/azure/tokens, readOnly: true}
        - {name: sockets, mountPath: /run/credfree}
        - {name: policy, mountPath: /etc/credfree, readOnly: true}
  containers:
    - name: agent
      image: agent:1
      securityContext: {runAsUser: 10001, capabilities: {drop: [ALL]}}
      env:
        - {name: IDENTITY_ENDPOINT, value: "http://127.0.0.1:7400/msi/token"}
      volumeMounts:
        - {name: sockets, mountPath: /run/credfree, readOnly: true}
  volumes:
    - {name: token, projected: {sources: [{serviceAccountToken: {audience: "api://AzureADTokenExchange", path: azure-identity-token}}]}}
    - {name: sockets, emptyDir: {medium: Memory}}
    - {name: policy, configMap: {name: policy}}
`

const (
	agentEnv    = "        - {name: IDENTITY_ENDPOINT, value: \"http://127.0.0.1:7400/msi/token\"}\n"
	agentMount  = "        - {name: sockets, mountPath: /run/credfree, readOnly: true}\n"
	lastVolume  = "    - {name: policy, configMap: {name: policy}}\n"
	agentLine   = "in containers[0], agent (line 22): "
	brokerLine  = "in initContainers[1], credfree (line 12): "
	brokersOwn  = "{runAsUser: 65532, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}"
	podsContext = "{runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}"
)

func TestManifestGuardrails(t *testing.T) {
	for name, test := range map[string]struct {
		old, new string
		state    stepState
		want     string // in the detail
		fix      string // the whole hint
	}{
		"tight": {"", "", stepOK, "nothing lets the 1 others past it", ""},
		"token mounted by an agent": {agentMount, agentMount + "        - {name: token, mountPath: /stolen, readOnly: true}\n", stepFailed, "container agent mounts the token that only the broker may have, at /stolen",
			agentLine + "remove volumeMounts: [{name: token}]"},
		"another token for Entra": {lastVolume, lastVolume + "    - {name: more, projected: {sources: [{serviceAccountToken: {audience: \"API://azureadtokenexchangeusgov\"}}]}}\n", stepOK, "nothing", ""},
		"API server's token": {agentMount, agentMount + "        - {name: kube-api-access-x1, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}\n", stepWarning, "token for the API server",
			"in spec (line 5): automountServiceAccountToken: false"},
		"kubelet's folder": {agentMount + "  volumes:\n", agentMount + "        - {name: node, mountPath: /node, readOnly: true}\n  volumes:\n    - {name: node, hostPath: {path: /var/lib}}\n", stepFailed, "mounts /var/lib of the node",
			agentLine + "remove volumeMounts: [{name: node}]"},
		"same user":                {"runAsUser: 10001", "runAsUser: 65532", stepFailed, "container agent runs as the broker's user, 65532", agentLine + "securityContext: {runAsUser: 10001} # each agent its own, as the policy's uids say"},
		"same user by the pod":     {podsContext, "{runAsNonRoot: true, runAsUser: 10001, seccompProfile: {type: RuntimeDefault}}\n  # ", stepOK, "nothing", ""},
		"unknown user":             {"runAsUser: 10001, ", "", stepWarning, "does not say whether container agent", agentLine + "securityContext: {runAsUser: 10001} # each agent its own, as the policy's uids say"},
		"agent as root":            {"runAsUser: 10001", "runAsUser: 0", stepWarning, "container agent runs as root", agentLine + "securityContext: {runAsUser: 10001} # each agent its own, as the policy's uids say"},
		"shared process namespace": {"  containers:\n", "  shareProcessNamespace: true\n  containers:\n", stepFailed, "share one process namespace", "in spec (line 5): shareProcessNamespace: false"},
		"node's processes":         {"  containers:\n", "  hostPID: true\n  containers:\n", stepFailed, "processes of the whole node", "in spec (line 5): hostPID: false"},
		"node's memory":            {"  containers:\n", "  hostIPC: true\n  containers:\n", stepWarning, "memory segments", "in spec (line 5): hostIPC: false"},
		"node's network":           {"  containers:\n", "  hostNetwork: true\n  containers:\n", stepFailed, "node's network", "in spec (line 5): hostNetwork: false"},
		"writable sockets": {agentMount, "        - {name: sockets, mountPath: /run/credfree}\n", stepFailed, "container agent can replace the sockets in /run/credfree",
			agentLine + "volumeMounts: [{name: sockets, mountPath: /run/credfree, readOnly: true}]"},
		"token file variable":  {agentEnv, agentEnv + "        - {name: AZURE_FEDERATED_TOKEN_FILE, value: /x}\n", stepFailed, "has AZURE_FEDERATED_TOKEN_FILE", agentLine + "remove env: [{name: AZURE_FEDERATED_TOKEN_FILE}]"},
		"secret":               {agentEnv, agentEnv + "        - {name: AZURE_CLIENT_SECRET, valueFrom: {secretKeyRef: {name: s, key: k}}}\n", stepFailed, "has AZURE_CLIENT_SECRET", agentLine + "remove env: [{name: AZURE_CLIENT_SECRET}]"},
		"thumbprint":           {agentEnv, agentEnv + "        - {name: IDENTITY_SERVER_THUMBPRINT, value: x}\n", stepFailed, "has IDENTITY_SERVER_THUMBPRINT", agentLine + "remove env: [{name: IDENTITY_SERVER_THUMBPRINT}]"},
		"proxy":                {agentEnv, agentEnv + "        - {name: http_proxy, value: \"http://proxy:3128\"}\n", stepFailed, "has http_proxy", agentLine + "env: [{name: NO_PROXY, value: \"127.0.0.1,localhost\"}, {name: no_proxy, value: \"127.0.0.1,localhost\"}]"},
		"proxy past loopback":  {agentEnv, agentEnv + "        - {name: http_proxy, value: \"http://proxy:3128\"}\n        - {name: no_proxy, value: \"a,127.0.0.1\"}\n", stepOK, "nothing", ""},
		"privileged":           {"{runAsUser: 10001, ", "{privileged: true, runAsUser: 10001, ", stepFailed, "container agent is privileged", agentLine + "securityContext: {privileged: false}"},
		"tracing":              {"{runAsUser: 10001, capabilities: {drop: [ALL]}}", "{runAsUser: 10001, capabilities: {add: [CAP_SYS_PTRACE]}}", stepFailed, "capability CAP_SYS_PTRACE", agentLine + "securityContext: {capabilities: {drop: [ALL]}}"},
		"broker as root":       {"runAsUser: 65532", "runAsUser: 0", stepFailed, "privileged or root", brokerLine + "securityContext: {privileged: false, runAsNonRoot: true, runAsUser: 65532}"},
		"broker's user":        {"runAsUser: 65532, ", "", stepWarning, "does not say whether container agent", brokerLine + "securityContext: {runAsUser: 65532} # each agent its own, as the policy's uids say"},
		"broker may be root":   {"{runAsNonRoot: true, ", "{", stepWarning, "may run as root", brokerLine + "securityContext: {runAsNonRoot: true}"},
		"broker can write":     {"readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", stepWarning, "file system is writable", brokerLine + "securityContext: {readOnlyRootFilesystem: true}"},
		"broker can gain":      {"allowPrivilegeEscalation: false, ", "", stepWarning, "could gain privileges", brokerLine + "securityContext: {allowPrivilegeEscalation: false}"},
		"broker can call":      {"type: RuntimeDefault", "type: Unconfined", stepWarning, "not filtered", brokerLine + "securityContext: {seccompProfile: {type: RuntimeDefault}}"},
		"broker keeps":         {brokersOwn, strings.Replace(brokersOwn, "[ALL]", "[NET_RAW]", 1), stepWarning, "keeps capabilities", brokerLine + "securityContext: {capabilities: {drop: [ALL]}}"},
		"no broker":            {"    - name: credfree\n      image: credfree:1\n", "    - name: other\n      image: other:1\n", stepFailed, "no container of the pod runs the broker", "name it with --container NAME, or have it injected: labels: {credfree.dev/inject: \"true\"}"},
		"init container":       {"restartPolicy: Always", "restartPolicy: Never", stepFailed, "never ends", brokerLine + "restartPolicy: Always"},
		"regular container":    {"    - name: credfree\n      image: credfree:1\n      args: [serve, --config, /etc/credfree/credfree.yaml]\n", "    - {name: other, image: o, args: [check], securityContext: {runAsUser: 7}}\n  containers:\n    - name: credfree\n      image: credfree:1\n", stepWarning, "no native sidecar", "in containers[0], credfree (line 14): move it to initContainers, with restartPolicy: Always"},
		"ephemeral, same user": {"  volumes:\n", "  ephemeralContainers: [{name: debug, image: d, securityContext: {runAsUser: 65532}}]\n  volumes:\n", stepFailed, "container debug runs as the broker's user", "in ephemeralContainers[0], debug (line 29): securityContext: {runAsUser: 10001} # each agent its own, as the policy's uids say"},
	} {
		text := strings.Replace(tightPod, test.old, test.new, 1)
		if name == "regular container" { // the other list goes on with the agent
			text = strings.Replace(text, "  containers:\n    - name: agent", "    - name: agent", 1)
		}
		if test.old != "" && text == tightPod {
			t.Errorf("%s: the fixture changes nothing", name)
			continue
		}
		pods, err := readManifests(strings.NewReader(text))
		if err != nil || len(pods) != 1 {
			t.Errorf("%s: got %d pods, %v", name, len(pods), err)
			continue
		}
		steps := guardManifest(pods[0], "")
		if len(steps) != 1 {
			t.Errorf("%s: got %d steps, want 1: %+v", name, len(steps), steps)
			continue
		}
		if got := steps[0]; got.State != test.state || !strings.Contains(got.Detail, test.want) || got.Hint != test.fix {
			t.Errorf("%s:\n got %s, %q, hint %q\nwant %s, %q, hint %q", name, got.State, got.Detail, got.Hint, test.state, test.want, test.fix)
		}
	}
}

// A workload's template is a pod too, and a list has several; a broker among the
// containers is no native sidecar.
func TestManifestsOfWorkloads(t *testing.T) {
	_, spec, _ := strings.Cut(tightPod, "spec:\n")
	indented := func(n int) string {
		in := strings.Repeat(" ", n)
		return in + strings.ReplaceAll(strings.TrimSuffix(spec, "\n"), "\n", "\n"+in) + "\n"
	}
	text := "kind: Deployment\nmetadata: {name: d}\nspec:\n  template:\n    spec:\n" + indented(4) +
		"---\nkind: CronJob\nmetadata: {name: c}\nspec:\n  jobTemplate:\n    spec:\n      template:\n        spec:\n" + indented(8) +
		"---\nkind: Service\nmetadata: {name: s}\nspec: {ports: []}\n---\n" +
		"kind: List\nitems:\n  - kind: Pod\n    metadata: {name: p}\n    spec:\n" + strings.Replace(indented(4), "  containers:", "  hostPID: true\n      containers:", 1)
	pods, err := readManifests(strings.NewReader(text))
	check(t, err)
	var got []string
	for _, pod := range pods {
		steps := guardManifest(pod, "credfree")
		got = append(got, fmt.Sprint(pod.name, " ", steps[0].State))
	}
	if want := "[Deployment d ok CronJob c ok Pod p failed]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
	for text, want := range map[string]string{"": "has no pod", "a: [": "not YAML", "kind: Pod\nspec: {containers: [{name: [1]}]}": "cannot unmarshal",
		"items: &a [{items: *a}]": "lists in lists"} {
		if _, err := readManifests(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// TestManifestThatIsLabelled: what the webhook has yet to see is not told to be
// labelled. The label counts where it has to stand, on the pod.
func TestManifestThatIsLabelled(t *testing.T) {
	agents, err := os.ReadFile("../../.ci/kubernetes/manifests/agents.yaml")
	check(t, err)
	const pod, label = "spec: {containers: [{name: a, image: a}]}", `metadata: {labels: {credfree.dev/inject: "true"}}`
	for _, test := range []struct {
		text, container string
		labelled        bool
	}{
		{string(agents), "", true},
		{"kind: Pod\n" + label + "\n" + pod, "", true},
		{"kind: Pod\n" + label + "\n" + pod, "mine", false},
		{"kind: Deployment\nspec:\n  template:\n    " + label + "\n    " + pod, "", true},
		{"kind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n        " + label + "\n        " + pod, "", true},
		{"kind: Deployment\n" + label + "\nspec:\n  template:\n    " + pod, "", false},
		{"kind: Pod\nmetadata: {labels: {credfree.dev/inject: \"false\"}}\n" + pod, "", false},
	} {
		pods, err := readManifests(strings.NewReader(test.text))
		check(t, err)
		got := guardManifest(pods[0], test.container)[0]
		if got.State != stepFailed || strings.Contains(got.Hint, "labels:") == test.labelled || strings.Contains(got.Hint, "kubectl get pod NAME -o yaml") != test.labelled {
			t.Errorf("%s: got %+v, labelled %v", test.text, got, test.labelled)
		}
	}
}

// FuzzManifest: whatever the manifest is, it is judged or refused, and a pod in
// which nothing is said to be wrong has a broker.
func FuzzManifest(f *testing.F) {
	f.Add(tightPod)
	f.Add("kind: Pod\nspec: &s {containers: &c [{name: credfree}], initContainers: *c}\n---\nspec: {<<: *s}\n")
	f.Add("spec: {containers: [null, {}], volumes: [{name: v, projected: {sources: [null, {serviceAccountToken: {}}]}}]}")
	f.Add("items: [{spec: {template: {spec: {containers: [{name: a, args: [serve], image: credfree}]}}}}]")
	f.Fuzz(func(t *testing.T, text string) {
		pods, err := readManifests(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, pod := range pods {
			steps := guardManifest(pod, "")
			if len(steps) == 0 {
				t.Fatalf("nothing is said of %q", text)
			}
			if steps[0].State == stepOK && findBroker(&pod.spec, "") == nil {
				t.Fatalf("%q is well, and has no broker", text)
			}
		}
	})
}
