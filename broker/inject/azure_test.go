package inject

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// azureWebhook does what azure-workload-identity's webhook (1.6.0) does to a
// pod: its variables, unless they are set, and its token into every container
// that is not to be skipped.
func azureWebhook(t *testing.T, raw []byte) []byte {
	t.Helper()
	value, err := decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	doc, _ := value.(object)
	metadata, _ := doc["metadata"].(object)
	annotations, _ := metadata["annotations"].(object)
	list, _ := annotations[azureSkip].(string)
	skip := strings.Split(list, ";")
	spec, _ := doc["spec"].(object)
	const volume = "azure-workload-identity-reserved-5f2a"
	for _, name := range []string{"initContainers", "containers"} {
		items, _ := spec[name].([]any)
		for _, item := range items {
			c, _ := item.(object)
			if name, _ := c["name"].(string); slices.Contains(skip, name) {
				continue
			}
			env, _ := c["env"].([]any)
			for _, v := range [][2]string{{"AZURE_CLIENT_ID", "1b7c7f7e-6f0c-4a39-8f0c-0c8f6a6b7a01"}, {"AZURE_TENANT_ID", "8a0c5b0e-1f0b-4b52-9f27-5d4f0c1f5a11"},
				{"AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/wi/token/azure-identity-token"}, {"AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/"}} {
				if !hasVariable(env, v[0]) {
					env = append(env, plain(v[0], v[1]))
				}
			}
			mounts, _ := c["volumeMounts"].([]any)
			if !slices.ContainsFunc(mounts, func(m any) bool { m2, _ := m.(object); return m2["name"] == volume }) {
				mounts = append(mounts, object{"name": volume, "mountPath": "/var/run/secrets/azure/wi", "readOnly": true})
			}
			c["env"], c["volumeMounts"] = env, mounts
		}
	}
	volumes, _ := spec["volumes"].([]any)
	if !slices.ContainsFunc(volumes, func(v any) bool { v2, _ := v.(object); return v2["name"] == volume }) {
		spec["volumes"] = append(volumes, object{"name": volume, "projected": object{"sources": []any{object{"serviceAccountToken": object{"audience": defaultAudience, "path": "token/azure-identity-token"}}}}})
	}
	changed, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// TestBesideAzureWorkloadIdentity: whichever webhook is called first, and
// however often, the agent ends without that webhook's token, the broker with
// the pod's identity, and a container that is no agent as that webhook wants it.
func TestBesideAzureWorkloadIdentity(t *testing.T) {
	raw := podJSON(t, `"labels": {`, `"labels": {"azure.workload.identity/use": "true", `, `[{"name": "agent"`, `[{"name": "other"}, {"name": "agent"`)
	for name, order := range map[string]string{
		"theirs, ours":               "ac",
		"theirs, ours, theirs again": "acac",
		"ours, theirs":               "cacac",
		"with the API server's own":  "scsascsas",
	} {
		t.Run(name, func(t *testing.T) {
			i, pod := injector(t), raw
			for _, step := range order {
				switch step {
				case 'a':
					pod = azureWebhook(t, pod)
				case 's':
					if !strings.Contains(string(pod), "kube-api-access") {
						pod = serviceAccountAdmission(t, pod)
					}
				default:
					patch, err := i.Pod(pod, Account{})
					if err != nil {
						t.Fatal(err)
					}
					pod = apply(t, pod, patch.Operations)
				}
			}
			last, err := i.Pod(azureWebhook(t, pod), Account{})
			if err != nil || len(last.Operations) > 0 {
				t.Errorf("it does not settle: %v (%v)", last.Operations, err)
			}
			judge(t, pod)
		})
	}
}

func judge(t *testing.T, raw []byte) {
	t.Helper()
	p, _, err := readPod(raw)
	if err != nil {
		t.Fatal(err)
	}
	token := func(c container) bool {
		return slices.ContainsFunc(c.VolumeMounts, azureVolume) || slices.ContainsFunc(c.Env, func(v variable) bool { return v.Name == "AZURE_FEDERATED_TOKEN_FILE" })
	}
	broker, other, agent := p.Spec.InitContainers[0], p.Spec.Containers[0], p.Spec.Containers[1]
	if token(agent) || !token(other) {
		t.Errorf("the agent has the token: %v; the other container has it: %v", token(agent), token(other))
	}
	for _, name := range []string{"CREDFREE_POD_CLIENT_ID", "CREDFREE_POD_TENANT_ID"} {
		if !slices.ContainsFunc(broker.Env, func(v variable) bool { return v.Name == name && v.Value != "" }) {
			t.Errorf("the broker has no %s", name)
		}
	}
	for _, v := range agent.Env {
		if v.Name == "AZURE_CLIENT_ID" {
			t.Error("the agent's SDK would select an identity")
		}
	}
}
