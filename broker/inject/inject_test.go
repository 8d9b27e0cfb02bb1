package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestPods patches each pod of testdata, and compares with what is written
// there. Patching again must change nothing, whatever the API server did between.
func TestPods(t *testing.T) {
	files, err := filepath.Glob("testdata/pods/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("got %d pods (%v), want 10 at least", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			raw := toJSON(t, archive.Files[0].Data)
			got := txtar.Archive{Comment: archive.Comment, Files: append([]txtar.File{archive.Files[0]}, outcome(t, raw)...)}
			if *update {
				if err := os.WriteFile(file, txtar.Format(&got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(txtar.Format(archive)), string(txtar.Format(&got))); diff != "" {
				t.Errorf("-want +got (rewrite with -update)\n%s", diff)
			}
		})
	}
}

// outcome is what becomes of a pod, as files.
func outcome(t *testing.T, raw []byte) []txtar.File {
	t.Helper()
	i := injector(t)
	patch, err := i.Pod(raw, Account{})
	if refused, ok := errors.AsType[*Refused](err); ok {
		return []txtar.File{{Name: "refused", Data: []byte(refused.Error() + "\n")}}
	}
	if err != nil {
		t.Fatal(err)
	}
	patched := apply(t, raw, patch.Operations)
	for name, between := range map[string][]byte{"at once": patched, "after the API server": serviceAccountAdmission(t, patched)} {
		again, err := i.Pod(between, Account{})
		if err != nil || len(again.Operations) > 0 {
			text, _ := json.Marshal(again.Operations)
			t.Errorf("patched again %s: got %s (%v), want nothing", name, text, err)
		}
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, patched, "", " "); err != nil {
		t.Fatal(err)
	}
	files := []txtar.File{{Name: "patched.json", Data: append(indented.Bytes(), '\n')}}
	if len(patch.Warnings) > 0 {
		files = append(files, txtar.File{Name: "warnings", Data: []byte(strings.Join(patch.Warnings, "\n") + "\n")})
	}
	return files
}

// pod makes a pod with one agent that is well, and changes it.
func podJSON(t testing.TB, changes ...string) []byte {
	t.Helper()
	text := `{"metadata": {"name": "p", "labels": {"credfree.dev/inject": "true"}, "annotations": {"credfree.dev/policy": "agents", "credfree.dev/agent.agent": "researcher"}},
		"spec": {"containers": [{"name": "agent", "securityContext": {"runAsUser": 10001}}]}}`
	if len(changes)%2 != 0 {
		t.Fatal("changes come in pairs")
	}
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			t.Fatalf("no %s in %s", changes[i], text)
		}
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	return []byte(text)
}

