package chart

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	admission "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/yaml"

	"github.com/credfree/credfree/broker/inject"
)

// guard evaluates the chart's ValidatingAdmissionPolicy for an object, and
// returns the messages of what it violates.
func guard(t *testing.T, p *admission.ValidatingAdmissionPolicy, object map[string]any) []string {
	t.Helper()
	env, err := cel.NewEnv(cel.Variable("object", cel.DynType), cel.Variable("variables", cel.MapType(cel.StringType, cel.DynType)))
	if err != nil {
		t.Fatal(err)
	}
	variables := map[string]any{}
	evaluate := func(expression string) (any, error) {
		ast, issues := env.Compile(expression)
		if issues.Err() != nil {
			return nil, fmt.Errorf("%s: %w", expression, issues.Err())
		}
		program, err := env.Program(ast, cel.CostLimit(1_000_000)) // the API server's, for one expression
		if err != nil {
			return nil, err
		}
		value, _, err := program.Eval(map[string]any{"object": object, "variables": variables})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", expression, err)
		}
		return value, nil
	}
	for _, v := range p.Spec.Variables {
		if variables[v.Name], err = evaluate(v.Expression); err != nil {
			t.Fatal(err)
		}
	}
	var violated []string
	for _, v := range p.Spec.Validations {
		value, err := evaluate(v.Expression)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(value) != "true" {
			violated = append(violated, v.Message)
		}
	}
	return violated
}

