package inject

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// What azure-workload-identity's webhook says and sets. It may run before this
// one, after it, or both: the API server calls each again after the other.
const (
	azurePrefix = "azure.workload.identity/"
	azureSkip   = azurePrefix + "skip-containers"
	azureProxy  = azurePrefix + "inject-proxy-sidecar" // counts when it is there, whatever its value

	// bindingAudience is that of tokens for AKS's identity bindings.
	bindingAudience = "api://AKSIdentityBinding"
)

// azureVariables go with its token: where they stand, Azure's SDKs use the token
// themselves.
var azureVariables = []string{
	"AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_AUTHORITY_HOST",
	"AZURE_KUBERNETES_TOKEN_PROXY", "AZURE_KUBERNETES_TOKEN_ENDPOINT", "AZURE_KUBERNETES_SNI_NAME", "AZURE_KUBERNETES_CA_FILE", "AZURE_KUBERNETES_CA_DATA",
}

// azureVolume says whether that webhook has mounted it.
func azureVolume(m mount) bool {
	return m.Name == "azure-identity-token" || strings.HasPrefix(m.Name, "azure-workload-identity-")
}

// skipAzure tells that webhook that the agents get no token. The broker may
// have its variables and its volume.
func (in *injection) skipAzure() {
	there := in.pod.Metadata.Annotations[azureSkip]
	skipped := strings.FieldsFunc(there, func(r rune) bool { return r == ';' || r == ' ' })
	before := len(skipped)
	for c := range in.containers {
		if c.agent != "" && !slices.Contains(skipped, c.Name) {
			skipped = append(skipped, c.Name)
		}
	}
	if len(skipped) > before && in.azurePresent() {
		in.edit.set(strings.Join(skipped, ";"), "metadata", "annotations", azureSkip)
	}
}

// azurePresent says whether that webhook has to do with this pod.
func (in *injection) azurePresent() bool {
	return in.pod.Metadata.Labels[azurePrefix+"use"] == "true"
}

// move hands a variable of an agent to the broker.
func (in *injection) move(c container, entry object) {
	name, _ := entry["name"].(string)
	for _, other := range in.moved {
		if other, _ := other.(object); other["name"] == name {
			if !reflect.DeepEqual(other, entry) {
				in.bad(fmt.Sprintf("agent container %s has another %s than an agent before it", c.Name, name), "the broker of a pod has one: write the identities in the policy, and remove the variable")
			}
			return
		}
	}
	in.moved = append(in.moved, entry)
}

// moveMount hands a mount of an agent to the broker.
func (in *injection) moveMount(entry object) {
	for _, other := range in.mounts {
		if other, _ := other.(object); other["mountPath"] == entry["mountPath"] {
			return
		}
	}
	in.mounts = append(in.mounts, entry)
}