// TestRefusals has one pod for each reason. That the pod without the change is
// let in is the first row.
func TestRefusals(t *testing.T) {
	const container, spec, annotation = `"name": "agent", `, `"spec": {`, `"credfree.dev/policy": "agents"`
	for name, test := range map[string]struct {
		old, with string
		want      string // "" is let in
	}{
		"nothing wrong":            {container, container, ""},
		"user namespace":           {spec, spec + `"hostUsers": false, `, ""},
		"a harmless capability":    {`"runAsUser": 10001`, `"runAsUser": 10001, "capabilities": {"add": ["NET_BIND_SERVICE"]}`, ""},
		"uid of the pod":           {`"securityContext": {"runAsUser": 10001}}]`, `"x": 1}], "securityContext": {"runAsUser": 10001}`, ""},
		"data of the node":         {spec + `"containers": [{`, spec + `"volumes": [{"name": "v", "hostPath": {"path": "/srv/data"}}], "containers": [{"volumeMounts": [{"name": "v", "mountPath": "/m"}], `, ""},
		"host network":             {spec, spec + `"hostNetwork": true, `, "spec.hostNetwork is true"},
		"host processes":           {spec, spec + `"hostPID": true, `, "spec.hostPID is true"},
		"shared processes":         {spec, spec + `"shareProcessNamespace": true, `, "spec.shareProcessNamespace is true"},
		"Windows":                  {spec, spec + `"os": {"name": "windows"}, `, "runs on Windows"},
		"nodes with Windows":       {spec, spec + `"nodeSelector": {"kubernetes.io/os": "windows"}, `, "runs on Windows"},
		"by the old label":         {spec, spec + `"nodeSelector": {"beta.kubernetes.io/os": "windows"}, `, "runs on Windows"},
		"nodes with Linux":         {spec, spec + `"nodeSelector": {"kubernetes.io/os": "linux"}, `, ""},
		"less than the broker has": {spec, spec + `"resources": {"limits": {"memory": "127Mi"}}, `, "spec.resources.limits.memory is 127Mi for the whole pod, and the broker alone has 128Mi: raise it"},
		"less than it asks for":    {spec, spec + `"resources": {"requests": {"cpu": "9m"}, "limits": {"cpu": "9m"}}, `, "spec.resources.requests.cpu is 9m for the whole pod, and the broker alone has 10m"},
		"as much as it has":        {spec, spec + `"resources": {"requests": {"cpu": "10m", "memory": "48Mi"}, "limits": {"cpu": "10m", "memory": "134217728"}, "claims": []}, `, ""},
		"unknown uid":              {`"runAsUser": 10001`, ``, "does not say its uid"},
		"root":                     {`10001`, `0`, "runs as root"},
		"the broker's uid":         {`10001`, `7400`, "which is the broker's"},
		"privileged":               {`"runAsUser": 10001`, `"runAsUser": 10001, "privileged": true`, "is privileged"},
		"escalation":               {`"runAsUser": 10001`, `"runAsUser": 10001, "allowPrivilegeEscalation": true`, "may gain privileges"},
		"capability":               {`"runAsUser": 10001`, `"runAsUser": 10001, "capabilities": {"add": ["SETUID"]}`, "adds the capability SETUID"},
		"secret":                   {container, container + `"env": [{"name": "AZURE_CLIENT_SECRET", "value": "x"}], `, "AZURE_CLIENT_SECRET, a credential"},
		"certificate":              {container, container + `"env": [{"name": "AZURE_CLIENT_CERTIFICATE_PATH", "value": "x"}], `, "AZURE_CLIENT_CERTIFICATE_PATH, a credential"},
		"no policy":                {annotation, `"credfree.dev/sockets": "true"`, "annotation credfree.dev/policy is missing"},
		"odd policy":               {`"agents"`, `"Agents"`, "is not the name of a ConfigMap"},
		"no agent":                 {`, "credfree.dev/agent.agent": "researcher"`, ``, "no container is an agent"},
		"unknown container":        {`agent.agent`, `agent.other`, "no container other"},
		"the broker as an agent":   {`agent.agent`, `agent.credfree`, "no container credfree that could be an agent"},
		"odd agent":                {`"researcher"`, `"Researcher!"`, "is not the name of an agent"},
		"long agent":               {`"researcher"`, `"` + strings.Repeat("r", 37) + `"`, "is not the name of an agent"},
		"unknown annotation":       {annotation, annotation + `, "credfree.dev/polcy": "x"`, "there is no such annotation"},
		"neither true nor false":   {annotation, annotation + `, "credfree.dev/keys": "yes"`, "neither true nor false"},
		"client id":                {annotation, annotation + `, "credfree.dev/client-id": "mine"`, "is not a GUID"},
		"tenant":                   {annotation, annotation + `, "credfree.dev/tenant-id": "common"`, "is not a GUID or a domain"},
		"too long a token":         {annotation, annotation + `, "credfree.dev/token-expiration": "100000"`, "not a number of seconds from 600 to 86400"},
		"too much memory":          {annotation, annotation + `, "credfree.dev/memory": "1Gi"`, "at most 256Mi"},
		"too much CPU":             {annotation, annotation + `, "credfree.dev/cpu": "1001m"`, "at most 1"},
		"a key of one's own":       {annotation, annotation + `, "credfree.dev/key.researcher": "guess"`, "not a key that was made here"},
		"another proxy":            {annotation, annotation + `, "azure.workload.identity/inject-proxy-sidecar": "false"`, "gives every container any token"},
		"the broker's name":        {spec, spec + `"initContainers": [{"name": "credfree"}], `, "has the broker's name"},
		"the broker's name below":  {`[{"name": "agent"`, `[{"name": "credfree"}, {"name": "agent"`, "has the broker's name"},
		"the broker's uid, others": {`[{"name": "agent"`, `[{"name": "x", "securityContext": {"runAsUser": 7400}}, {"name": "agent"`, "which is the broker's"},
		"an agent's uid":           {`[{"name": "agent"`, `[{"name": "x", "securityContext": {"runAsUser": 10001}}, {"name": "agent"`, "would be taken for it"},
		"a token of its own": {spec + `"containers": [{`, spec + `"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"audience": "api://AzureADTokenExchangeChina"}}]}}], "containers": [{"volumeMounts": [{"name": "v", "mountPath": "/m"}], `,
			"mounts a workload token"},
		"the broker's token":    {container, container + `"volumeMounts": [{"name": "credfree-token", "mountPath": "/m"}], `, "mounts credfree-token, which is the broker's"},
		"another's socket":      {container, container + `"volumeMounts": [{"name": "credfree-agent-invoices", "mountPath": "/m"}], `, "mounts credfree-agent-invoices"},
		"the sockets":           {container, container + `"volumeMounts": [{"name": "v", "mountPath": "/run/credfree/socket"}], `, "mounts another volume at /run/credfree/socket"},
		"one socket":            {container, container + `"volumeMounts": [{"name": "v", "mountPath": "/run/credfree/socket/researcher.sock"}], `, "its socket is in /run/credfree"},
		"beside the sockets":    {container, container + `"volumeMounts": [{"name": "v", "mountPath": "/run/credfree/other"}], `, "its socket is in /run/credfree"},
		"by way of a link":      {container, container + `"volumeMounts": [{"name": "v", "mountPath": "/var/run/credfree"}], `, "its socket is in /run/credfree"},
		"in another spelling":   {container, container + `"volumeMounts": [{"name": "v", "mountPath": "/run//x/../credfree/./socket/"}], `, "its socket is in /run/credfree"},
		"above the sockets":     {container, container + `"volumeMounts": [{"name": "v", "mountPath": "/run"}], `, ""},
		"below /var/run":        {container, container + `"volumeMounts": [{"name": "v", "mountPath": "/var/run/app"}], `, ""},
		"a name that begins so": {container, container + `"volumeMounts": [{"name": "v", "mountPath": "/run/credfree-data"}], `, ""},
		"the place of sockets":  {container, container + `"volumeMounts": [{"name": "v", "mountPath": "/run/credfree/"}], `, "mounts another volume at /run/credfree"},
		"the node's folders":    {spec + `"containers": [{`, spec + `"volumes": [{"name": "v", "hostPath": {"path": "/var/"}}], "containers": [{"volumeMounts": [{"name": "v", "mountPath": "/m"}], `, "mounts /var/ of the node"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := injector(t).Pod(podJSON(t, test.old, test.with), Account{})
			refused, ok := errors.AsType[*Refused](err)
			if test.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if !ok || !strings.Contains(refused.Error(), test.want) {
				t.Errorf("got %v, want a refusal that says %q", err, test.want)
			}
			if ok && strings.Contains(refused.Error(), ": \n") {
				t.Errorf("a problem without what to change: %v", refused)
			}
		})
	}
}