// TestGuardrails: the policy lets pass what the webhook makes, and nothing that
// the webhook was kept from seeing.
func TestGuardrails(t *testing.T) {
	p := one[*admission.ValidatingAdmissionPolicy](t, mustRender(t, load(t, "charts/credfree"), "guardrails: {enabled: true}", cluster{}))
	text, err := yaml.Marshal(injected(t, inject.Config{Image: "example.com/credfree:1"}, restrictedPod(t, "")))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ old, with, want string }{
		"what the webhook makes": {"x-nothing", "", ""},
		"no broker":              {"name: credfree\n", "name: other\n", "has no broker"},
		"a broker that ends":     {"restartPolicy: Always", "terminationMessagePath: /x", "has no broker"},
		"no agent":               {"credfree.dev/agent.researcher", "credfree.dev/agent.other", "no container of the pod is an agent"},
		"host network":           {"spec:\n", "spec:\n  hostNetwork: true\n", "shares neither"},
		"host processes":         {"spec:\n", "spec:\n  hostPID: true\n", "shares neither"},
		"shared processes":       {"spec:\n", "spec:\n  shareProcessNamespace: true\n", "shares neither"},
		"the token":              {"name: credfree-agent-researcher\n      readOnly: true", "name: credfree-token\n      readOnly: true", "an agent mounts a workload token"},
		"privileged":             {"runAsUser: 10001", "privileged: true", "an agent is privileged"},
		"escalation":             {"allowPrivilegeEscalation: false\n      capabilities:\n        drop:\n        - ALL\n      runAsUser: 10001", "runAsUser: 10001", "may gain privileges"},
		"the broker's uid":       {"runAsUser: 10001", "runAsUser: 7400", "has the broker's uid"},
		"the pod's uid":          {"runAsNonRoot: true\n    seccompProfile", "runAsUser: 7400\n    seccompProfile", ""}, // each container has its own
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(string(text), test.old, test.with, 1)
			if test.old != "x-nothing" && changed == string(text) {
				t.Fatalf("no %q in\n%s", test.old, text)
			}
			object := map[string]any{}
			if err := yaml.Unmarshal([]byte(changed), &object); err != nil {
				t.Fatal(err)
			}
			got := strings.Join(guard(t, p, object), "; ")
			if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestGuardrailsOfEphemeralContainers: who debugs a pod becomes neither root nor
// somebody in it.
func TestGuardrailsOfEphemeralContainers(t *testing.T) {
	p := one[*admission.ValidatingAdmissionPolicy](t, mustRender(t, load(t, "charts/credfree"), "guardrails: {enabled: true}", cluster{}))
	const uid, mounts, powers, processes = "has no uid of its own", "mounts a volume of the broker's", "is privileged", "shares the broker's processes"
	for name, test := range map[string]struct{ pod, container, want string }{
		"a uid of its own":                       {"", "securityContext: {runAsUser: 20000, allowPrivilegeEscalation: false}", ""},
		"a restricted profile":                   {"", "targetContainerName: researcher, securityContext: {runAsUser: 20000, runAsNonRoot: true, privileged: false, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}", ""},
		"the pod's uid":                          {"runAsUser: 20000, ", "securityContext: {allowPrivilegeEscalation: false}", ""},
		"a volume of the pod's":                  {"", "volumeMounts: [{name: data, mountPath: /d}], securityContext: {runAsUser: 20000, allowPrivilegeEscalation: false}", ""},
		"root":                                   {"", "securityContext: {runAsUser: 0, allowPrivilegeEscalation: false}", uid},
		"an agent's uid":                         {"", "securityContext: {runAsUser: 10001, allowPrivilegeEscalation: false}", uid},
		"an agent's uid, by the pod":             {"runAsUser: 10002, ", "securityContext: {allowPrivilegeEscalation: false}", uid},
		"the uid of an agent that has the pod's": {"runAsUser: 10002, ", "securityContext: {runAsUser: 10002, allowPrivilegeEscalation: false}", uid},
		"the broker's uid":                       {"", "securityContext: {runAsUser: 7400, allowPrivilegeEscalation: false}", uid},
		"the pod's uid is root's":                {"runAsUser: 0, ", "securityContext: {allowPrivilegeEscalation: false}", uid},
		"the image's uid":                        {"", "securityContext: {allowPrivilegeEscalation: false}", uid},
		"nothing said":                           {"", "image: i", uid},
		"nothing said, on top of the pod's uid":  {"runAsUser: 20000, ", "image: i", powers},
		"setuid programs":                        {"", "securityContext: {runAsUser: 20000}", powers},
		"escalation":                             {"", "securityContext: {runAsUser: 20000, allowPrivilegeEscalation: true}", powers},
		"privileged":                             {"", "securityContext: {runAsUser: 20000, allowPrivilegeEscalation: false, privileged: true}", powers},
		"a capability":                           {"", "securityContext: {runAsUser: 20000, allowPrivilegeEscalation: false, capabilities: {add: [SYS_PTRACE]}}", powers},
		"an agent's socket":                      {"", "volumeMounts: [{name: credfree-agent-researcher, mountPath: /s, readOnly: true}], securityContext: {runAsUser: 20000, allowPrivilegeEscalation: false}", mounts},
		"all sockets":                            {"", "volumeMounts: [{name: credfree-run, mountPath: /s}], securityContext: {runAsUser: 20000, allowPrivilegeEscalation: false}", mounts},
		"the token":                              {"", "volumeMounts: [{name: credfree-token, mountPath: /t}], securityContext: {runAsUser: 20000, allowPrivilegeEscalation: false}", mounts},
		"another token":                          {"", "volumeMounts: [{name: azure, mountPath: /t}], securityContext: {runAsUser: 20000, allowPrivilegeEscalation: false}", mounts},
		"beside the broker":                      {"", "targetContainerName: credfree, securityContext: {runAsUser: 20000, allowPrivilegeEscalation: false}", processes},
	} {
		t.Run(name, func(t *testing.T) {
			object := guarded(t, test.pod, test.container)
			if got := strings.Join(guard(t, p, object), "; "); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// guarded is a pod with two agents, the second of the pod's own uid if it has
// one, and with an ephemeral container after one that is well.
func guarded(t *testing.T, security, container string) map[string]any {
	t.Helper()
	text := `
metadata: {annotations: {credfree.dev/agent.researcher: researcher, credfree.dev/agent.writer: writer}}
spec:
  securityContext: {` + security + `runAsNonRoot: true}
  initContainers: [{name: credfree, restartPolicy: Always}]
  containers:
  - {name: researcher, securityContext: {runAsUser: 10001, allowPrivilegeEscalation: false}}
  - {name: writer, securityContext: {allowPrivilegeEscalation: false}}
  ephemeralContainers:
  - {name: earlier, securityContext: {runAsUser: 20001, allowPrivilegeEscalation: false}}
  - {name: debug, ` + container + `}
  volumes: [{name: data, emptyDir: {}}, {name: azure, projected: {sources: [{serviceAccountToken: {audience: "api://AzureADTokenExchange"}}]}}]
`
	if !strings.Contains(security, "10002") { // the second agent has a uid of its own
		text = strings.Replace(text, "writer, securityContext: {", "writer, securityContext: {runAsUser: 10002, ", 1)
	}
	object := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	return object
}