// TestWithoutSocketsTheirFolderIsFree: so the refusal says.
func TestWithoutSocketsTheirFolderIsFree(t *testing.T) {
	raw := podJSON(t, `"name": "agent", `, `"name": "agent", "volumeMounts": [{"name": "v", "mountPath": "/run/credfree/socket"}], `,
		`"credfree.dev/policy"`, `"credfree.dev/sockets": "false", "credfree.dev/policy"`)
	if _, err := injector(t).Pod(raw, Account{}); err != nil {
		t.Error(err)
	}
}

// TestEachSecretAndEachPower: one by one, so that none is lost from a list.
func TestEachSecretAndEachPower(t *testing.T) {
	refused := func(old, with string) bool {
		_, err := injector(t).Pod(podJSON(t, old, with), Account{})
		_, ok := errors.AsType[*Refused](err)
		return ok
	}
	for _, name := range []string{"AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_PASSWORD"} {
		if !refused(`"name": "agent", `, `"name": "agent", "env": [{"name": "`+name+`", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}], `) {
			t.Errorf("%s was let in", name)
		}
	}
	for _, name := range []string{"ALL", "SETUID", "CAP_SETGID", "SETFCAP", "sys_admin", "SYS_PTRACE", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "DAC_OVERRIDE", "DAC_READ_SEARCH", "CHOWN", "FOWNER", "BPF", "PERFMON", "NET_ADMIN", "NET_RAW"} {
		if !refused(`"runAsUser": 10001`, `"runAsUser": 10001, "capabilities": {"add": ["`+name+`"]}`) {
			t.Errorf("capability %s was let in", name)
		}
	}
	for _, folder := range []string{"/", "/var", "/var/lib/kubelet", "/var/lib/kubelet/pods/x", "/var/lib/containerd", "/var/run", "/run/containerd", "/proc", "/sys", "/dev", "//var/lib/../lib/kubelet"} {
		if !refused(`"spec": {"containers": [{`, `"spec": {"volumes": [{"name": "v", "hostPath": {"path": "`+folder+`"}}], "containers": [{"volumeMounts": [{"name": "v", "mountPath": "/m"}], `) {
			t.Errorf("the node's %s was let in", folder)
		}
	}
	for _, audience := range []string{"api://AzureADTokenExchange", "api://AzureADTokenExchangeUSGov", "api://AzureADTokenExchangeChina", "api://AKSIdentityBinding"} {
		if !refused(`"spec": {"containers": [{`, `"spec": {"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "c"}}, {"serviceAccountToken": {"audience": "`+audience+`"}}]}}], "containers": [{"volumeMounts": [{"name": "v", "mountPath": "/m"}], `) {
			t.Errorf("a token for %s was let in", audience)
		}
	}
}

// TestEachVariableThatLeadsAway is gone from the agent, and said to be.
func TestEachVariableThatLeadsAway(t *testing.T) {
	for _, name := range []string{"MSI_ENDPOINT", "MSI_SECRET", "DEFAULT_IDENTITY_CLIENT_ID", "IMDS_ENDPOINT", "IDENTITY_SERVER_THUMBPRINT", "MSAL_MANAGED_IDENTITY_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST", "CREDFREE_KEY_FILE"} {
		raw := podJSON(t, `"name": "agent", `, `"name": "agent", "env": [{"name": "`+name+`", "value": "http://elsewhere"}], `)
		patch, err := injector(t).Pod(raw, Account{})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(apply(t, raw, patch.Operations)), name) || len(patch.Warnings) != 1 || !strings.Contains(patch.Warnings[0], name) {
			t.Errorf("%s is still there, or nobody was told: %q", name, patch.Warnings)
		}
	}
}

// TestIdentitiesOfOnePodAgree: its broker has one.
func TestIdentitiesOfOnePodAgree(t *testing.T) {
	const first, second = "1b7c7f7e-6f0c-4a39-8f0c-0c8f6a6b7a01", "2c7c7f7e-6f0c-4a39-8f0c-0c8f6a6b7a02"
	pod := func(other string) []byte {
		env := func(id string) string {
			return `"env": [{"name": "AZURE_FEDERATED_TOKEN_FILE", "value": "/t"}, {"name": "AZURE_CLIENT_ID", "value": "` + id + `"}], `
		}
		return podJSON(t, `"name": "agent", `, `"name": "agent", `+env(first), `"containers": [`, `"containers": [{"name": "twin", `+env(other)+`"securityContext": {"runAsUser": 10001}}, `,
			`"credfree.dev/policy"`, `"credfree.dev/agent.twin": "researcher", "credfree.dev/policy"`)
	}
	if _, err := injector(t).Pod(pod(first), Account{}); err != nil {
		t.Errorf("got %v for one identity", err)
	}
	if _, err := injector(t).Pod(pod(second), Account{}); err == nil || !strings.Contains(err.Error(), "another AZURE_CLIENT_ID") {
		t.Errorf("got %v for two identities", err)
	}
}

// TestCeiling: the pod's author cannot choose another, nor leave it out.
func TestCeiling(t *testing.T) {
	i, err := New(Config{Image: "i", Ceiling: "cluster-ceiling"})
	if err != nil {
		t.Fatal(err)
	}
	raw := podJSON(t, `"spec": {`, `"spec": {"volumes": [{"name": "credfree-ceiling", "configMap": {"name": "mine"}}],
		"initContainers": [{"name": "credfree", "env": [{"name": "CREDFREE_CEILING", "value": "/elsewhere"}], "volumeMounts": [{"name": "x", "mountPath": "/etc/credfree-ceiling"}]}], `,
		`"credfree.dev/policy"`, `"credfree.dev/injected": "v1", "credfree.dev/policy"`)
	patch, err := i.Pod(raw, Account{})
	if err != nil {
		t.Fatal(err)
	}
	patched := string(apply(t, raw, patch.Operations))
	for _, want := range []string{`{"name":"CREDFREE_CEILING","value":"/etc/credfree-ceiling/ceiling.yaml"}`, `{"mountPath":"/etc/credfree-ceiling","name":"credfree-ceiling","readOnly":true}`,
		`{"configMap":{"defaultMode":292,"name":"cluster-ceiling"},"name":"credfree-ceiling"}`} {
		if strings.Count(patched, want) != 1 {
			t.Errorf("no %s in %s", want, patched)
		}
	}
	for _, not := range []string{"elsewhere", `"mine"`, `"name":"x"`} {
		if strings.Contains(patched, not) {
			t.Errorf("%s is still there", not)
		}
	}
}

// TestRootBesideAgentsIsSaid: it is no agent, and can become one.
func TestRootBesideAgentsIsSaid(t *testing.T) {
	for with, want := range map[string]int{`"securityContext": {"runAsUser": 0}`: 1, `"securityContext": {"privileged": true}`: 1, `"securityContext": {"runAsUser": 1}`: 0} {
		patch, err := injector(t).Pod(podJSON(t, `[{"name": "agent"`, `[{"name": "x", `+with+`}, {"name": "agent"`), Account{})
		if err != nil || len(patch.Warnings) != want {
			t.Errorf("%s: got %q (%v), want %d warnings", with, patch.Warnings, err, want)
		}
	}
}

func TestServiceAccountNamesTheIdentity(t *testing.T) {
	const client, tenant, agent = "1b7c7f7e-6f0c-4a39-8f0c-0c8f6a6b7a01", "8a0c5b0e-1f0b-4b52-9f27-5d4f0c1f5a11", "3d7c7f7e-6f0c-4a39-8f0c-0c8f6a6b7a03"
	account := Account{Annotations: map[string]string{
		"azure.workload.identity/client-id": client, "azure.workload.identity/tenant-id": tenant, "credfree.dev/agent-id": agent}}
	for name, test := range map[string]struct {
		raw  []byte
		want map[string]string
	}{
		"from the account": {podJSON(t), map[string]string{"CREDFREE_POD_CLIENT_ID": client, "CREDFREE_POD_TENANT_ID": tenant, "CREDFREE_POD_AGENT_ID": agent}},
		"the pod wins": {podJSON(t, `"credfree.dev/policy"`, `"credfree.dev/client-id": "`+agent+`", "credfree.dev/policy"`),
			map[string]string{"CREDFREE_POD_CLIENT_ID": agent, "CREDFREE_POD_TENANT_ID": tenant, "CREDFREE_POD_AGENT_ID": agent}},
	} {
		t.Run(name, func(t *testing.T) {
			patch, err := injector(t).Pod(test.raw, account)
			if err != nil {
				t.Fatal(err)
			}
			var p pod
			if err := json.Unmarshal(apply(t, test.raw, patch.Operations), &p); err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, v := range p.Spec.InitContainers[0].Env {
				if strings.HasPrefix(v.Name, "CREDFREE_POD_") {
					got[v.Name] = v.Value
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	account.Annotations["azure.workload.identity/client-id"] = "$(SECRET)"
	if _, err := injector(t).Pod(podJSON(t), account); err == nil || !strings.Contains(err.Error(), "service account") {
		t.Errorf("got %v, want a refusal of the annotation", err)
	}
}

// BenchmarkPod is what the webhook costs for one pod, without the network.
func BenchmarkPod(b *testing.B) {
	i, raw := injector(b), podJSON(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := i.Pod(raw, Account{}); err != nil {
			b.Fatal(err)
		}
	}
}
